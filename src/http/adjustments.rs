//! `GET /v1/adjustments`: late usage that was counted after its window was finalized, in the order it was recorded.
//!
//! An adjustment's id is `{incarnation}.{seq}.{feed}`: the record that brought it and which of the record's feeds it was.
//! `since` and `cursor` are such an id, exclusive, or `0` for the beginning; what follows is told by seq and feed alone,
//! which never start anew. So a client that keeps the last id it saw never misses one and never sees one twice.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::engine::{Adjustment, AdjustmentsQuery};
use crate::http::params::Params;
use crate::http::problem::Problem;
use crate::http::query::Page;
use crate::http::read::read;
use crate::http::routes::App;
use crate::http::totals::Dimensions;
use crate::meter::Meters;
use crate::model::Seq;

/// Entries of a page unless the client says otherwise.
const PAGE_DEFAULT: usize = 1_000;
/// The largest page.
const PAGE_MAX: usize = 10_000;

#[derive(Serialize)]
pub struct AdjustmentRow {
    id: String,
    customer: String,
    meter: String,
    dimensions: serde_json::Value,
    window_start: String,
    window_end: String,
    period: String,
    /// What the window's value changed by: a signed decimal.
    delta: String,
    /// The window's value since.
    value: Option<String>,
    event_count: u64,
    revision: u32,
    incarnation: u32,
    /// When the usage happened.
    timestamp: String,
    recorded_at: String,
    seq: u64,
}

pub async fn list_adjustments(
    State(app): State<Arc<App>>,
    mut params: Params,
) -> Result<Json<Page<AdjustmentRow>>, Problem> {
    let meters = app.engine.meters();
    let since = take_id(&mut params, "since")?;
    let cursor = take_id(&mut params, "cursor")?;
    let query = AdjustmentsQuery {
        tenant: app.tenant.clone(),
        since: since.max(cursor),
        customer: params.take_customer()?,
        meter: params.take_meter(&meters)?.map(|meter| meter.id),
        limit: params.take_limit(PAGE_DEFAULT, PAGE_MAX)?,
    };
    params.finish()?;
    let page = read(&app, move |view| {
        let page = view.adjustments(&query)?;
        let rows: Vec<AdjustmentRow> = page.rows.into_iter().map(|row| AdjustmentRow::new(row, &meters)).collect();
        let next_cursor = page.more.then(|| rows.last().expect("a page with more to come has rows").id.clone());
        Ok((Page { data: rows, next_cursor }, page.seq))
    })
    .await?;
    Ok(Json(page))
}

impl AdjustmentRow {
    fn new(row: Adjustment, meters: &Meters) -> Self {
        let meter = &meters.get(row.meter).expect("adjustments are of the engine's own meters").definition;
        let dimensions = serde_json::to_value(Dimensions { meter, values: &row.dimensions });
        Self {
            id: format!("{}.{}.{}", row.incarnation, row.seq, row.feed),
            customer: row.customer,
            meter: meter.slug.clone(),
            dimensions: dimensions.expect("strings are JSON"),
            window_start: row.window.start.to_string(),
            window_end: row.window.end.to_string(),
            period: row.period,
            delta: row.delta.to_string(),
            value: row.value.map(|value| value.to_string()),
            event_count: row.event_count,
            revision: row.revision,
            incarnation: row.incarnation,
            timestamp: row.timestamp.to_string(),
            recorded_at: row.recorded_at.to_string(),
            seq: row.seq.0,
        }
    }
}

/// The place of an adjustment's id; `0` is before all of them.
fn take_id(params: &mut Params, name: &'static str) -> Result<Option<(Seq, u8)>, Problem> {
    let Some(text) = params.take(name)? else { return Ok(None) };
    if text == "0" {
        return Ok(None);
    }
    let detail = || format!("parameter {name:?} must be an adjustment's id, like \"1.123.0\", or 0");
    parse_id(&text).map(Some).ok_or_else(|| Problem::parameter(name, detail()))
}

fn parse_id(text: &str) -> Option<(Seq, u8)> {
    let mut parts = text.split('.');
    let _incarnation: u32 = number(parts.next()?)?;
    let (seq, feed) = (number(parts.next()?)?, number(parts.next()?)?);
    parts.next().is_none().then_some((Seq(seq), feed))
}

/// Digits only: `parse` alone would take a plus sign.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::totals::test_meters;
    use crate::model::{MeterId, Quantity, Timestamp, Window};

    #[test]
    fn since_is_an_id_or_0_and_anything_else_is_named() {
        let take = |text: &str| take_id(&mut Params::of(&[("since", text)]), "since");
        assert_eq!(take("1.123.0").unwrap(), Some((Seq(123), 0)));
        assert_eq!(take("4294967295.18446744073709551615.255").unwrap(), Some((Seq(u64::MAX), 255)));
        assert_eq!(take("0").unwrap(), None);
        assert_eq!(take_id(&mut Params::of(&[]), "since").unwrap(), None);
        for text in
            ["", "1", "1.2", "1.2.3.4", "1.2.256", "1.+2.3", "-1.2.3", "1..3", "1.2.x", "2026-11-22T00:00:00Z", "00"]
        {
            assert!(matches!(take(text), Err(Problem::Parameter { name, .. }) if name == "since"), "{text}");
        }
    }

    #[test]
    fn a_row_says_what_changed_where_and_when() {
        let at = |millis| Timestamp::from_millis(millis).unwrap();
        let row = Adjustment {
            seq: Seq(123),
            feed: 1,
            incarnation: 2,
            customer: "c".into(),
            meter: MeterId(0),
            dimensions: vec![Some("gpt".into()), None],
            window: Window { start: at(0), end: at(3_600_000) },
            period: "1970-01".into(),
            delta: Quantity::parse("-0.5").unwrap(),
            value: Some(Quantity::ONE),
            event_count: 4,
            revision: 3,
            timestamp: at(1_000),
            recorded_at: at(9_000_000),
        };
        let expected = serde_json::json!({
            "id": "2.123.1", "customer": "c", "meter": "monthly", "dimensions": {"model": "gpt", "region": null},
            "window_start": "1970-01-01T00:00:00Z", "window_end": "1970-01-01T01:00:00Z", "period": "1970-01",
            "delta": "-0.5", "value": "1", "event_count": 4, "revision": 3, "incarnation": 2,
            "timestamp": "1970-01-01T00:00:01Z", "recorded_at": "1970-01-01T02:30:00Z", "seq": 123,
        });
        let row = AdjustmentRow::new(row, &test_meters());
        assert_eq!(parse_id(&row.id), Some((Seq(123), 1)));
        assert_eq!(serde_json::to_value(row).unwrap(), expected);
    }
}
