//! Records reduced to a range: what of them speaks of windows that are there.
//!
//! 1. A billing period of which only a part is there holds that part: it is not to be compared.

use super::translate::Translation;
use crate::engine::corrections::{Cause, Retraction};
use crate::engine::record::{Closed, ClosedKind};
use crate::engine::state::FoldError;

impl Translation<'_> {
    /// Leaves the series that can be closed.
    pub(super) fn reduce_closed(&self, closed: &mut Closed<'_>) {
        if closed.kind == ClosedKind::Windows && !self.request.range.contains(closed.bounds.start) {
            closed.series.clear();
        }
        let (kind, meter, bounds) = (closed.kind, closed.meter, closed.bounds);
        closed.series.retain(|name| self.target.state.can_close((kind, meter, bounds), name));
    }

    /// Leaves the windows that are there; false if nothing is left, and the event was left out. The event's seq is still that of
    /// the source.
    pub(super) fn reduce_retraction(&mut self, retraction: &mut Retraction) -> Result<bool, FoldError> {
        for change in &mut retraction.changes {
            change.windows.retain(|window| self.request.range.contains(window.window.start));
        }
        retraction.changes.retain(|change| !change.windows.is_empty());
        for change in &mut retraction.changes {
            self.target.state.fit_total(change)?;
        }
        Ok(match &retraction.cause {
            Cause::Void(void) => self.seqs.get(void.event).is_some(),
            Cause::Revert { .. } => !retraction.changes.is_empty(),
        })
    }
}
