//! Which record of the replay each record of the source became: runs of records that stayed together.

use crate::model::Seq;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    source: Seq,
    replay: Seq,
    len: u64,
}

/// Records of the source, in order, each with its place in the replay; those that were left out have none.
#[derive(Debug, Default)]
pub struct SeqMap {
    runs: Vec<Run>,
}

impl SeqMap {
    /// Record `source` became record `replay`. Both are greater than any before.
    pub fn push(&mut self, source: Seq, replay: Seq) {
        match self.runs.last_mut() {
            Some(run) if run.source.plus(run.len) == source && run.replay.plus(run.len) == replay => run.len += 1,
            _ => self.runs.push(Run { source, replay, len: 1 }),
        }
    }

    /// What the record became; none if it was left out.
    pub fn get(&self, source: Seq) -> Option<Seq> {
        let run = self.runs[..self.runs.partition_point(|run| run.source <= source)].last()?;
        let place = source.0 - run.source.0;
        (place < run.len).then(|| run.replay.plus(place))
    }

    /// The first record of the replay that comes from this record or a later one; `next` if there is none yet. Nothing is before
    /// the first record.
    pub fn at_or_after(&self, source: Seq, next: Seq) -> Seq {
        if source == Seq::ZERO {
            return Seq::ZERO;
        }
        let after = self.runs.partition_point(|run| run.source <= source);
        let following = self.runs.get(after).map_or(next, |run| run.replay);
        self.get(source).unwrap_or(following)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_keep_their_order_also_where_some_are_left_out_or_added() {
        let mut map = SeqMap::default();
        // 3 is left out, one is added before what was 5, 7 to 9 are left out.
        for (source, replay) in [(1, 1), (2, 2), (4, 3), (5, 5), (6, 6), (10, 7)] {
            map.push(Seq(source), Seq(replay));
        }
        assert_eq!(map.runs.len(), 4, "{map:?}");
        let found = |source| map.get(Seq(source)).map(|seq| seq.0);
        assert_eq!([0, 1, 3, 4, 6, 8, 10, 11].map(found), [None, Some(1), None, Some(3), Some(6), None, Some(7), None]);
        let from = |source| map.at_or_after(Seq(source), Seq(8)).0;
        assert_eq!([0, 1, 3, 4, 7, 9, 10, 11, 40].map(from), [0, 1, 3, 3, 7, 7, 7, 8, 8]);
    }
}
