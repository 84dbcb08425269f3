//! Events folded to a window's value here, without the daemon's own code for it: an error there is not made twice.

use anyhow::{Context, bail};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::model::{Quantity, Timestamp};

/// An event as the daemon lists it, as far as it is of interest here.
#[derive(Debug, Deserialize)]
pub struct Listed {
    pub seq: u64,
    pub customer: String,
    pub timestamp: String,
    /// Taken back by itself.
    #[serde(default)]
    voided: Option<IgnoredAny>,
    /// Taken back with its backfill.
    #[serde(default)]
    reverted_at: Option<IgnoredAny>,
    windows: Vec<ListedWindow>,
}

/// What an event was counted in.
#[derive(Debug, Deserialize)]
struct ListedWindow {
    meter: String,
    window_start: String,
    value: Option<String>,
}

/// What events come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fold {
    pub events: u64,
    sum: Quantity,
    /// The least and the greatest.
    bounds: Option<(Quantity, Quantity)>,
}

impl Fold {
    pub fn add(&mut self, value: Quantity) -> anyhow::Result<()> {
        self.sum = self.sum.checked_add(value).context("a sum is out of range")?;
        let (least, most) = self.bounds.unwrap_or((value, value));
        (self.bounds, self.events) = (Some((least.min(value), most.max(value))), self.events + 1);
        Ok(())
    }

    /// Adds what a listed event has brought to one window of a meter: nothing if it was taken back.
    pub fn add_listed(&mut self, event: &Listed, meter: &str, start: Timestamp) -> anyhow::Result<()> {
        if event.voided.is_some() || event.reverted_at.is_some() {
            return Ok(());
        }
        for window in event.windows.iter().filter(|window| window.meter == meter) {
            if time(&window.window_start)? == start {
                let value = window.value.as_deref().context("an event has no value")?;
                self.add(Quantity::parse(value).with_context(|| format!("{value} is no quantity"))?)?;
            }
        }
        Ok(())
    }

    /// As a meter with this aggregation shows it.
    pub fn value(&self, aggregation: &str) -> anyhow::Result<Option<Quantity>> {
        Ok(match aggregation {
            "count" => Some(Quantity::from_integer(i64::try_from(self.events)?)),
            "sum" => Some(self.sum),
            "min" => self.bounds.map(|(least, _)| least),
            "max" => self.bounds.map(|(_, most)| most),
            "avg" if self.events == 0 => None,
            "avg" => self.sum.divided_by(self.events),
            other => bail!("{other} meters are not folded here"),
        })
    }
}

pub fn time(text: &str) -> anyhow::Result<Timestamp> {
    Timestamp::parse_rfc3339(text).with_context(|| format!("{text} is no time"))
}

/// The first event that does not come after the one before it, by time and record: one out of order, or listed twice.
pub fn out_of_order(events: &[Listed]) -> anyhow::Result<Option<u64>> {
    let mut last = None;
    for event in events {
        let place = (time(&event.timestamp)?, event.seq);
        if last.is_some_and(|last| place <= last) {
            return Ok(Some(event.seq));
        }
        last = Some(place);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEN: &str = "2026-11-22T10:00:00Z";
    const ELEVEN: &str = "2026-11-22T11:00:00Z";

    fn quantity(text: &str) -> Quantity {
        Quantity::parse(text).unwrap()
    }

    fn listed(seq: u64, timestamp: &str, windows: &[(&str, &str, &str)]) -> serde_json::Value {
        let window = |(meter, start, value): &(&str, &str, &str)| {
            json!({
                "meter": meter, "window_start": start, "window_end": "", "period": "2026-11", "value": value,
                "member": null, "dimensions": {"model": "large"}, "late": false,
            })
        };
        json!({
            "seq": seq, "usage_event_id": "e", "source": "", "customer": "c", "timestamp": timestamp,
            "received_at": timestamp, "outcome": "accepted", "backfill": null, "reverted_at": null, "voided": null,
            "windows": windows.iter().map(window).collect::<Vec<_>>(), "event": {"note": "as it was sent"},
        })
    }

    fn event(json: serde_json::Value) -> Listed {
        serde_json::from_str(&json.to_string()).unwrap()
    }

    #[test]
    fn a_fold_has_every_aggregations_value_exactly() {
        let mut fold = Fold::default();
        for value in ["0.1", "0.2", "-3", "0.000000000001"] {
            fold.add(quantity(value)).unwrap();
        }
        for (aggregation, value) in [
            ("count", "4"),
            ("sum", "-2.699999999999"),
            ("min", "-3"),
            ("max", "0.2"),
            // Rounded to the 12th decimal.
            ("avg", "-0.675"),
        ] {
            assert_eq!(fold.value(aggregation).unwrap(), Some(quantity(value)), "{aggregation}");
        }
        assert!(fold.value("unique").is_err());
    }

    #[test]
    fn nothing_folds_to_nothing() {
        let none = Fold::default();
        for aggregation in ["min", "max", "avg"] {
            assert_eq!(none.value(aggregation).unwrap(), None, "{aggregation}");
        }
        assert_eq!(
            (none.value("sum").unwrap(), none.value("count").unwrap()),
            (Some(Quantity::ZERO), Some(Quantity::ZERO))
        );
    }

    #[test]
    fn an_event_counts_in_the_window_and_meter_that_are_folded_only() {
        let windows = [
            ("tokens", TEN, "1.5"),
            ("tokens", ELEVEN, "7"),
            ("requests", TEN, "1"),
            ("tokens", "2026-11-22T12:00:00+02:00", "0.25"),
        ];
        let mut fold = Fold::default();
        fold.add_listed(&event(listed(1, TEN, &windows)), "tokens", time(TEN).unwrap()).unwrap();
        assert_eq!((fold.events, fold.value("sum").unwrap()), (2, Some(quantity("1.75"))));
    }

    #[test]
    fn what_was_taken_back_does_not_count() {
        let voided = json!({"seq": 9, "at": TEN, "reason": "test"});
        for (member, value) in [("voided", voided), ("reverted_at", TEN.into())] {
            let mut taken_back = listed(1, TEN, &[("tokens", TEN, "1.5")]);
            taken_back[member] = value;
            let mut fold = Fold::default();
            fold.add_listed(&event(taken_back), "tokens", time(TEN).unwrap()).unwrap();
            assert_eq!(fold, Fold::default(), "{member}");
        }
    }

    #[test]
    fn a_value_that_cannot_be_read_is_an_error_and_not_nothing() {
        for value in ["", "1,5"] {
            let event = event(listed(1, TEN, &[("tokens", TEN, value)]));
            assert!(Fold::default().add_listed(&event, "tokens", time(TEN).unwrap()).is_err(), "{value}");
        }
    }

    #[test]
    fn an_event_out_of_order_or_listed_twice_is_found() {
        let list = |places: &[(u64, &str)]| {
            let events: Vec<Listed> = places.iter().map(|(seq, at)| event(listed(*seq, at, &[]))).collect();
            out_of_order(&events).unwrap()
        };
        assert_eq!(list(&[]), None);
        assert_eq!(list(&[(5, TEN), (7, TEN), (1, ELEVEN)]), None);
        assert_eq!(list(&[(5, TEN), (7, ELEVEN), (6, TEN)]), Some(6));
        assert_eq!(list(&[(5, TEN), (5, TEN)]), Some(5));
    }
}
