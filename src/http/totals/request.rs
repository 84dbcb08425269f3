//! What a totals request asks for: path, parameters and Accept, checked, to a query.

use axum::http::HeaderMap;

use crate::engine::{PeriodChoice, TotalsPage, TotalsQuery, WindowState};
use crate::http::params::Params;
use crate::http::problem::Problem;
use crate::http::totals::cursor;
use crate::http::totals::format::Format;
use crate::meter::{Meter, Meters, Period};
use crate::model::TenantId;

/// Rows of a page unless the client says otherwise.
const PAGE_DEFAULT: usize = 1_000;
/// The largest page.
const PAGE_MAX: usize = 10_000;
/// Rows that a stream reads at a time.
const STREAM_ROWS: usize = 4_000;

/// How much of the period is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// One page; the query's limit is its length.
    Page,
    /// Every row; the query's limit is how many are read at a time.
    All,
}

#[derive(Debug)]
pub struct TotalsRequest {
    pub query: TotalsQuery,
    pub format: Format,
    pub extent: Extent,
}

impl TotalsRequest {
    pub fn read(
        tenant: &TenantId,
        period: &str,
        mut params: Params,
        headers: &HeaderMap,
        meters: &Meters,
    ) -> Result<Self, Problem> {
        let meter = params.take_meter(meters)?;
        let choice = parse_period(period)?;
        check_billed(choice, meter, meters)?;
        let customer = params.take_customer()?;
        let state = params.take("state")?.map(|text| parse_state(&text)).transpose()?;
        let format = Format::take(&mut params, headers)?;
        let limit = params.take_limit_if_given(PAGE_MAX)?;
        let (extent, limit) = match (limit, format) {
            (Some(limit), _) => (Extent::Page, limit),
            (None, Format::Json) => (Extent::Page, PAGE_DEFAULT),
            (None, Format::Ndjson | Format::Csv) => (Extent::All, STREAM_ROWS),
        };
        let cursor = params.take("cursor")?;
        params.finish()?;
        let (tenant, meter) = (tenant.clone(), meter.map(|meter| meter.id));
        let mut query = TotalsQuery { tenant, period: choice, at: None, meter, customer, state, after: None, limit };
        if let Some(text) = cursor {
            let foreign =
                || Problem::parameter("cursor", "parameter \"cursor\" does not come from an answer to this query");
            let (at, after) = cursor::decode(&text, &query).ok_or_else(foreign)?;
            (query.at, query.after) = (Some(at), Some(after));
        }
        Ok(Self { query, format, extent })
    }

    /// The cursor for what follows the page, if anything does.
    pub fn next_cursor(&self, page: &TotalsPage) -> Option<String> {
        next_key(page).map(|key| cursor::encode(&self.query, page.at, key))
    }
}

/// The key that the next page begins after; none if there is no next page. To end early would be to lose rows unseen, so
/// a page that promises more without a row to go on from is a fault.
pub fn next_key(page: &TotalsPage) -> Option<&[u8]> {
    page.more.then(|| page.rows.last().expect("a page with more to come has rows").key.as_slice())
}

fn parse_period(text: &str) -> Result<PeriodChoice, Problem> {
    match text {
        "current" => Ok(PeriodChoice::Current),
        "previous" => Ok(PeriodChoice::Previous),
        _ => match text.parse() {
            Ok(period) => Ok(PeriodChoice::Named(period)),
            Err(error) => {
                let detail = format!("parameter \"period\": {error}, or \"current\" or \"previous\"");
                Err(Problem::parameter("period", detail))
            }
        },
    }
}

/// As it is written in a path.
pub fn period_name(choice: PeriodChoice) -> String {
    match choice {
        PeriodChoice::Named(period) => period.to_string(),
        PeriodChoice::Current => "current".to_owned(),
        PeriodChoice::Previous => "previous".to_owned(),
    }
}

/// A period that no meter bills by has no totals: more likely a mistake than a question.
fn check_billed(choice: PeriodChoice, meter: Option<&Meter>, meters: &Meters) -> Result<(), Problem> {
    let PeriodChoice::Named(period) = choice else { return Ok(()) };
    let is_billed = |meter: &Meter| meter.definition.billing_period == period.kind();
    if meter.map_or_else(|| meters.iter().any(is_billed), is_billed) {
        return Ok(());
    }
    Err(unbilled(period, meter))
}

fn unbilled(period: Period, meter: Option<&Meter>) -> Problem {
    let kind = period.kind().as_str();
    let detail = match meter {
        Some(meter) => format!("meter {:?} is not billed by the {kind}: there is no {period}", meter.definition.slug),
        None => format!("no meter is billed by the {kind}: there is no {period}"),
    };
    Problem::Absent { name: "period", detail }
}

fn parse_state(text: &str) -> Result<WindowState, Problem> {
    let states = [WindowState::Open, WindowState::Grace, WindowState::Finalized];
    states.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
        Problem::parameter("state", "parameter \"state\" can be \"open\", \"grace\" or \"finalized\"".to_owned())
    })
}

#[cfg(test)]
mod tests;
