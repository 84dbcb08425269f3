use fastrand::Rng;

use super::*;
use crate::engine::key::{account_name, split_account};
use crate::engine::record::CapsRecord;
use crate::engine::record::caps::put_caps;
use crate::engine::record::caps::tests::{
    held, raised, random_alert, random_cap, random_hold, random_plan_cap, random_state, random_text, random_threshold,
    random_window,
};
use crate::model::{Timestamp, Window, hex};

/// Kind and length of a record.
const HEADER_BYTES: usize = 5;

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

/// Of the account t, c, m.
fn fired() -> Fired {
    Fired {
        kind: CapPeriod::Window,
        bounds: Window { start: at(-1), end: at(1) },
        cap: "default".into(),
        threshold: "80%".parse().unwrap(),
        generation: 2,
        active: true,
        refused: false,
        seq: Seq(0x0102),
    }
}

fn random_fired(random: &mut Rng) -> Fired {
    Fired {
        kind: if random.bool() { CapPeriod::Billing } else { CapPeriod::Window },
        bounds: random_window(random),
        cap: random_text(random).into(),
        threshold: random_threshold(random),
        generation: random.u32(..),
        active: random.bool(),
        refused: random.bool(),
        seq: Seq(random.u64(..)),
    }
}

/// Whether nothing but the whole of these bytes is read.
fn only_whole(bytes: &[u8], is_read: impl Fn(&[u8]) -> bool) -> bool {
    let longer = [bytes, &[0]].concat();
    is_read(bytes) && !is_read(&longer) && (0..bytes.len()).all(|end| !is_read(&bytes[..end]))
}

#[test]
fn keys_have_their_golden_bytes() {
    let (customer, seq) = ("c\u{e9}", Seq(0x0102_0304_0506_0708));
    for (key, golden) in [
        (alert_key("t", seq), "00 0001 74 0102030405060708"),
        (recovered_key("t", seq), "01 0001 74 0102030405060708"),
        (customer_alert_key("t", customer, seq), "02 0001 74 0003 63c3a9 0102030405060708"),
        (reservation_key("t", "r-1"), "0001 74 722d31"),
        (caps_key(MeterId(0x0102)), "636170732f 0102"),
        (customer_caps_key(&account_name("t", "c", "m")), "637573746f6d65725f636170732f 0001 74 0001 63 0001 6d"),
        (
            threshold_key(&account_name("t", "c", "m"), &fired()),
            "0001 74 0001 63 0001 6d 01 7fffffffffffffff 8000000000000001 0007 64656661756c74 0003 383025",
        ),
    ] {
        assert_eq!(hex::encode(&key), golden.replace(' ', ""));
    }
}

#[test]
fn values_have_their_golden_bytes() {
    assert_eq!(hex::encode(&encode_threshold(&fired())), "02000000010201000000000000");
    let used = Quantity::from_scaled(0x0a0b);
    let recovered = Recovered { seq: Seq(0x0102), at: at(0x0304), used };
    let golden = "02010000000000000403000000000000".to_owned() + "0b0a0000000000000000000000000000";
    assert_eq!(hex::encode(&encode_recovered(&recovered)), golden);
    let held_row = encode_reservation(&held());
    let row = |state| hex::encode(&encode_reservation(&Reservation { state, ..held() })[held_row.len() - 1..]);
    let committed = ReservationState::Committed { seq: recovered.seq, quantity: used, at: recovered.at };
    assert_eq!(row(ReservationState::Held), "00");
    assert_eq!(row(committed), "010201000000000000".to_owned() + &golden[32..] + &golden[16..32]);
    assert_eq!(row(ReservationState::Released { at: recovered.at }), "02".to_owned() + &golden[16..32]);
    assert_eq!(row(ReservationState::Expired { at: recovered.at }), "03".to_owned() + &golden[16..32]);
}

#[test]
fn rows_of_alerts_and_reservations_are_the_bodies_of_their_records() {
    for state in AlertState::ALL {
        let alert = Alert { state, ..raised() };
        let mut record = Vec::new();
        put_caps(&mut record, &CapsRecord::Alert(Box::new(alert.clone())));
        assert_eq!(encode_alert(&alert), record[HEADER_BYTES..]);
        assert_eq!(encode_outbox_alert(&alert), [&[state as u8], &record[HEADER_BYTES..]].concat());
        assert_eq!(record[0], 21 + state as u8);
    }
    let mut record = Vec::new();
    put_caps(&mut record, &CapsRecord::Held(Box::new(held())));
    let names = 2 + "acmé".len() + 2 + "r-1/é".len();
    assert_eq!(encode_reservation(&held()), [&record[HEADER_BYTES + names..], &[0]].concat());
}

#[test]
fn alerts_are_read_back_whole_or_not_at_all() {
    let mut random = Rng::with_seed(21);
    for _ in 0..500 {
        let alert = random_alert(&mut random);
        assert_eq!(decode_outbox_alert(&encode_outbox_alert(&alert)), Some(alert.clone()));
        let raised = Alert { state: AlertState::Triggered, ..alert };
        assert_eq!(decode_alert(&encode_alert(&raised)), Some(raised));
    }
    assert!(only_whole(&encode_alert(&raised()), |value| decode_alert(value).is_some()));
    let row = encode_outbox_alert(&raised());
    assert!(only_whole(&row, |value| decode_outbox_alert(value).is_some()));
    for state in 2..=u8::MAX {
        assert_eq!(decode_outbox_alert(&[&[state], &row[1..]].concat()), None, "state {state}");
    }
    let recovered = Recovered { seq: Seq(7), at: at(-3), used: Quantity::from_scaled(i128::MIN) };
    let row = encode_recovered(&recovered);
    assert_eq!(decode_recovered(&row), Some(recovered));
    assert!(only_whole(&row, |value| decode_recovered(value).is_some()));
}

#[test]
fn alerts_of_a_tenant_and_of_a_customer_are_in_order_of_their_seqs_and_apart_from_others() {
    let seqs = [1, 0xff, 0x100, 1 << 40, u64::MAX].map(Seq);
    for (prefix, key) in [
        (alert_prefix("ab"), alert_key as fn(&str, Seq) -> Vec<u8>),
        (recovered_prefix("ab"), recovered_key),
        (customer_alert_prefix("ab", "c"), |tenant, seq| customer_alert_key(tenant, "c", seq)),
    ] {
        let keys = seqs.map(|seq| key("ab", seq));
        assert!(keys.is_sorted() && keys.iter().all(|key| key.starts_with(&prefix)));
        assert_eq!(keys.map(|key| split_alert_seq(&key)), seqs.map(Some));
        assert!(!key("a", Seq(1)).starts_with(&prefix) && !key("abc", Seq(1)).starts_with(&prefix));
    }
    assert!(!customer_alert_key("ab", "cd", Seq(1)).starts_with(&customer_alert_prefix("ab", "c")));
    assert_eq!(split_alert_seq(&[0; 7]), None);
}

#[test]
fn thresholds_are_read_back_whole_or_not_at_all() {
    let mut random = Rng::with_seed(22);
    for _ in 0..500 {
        let names = [random_text(&mut random), random_text(&mut random), random_text(&mut random)];
        let (account, fired) = (account_name(&names[0], &names[1], &names[2]), random_fired(&mut random));
        let (key, value) = (threshold_key(&account, &fired), encode_threshold(&fired));
        assert!(key.starts_with(&account));
        assert_eq!(decode_threshold(&key, &value), Some((account.into(), fired)));
    }
    let account = account_name("t", "c", "m");
    let (key, value) = (threshold_key(&account, &fired()), encode_threshold(&fired()));
    assert!(only_whole(&key, |key| decode_threshold(key, &value).is_some()));
    assert!(only_whole(&value, |value| decode_threshold(&key, value).is_some()));
    let with = |place: usize, byte: u8| {
        let mut changed = key.clone();
        changed[place] = byte;
        decode_threshold(&changed, &value)
    };
    let kind = account.len();
    assert_eq!(with(kind, 0).map(|(_, fired)| fired.kind), Some(CapPeriod::Billing));
    assert_eq!(with(kind, 2), None, "a kind of period that nobody knows");
    assert_eq!(with(kind + 1, 0xff), None, "the year 290,000");
    assert_eq!(with(key.len() - 1, b'x'), None, "no threshold");
    for flags in 0..=u8::MAX {
        let read = decode_threshold(&key, &[&value[..4], &[flags], &value[5..]].concat());
        let said = read.map(|(_, fired)| (fired.active, fired.refused));
        assert_eq!(said, (flags < 4).then_some((flags & 1 > 0, flags & 2 > 0)), "flags {flags:08b}");
    }
}

#[test]
fn thresholds_of_an_account_are_in_order_of_their_periods() {
    let starts = [-5, -1, 0, 7, 1 << 50];
    let fired = |start| Fired { bounds: Window { start: at(start), end: at(0) }, ..fired() };
    assert!(starts.map(|start| threshold_key(b"", &fired(start))).is_sorted());
}

#[test]
fn reservations_are_read_back_whole_or_not_at_all_in_every_state() {
    let mut random = Rng::with_seed(23);
    for _ in 0..500 {
        let state = random_state(&mut random);
        let written = Reservation { state, ..random_hold(&mut random) };
        let (key, value) = (reservation_key(written.tenant.as_str(), &written.id), encode_reservation(&written));
        assert!(key.starts_with(&reservation_prefix(written.tenant.as_str())));
        assert!(only_whole(&value, |value| decode_reservation(&key, value).is_some()));
        assert_eq!(decode_reservation(&key, &value), Some(written));
    }
    let (key, mut value) = (reservation_key("t", "r"), encode_reservation(&held()));
    assert_eq!(decode_reservation(&key[..2], &value), None, "no tenant");
    assert_eq!(decode_reservation(&[&key[..], &[0xff]].concat(), &value), None, "an id that is no text");
    *value.last_mut().unwrap() = 4;
    assert_eq!(decode_reservation(&key, &value), None, "a state that nobody knows");
}

#[test]
fn caps_are_read_back_with_what_they_are_for() {
    let mut random = Rng::with_seed(24);
    for count in (0..4).cycle().take(200) {
        let caps: Vec<PlanCap> = (0..count).map(|_| random_plan_cap(&mut random)).collect();
        assert_eq!(decode_caps(&encode_caps(&caps)), Some(caps));
        let own: Vec<Cap> = (0..count).map(|_| random_cap(&mut random)).collect();
        assert_eq!(decode_customer_caps(&encode_customer_caps(&own)), Some(own));
    }
    assert_eq!((decode_caps(b"[").is_some(), decode_customer_caps(b"null").is_some()), (false, false));
    assert_eq!(split_caps_key(&caps_key(MeterId(0x0102))), Some(MeterId(0x0102)));
    assert!(only_whole(&caps_key(MeterId(7)), |key| split_caps_key(key).is_some()));
    let (account, name) = (("t", "", "m"), account_name("t", "", "m"));
    let key = customer_caps_key(&name);
    assert_eq!(split_customer_caps_key(&key).and_then(split_account), Some(account));
    assert!(only_whole(&key, |key| split_customer_caps_key(key).is_some()));
    assert_eq!(split_customer_caps_key(&caps_key(MeterId(7))), None);
}
