//! Whether what accounts keep beside the fold is what the fold says; and the fold's caps as a text that can be compared.

use std::collections::BTreeMap;

use super::super::*;
use crate::engine::state::caps::accounts::NONE;
use crate::meter::{BillingPeriod, CapPeriod};

/// Everything of caps that two folds of the same log must agree on.
pub fn digest(state: &State) -> Vec<String> {
    let mut out = vec![format!("position {}", state.position())];
    for number in 0..state.definitions().len() {
        let meter = MeterId(number as u16);
        out.push(format!("defaults {number} {:?}", state.caps().defaults(meter)));
    }
    let mut accounts = BTreeMap::new();
    for (_, account) in state.caps().accounts().iter() {
        let mut fired: Vec<String> = account.fired.iter().map(|fired| format!("{fired:?}")).collect();
        fired.sort();
        assert_eq!(account.caps, state.caps_of(&account.name, account.meter), "caps are resolved");
        // Others are there for series that may have left memory.
        if !fired.is_empty() || !account.holds.is_empty() {
            let text = format!("{:?} {fired:?} {:?}", account.caps, account.holds);
            accounts.insert(account.name.clone(), text);
        }
    }
    out.extend(accounts.into_iter().map(|(name, text)| format!("{} {text}", name.escape_ascii())));
    let exceeded = state.caps().exceeded(Timestamp::MIN).filter(|(_, count)| *count > 0);
    out.extend(exceeded.map(|exceeded| format!("exceeded {exceeded:?}")));
    let reservations = state.caps().reservations();
    out.push(format!("held {}, next {:?}", reservations.held_len(), reservations.next_expiry()));
    out.extend(reservations.all().map(|reservation| format!("{reservation:?}")));
    out
}

/// Numbers of accounts, sums and thresholds are what they would be if made anew.
pub fn assert_consistent(state: &mut State) {
    let mut counted = BTreeMap::new();
    for number in 0..state.series_len() as u32 {
        let series = state.series(number);
        if series.is_empty() {
            continue;
        }
        let account = state.find_account(key::account_prefix(&series.key)).unwrap_or(NONE);
        assert_eq!(series.account, account, "series {}", series.key.escape_ascii());
        *counted.entry(account).or_insert(0) += 1;
    }
    let numbers: Vec<u32> = state.caps().accounts().iter().map(|(number, _)| number).collect();
    for number in numbers {
        let account = state.caps().account(number);
        assert_eq!(account.series, counted.get(&number).copied().unwrap_or(0));
        assert!(account.series > 0 || !account.fired.is_empty() || !account.holds.is_empty(), "nobody needs it");
        for total in account.totals.iter() {
            assert!(is_the_sum(state, (&account.name, account.meter), total), "{:?} {total:?}", account.name);
            assert_eq!(total.held, account.held(total.kind, total.bounds));
        }
        let before = format!("{:?}", account.totals);
        let account = state.caps.accounts_mut().get_mut(number);
        account.refresh();
        assert_eq!(format!("{:?}", account.totals), before, "limits and thresholds are up to date");
    }
}

fn is_the_sum(state: &State, account: (&[u8], MeterId), total: &caps::Total) -> bool {
    let (tenant, ..) = key::split_account(account.0).unwrap();
    let contains = |period: &&BillingPeriod| match total.kind {
        CapPeriod::Billing => period.bounds == total.bounds,
        CapPeriod::Window => period.bounds.contains(total.bounds.start),
    };
    let periods: Vec<BillingPeriod> = state.periods().of(tenant).map(|info| info.period).collect();
    let mut sums = periods
        .iter()
        .filter(contains)
        .map(|period| state.add_up(account, total.kind, (period, total.bounds)).unwrap());
    let any = sums.clone().next().is_some();
    if any { sums.any(|sum| sum == total.used) } else { total.used == 0 }
}
