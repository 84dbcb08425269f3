//! A journal that has lost its beginning to retention, and the base that stands in for it.

use std::sync::Arc;

use super::daemon::*;
use crate::engine::VerifyError;
use crate::model::{Duration, Seq};
use crate::store::{Commit, Store, Table};

const NOW: &str = "2026-10-30T10:30:00Z";

/// Hours of everything there is: open, final and adjusted windows, caps, alerts, reservations.
fn busy_hours(daemon: &mut Daemon, hours: u64) {
    for hour in 0..hours {
        for customer in ["a", "b", "c"] {
            let mut events: Vec<_> = (0..80).map(|_| daemon.event(customer, 1)).collect();
            events[7].model = Some("large");
            events[8].meter = CALLS;
            events[9].at = Some(daemon.now().saturating_sub(Duration::from_secs(3_600 * (3 + hour % 4))));
            daemon.send(&events);
        }
        daemon.reserve(&format!("r-{hour}"), "a", 2, HOUR);
        daemon.reserve(&format!("s-{hour}"), "b", 2, HOUR);
        daemon.release(&format!("s-{hour}"));
        daemon.pass(HOUR);
        if hour % 3 == 2 {
            daemon.commit();
        }
    }
}

#[test]
fn what_is_rebuilt_over_a_base_is_what_the_store_has() {
    let mut daemon = Daemon::capped(NOW, cap(700, &["50%"]));
    busy_hours(&mut daemon, 8);
    daemon.verify();
    let mut base = daemon.cut();
    for round in 0..3 {
        let at = base.position();
        let verified = daemon.verify_from(Some(&base)).unwrap();
        assert_eq!((verified.differences.as_slice(), verified.base), (&[][..], Some(at)), "round {round}");
        assert_eq!(verified.rebuildable_from, at.next());
        busy_hours(&mut daemon, 5);
        let verified = daemon.verify_from(Some(&base)).unwrap();
        assert_eq!(verified.differences, [], "round {round}");
        assert!(verified.position > at && verified.ids > 0 && verified.rows > 50);
        daemon.restart();
        busy_hours(&mut daemon, 40 * u64::from(round == 1));
        assert_eq!(daemon.verify_from(Some(&base)).unwrap().differences, [], "after a restart in round {round}");
        base = daemon.cut();
    }
}

#[test]
fn a_change_to_the_store_or_to_the_base_is_noticed() {
    let mut daemon = Daemon::capped(NOW, cap(700, &["50%"]));
    busy_hours(&mut daemon, 8);
    let base = daemon.cut();
    busy_hours(&mut daemon, 2);
    assert_eq!(daemon.verify_from(Some(&base)).unwrap().differences, []);
    let mut rows = Vec::new();
    base.scan(Table::Windows, &[], &mut |key, _| {
        rows.push(key.to_vec());
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    let mut commit = Commit { position: base.position(), ..Commit::default() };
    commit.rows.delete(Table::Windows, &rows[0]);
    base.commit(&commit).unwrap();
    let verified = daemon.verify_from(Some(&base)).unwrap();
    assert_eq!(verified.difference_count, 1);
    assert!(verified.differences[0].what.starts_with("windows "), "{:?}", verified.differences);
    let mut commit = Commit { position: daemon.store.position(), ..Commit::default() };
    commit.rows.delete(Table::Windows, &rows[0]);
    daemon.store.commit(&commit).unwrap();
    assert_eq!(daemon.verify_from(Some(&base)).unwrap().differences, [], "both have lost it");
}

#[test]
fn without_a_base_that_fits_it_is_said_what_is_missing() {
    let mut daemon = Daemon::capped(NOW, cap(700, &["50%"]));
    busy_hours(&mut daemon, 1);
    daemon.commit();
    let old: Arc<dyn Store> = {
        daemon.store.checkpoint("old".as_ref()).unwrap();
        Arc::new(daemon.store.open_checkpoint("old".as_ref()).unwrap())
    };
    assert_eq!(daemon.verify_from(Some(&old)).unwrap().base, None, "a journal that is whole needs none");
    busy_hours(&mut daemon, 8);
    let base = daemon.cut();
    let first = match daemon.verify_from(None).unwrap_err() {
        VerifyError::NoBase { first } => first,
        other => panic!("{other}"),
    };
    assert!(first > Seq(1) && first <= base.position().next());
    let error = daemon.verify_from(Some(&old)).unwrap_err();
    assert!(matches!(error, VerifyError::BaseTooOld { base, .. } if base == old.position()), "{error}");
}
