//! Which segments may go, and whether a new base is due. PURE: no clock, no disk.
//!
//! | rule | the oldest sealed segment may go when |
//! | --- | --- |
//! | `age` | its last record was written that long ago, by effective time |
//! | `bytes` | the sealed segments together are larger |
//!
//! Either is enough. The segment that is appended to never goes.
//!
//! 1. Segments go oldest first: one that may not go keeps all behind it.
//! 2. A base is taken only if it lets a segment go that the last one does not, and then at most once in
//!    `BASE_EVERY_SEGMENTS` segments or `BASE_EVERY`: each keeps old files of the store from being freed.

use crate::journal::SegmentInfo;
use crate::model::{Duration, Seq, Timestamp};

/// So many segments that wait for a base are reason enough for one.
const BASE_EVERY_SEGMENTS: usize = 4;
/// After this long one is.
const BASE_EVERY: Duration = Duration::from_secs(3_600);

/// How much of the journal is kept. Neither: all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub age: Option<Duration>,
    pub bytes: Option<u64>,
}

impl Rule {
    pub fn keeps_all(&self) -> bool {
        self.age.is_none() && self.bytes.is_none()
    }

    /// How many of the sealed segments, oldest first, may go now. `ended` tells when a segment's last record was written,
    /// or a little later; None: not known, so it stays.
    pub fn expendable(
        &self,
        sealed: &[SegmentInfo],
        now: Option<Timestamp>,
        mut ended: impl FnMut(usize) -> Option<Timestamp>,
    ) -> usize {
        let before = self.age.zip(now).map(|(age, now)| now.saturating_sub(age));
        let mut bytes: u64 = sealed.iter().map(|segment| segment.bytes).sum();
        for (index, segment) in sealed.iter().enumerate() {
            let too_many = self.bytes.is_some_and(|most| bytes > most);
            let mut too_old = || before.is_some_and(|before| ended(index).is_some_and(|ended| ended <= before));
            if !too_many && !too_old() {
                return index;
            }
            bytes -= segment.bytes;
        }
        sealed.len()
    }
}

/// Whether a new base is due, for segments that may go, after a base at `base` that was taken `ago`; None: no base, or
/// none in this run.
pub fn is_base_due(expendable: &[SegmentInfo], base: Option<Seq>, ago: Option<Duration>) -> bool {
    let waiting = expendable.iter().filter(|segment| base.is_none_or(|base| segment.last_seq > base)).count();
    waiting >= BASE_EVERY_SEGMENTS || waiting > 0 && ago.is_none_or(|ago| ago >= BASE_EVERY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::EPOCH.saturating_add(Duration::from_secs(seconds))
    }

    /// Segments of ten records and a hundred bytes each.
    fn sealed(count: u64) -> Vec<SegmentInfo> {
        let segment = |n| SegmentInfo { first_seq: Seq(n * 10 + 1), last_seq: Seq(n * 10 + 10), bytes: 100 };
        (0..count).map(segment).collect()
    }

    /// Each ended ten seconds after the one before.
    fn every_ten_seconds(index: usize) -> Option<Timestamp> {
        Some(at(index as u64 * 10 + 10))
    }

    #[test]
    fn without_a_rule_everything_stays() {
        assert!(Rule::default().keeps_all());
        assert_eq!(Rule::default().expendable(&sealed(9), Some(at(1 << 40)), every_ten_seconds), 0);
    }

    #[test]
    fn a_segment_goes_once_its_last_record_is_as_old_as_the_rule_says() {
        let rule = Rule { age: Some(Duration::from_secs(100)), bytes: None };
        let count = |now| rule.expendable(&sealed(5), now, every_ten_seconds);
        assert_eq!([0, 109, 110, 119, 120, 150, 9_000].map(|now| count(Some(at(now)))), [0, 0, 1, 1, 2, 5, 5]);
        assert_eq!(count(None), 0, "as long as no time is believed");
    }

    #[test]
    fn a_segment_of_unknown_or_later_age_keeps_all_behind_it() {
        let rule = Rule { age: Some(Duration::from_secs(100)), bytes: None };
        let known = |unknown| move |index| (index != unknown).then(|| at(10));
        assert_eq!([0, 2, 7].map(|unknown| rule.expendable(&sealed(5), Some(at(500)), known(unknown))), [0, 2, 5]);
        let jumped = |index| Some(if index == 1 { at(900) } else { at(10) });
        assert_eq!(rule.expendable(&sealed(5), Some(at(500)), jumped), 1, "a clock was wrong, and reset");
    }

    #[test]
    fn segments_go_until_the_rest_fits_and_nobody_asks_for_their_age() {
        let count = |bytes| {
            let rule = Rule { age: None, bytes: Some(bytes) };
            rule.expendable(&sealed(5), Some(at(500)), |_| panic!("no need to know"))
        };
        assert_eq!([500, 499, 400, 399, 1, 0].map(count), [0, 1, 1, 2, 5, 5]);
    }

    #[test]
    fn either_rule_is_enough() {
        let rule = Rule { age: Some(Duration::from_secs(100)), bytes: Some(350) };
        let count = |now| rule.expendable(&sealed(5), Some(at(now)), every_ten_seconds);
        assert_eq!([0, 120, 140].map(count), [2, 2, 4]);
    }

    #[test]
    fn a_base_is_taken_only_if_it_lets_a_segment_go_and_not_for_each() {
        let due = |count, base: Option<u64>, ago: Option<u64>| {
            is_base_due(&sealed(count), base.map(Seq), ago.map(Duration::from_secs))
        };
        assert!(!due(0, None, None), "nothing may go");
        assert!(due(1, None, None), "the first");
        assert!(!due(3, Some(30), None), "the base covers them");
        assert!(due(3, Some(29), None), "not all of the last");
        assert!(!due(3, Some(0), Some(3_599)) && due(3, Some(0), Some(3_600)));
        assert!(due(4, Some(0), Some(1)) && !due(4, Some(10), Some(1)));
    }
}
