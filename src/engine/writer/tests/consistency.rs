//! Whatever happens in whatever order: the live state, one that is loaded, and one that is folded anew are the same.

use fastrand::Rng;

use super::daemon::*;
use crate::engine::writer::CustomerSettings;
use crate::meter::{Cap, PlanCap};
use crate::model::{Duration, Outcome, Quantity, Timestamp};

const CUSTOMERS: [&str; 3] = ["a", "b", "c"];

struct Run {
    daemon: Daemon,
    rng: Rng,
    reservations: u32,
}

fn some_caps(rng: &mut Rng) -> Vec<Cap> {
    let one = match rng.u8(..5) {
        0 => cap(20, &["50%", "80%"]),
        1 => cap(40, &["10", "50%"]),
        2 => allow(cap(15, &["50%", "120%"])),
        3 => Cap { enforce: false, ..cap(10, &["50%"]) },
        _ => Cap { grace: "10%".parse().unwrap(), ..cap(20, &[]) },
    };
    match rng.u8(..4) {
        0 => vec![],
        1 => vec![one, window_cap(12)],
        2 => vec![window_cap(8)],
        _ => vec![one],
    }
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut daemon = Daemon::new("2026-10-28T10:30:00Z", plan_caps(&mut rng));
        // So that something is forgotten, too.
        daemon.options.accept_past = Duration::from_secs(5 * 86_400);
        daemon.options.dedupe_retention = Duration::from_secs(6 * 86_400);
        daemon.restart();
        Self { daemon, rng, reservations: 0 }
    }

    fn customer(&mut self) -> &'static str {
        CUSTOMERS[self.rng.usize(..CUSTOMERS.len())]
    }

    fn events(&mut self) {
        let events = (0..self.rng.usize(1..4)).map(|_| {
            let customer = self.customer();
            let event = self.daemon.event(customer, self.rng.i64(-4..9));
            let meter = if self.rng.u8(..4) == 0 { CALLS } else { TOKENS };
            let model = [None, Some("a"), Some("b")][self.rng.usize(..3)];
            let back = Duration::from_secs(self.rng.u64(..5 * 86_400));
            let at: Option<Timestamp> = (self.rng.u8(..3) == 0).then(|| self.daemon.now().saturating_sub(back));
            Sent { meter, model, at, ..event }
        });
        let events: Vec<Sent> = events.collect();
        let answer = self.daemon.send(&events);
        if let (Some(Outcome::Accepted(_)), Some(last)) = (answer.outcomes.last(), events.last())
            && (last.quantity > 0 || last.meter == CALLS)
            && last.at.is_none()
        {
            self.assert_within_limits(last);
        }
    }

    /// An event was taken: it fits every cap that rejects, beside what is held.
    fn assert_within_limits(&self, event: &Sent) {
        let (meters, _) = self.daemon.view.caps(&tenant(), &event.customer);
        let statuses = meters.iter().filter(|caps| caps.meter == event.meter).flat_map(|caps| &caps.caps);
        for status in statuses {
            let taken = Quantity::from_scaled(status.used.scaled() + status.held.scaled());
            assert!(status.cap.limit().is_none_or(|limit| taken <= limit), "{event:?} {status:?}");
        }
    }

    fn reservation(&mut self) {
        let customer = self.customer();
        match self.rng.u8(..3) {
            0 => {
                self.reservations += 1;
                let expires_in = Duration::from_secs(self.rng.u64(1..3 * 86_400));
                self.daemon.reserve(&format!("r-{}", self.reservations), customer, self.rng.i64(1..9), expires_in);
            }
            kind => {
                let id = format!("r-{}", self.rng.u32(..=self.reservations));
                if kind == 1 {
                    self.daemon.release(&id);
                } else {
                    let event = self.daemon.event(customer, self.rng.i64(1..9));
                    self.daemon.commit_reservation(&id, event);
                }
            }
        }
    }

    fn settings(&mut self) {
        let customer = self.customer();
        match self.rng.u8(..3) {
            0 => {
                let caps = self.rng.bool().then(|| some_caps(&mut self.rng));
                let meter = if self.rng.bool() { CALLS } else { TOKENS };
                self.daemon.put_caps_on(meter, customer, caps);
            }
            1 => {
                let plan = self.rng.bool().then(|| "pro".to_owned());
                self.daemon.put_customer(customer, CustomerSettings { plan, ..CustomerSettings::default() });
            }
            _ => {
                let anchor = self.rng.bool().then(|| self.rng.u8(1..=28));
                self.daemon.put_customer(customer, CustomerSettings { anchor, ..CustomerSettings::default() });
            }
        }
    }

    fn step(&mut self) {
        match self.rng.u8(..24) {
            0..10 => self.events(),
            10..14 => self.reservation(),
            14..17 => self.settings(),
            17 | 18 => self.daemon.pass(Duration::from_secs(self.rng.u64(1..7_200))),
            19 => self.daemon.pass(Duration::from_secs(self.rng.u64(1..86_400))),
            20 | 21 => {
                self.daemon.commit();
                self.daemon.check();
            }
            22 => self.restart(),
            _ if self.rng.u8(..4) == 0 => {
                let back = Duration::from_secs(self.rng.u64(1..2 * 86_400));
                let now = self.daemon.now().saturating_sub(back);
                self.daemon.reset_clock(now);
            }
            _ => self.daemon.check(),
        }
    }

    fn restart(&mut self) {
        let changes = self.rng.u8(..3) == 0;
        if changes {
            let caps = plan_caps(&mut self.rng);
            self.daemon.options.caps.insert("tokens".into(), caps);
        }
        let before: Vec<_> = CUSTOMERS.iter().map(|customer| self.daemon.alerts(customer)).collect();
        self.daemon.restart();
        let after: Vec<_> = CUSTOMERS.iter().map(|customer| self.daemon.alerts(customer)).collect();
        assert!(changes || before == after, "a start alone fires nothing and brings nothing back");
    }
}

fn plan_caps(rng: &mut Rng) -> Vec<PlanCap> {
    let pro = some_caps(rng).into_iter().map(|cap| PlanCap { plan: Some("pro".to_owned()), cap });
    let pro: Vec<PlanCap> = pro.collect();
    let all = some_caps(rng).into_iter().map(|cap| PlanCap { plan: None, cap });
    all.chain(pro).collect()
}

#[test]
fn live_loaded_and_refolded_are_the_same() {
    for seed in 0..60 {
        println!("seed {seed}");
        let mut run = Run::new(seed);
        for _ in 0..150 {
            run.step();
        }
        run.daemon.verify();
    }
}
