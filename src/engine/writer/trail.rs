//! Who changed what: each such operation leaves an OperatorAction record behind its own, in the same group.

use super::{Writer, apply_own};
use crate::engine::corrections::TrailEntry;
use crate::engine::record::{self, CorrectionRecord, Record};
use crate::engine::state::State;
use crate::model::{Seq, Timestamp};

impl<R> Writer<R> {
    /// Notes an action: of which tenant and when, what was done to what, and what it was before and after.
    pub(super) fn put_trail(
        &mut self,
        state: &mut State,
        (tenant, at): (Option<&str>, Timestamp),
        (action, target): (&str, &str),
        (before, after): (Option<String>, Option<String>),
    ) {
        let entry = TrailEntry {
            seq: Seq::ZERO,
            tenant: tenant.map(str::to_owned),
            at,
            by: None,
            action: action.to_owned(),
            target: target.to_owned(),
            before,
            after,
        };
        let record = CorrectionRecord::Action(Box::new(entry));
        record::put_correction(&mut self.payload, &record);
        apply_own(state, &Record::Correction(record));
    }
}
