//! The parameters of a usage query, checked against the meter: which windows, merged how, which page.

use smallvec::SmallVec;

use crate::engine::WindowRow;
use crate::http::params::Params;
use crate::http::problem::Problem;
use crate::http::query::fold::RowKey;
use crate::http::query::{PAGE_DEFAULT, PAGE_MAX, cursor};
use crate::meter::{Definition, Meter, WindowLength, Windows};
use crate::model::{Duration, Timestamp, Window};

/// What a usage query asks for.
pub struct UsageRequest {
    pub customer: Option<String>,
    /// Rows whose window starts at or after this.
    pub from: Option<Timestamp>,
    /// Rows whose window starts before this.
    pub to: Option<Timestamp>,
    pub by_customer: bool,
    /// Indices into the definition's dimensions, ascending, by which rows are split.
    pub by_dimensions: SmallVec<[usize; 4]>,
    pub limit: usize,
    pub after: Option<RowKey>,
    /// The rows' windows are longer than the meter's.
    pub is_coarser: bool,
    /// The meter's.
    pub grace: Duration,
    /// The rows' windows: the meter's or coarser.
    windows: Windows,
    last_window: Option<Window>,
}

impl UsageRequest {
    pub fn read(mut params: Params, meter: &Meter) -> Result<Self, Problem> {
        let definition = &meter.definition;
        let customer = params.take_customer()?;
        let (from, to) = (params.take_instant("from")?, params.take_instant("to")?);
        if let (Some(from), Some(to)) = (from, to)
            && from >= to
        {
            return Err(Problem::parameter("to", "parameter \"to\" must be later than \"from\""));
        }
        let length = match params.take("window")? {
            Some(text) => parse_window(&text, definition)?,
            None => definition.window,
        };
        let (by_customer, by_dimensions) = parse_group_by(&params.take_all("group_by"), definition)?;
        let limit = params.take_limit(PAGE_DEFAULT, PAGE_MAX)?;
        let cursor = params.take("cursor")?;
        let after = cursor.map(|text| cursor::decode(&text, by_customer, by_dimensions.len())).transpose()?;
        params.finish()?;
        let windows = Windows::new(length, meter.windows.zone().clone());
        let (is_coarser, grace) = (length != definition.window, definition.grace);
        let last_window = None;
        Ok(Self {
            customer,
            from,
            to,
            by_customer,
            by_dimensions,
            limit,
            after,
            is_coarser,
            grace,
            windows,
            last_window,
        })
    }

    /// The instants between which stored windows can start that belong to the wanted rows.
    pub fn stored_range(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        let after = self.after.as_ref().map(|key| key.window_start);
        let just_before = |at: Timestamp| Timestamp::from_micros(at.micros() - 1).unwrap_or(Timestamp::MIN);
        (self.from.max(after), self.to.map(|to| self.windows.window(just_before(to)).end.max(to)))
    }

    /// The row that a stored window counts towards; `None` if it is not asked for.
    pub fn place(&mut self, row: &WindowRow<'_>) -> Option<(RowKey, Window)> {
        let window = self.windows.window_cached(row.window.start, &mut self.last_window);
        let asked = self.from.is_none_or(|from| window.start >= from) && self.to.is_none_or(|to| window.start < to);
        if !asked {
            return None;
        }
        let key = RowKey {
            window_start: window.start,
            customer: self.by_customer.then(|| row.customer.into()),
            dimensions: self.by_dimensions.iter().map(|&at| row.dimensions[at].map(Into::into)).collect(),
        };
        Some((key, window))
    }
}

fn parse_window(text: &str, meter: &Definition) -> Result<WindowLength, Problem> {
    let wrong = |detail: String| Problem::parameter("window", format!("parameter \"window\": {detail}"));
    let length: WindowLength = text.parse().map_err(|error| wrong(format!("{error}")))?;
    if !is_multiple(length, meter.window) {
        return Err(wrong(format!(
            "windows of {length} cannot be put together from the meter's, which are {}",
            meter.window
        )));
    }
    Ok(length)
}

/// Whether every window of length `coarse` is made of whole windows of length `fine`, in one zone.
///
/// Days, weeks and months begin and end at midnight, and weeks are cut at the month's end, so that each tiles the next.
fn is_multiple(coarse: WindowLength, fine: WindowLength) -> bool {
    let rank = |length: WindowLength| match length {
        WindowLength::Fixed(_) => 0,
        WindowLength::Day => 1,
        WindowLength::Week => 2,
        WindowLength::Month => 3,
    };
    match (coarse, fine) {
        (WindowLength::Fixed(coarse), WindowLength::Fixed(fine)) => {
            coarse.duration().micros() % fine.duration().micros() == 0
        }
        _ => rank(coarse) >= rank(fine),
    }
}

/// Names by commas or by repeating the parameter: `customer`, or a dimension's.
fn parse_group_by(values: &[String], meter: &Definition) -> Result<(bool, SmallVec<[usize; 4]>), Problem> {
    let mut by_customer = false;
    let mut by_dimensions = SmallVec::new();
    for name in values.iter().flat_map(|value| value.split(',')).map(str::trim).filter(|name| !name.is_empty()) {
        let dimension = meter.dimensions.iter().position(|(dimension, _)| dimension == name);
        match dimension {
            _ if name == "customer" => by_customer = true,
            Some(index) => by_dimensions.push(index),
            None => {
                let detail =
                    format!("parameter \"group_by\": {name:?} is neither \"customer\" nor a dimension of the meter");
                return Err(Problem::parameter("group_by", detail));
            }
        }
    }
    by_dimensions.sort_unstable();
    by_dimensions.dedup();
    Ok((by_customer, by_dimensions))
}

#[cfg(test)]
mod tests;
