use super::*;

fn sketch_of(count: u64, rng: &mut fastrand::Rng) -> Hll {
    let mut sketch = Hll::new();
    (0..count).for_each(|_| sketch.insert(rng.u128(..)));
    sketch
}

#[test]
fn estimates_within_four_standard_errors_over_the_whole_range() {
    for seed in 0..20 {
        let mut rng = fastrand::Rng::with_seed(seed);
        for count in [1u64, 2, 10, 100, 1_000, 10_000, 30_000, 50_000, 100_000, 300_000] {
            let estimate = sketch_of(count, &mut rng).estimate();
            let allowed = count * 4 * 81 / 10_000 + 2;
            assert!(estimate.abs_diff(count) <= allowed, "seed {seed}: {estimate} for {count}");
        }
    }
}

#[test]
fn an_empty_sketch_is_zero_and_a_full_one_is_finite() {
    assert_eq!(Hll::new().estimate(), 0);
    let full = Hll::from_registers(&[RANK_MAX; REGISTERS]).unwrap();
    assert!(full.estimate() > 1 << 60);
    assert_eq!(Hll::from_registers(&[RANK_MAX + 1; REGISTERS]), None);
}

#[test]
fn a_member_sets_the_register_and_rank_of_its_bits() {
    for (hash, register, rank) in [
        (0u64, 0, 51),
        (1, 0, 50),
        (u64::MAX, REGISTERS - 1, 1),
        (1 << 50, 1, 51),
        ((5 << 50) | (1 << 49), 5, 1),
        ((5 << 50) | (1 << 47), 5, 3),
    ] {
        let mut sketch = Hll::new();
        sketch.insert(u128::from(hash) << 64 | 0xdead_beef);
        let mut expected = [0; REGISTERS];
        expected[register] = rank;
        assert_eq!(sketch.registers(), &expected, "{hash:x}");
    }
}

#[test]
fn merging_is_adding_everything_in_any_order() {
    let mut rng = fastrand::Rng::with_seed(3);
    let mut members: Vec<u128> = (0..50_000).map(|_| rng.u128(..)).collect();
    let mut all = Hll::new();
    members.iter().for_each(|member| all.insert(*member));
    rng.shuffle(&mut members);
    let (mut a, mut b) = (Hll::new(), Hll::new());
    members[..30_000].iter().for_each(|member| a.insert(*member));
    members[20_000..].iter().for_each(|member| b.insert(*member));
    a.merge(&b);
    assert_eq!(a, all);
}

#[test]
fn the_estimate_of_a_stored_sketch_never_changes() {
    // Expected by the same formula in Python's decimal arithmetic, 50 digits.
    for (modulus, expected) in [(2, 10_360), (3, 16_419), (20, 115_182), (52, 303_516)] {
        let registers = std::array::from_fn(|n| (n % modulus) as u8);
        assert_eq!(Hll::from_registers(&registers).unwrap().estimate(), expected, "{modulus}");
    }
}

#[test]
fn a_nearly_saturated_sketch_is_estimated_too() {
    let registers = std::array::from_fn(|n| if n % 4 == 0 { RANK_MAX } else { 46 });
    let (estimate, expected) = (Hll::from_registers(&registers).unwrap().estimate(), 1_101_543_397_849_170_564);
    assert!(estimate.abs_diff(expected) < expected >> 40, "{estimate}");
}
