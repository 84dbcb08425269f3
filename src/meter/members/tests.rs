use super::*;

fn members(exact_max: u32, may_approximate: bool, count: u128) -> Members {
    let mut members = Members::new(exact_max, may_approximate);
    (0..count).for_each(|n| assert!(members.add(hash(n)).is_ok()));
    members
}

/// Spread like a keyed hash.
fn hash(n: u128) -> u128 {
    fastrand::Rng::with_seed(n as u64).u128(..)
}

#[test]
fn counts_each_member_once() {
    let mut set = members(10, false, 3);
    assert_eq!(set.add(hash(1)), Ok(Added::default()));
    assert_eq!(set.add(hash(7)), Ok(Added { new_member: true, became_approximate: false }));
    assert_eq!(set.count(), 4);
    let mut all: Vec<u128> = set.iter().collect();
    all.sort_unstable();
    let mut expected = [0, 1, 2, 7].map(hash);
    expected.sort_unstable();
    assert_eq!(all, expected);
}

#[test]
fn the_limit_refuses_new_members_and_still_takes_known_ones() {
    let mut set = members(10, false, 10);
    assert_eq!(set.check(hash(10)), Err(Refusal::UniqueLimit));
    assert_eq!(set.add(hash(10)), Err(Refusal::UniqueLimit));
    assert_eq!(set.add(hash(9)), Ok(Added::default()));
    assert_eq!(set.count(), 10);
}

#[test]
fn new_limits_hold_for_what_comes_next() {
    let mut set = members(10, false, 10);
    set.set_limits(11, false);
    assert!(set.add(hash(10)).is_ok());
    set.set_limits(5, false);
    assert_eq!((set.add(hash(3)), set.add(hash(11))), (Ok(Added::default()), Err(Refusal::UniqueLimit)));
    assert_eq!(set.count(), 11);
    set.set_limits(5, true);
    assert_eq!(set.add(hash(11)), Ok(Added { new_member: false, became_approximate: true }));
    assert_eq!(set.count(), 12);
}

#[test]
fn past_the_limit_it_goes_on_as_an_estimate_where_that_is_allowed() {
    let mut set = members(1_000, true, 1_000);
    assert_eq!(set.add(hash(5)), Ok(Added::default()));
    assert!(!set.is_approximate());
    assert_eq!(set.add(hash(1_000)), Ok(Added { new_member: false, became_approximate: true }));
    assert!(set.is_approximate());
    assert_eq!(set.iter().count(), 0);
    assert_eq!(set.add(hash(1_001)), Ok(Added::default()));
    let count = set.count();
    assert!((1_001..1_040).contains(&count), "{count}");
}

#[test]
fn an_estimate_never_falls_below_what_was_counted() {
    for exact_max in [1, 2, 17, 500, 5_000] {
        let set = members(exact_max, true, u128::from(exact_max) + 1);
        assert!(set.count() > u64::from(exact_max), "{exact_max}");
    }
}

#[test]
fn merged_sets_stay_exact_past_the_meters_limit_up_to_the_bound() {
    let mut set = members(10, false, 10);
    let other = members(100, false, 50);
    set.merge(&other);
    assert_eq!((set.count(), set.is_approximate()), (50, false));
    set.merge(&members(10, false, 0));
    assert_eq!(set.count(), 50);

    let bound = u128::from(MERGED_EXACT_MAX);
    let mut full = members(MERGED_EXACT_MAX, false, 20);
    full.merge(&members(MERGED_EXACT_MAX, false, bound));
    assert_eq!((full.count(), full.is_approximate()), (u64::from(MERGED_EXACT_MAX), false));
    full.merge(&other);
    assert_eq!((full.count(), full.is_approximate()), (u64::from(MERGED_EXACT_MAX), false));
    let mut more = Members::new(10, false);
    (bound..bound + 10).for_each(|n| assert!(more.add(hash(n)).is_ok()));
    full.merge(&more);
    assert!(full.is_approximate());
    assert!(full.count().abs_diff(u64::from(MERGED_EXACT_MAX) + 10) < 9_000);
}

#[test]
fn an_estimate_merges_with_anything_to_the_same_estimate_either_way() {
    let estimate = members(1_000, true, 5_000);
    let exact = members(1_000, true, 900);
    let (mut a, mut b) = (estimate.clone(), exact.clone());
    a.merge(&exact);
    b.merge(&estimate);
    assert_eq!(a, b);
    assert_eq!(a, estimate);
    assert_ne!(a, exact);
}

#[test]
fn heap_bytes_follow_the_set() {
    let (empty, thousand) = (Members::new(10, false).heap_bytes(), members(1_000, false, 1_000).heap_bytes());
    assert!(empty <= 64, "{empty}");
    assert!((16_000..40_000).contains(&thousand), "{thousand}");
    assert!(members(10, true, 20).heap_bytes() > REGISTERS);
}
