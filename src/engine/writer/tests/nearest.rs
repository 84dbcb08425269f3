//! Who is nearest to a hard cap.

use super::daemon::*;
use crate::engine::view::NearestCaps;

fn named(nearest: &NearestCaps) -> Vec<(&str, f64)> {
    nearest.top.iter().map(|near| (near.customer.as_str(), near.ratio)).collect()
}

#[test]
fn the_nearest_are_named_and_the_rest_are_one() {
    let mut daemon = Daemon::capped("2026-11-10T10:30:00Z", allow(cap(10, &[])));
    for (customer, quantity) in [("a", 1), ("b", 8), ("c", 20), ("d", 5), ("e", -3)] {
        daemon.use_up(customer, quantity);
    }
    let expected = [("c", 2.0), ("b", 0.8)];
    for restarts in [false, true] {
        if restarts {
            daemon.restart();
        }
        let nearest = daemon.view.nearest_caps(2);
        assert_eq!((named(&nearest), nearest.other), (expected.to_vec(), Some(0.5)));
        let all = daemon.view.nearest_caps(100);
        assert_eq!((all.top.len(), all.other), (5, None));
        assert_eq!(all.top[4].ratio, 0.0, "less than nothing is nothing");
    }
    daemon.use_up("c", -19);
    daemon.put_caps("b", Some(vec![cap(80, &[]), window_cap(16)]));
    let nearest = daemon.view.nearest_caps(2);
    assert_eq!((named(&nearest), nearest.other), (vec![("b", 0.5), ("d", 0.5)], Some(0.1)));
    assert_eq!(daemon.view.nearest_caps(0).top, []);
    daemon.put_caps("b", Some(vec![]));
    assert!(daemon.view.nearest_caps(5).top.iter().all(|near| near.customer != "b"));
}
