use fastrand::Rng;

use super::*;
use crate::engine::record::{HEADER_BYTES, Record, RecordError, records};
use crate::meter::{Amount, CapPeriod, OnHardCap, Threshold};
use crate::model::Window;

const HOUR: i64 = 3_600_000_000;

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

fn window(start: i64, end: i64) -> Window {
    Window { start: at(start), end: at(end) }
}

fn monthly() -> Cap {
    Cap {
        id: "default".to_owned(),
        period: CapPeriod::Billing,
        hard: Some(Quantity::from_integer(1_000)),
        soft: ["80%", "900.5"].map(|amount| amount.parse().unwrap()).to_vec(),
        on_hard_cap: OnHardCap::Reject,
        grace: "10%".parse().unwrap(),
        enforce: true,
    }
}

fn hourly() -> Cap {
    Cap {
        id: "bürst \"1\"".to_owned(),
        period: CapPeriod::Window,
        hard: None,
        soft: vec!["900000".parse().unwrap()],
        on_hard_cap: OnHardCap::Allow,
        grace: Amount::NOTHING,
        enforce: false,
    }
}

/// Monthly; crossed by an event.
pub fn raised() -> Alert {
    Alert {
        state: AlertState::Triggered,
        tenant: "acmé".to_owned(),
        customer: "c-1".to_owned(),
        meter: "tokens".to_owned(),
        cap: monthly(),
        threshold: "80%".parse().unwrap(),
        amount: Quantity::from_integer(800),
        period: Some("1970-01".to_owned()),
        bounds: window(0, 744 * HOUR),
        generation: 1,
        used: Quantity::parse("800.000000000001").unwrap(),
        event: Some(AlertEvent { usage_event_id: "e-1".to_owned(), seq: Some(Seq(0x01_0203_0405)) }),
        late: false,
        at: at(1_000_001),
    }
}

/// In a window; by an event that was refused.
fn refused() -> Alert {
    Alert {
        customer: "c-2".to_owned(),
        cap: Cap { period: CapPeriod::Window, ..monthly() },
        threshold: Threshold::Hard,
        amount: Quantity::from_integer(1_000),
        period: None,
        bounds: window(-HOUR, 0),
        generation: u32::MAX,
        used: Quantity::from_integer(-1),
        event: Some(AlertEvent { usage_event_id: String::new(), seq: None }),
        late: true,
        at: at(-5),
        ..raised()
    }
}

fn recovered() -> Alert {
    Alert {
        state: AlertState::Recovered,
        cap: hourly(),
        threshold: "900000".parse().unwrap(),
        amount: Quantity::from_integer(900_000),
        period: Some("1970-W01".to_owned()),
        bounds: window(-72 * HOUR, 96 * HOUR),
        generation: 2,
        used: Quantity::ZERO,
        event: None,
        at: at(1_000_002),
        ..raised()
    }
}

pub fn held() -> Reservation {
    Reservation {
        tenant: TenantId::new("acmé"),
        id: "r-1/é".to_owned(),
        customer: "c-1".to_owned(),
        meter: MeterId(0x0102),
        quantity: Quantity::parse("2.5").unwrap(),
        period: BillingPeriod { label: "1970-02".parse().unwrap(), bounds: window(744 * HOUR, 1_416 * HOUR) },
        window: window(745 * HOUR, 746 * HOUR),
        made_at: at(745 * HOUR + 1),
        expires_at: at(745 * HOUR + 900_000_001),
        state: ReservationState::Held,
    }
}

fn written() -> [CapsRecord<'static>; 10] {
    let (tenant, customer, meter) = ("acmé", "c-1", MeterId(0x0102));
    let plans = vec![PlanCap { plan: None, cap: hourly() }, PlanCap { plan: Some("pro".to_owned()), cap: monthly() }];
    [
        CapsRecord::Defined { meter, caps: plans },
        CapsRecord::Defined { meter: MeterId(3), caps: Vec::new() },
        CapsRecord::Changed { tenant, customer, meter, at: at(-7), caps: Some(vec![hourly(), monthly()]) },
        CapsRecord::Changed { tenant, customer, meter, at: at(1 << 40), caps: None },
        CapsRecord::Alert(Box::new(raised())),
        CapsRecord::Alert(Box::new(refused())),
        CapsRecord::Alert(Box::new(recovered())),
        CapsRecord::Held(Box::new(held())),
        CapsRecord::Committed {
            tenant,
            id: "r-1/é",
            seq: Seq((1 << 63) + 1),
            quantity: Quantity::from_integer(3),
            at: at(12),
        },
        CapsRecord::Released { tenant, id: "r-2", at: at(13) },
    ]
}

fn payload() -> Vec<u8> {
    let mut out = Vec::new();
    written().iter().for_each(|record| put_caps(&mut out, record));
    out
}

/// Each record's bytes.
fn split(payload: &[u8]) -> Vec<Vec<u8>> {
    let (mut split, mut rest) = (Vec::new(), payload);
    while !rest.is_empty() {
        let length = u32::from_le_bytes(rest[1..HEADER_BYTES].try_into().unwrap());
        let (record, behind) = rest.split_at(HEADER_BYTES + length as usize);
        split.push(record.to_vec());
        rest = behind;
    }
    split
}

fn read(bytes: &[u8]) -> Result<usize, RecordError> {
    records(bytes).try_fold(0, |count, record| record.map(|_| count + 1))
}

/// A record of this kind around a body.
fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], &(body.len() as u32).to_le_bytes()[..], body].concat()
}

/// The record with other bytes where its body has these, once.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let body = &bytes[HEADER_BYTES..];
    let places: Vec<usize> = (0..=body.len() - from.len()).filter(|place| body[*place..].starts_with(from)).collect();
    let [place] = places[..] else { panic!("{from:?} stands {} times in kind {}", places.len(), bytes[0]) };
    record(bytes[0], &[&body[..place], to, &body[place + from.len()..]].concat())
}

const MALFORMED: Result<usize, RecordError> = Err(RecordError::Malformed(0));

#[test]
fn writes_the_golden_bytes_of_every_record_of_caps() {
    let golden = include_str!("../../../../tests/golden/caps_v2.hex");
    let golden: String = golden.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace).collect();
    let hex: String = payload().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, golden);
}

#[test]
fn reads_back_every_record_of_caps_each_with_one_seq() {
    let payload = payload();
    let read: Vec<Record<'_>> = records(&payload).collect::<Result<_, _>>().unwrap();
    assert_eq!(read, written().map(Record::Caps));
    assert!(read.iter().all(|record| record.seqs() == 1));
    let kinds: std::collections::BTreeSet<u8> = split(&payload).iter().map(|record| record[0]).collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), [19, 20, 21, 22, 23, 24, 25]);
}

#[test]
fn reads_back_whatever_it_wrote() {
    let mut random = Rng::with_seed(5);
    for _ in 0..2_000 {
        let names = [random_text(&mut random), random_text(&mut random)];
        let written = random_record(&mut random, &names);
        let mut bytes = Vec::new();
        put_caps(&mut bytes, &written);
        let read: Vec<Record<'_>> = records(&bytes).collect::<Result<_, _>>().unwrap();
        assert_eq!(read, [Record::Caps(written)]);
    }
}

#[test]
fn refuses_every_truncation_of_a_payload_but_those_between_records() {
    let payload = payload();
    let ends: Vec<usize> = split(&payload)
        .iter()
        .scan(0, |end, record| {
            *end += record.len();
            Some(*end)
        })
        .collect();
    for end in 1..=payload.len() {
        match ends.iter().position(|whole| *whole == end) {
            Some(place) => assert_eq!(read(&payload[..end]), Ok(place + 1)),
            None => assert!(read(&payload[..end]).is_err(), "cut at {end}"),
        }
    }
}

#[test]
fn refuses_a_body_that_is_shorter_or_longer_than_what_it_says() {
    for whole in split(&payload()) {
        let body = &whole[HEADER_BYTES..];
        assert_eq!(read(&whole), Ok(1));
        for length in 0..body.len() {
            assert_eq!(read(&record(whole[0], &body[..length])), MALFORMED, "kind {} cut to {length}", whole[0]);
        }
        for more in [&b"\0"[..], b"]", b"x", b"null"] {
            assert_eq!(read(&record(whole[0], &[body, more].concat())), MALFORMED, "kind {} and {more:?}", whole[0]);
        }
    }
}

#[test]
fn refuses_caps_that_say_more_or_less_or_otherwise_than_it_knows() {
    let records = split(&payload());
    let (defined, changed, none, raised) = (&records[0], &records[2], &records[3], &records[4]);
    assert_eq!((defined[0], changed[0], none[0], raised[0]), (19, 20, 20, 21));
    for (from, to) in [
        (r#""plan":"pro""#, r#""plan":7"#),
        (r#""plan":"pro""#, r#""plans":"pro""#),
        (r#""hard":"1000""#, r#""hard":1000"#),
        (r#""hard":"1000","#, ""),
        (r#""80%""#, r#""-80%""#),
        (r#""80%""#, r#""0x80%""#),
        (r#""10%""#, r#""100001%""#),
        (r#""reject""#, r#""Reject""#),
        (r#""billing""#, r#""month""#),
        (r#""enforce":true"#, r#""enforce":true,"more":1"#),
    ] {
        assert_eq!(read(&replaced(defined, from.as_bytes(), to.as_bytes())), MALFORMED, "{from} as {to}");
    }
    for json in ["", "nul", "{}", "0", "[null]", "[{}]", "[[]]"] {
        assert_eq!(read(&replaced(none, b"null", json.as_bytes())), MALFORMED, "a customer's caps are {json:?}");
        let defined = record(19, &[b"\x01\x00", json.as_bytes()].concat());
        assert_eq!(read(&defined), MALFORMED, "a meter's caps are {json:?}");
    }
    assert_eq!(read(&record(19, b"\x01\x00null")), MALFORMED, "the config always says something");
    assert_eq!(read(&replaced(none, b"null", b"[]")), Ok(1), "no caps at all is something a customer can have");
    assert_eq!(read(&replaced(raised, b"reject", b"refuse")), MALFORMED, "as it was then");
    assert_eq!(read(&replaced(raised, b"\"enforce\":true}", b"\"enforce\":null}")), MALFORMED);
}

#[test]
fn refuses_events_of_an_alert_that_cannot_be() {
    let raised = &split(&payload())[4];
    let event = |kind: u8, id: &[u8], seq: u64| [&[kind, id.len() as u8, 0], id, &seq.to_le_bytes()[..]].concat();
    let from = event(ACCEPTED, b"e-1", 0x01_0203_0405);
    let with = |kind, id, seq| read(&replaced(raised, &from, &event(kind, id, seq)));
    for (kind, id, seq) in [(NO_EVENT, &b""[..], 0), (REFUSED, b"e-1", 0), (REFUSED, b"", 0), (ACCEPTED, b"", 1)] {
        assert_eq!(with(kind, id, seq), Ok(1), "event {kind} {id:?} {seq}");
    }
    for (kind, id, seq) in [
        (NO_EVENT, &b"e-1"[..], 0),
        (NO_EVENT, b"", 1),
        (REFUSED, b"e-1", 1),
        (ACCEPTED, b"e-1", 0),
        (ACCEPTED, b"e-\xff", 1),
        (3, b"e-1", 1),
        (255, b"", 0),
    ] {
        assert_eq!(with(kind, id, seq), MALFORMED, "event {kind} {id:?} {seq}");
    }
}

#[test]
fn refuses_texts_flags_periods_and_times_that_cannot_be() {
    let records = split(&payload());
    let (raised, held, committed, released) = (&records[4], &records[7], &records[8], &records[9]);
    assert_eq!((raised[0], held[0], committed[0], released[0]), (21, 23, 24, 25));
    for whole in &records[2..] {
        let mut changed = whole.clone();
        changed[HEADER_BYTES + 2] = 0xff;
        assert_eq!(read(&changed), MALFORMED, "kind {}: a tenant that is not UTF-8", whole[0]);
        changed[HEADER_BYTES..HEADER_BYTES + 2].copy_from_slice(&[0xff; 2]);
        assert_eq!(read(&changed), MALFORMED, "kind {}: a tenant that is not given", whole[0]);
        // Every record but the caps of a customer ends with a time, a greatest byte of which is in the year 290,000.
        if whole[0] != 20 {
            let mut late = whole.clone();
            *late.last_mut().unwrap() = 0x7f;
            assert_eq!(read(&late), MALFORMED, "kind {}: a time beyond all", whole[0]);
        }
    }
    for threshold in ["8o%", "-1", "Hard", "", "100001%"] {
        let text = [&[threshold.len() as u8, 0], threshold.as_bytes()].concat();
        assert_eq!(read(&replaced(raised, b"\x03\x0080%", &text)), MALFORMED, "threshold {threshold:?}");
    }
    assert_eq!(read(&replaced(raised, b"\x03\x0080%", b"\x04\x00hard")), Ok(1));
    let flag = raised.len() - 9;
    for late in 0..=u8::MAX {
        let mut changed = raised.clone();
        changed[flag] = late;
        assert_eq!(read(&changed), if late < 2 { Ok(1) } else { MALFORMED }, "late {late}");
    }
    for label in ["1970-00", "1970-2x", "197-002"] {
        assert_eq!(read(&replaced(held, b"1970-02", label.as_bytes())), MALFORMED, "period {label:?}");
    }
}

pub fn random_text(random: &mut Rng) -> String {
    let length = random.usize(0..40);
    std::iter::repeat_with(|| random.char('\0'..)).take(length).collect()
}

fn random_time(random: &mut Rng) -> Timestamp {
    at(random.i64(-62_000_000_000_000_000..250_000_000_000_000_000))
}

pub fn random_window(random: &mut Rng) -> Window {
    Window { start: random_time(random), end: random_time(random) }
}

fn random_quantity(random: &mut Rng) -> Quantity {
    let shift = random.u32(0..127);
    Quantity::from_scaled(random.i128(..) >> shift)
}

fn random_amount(random: &mut Rng) -> Amount {
    let quantity = Quantity::from_scaled(random_quantity(random).scaled().max(0));
    let percent = Quantity::from_scaled(random.i128(0..=100_000 * Quantity::ONE.scaled()));
    if random.bool() { Amount::Percent(percent) } else { Amount::Absolute(quantity) }
}

pub fn random_threshold(random: &mut Rng) -> Threshold {
    if random.bool() { Threshold::Hard } else { Threshold::Soft(random_amount(random)) }
}

pub fn random_cap(random: &mut Rng) -> Cap {
    Cap {
        id: random_text(random),
        period: if random.bool() { CapPeriod::Billing } else { CapPeriod::Window },
        hard: random.bool().then(|| random_quantity(random)),
        soft: (0..random.usize(0..4)).map(|_| random_amount(random)).collect(),
        on_hard_cap: if random.bool() { OnHardCap::Allow } else { OnHardCap::Reject },
        grace: random_amount(random),
        enforce: random.bool(),
    }
}

pub fn random_plan_cap(random: &mut Rng) -> PlanCap {
    PlanCap { plan: random.bool().then(|| random_text(random)), cap: random_cap(random) }
}

pub fn random_alert(random: &mut Rng) -> Alert {
    let seq = Some(Seq(random.u64(1..))).filter(|_| random.bool());
    let event = AlertEvent { usage_event_id: random_text(random), seq };
    Alert {
        state: AlertState::ALL[random.usize(..2)],
        tenant: random_text(random),
        customer: random_text(random),
        meter: random_text(random),
        cap: random_cap(random),
        threshold: random_threshold(random),
        amount: random_quantity(random),
        period: Some(random_text(random)).filter(|name| !name.is_empty()),
        bounds: random_window(random),
        generation: random.u32(..),
        used: random_quantity(random),
        event: Some(event).filter(|_| random.bool()),
        late: random.bool(),
        at: random_time(random),
    }
}

/// One that is held.
pub fn random_hold(random: &mut Rng) -> Reservation {
    let label = ["2026-11", "2026-W48", "2026-11-22"][random.usize(..3)];
    Reservation {
        tenant: TenantId::new(&random_text(random)),
        id: random_text(random),
        customer: random_text(random),
        meter: MeterId(random.u16(..)),
        quantity: random_quantity(random),
        period: BillingPeriod { label: label.parse().unwrap(), bounds: random_window(random) },
        window: random_window(random),
        made_at: random_time(random),
        expires_at: random_time(random),
        state: ReservationState::Held,
    }
}

fn random_record<'a>(random: &mut Rng, names: &'a [String; 2]) -> CapsRecord<'a> {
    let (tenant, other, meter, at) = (&names[0], &names[1], MeterId(random.u16(..)), random_time(random));
    let count = random.usize(0..4);
    match random.u8(0..6) {
        0 => CapsRecord::Defined { meter, caps: (0..count).map(|_| random_plan_cap(random)).collect() },
        1 => {
            let caps = (0..count).map(|_| random_cap(random)).collect();
            CapsRecord::Changed { tenant, customer: other, meter, at, caps: Some(caps).filter(|_| random.bool()) }
        }
        2 => CapsRecord::Alert(Box::new(random_alert(random))),
        3 => CapsRecord::Held(Box::new(random_hold(random))),
        4 => {
            CapsRecord::Committed { tenant, id: other, seq: Seq(random.u64(..)), quantity: random_quantity(random), at }
        }
        _ => CapsRecord::Released { tenant, id: other, at },
    }
}

/// Some state that it can end in, or none.
pub fn random_state(random: &mut Rng) -> ReservationState {
    let at = random_time(random);
    match random.u8(0..4) {
        0 => ReservationState::Held,
        1 => ReservationState::Committed { seq: Seq(random.u64(..)), quantity: random_quantity(random), at },
        2 => ReservationState::Released { at },
        _ => ReservationState::Expired { at },
    }
}
