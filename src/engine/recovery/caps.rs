//! The config's caps that the log does not have in this form.

use std::collections::BTreeMap;

use crate::engine::record::caps::put_caps;
use crate::engine::record::{CapsRecord, Record, put_correction};
use crate::engine::recovery::trail::Trail;
use crate::engine::state::State;
use crate::engine::writer::{GROUP_BYTES, recoveries};
use crate::journal::{Journal, JournalError};
use crate::meter::{PlanCap, caps};
use crate::model::{MeterId, Timestamp};

/// Records them; before that, what is below its threshold by them. What is above a new threshold fires with the customer's
/// next event.
///
/// It goes in frames of some size. The caps come last: a crash in between leaves them to be recorded by the next start.
pub fn record(
    state: &mut State,
    journal: &mut Journal,
    configured: &BTreeMap<String, Vec<PlanCap>>,
    (at, trail): (Timestamp, &Trail),
) -> Result<(), JournalError> {
    for number in 0..state.definitions().len() {
        let (meter, slug) = (MeterId(number as u16), state.definitions()[number].slug.clone());
        let caps = configured.get(&slug).cloned().unwrap_or_default();
        if state.caps().defaults(meter) == caps {
            continue;
        }
        tracing::info!(meter = slug, caps = caps.len(), "the config's caps of this meter have changed");
        let (mut payload, mut first) = (Vec::new(), state.position().next());
        for name in names(state, meter) {
            let (before, plan) = (state.caps_of(&name, meter), state.plan_of(&name));
            let after = caps::effective(&caps, None, plan.as_deref());
            for alert in recoveries(state, &name, (&before, &after), (state.clock().effective(), at)) {
                put(&mut payload, state, &CapsRecord::Alert(Box::new(alert)));
            }
            if payload.len() >= GROUP_BYTES {
                super::append(journal, first, &payload, state)?;
                (payload, first) = (Vec::new(), state.position().next());
            }
        }
        let action = trail.caps((&slug, state.caps().defaults(meter)), &caps);
        put(&mut payload, state, &CapsRecord::Defined { meter, caps });
        if let Some(action) = action {
            put_correction(&mut payload, &action);
            let next = state.position().next();
            state.apply(next, &Record::Correction(action), &mut |_, _| {}).expect("an action fits any state");
        }
        super::append(journal, first, &payload, state)?;
    }
    Ok(())
}

/// The accounts that have what the config says, and have alerts.
fn names(state: &State, meter: MeterId) -> Vec<Box<[u8]>> {
    let accounts = state.caps().accounts().iter().map(|(_, account)| account);
    let theirs = accounts.filter(|account| account.meter == meter && !account.fired.is_empty());
    theirs.filter(|account| state.caps().own(&account.name).is_none()).map(|account| account.name.clone()).collect()
}

fn put(payload: &mut Vec<u8>, state: &mut State, record: &CapsRecord<'_>) {
    put_caps(payload, record);
    let next = state.position().next();
    state.apply(next, &Record::Caps(record.clone()), &mut |_, _| {}).expect("decided against this very state");
}
