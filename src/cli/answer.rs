//! The daemon's answer to a batch, as clients read it.

use serde::Deserialize;

/// Outcomes of one batch. Cheap to read: the list of single events is skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
pub struct Counts {
    pub accepted: u64,
    pub duplicate: u64,
    pub conflict: u64,
    pub rejected: u64,
    #[serde(default)]
    pub capped: u64,
    /// Accepted events that became adjustments; part of `accepted`.
    #[serde(default)]
    pub late: u64,
}

impl Counts {
    /// Events that were answered.
    pub fn total(&self) -> u64 {
        self.accepted + self.duplicate + self.conflict + self.rejected + self.capped
    }

    pub fn add(&mut self, other: &Counts) {
        self.accepted += other.accepted;
        self.duplicate += other.duplicate;
        self.conflict += other.conflict;
        self.rejected += other.rejected;
        self.capped += other.capped;
        self.late += other.late;
    }
}

/// The events of one batch that were not plainly accepted.
#[derive(Debug, Deserialize)]
pub struct Events {
    #[serde(default)]
    pub events: Vec<Event>,
}

/// One event's outcome.
#[derive(Debug, Deserialize)]
pub struct Event {
    /// Its place in the request, from 0.
    pub index: usize,
    #[serde(default)]
    pub usage_event_id: Option<String>,
    pub outcome: String,
    #[serde(default)]
    pub code: Option<String>,
    #[serde(default)]
    pub detail: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_counts_and_events_of_one_answer() {
        let body = r#"{"accepted":1,"duplicate":0,"conflict":0,"rejected":1,"capped":0,"late":1,"seq":9,
            "events":[{"index":1,"usage_event_id":"a","outcome":"rejected","code":"too_late","detail":"d"}]}"#;
        let counts: Counts = serde_json::from_str(body).unwrap();
        assert_eq!(counts, Counts { accepted: 1, rejected: 1, late: 1, ..Counts::default() });
        assert_eq!(counts.total(), 2);
        let events: Events = serde_json::from_str(body).unwrap();
        assert_eq!((events.events[0].index, events.events[0].code.as_deref()), (1, Some("too_late")));
    }
}
