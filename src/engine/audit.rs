//! The conservation law, from the journal alone: per tenant, received = accepted + duplicate + conflict + rejected + capped.
//!
//! | number | is |
//! | --- | --- |
//! | accepted | events in Events and BackfilledEvents records |
//! | duplicate, conflict, rejected, capped | the sums of Tally records |
//! | voided | Retracted records that take one event back |
//! | reverted | events of backfills that were taken back whole; those that were voided before are among them |
//!
//! 1. The journal is only decoded, event by event; nothing is folded. Its numbers are those of its newest record.
//! 2. Beside it stands what the store's counters say, with the journal's tail folded over them: two ways to the same numbers.

use std::collections::{BTreeMap, HashMap};

use crate::engine::corrections::Cause;
use crate::engine::record::{CorrectionRecord, Record, RecordError, Tally};
use crate::engine::recovery::OpenError;
use crate::engine::replay::{self, ReplayFailed, Side, Source};
use crate::engine::state::TenantTotals;
use crate::model::Seq;

/// One tenant's events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Law {
    pub accepted: u64,
    pub not_taken: Tally,
    pub voided: u64,
    pub reverted: u64,
    /// What the store's counters say.
    pub store: TenantTotals,
}

impl Law {
    pub fn received(&self) -> u64 {
        let Tally { duplicate, conflict, rejected, capped } = self.not_taken;
        self.accepted + duplicate + conflict + rejected + capped
    }

    /// The journal's records and the store's counters say the same.
    pub fn holds(&self) -> bool {
        self.store == TenantTotals { accepted: self.accepted, not_taken: self.not_taken }
    }
}

/// What a journal and its store say of every tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audited {
    /// The journal's newest record.
    pub last: Seq,
    /// The store's.
    pub store: Seq,
    pub tenants: BTreeMap<String, Law>,
}

impl Audited {
    pub fn holds(&self) -> bool {
        self.tenants.values().all(Law::holds)
    }
}

pub type AuditFailed = ReplayFailed;

/// Counts what the journal says of every tenant. The data directory must not be in use.
pub fn audit(source: &Source, progress: &mut dyn FnMut(Seq)) -> Result<Audited, AuditFailed> {
    let mut count = Count::default();
    let last = replay::read_all(source, &mut |frame, record| {
        let refuse = |source: RecordError| OpenError::Fold {
            segment: frame.at.segment,
            offset: frame.at.offset,
            source: source.into(),
        };
        count.take(record).map_err(refuse)?;
        progress(frame.first_seq);
        Ok(())
    })?;
    let side = Side::open(source)?;
    let mut audited = Audited { last, store: source.store.position(), tenants: count.tenants };
    for (tenant, totals) in &side.tenants {
        audited.tenants.entry(tenant.to_string()).or_default().store = *totals;
    }
    Ok(audited)
}

#[derive(Default)]
struct Count {
    tenants: BTreeMap<String, Law>,
    /// By number: a backfill's tenant and its events.
    backfills: HashMap<u32, (String, u64)>,
}

impl Count {
    fn tenant(&mut self, name: &str) -> &mut Law {
        if !self.tenants.contains_key(name) {
            self.tenants.insert(name.to_owned(), Law::default());
        }
        self.tenants.get_mut(name).expect("just inserted")
    }

    fn take(&mut self, record: &Record<'_>) -> Result<(), RecordError> {
        match record {
            Record::Events(events) => {
                let mut read = 0;
                for event in events.iter() {
                    event?;
                    read += 1;
                }
                self.tenant(events.tenant).accepted += read;
                if let Some((_, count)) = events.backfill.and_then(|number| self.backfills.get_mut(&number)) {
                    *count += read;
                }
            }
            Record::Tally { tenant, tally } => self.tenant(tenant).not_taken.add(tally),
            Record::Correction(CorrectionRecord::Retracted { retraction, .. }) => {
                if let Cause::Void(_) = retraction.cause {
                    self.tenant(retraction.tenant.as_str()).voided += 1;
                }
            }
            Record::Correction(CorrectionRecord::BackfillOpened { tenant, number, .. }) => {
                self.backfills.insert(*number, ((*tenant).to_owned(), 0));
            }
            Record::Correction(CorrectionRecord::BackfillReverted { number, .. }) => {
                if let Some((tenant, count)) = self.backfills.get(number).cloned() {
                    self.tenant(&tenant).reverted += count;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
