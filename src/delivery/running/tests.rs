//! Several workers on a simulated engine, in real time.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

use super::*;
use crate::delivery::sim::engine::{SimEngine, SimTransport, Way};
use crate::model::{Duration, RowKind, RowKinds};

const PATIENCE: StdDuration = StdDuration::from_secs(20);

fn sink(name: &str, transport: &Arc<SimTransport>) -> Sink {
    let policy = Policy { time_out: Duration::from_secs(60), ..Policy::default() };
    Sink { name: name.to_owned(), policy, transport: transport.clone() }
}

fn start_all(engine: &Arc<SimEngine>, sinks: Vec<Sink>) -> Running {
    let log: Arc<dyn Log> = engine.clone();
    start_on(&log, sinks, &CancellationToken::new(), fastrand::Rng::with_seed(1))
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(StdDuration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_sink_that_hangs_and_one_that_panics_do_not_delay_the_others() {
    let names = ["hangs", "panics", "a", "b"];
    let engine = SimEngine::new(&names, RowKinds::ALL);
    let transports = [Way::Hangs, Way::Panics, Way::Delivers, Way::Delivers].map(|way| SimTransport::new(move |_| way));
    let sinks = names.iter().zip(&transports).map(|(name, transport)| sink(name, transport)).collect();
    names.iter().for_each(|name| engine.add_rows(name, RowKind::Windows, 40));
    let (running, began) = (start_all(&engine, sinks), Instant::now());
    until("both delivered", || ["a", "b"].iter().all(|name| engine.with(name, |log| log.delivered() == 10))).await;
    assert!(began.elapsed() < StdDuration::from_secs(5), "{:?}", began.elapsed());
    until("failures", || engine.with("panics", |log| log.attempts.len() >= 4)).await;
    assert_eq!(transports[0].attempts(), 4, "at most so many at once");
    running.stop().await;
}

#[tokio::test]
async fn a_worker_that_breaks_down_starts_again() {
    let engine = SimEngine::new(&["a"], RowKinds::ALL);
    let transport = SimTransport::new(|_| Way::Delivers);
    transport.broken.store(1, SeqCst);
    engine.add_rows("a", RowKind::Windows, 8);
    let running = start_all(&engine, vec![sink("a", &transport)]);
    until("delivered", || engine.with("a", |log| log.delivered() == 2)).await;
    running.stop().await;
}

#[tokio::test]
async fn stop_waits_for_what_is_under_way_but_not_for_ever() {
    let engine = SimEngine::new(&["quick", "hangs"], RowKinds::ALL);
    let quick = SimTransport::new(|_| Way::Takes(StdDuration::from_millis(200)));
    let hangs = SimTransport::new(|_| Way::Hangs);
    let running = start_all(&engine, vec![sink("quick", &quick), sink("hangs", &hangs)]);
    ["quick", "hangs"].iter().for_each(|name| engine.add_rows(name, RowKind::Windows, 1));
    until("attempts", || quick.attempts() == 1 && hangs.attempts() == 1).await;
    let began = Instant::now();
    running.stop().await;
    assert!(began.elapsed() < ENDS_WITHIN + MARGIN + StdDuration::from_secs(1));
    assert_eq!(engine.with("quick", |log| log.delivered()), 1);
    assert_eq!(engine.with("hangs", |log| log.delivered()), 0);
}

#[tokio::test]
async fn without_sinks_there_is_nothing_to_wait_for() {
    let engine = SimEngine::new(&[], RowKinds::ALL);
    start_all(&engine, Vec::new()).stop().await;
}
