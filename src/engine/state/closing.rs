//! Which windows and billing periods wait to be closed, found by time.
//!
//! 1. A window is listed when its counter is made, a period when its first counter is.
//! 2. Within a meter, what ends first comes first, and a period after the windows that end with it.
//! 3. The lists are hints: an entry whose counter has been closed meanwhile is skipped.

use std::collections::BTreeMap;

use crate::engine::record::ClosedKind;
use crate::model::{MeterId, Timestamp, Window};

/// Meter, end, kind, start.
type Place = (MeterId, Timestamp, ClosedKind, Timestamp);

#[derive(Debug, Default)]
pub struct Closing {
    /// Series by what of theirs ends when.
    lists: BTreeMap<Place, Vec<u32>>,
    /// Where the last entry went: the next one mostly goes there too.
    last: Option<(Place, Vec<u32>)>,
}

/// Series of which something ends at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    pub kind: ClosedKind,
    pub meter: MeterId,
    pub bounds: Window,
}

impl Closing {
    pub fn add(&mut self, kind: ClosedKind, meter: MeterId, bounds: Window, series: u32) {
        let place = (meter, bounds.end, kind, bounds.start);
        if let Some((last, list)) = &mut self.last
            && *last == place
        {
            list.push(series);
            return;
        }
        self.put_back();
        let mut list = self.lists.remove(&place).unwrap_or_default();
        list.push(series);
        self.last = Some((place, list));
    }

    fn put_back(&mut self) {
        if let Some((place, list)) = self.last.take() {
            self.lists.insert(place, list);
        }
    }

    /// The first of a meter's lists that ends at or before `ended`.
    pub fn due(&mut self, meter: MeterId, ended: Timestamp) -> Option<Due> {
        self.put_back();
        let from = (meter, Timestamp::MIN, ClosedKind::Windows, Timestamp::MIN);
        let to = (meter, ended, ClosedKind::Periods, Timestamp::MAX);
        let ((_, end, kind, start), _) = self.lists.range(from..=to).next()?;
        Some(Due { kind: *kind, meter, bounds: Window { start: *start, end: *end } })
    }

    /// Takes up to `limit` series off a list; fewer only if it is empty then.
    pub fn take(&mut self, due: &Due, limit: usize) -> Vec<u32> {
        let place = (due.meter, due.bounds.end, due.kind, due.bounds.start);
        let Some(list) = self.lists.get_mut(&place) else { return Vec::new() };
        let taken = list.split_off(list.len().saturating_sub(limit));
        if list.is_empty() {
            self.lists.remove(&place);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(start: i64, end: i64) -> Window {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000).unwrap();
        Window { start: at(start), end: at(end) }
    }

    #[test]
    fn what_ends_first_comes_first_and_a_period_after_its_last_window() {
        let mut closing = Closing::default();
        let meter = MeterId(1);
        closing.add(ClosedKind::Periods, meter, window(0, 20), 1);
        closing.add(ClosedKind::Windows, meter, window(10, 20), 1);
        closing.add(ClosedKind::Windows, meter, window(0, 10), 1);
        closing.add(ClosedKind::Windows, MeterId(2), window(0, 5), 9);
        closing.add(ClosedKind::Windows, meter, window(0, 10), 2);
        assert_eq!(closing.due(meter, window(0, 9).end), None);
        let mut seen = Vec::new();
        while let Some(due) = closing.due(meter, window(0, 20).end) {
            seen.push((due.kind, due.bounds, closing.take(&due, 10)));
        }
        let expected = [
            (ClosedKind::Windows, window(0, 10), vec![1, 2]),
            (ClosedKind::Windows, window(10, 20), vec![1]),
            (ClosedKind::Periods, window(0, 20), vec![1]),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_long_list_is_taken_in_slices() {
        let mut closing = Closing::default();
        (0..5).for_each(|series| closing.add(ClosedKind::Windows, MeterId(0), window(0, 10), series));
        let due = closing.due(MeterId(0), window(0, 10).end).unwrap();
        assert_eq!(closing.take(&due, 3), [2, 3, 4]);
        assert_eq!(closing.take(&due, 3), [0, 1]);
        assert_eq!(closing.due(MeterId(0), window(0, 10).end), None);
    }
}
