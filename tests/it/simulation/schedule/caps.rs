//! What customers, their back offices and operators do about caps and reservations, and what readers see of it.

use std::collections::{BTreeMap, VecDeque};

use fastrand::Rng;
use meterd::engine::{CapsChange, Done, Operation, ReservationRefused, ReservationState, Reserve};
use meterd::env::Clock;
use meterd::model::{Duration, MeterId, Quantity, Seq, Timestamp};

use super::super::caps::{Account, Book, CAPPED, Held, Limits, ONE, PLANS, Released, Wanted, config, draw_caps};
use super::super::model::{CUSTOMERS, METERS, Sent};
use super::super::node::{CapsSetup, reservation_id, tenant};
use super::{HOUR_MICROS, Sabotage, World};

mod readers;

/// Ids of reservations.
const RESERVATIONS: u8 = 12;
/// The id of one that was never made.
const NO_RESERVATION: u8 = 99;
/// What was refused and may be sent again.
const REFUSED_MAX: usize = 8;
/// Different configs.
const CONFIGS: u64 = 40;

/// Whoever deals with caps.
#[derive(Default)]
pub struct Desk {
    /// There are caps in this schedule.
    pub is_open: bool,
    /// All is about one customer.
    is_narrow: bool,
    pub book: Book,
    refused: VecDeque<Sent>,
    /// Commits that were sent, to be sent again.
    commits: VecDeque<(u8, Sent)>,
}

impl Desk {
    pub fn draw(rng: &mut Rng) -> Self {
        Self { is_open: rng.u32(..4) == 0, is_narrow: rng.bool(), ..Self::default() }
    }

    /// Usage comes for many hours of one customer.
    pub fn is_narrow(&self) -> bool {
        self.is_open && self.is_narrow
    }

    pub fn any_customer(&self, rng: &mut Rng) -> u8 {
        if self.is_narrow() { rng.u8(..8) / 7 } else { rng.u8(..CUSTOMERS) }
    }

    pub fn setup(&self, rng: &mut Rng, sabotage: Sabotage) -> CapsSetup {
        let shadow = sabotage == Sabotage::CapsNotEnforced;
        match self.is_open {
            true => CapsSetup { config: rng.u64(..CONFIGS), reservations_max: rng.usize(1..6), shadow },
            false => CapsSetup::NONE,
        }
    }

    /// A client that tries again what was refused.
    pub fn refused_before(&mut self, rng: &mut Rng) -> Option<Sent> {
        if self.refused.is_empty() || rng.u32(..6) > 0 {
            return None;
        }
        self.refused.get(rng.usize(..self.refused.len())).cloned()
    }

    pub fn was_refused(&self, sent: &Sent) -> bool {
        self.refused.iter().any(|refused| (refused.id, refused.payload) == (sent.id, sent.payload))
    }

    pub fn note_refused(&mut self, sent: &Sent) {
        if self.refused.len() == REFUSED_MAX {
            self.refused.pop_front();
        }
        self.refused.push_back(sent.clone());
    }
}

impl World {
    pub(super) fn ask_desk(&mut self) {
        match self.rng.u32(..24) {
            0..=4 => self.put_caps(),
            5..=6 => self.put_plan(),
            7..=12 => self.reserve(),
            13..=17 => self.send_commit(),
            18..=19 => self.release(),
            20..=21 => self.clock.advance(Duration::from_secs(self.rng.u64(1..7_200))),
            _ => self.compare_caps(),
        }
    }

    /// The daemon has started.
    pub(super) fn start_caps(&mut self) {
        let before = self.desk.book.known.all_caps(&self.model);
        self.desk.book.known.config = config(self.setup.caps.config);
        self.note_time();
        self.note_caps_changes(&before, self.node.running.writer.effective().micros());
        self.keep_caps();
    }

    /// The process is gone, and a new one is about to start.
    pub(super) fn prepare_caps(&mut self) {
        let open = self.desk.book.known.open();
        self.seen.held_over_reopen += open as u64;
        if self.desk.is_open && self.rng.u32(..6) == 0 {
            self.seen.config_caps_changed += 1;
            self.setup.caps.config = self.rng.u64(..CONFIGS);
            self.setup.caps.reservations_max = self.rng.usize(1..6);
        }
    }

    /// Reservations expire by a Tick.
    pub(super) fn note_time(&mut self) {
        let ticked = self.ticked();
        let known = &mut self.desk.book.known;
        if known.ticked.replace(ticked) != Some(ticked) {
            let expired = known.tick(ticked.0);
            if expired > 0 {
                self.seen.expired += expired;
                self.desk.book.keep(self.node.running.writer.position());
            }
        }
    }

    /// By an operator's word, not by a Tick, it is another time.
    pub(super) fn note_reset(&mut self) {
        self.desk.book.known.ticked = Some(self.ticked());
    }

    fn ticked(&self) -> (Timestamp, Seq) {
        let state = self.node.running.writer.state().read();
        (state.clock().effective(), state.clock().horizon())
    }

    /// Caps may be others than before, at a time that is believed to be `now`.
    pub(super) fn note_caps_changes(&mut self, before: &BTreeMap<Account, Vec<Limits>>, now: i64) {
        let (position, at) = (self.node.running.writer.position(), self.clock.now());
        let known = &mut self.desk.book.known;
        for account in known.changed(&self.model, before) {
            known.since.insert(account, position);
            let before = before.get(&account).map_or(&[][..], Vec::as_slice);
            known.caps_changed(&self.model, account, before, (now, at));
        }
    }

    /// All of what was predicted has come about, and will be so if no record is lost.
    pub(super) fn keep_caps(&mut self) {
        if self.desk.is_open {
            self.check_alerts();
            self.desk.book.keep(self.node.running.writer.position());
        }
    }

    fn any_account(&mut self) -> Account {
        (self.desk.any_customer(&mut self.rng), CAPPED[self.rng.usize(..8).min(CAPPED.len() - 1)])
    }

    fn operate_caps(&mut self, operation: Operation) -> Done {
        self.next_request += 1;
        self.node.operate(operation, self.next_request);
        self.note_time();
        self.node.running.writer.newest_answer().expect("just decided").done.clone()
    }

    fn put_caps(&mut self) {
        let account = self.any_account();
        let before = self.desk.book.known.all_caps(&self.model);
        let caps = match self.rng.u32(..6) {
            0 => None,
            // The same once more.
            1 => self.desk.book.known.own.get(&account).cloned(),
            // A little more of the same.
            2..=3 => self.raised_caps(account),
            _ => Some(draw_caps(&mut self.rng, account.1)),
        };
        match &caps {
            Some(_) => self.seen.caps_put += 1,
            None => self.seen.caps_deleted += 1,
        }
        let now = self.observe();
        let meter = self.meter_id(account.1);
        let engine_caps = caps.as_ref().map(|caps| caps.iter().map(|cap| self.setup.caps.cap(cap)).collect());
        let customer = format!("customer-{}", account.0);
        let change = CapsChange { tenant: tenant(), customer, meter, caps: engine_caps };
        assert_eq!(self.operate_caps(Operation::PutCaps(change)), Done::Done);
        match caps {
            Some(caps) => self.desk.book.known.own.insert(account, caps),
            None => self.desk.book.known.own.remove(&account),
        };
        self.note_caps_changes(&before, now);
        self.note_decided();
    }

    /// The account's caps, each with a higher hard cap.
    fn raised_caps(&mut self, account: Account) -> Option<Vec<Limits>> {
        let mut caps = self.desk.book.known.caps(&self.model, account);
        for cap in &mut caps {
            cap.hard = cap.hard.map(|hard| hard + hard / ONE * ONE / 2 + ONE);
        }
        Some(caps)
    }

    fn put_plan(&mut self) {
        self.seen.plans_changed += 1;
        let customer = self.desk.any_customer(&mut self.rng);
        let plan = [None, Some(PLANS[0]), Some(PLANS[1])][self.rng.usize(..3)].map(str::to_owned);
        let anchor = self.model.settings(customer).schedule.newest().and_then(|era| era.anchor);
        self.put_customer(customer, anchor, plan);
    }

    fn meter_id(&self, meter: usize) -> MeterId {
        self.node.running.batches.meters().by_slug(METERS[meter]).expect("a known meter").id
    }

    fn reserve(&mut self) {
        let now = Timestamp::from_micros(self.observe()).expect("in range");
        let wanted = self.wanted();
        let Wanted { id, account, quantity, lifetime_micros } = wanted;
        let reserve = Reserve {
            tenant: tenant(),
            id: reservation_id(id),
            customer: format!("customer-{}", account.0),
            meter: self.meter_id(account.1),
            quantity: Quantity::from_scaled(quantity),
            expires_in: Duration::from_micros(lifetime_micros.unsigned_abs()),
        };
        let done = self.operate_caps(Operation::Reserve(reserve));
        let known = &mut self.desk.book.known;
        if let Some(before) = known.reservations.get(&id) {
            match before.says(&wanted) {
                true => self.check_reservation(id, &done),
                false => assert_eq!(done, Done::ReservationRefused(ReservationRefused::Differs)),
            }
            self.seen.reserved_again += 1;
            self.note_decided();
            return;
        }
        let place = known.place_at(&self.model, account, now);
        let broken = known.broken(&self.model, account, &place, quantity, None);
        let too_many = known.open() >= self.setup.caps.reservations_max;
        match &done {
            Done::ReservationRefused(ReservationRefused::TooMany(max)) => {
                assert!(too_many && *max == self.setup.caps.reservations_max, "{done:?}");
                self.seen.too_many_reservations += 1;
            }
            Done::ReservationRefused(ReservationRefused::Capped(verdict)) => {
                assert!(!broken.is_empty() && !verdict.allowed, "{wanted:?}: {verdict:?}");
                self.seen.reservations_refused += 1;
            }
            _ => {
                assert!(broken.is_empty() && !too_many, "{wanted:?}: {done:?}, but {broken:?}");
                let (made_at, seq) = (now.micros(), self.node.running.writer.position());
                let expires_at = made_at + lifetime_micros;
                let state = ReservationState::Held;
                let held = Held { account, quantity, lifetime_micros, place, made_at, expires_at, state, seq };
                known.reservations.insert(id, held);
                self.seen.reserved += 1;
                self.check_reservation(id, &done);
            }
        }
        self.note_decided();
    }

    fn wanted(&mut self) -> Wanted {
        let id = self.rng.u8(..RESERVATIONS);
        if let Some(held) = self.desk.book.known.reservations.get(&id)
            && self.rng.u32(..4) > 0
        {
            let Held { account, quantity, lifetime_micros, .. } = *held;
            return Wanted { id, account, quantity, lifetime_micros };
        }
        let account = self.any_account();
        let most = if account.1 == 0 { 3 } else { 700 };
        let quantity = ONE * i128::from(self.rng.i64(1..=most));
        let lifetime_micros = match self.rng.u32(..4) {
            0 => 7 * 24 * HOUR_MICROS,
            1 => self.rng.i64(1..30) * HOUR_MICROS,
            2 => 2_000_000,
            _ => HOUR_MICROS / 4,
        };
        Wanted { id, account, quantity, lifetime_micros }
    }

    /// What was used in the end arrives.
    fn send_commit(&mut self) {
        let known = &self.desk.book.known;
        if !self.desk.commits.is_empty() && self.rng.u32(..5) == 0 {
            let (id, sent) = self.desk.commits[self.rng.usize(..self.desk.commits.len())].clone();
            self.send_in(vec![sent], Some(id));
            return;
        }
        let any = |rng: &mut Rng, ids: Vec<u8>| if ids.is_empty() { None } else { Some(ids[rng.usize(..ids.len())]) };
        let all: Vec<u8> = known.reservations.keys().copied().collect();
        let open = all.iter().copied().filter(|id| known.reservations[id].is_open()).collect();
        let id = match self.rng.u32(..12) {
            0 => None,
            1..=2 => any(&mut self.rng, all),
            _ => any(&mut self.rng, open),
        };
        let held = id.map(|id| &known.reservations[&id]);
        let (account, quantity) = held.map_or(((0, CAPPED[1]), ONE), |held| (held.account, held.quantity));
        let most = i64::try_from(quantity / ONE).expect("a small number");
        let quantity = match self.rng.u32(..4) {
            0 => most,
            1 => most + self.rng.i64(1..500),
            _ => self.rng.i64(0..=most),
        };
        let sent = Sent {
            id: self.rng.u64(..90),
            payload: 0,
            customer: account.0,
            meters: vec![account.1],
            model: self.rng.bool().then(|| self.rng.u8(..2)),
            quantity,
            timestamp: None,
        };
        self.desk.commits.push_back((id.unwrap_or(NO_RESERVATION), sent.clone()));
        self.send_in(vec![sent], Some(id.unwrap_or(NO_RESERVATION)));
    }

    fn release(&mut self) {
        let id = self.rng.u8(..RESERVATIONS);
        let now = Timestamp::from_micros(self.observe()).expect("in range");
        let done = self.operate_caps(Operation::Release { tenant: tenant(), id: reservation_id(id) });
        match self.desk.book.known.release(id) {
            Released::Unknown => assert_eq!(done, Done::ReservationRefused(ReservationRefused::Unknown)),
            Released::Committed(seq) => assert_eq!(done, Done::ReservationRefused(ReservationRefused::Committed(seq))),
            Released::Already => self.check_reservation(id, &done),
            Released::Now => {
                let held = self.desk.book.known.reservations.get_mut(&id).expect("it is held");
                held.state = ReservationState::Released { at: now };
                self.seen.released += 1;
                self.check_reservation(id, &done);
            }
        }
        self.note_decided();
    }
}
