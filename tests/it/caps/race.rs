//! 64 connections race for what is left under a cap, with duplicates, retries and time-outs; in every second run the daemon
//! is killed in the middle.
//!
//! 1. Every event is sent until it is answered, over up to three connections, through both doors.
//! 2. An id is counted or capped, never both; the units counted are exactly those that were left, where events of one unit
//!    fill them, and never more.
//! 3. A capped id is free: it is taken once the cap was raised.
//!
//! `METERD_CAP_RUNS=100` races as often as the issue asks, `METERD_CAP_SEED=<seed>` draws the same events again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use meterd::cli::client::{Client, Target};
use meterd::cli::retry::is_retryable;
use meterd::model::Quantity;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::scene::{self, Scene, cap, check, event, put_caps, quantity, used};
use crate::harness::{number, seed};

const RUNS: u64 = 4;
const CONNECTIONS: usize = 64;
const LEFT: i64 = 1_000;
const USED_BEFORE: i64 = 999_000;
/// More than fit.
const UNIT_EVENTS: usize = 1_600;
const UNEVEN_EVENTS: usize = 400;
/// Connections that one event is sent over, at most.
const TIMES_MAX: usize = 3;
const REQUEST_EVENTS_MAX: usize = 6;
/// In percent: requests that are given up this soon, and sent again.
const HASTY_PERCENT: u64 = 8;
const HASTY_MS: u64 = 4;
const ANSWER_MAX: Duration = Duration::from_secs(60);
const CALL_MAX: Duration = Duration::from_secs(20);

/// What an event was answered so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Answers {
    accepted: u32,
    duplicate: u32,
    capped: u32,
    other: u32,
}

struct Race {
    customer: String,
    /// Each with its quantity.
    events: Vec<(String, Quantity)>,
    answers: Mutex<Vec<Answers>>,
    target: Mutex<Target>,
    requests: AtomicUsize,
    answered: AtomicUsize,
    unanswered: AtomicUsize,
}

/// What the runs came to.
#[derive(Debug, Default)]
struct Totals {
    runs: usize,
    kills: usize,
    requests: usize,
    unanswered: usize,
    /// Under way at a kill.
    cut_off: usize,
    counted: usize,
    capped: usize,
    duplicates: u32,
    /// Counted, and known only from a retry's `duplicate`: the first answer was lost.
    answers_lost: usize,
}

#[test]
fn connections_that_race_for_what_is_left_use_exactly_that_through_sigkills() {
    let runs = number("METERD_CAP_RUNS").unwrap_or(RUNS);
    let mut rng = Rng::with_seed(seed("METERD_CAP_SEED"));
    let mut scene = Scene::start(&scene::meter("calls", ""));
    let (mut totals, began) = (Totals::default(), Instant::now());
    for run in 0..runs {
        let (kill, units) = (run % 2 == 1, run / 2 % 2 == 0);
        let race = Race::new(run, units, &scene, &mut rng);
        race.run(&mut scene, kill, &mut rng);
        totals.unanswered += race.unanswered.load(Ordering::Relaxed);
        totals.requests += race.requests.load(Ordering::Relaxed);
        (totals.runs, totals.kills) = (totals.runs + 1, totals.kills + usize::from(kill));
        if kill {
            totals.cut_off += race.unanswered.load(Ordering::Relaxed);
        }
        let said = race.check(&scene, units, &mut totals);
        println!("run {run}: {said}");
        race.raise(&scene, units);
    }
    println!("{totals:?} in {:?}", began.elapsed());
    assert!(totals.kills == 0 || totals.cut_off > 0, "no kill met a request under way, so nothing was shown");
    scene.restart();
    for run in 0..runs {
        let (customer, cap) = (name(run), cap(&scene, &name(run), "calls"));
        assert!(used(&scene, &customer, "calls") <= quantity(&cap["hard"]), "after a restart: {cap}");
    }
    scene.verify();
}

fn name(run: u64) -> String {
    format!("racer {run}")
}

fn whole(units: i64) -> Quantity {
    Quantity::parse(&units.to_string()).unwrap()
}

fn sum(quantities: impl Iterator<Item = Quantity>) -> Quantity {
    quantities.fold(whole(0), |sum, quantity| sum.checked_add(quantity).unwrap())
}

impl Race {
    /// A customer who has used all but what is left.
    fn new(run: u64, units: bool, scene: &Scene, rng: &mut Rng) -> Self {
        let customer = name(run);
        let hard = USED_BEFORE + LEFT;
        put_caps(scene, &customer, "calls", &json!({"hard": hard, "soft": ["50%", "99.95%"]}));
        scene::expect(scene, &event(&format!("{run} before"), &customer, "calls", USED_BEFORE), "accepted");
        let count = if units { UNIT_EVENTS } else { UNEVEN_EVENTS };
        let mut draw = || match (units, rng.u64(0..4)) {
            (true, _) => "1".to_owned(),
            (_, 0) => format!("0.{:012}", rng.u64(1..1_000_000_000_000)),
            (_, 1) => format!("{}.25", rng.u64(0..9)),
            _ => rng.u64(1..40).to_string(),
        };
        let events = (0..count).map(|n| (format!("{run} {n}"), Quantity::parse(&draw()).unwrap())).collect::<Vec<_>>();
        Self {
            customer,
            answers: Mutex::new(vec![Answers::default(); events.len()]),
            events,
            target: Mutex::new(scene.daemon().target().unwrap()),
            requests: AtomicUsize::default(),
            answered: AtomicUsize::default(),
            unanswered: AtomicUsize::default(),
        }
    }

    fn run(&self, scene: &mut Scene, kill: bool, rng: &mut Rng) {
        let lines = self.share_out(rng);
        let requests = lines.iter().map(Vec::len).sum::<usize>();
        let kill_after = kill.then(|| requests * rng.usize(5..60) / 100);
        std::thread::scope(|scope| {
            for (number, line) in lines.iter().enumerate() {
                let rng = rng.fork();
                let builder = std::thread::Builder::new().name(format!("racer-{number}"));
                builder.spawn_scoped(scope, move || self.send_all(line, rng)).unwrap();
            }
            let Some(kill_after) = kill_after else { return };
            let began = Instant::now();
            while self.answered.load(Ordering::Relaxed) < kill_after {
                assert!(began.elapsed() < ANSWER_MAX, "the race stands still");
                std::thread::sleep(Duration::from_micros(100));
            }
            scene.kill();
            *self.target.lock() = scene.daemon().target().unwrap();
        });
        self.requests.fetch_add(requests, Ordering::Relaxed);
    }

    /// By connection: its requests, each some events by number.
    fn share_out(&self, rng: &mut Rng) -> Vec<Vec<Vec<usize>>> {
        let mut all = (0..self.events.len()).collect::<Vec<_>>();
        for event in 0..self.events.len() {
            all.extend(std::iter::repeat_n(event, rng.usize(0..TIMES_MAX)));
        }
        rng.shuffle(&mut all);
        let mut lines = vec![Vec::new(); CONNECTIONS];
        let mut rest = all.as_slice();
        while !rest.is_empty() {
            let (request, more) = rest.split_at(rng.usize(1..=REQUEST_EVENTS_MAX).min(rest.len()));
            lines[rng.usize(0..CONNECTIONS)].push(request.to_vec());
            rest = more;
        }
        lines
    }

    fn send_all(&self, requests: &[Vec<usize>], mut rng: Rng) {
        let mut open: Option<(Target, Client)> = None;
        for request in requests {
            let through_check = rng.u64(0..4) == 0;
            let began = Instant::now();
            loop {
                assert!(began.elapsed() < ANSWER_MAX, "no answer for {request:?} of {}", self.customer);
                let target = self.target.lock().clone();
                let reply = if rng.u64(0..100) < HASTY_PERCENT {
                    let hurry = Duration::from_millis(rng.u64(1..=HASTY_MS));
                    self.ask(&mut Client::new(&target, hurry).unwrap(), request, through_check)
                } else {
                    let (_, client) = match open.take().filter(|(known, _)| *known == target) {
                        Some(known) => open.insert(known),
                        None => open.insert((target.clone(), Client::new(&target, CALL_MAX).unwrap())),
                    };
                    self.ask(client, request, through_check)
                };
                if let Some(outcomes) = reply {
                    self.note(request, &outcomes);
                    break;
                }
                self.unanswered.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(rng.u64(1..20)));
            }
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The outcome of each event; none: no answer that settles it.
    fn ask(&self, client: &mut Client, request: &[usize], through_check: bool) -> Option<Vec<String>> {
        let (path, list) = if through_check { ("/v1/check", "data") } else { ("/v1/events?results=all", "events") };
        let body = request.iter().map(|number| {
            let (id, quantity) = &self.events[*number];
            let mut event = event(id, &self.customer, "calls", quantity.to_string());
            if through_check {
                event["mode"] = "consume".into();
            }
            event
        });
        let body = Value::Array(body.collect()).to_string();
        let reply =
            client.post(path, "application/json", body.into()).ok().filter(|reply| !is_retryable(reply.status))?;
        let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        assert!([200, 207].contains(&reply.status), "{path}: {} {answer}", reply.status);
        let outcomes = answer[list].as_array().unwrap_or_else(|| panic!("no {list} in {answer}"));
        Some(outcomes.iter().map(|event| event["outcome"].as_str().unwrap().to_owned()).collect())
    }

    fn note(&self, request: &[usize], outcomes: &[String]) {
        assert_eq!(request.len(), outcomes.len());
        let mut answers = self.answers.lock();
        for (event, outcome) in request.iter().zip(outcomes) {
            let answers = &mut answers[*event];
            match outcome.as_str() {
                "accepted" => answers.accepted += 1,
                "duplicate" => answers.duplicate += 1,
                "capped" => answers.capped += 1,
                _ => answers.other += 1,
            }
        }
    }

    /// Holds the answers against each other, and against what the daemon says is used.
    fn check(&self, scene: &Scene, units: bool, totals: &mut Totals) -> String {
        let answers = self.answers.lock();
        let all = || self.events.iter().zip(answers.iter());
        let is_counted = |answers: &Answers| answers.accepted + answers.duplicate > 0;
        for ((id, _), said) in all() {
            assert!(is_counted(said) != (said.capped > 0), "{id} was counted and capped, or neither: {said:?}");
            assert!(said.accepted < 2 && said.other == 0, "{id} was answered {said:?}");
        }
        let counted = sum(all().filter(|(_, said)| is_counted(said)).map(|((_, quantity), _)| *quantity));
        let used = used(scene, &self.customer, "calls");
        let before = whole(USED_BEFORE);
        assert_eq!(used, before.checked_add(counted).unwrap(), "used is what was told to be counted");
        let status = check(scene, &self.customer, "calls", 1);
        let left = quantity(&status["remaining"]);
        assert_eq!(left, whole(USED_BEFORE + LEFT).checked_sub(used).unwrap(), "never above the cap: {status}");
        let refused = all().filter(|(_, said)| said.capped > 0).map(|((_, quantity), _)| *quantity);
        let (least, most) = (refused.clone().min(), refused.clone().max());
        assert!(least.is_none_or(|least| least > left), "{least:?} was refused, and {left} are left");
        let capped = refused.count();
        if units {
            assert_eq!((counted, capped), (whole(LEFT), UNIT_EVENTS - LEFT as usize), "all that was left, and no more");
            assert_eq!((left, &status["allowed"]), (whole(0), &json!(false)));
        }
        let duplicates = answers.iter().map(|said| said.duplicate).sum::<u32>();
        totals.counted += self.events.len() - capped;
        totals.capped += capped;
        totals.duplicates += duplicates;
        totals.answers_lost += answers.iter().filter(|said| said.accepted == 0 && said.duplicate > 0).count();
        let most = most.map_or_else(String::new, |most| format!(", the largest refused is {most}"));
        let unanswered = self.unanswered.load(Ordering::Relaxed);
        format!(
            "{counted} counted, {capped} capped, {duplicates} duplicates, {unanswered} unanswered, {left} left{most}"
        )
    }

    /// Raises the cap; what was capped is taken as if it had never been sent.
    fn raise(&self, scene: &Scene, units: bool) {
        let answers = self.answers.lock().clone();
        let capped = self.events.iter().zip(&answers).filter(|(_, said)| said.capped > 0).map(|(event, _)| event);
        let capped = capped.collect::<Vec<_>>();
        let before = used(scene, &self.customer, "calls");
        // Where every event is one unit, some of them stay out again.
        let more = if units { whole(100) } else { sum(capped.iter().map(|(_, quantity)| *quantity)) };
        let hard = before.checked_add(more).unwrap();
        put_caps(scene, &self.customer, "calls", &json!({"hard": hard.to_string()}));
        let mut outcomes = BTreeMap::<String, usize>::new();
        for chunk in capped.chunks(200) {
            let events = chunk.iter().map(|(id, quantity)| event(id, &self.customer, "calls", quantity.to_string()));
            let answer = scene.send(&events.collect::<Vec<_>>().into());
            for outcome in ["accepted", "duplicate", "conflict", "rejected", "capped"] {
                *outcomes.entry(outcome.to_owned()).or_default() += answer[outcome].as_u64().unwrap() as usize;
            }
        }
        let due = if units { 100 } else { capped.len() };
        assert_eq!(outcomes["accepted"], due, "{outcomes:?}");
        assert_eq!(outcomes["capped"], capped.len() - due, "{outcomes:?}");
        assert_eq!(used(scene, &self.customer, "calls"), hard);
        let counted = answers.iter().position(|said| said.capped == 0).expect("something was counted");
        let (id, quantity) = &self.events[counted];
        let again = event(id, &self.customer, "calls", quantity.to_string());
        scene::expect(scene, &again, "duplicate");
    }
}
