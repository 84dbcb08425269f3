//! One worker on a simulated engine, in real time.

use std::collections::HashSet;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

use tokio::task::JoinHandle;

use super::*;
use crate::delivery::sim::SINK;
use crate::delivery::sim::engine::{SimEngine, SimTransport, Way};
use crate::delivery::transport::{Failure as SendFailure, Message};
use crate::engine::{DeliveryState, PauseCause, SinkPause};
use crate::model::{RowKind, RowKinds};

const PATIENCE: StdDuration = StdDuration::from_secs(20);

struct Bench {
    engine: Arc<SimEngine>,
    transport: Arc<SimTransport>,
    shutdown: CancellationToken,
    worker: JoinHandle<()>,
}

/// Retries within milliseconds.
fn policy() -> Policy {
    let schedule = vec![Duration::ZERO, Duration::from_millis(20), Duration::from_millis(40)];
    Policy { schedule, jitter_percent: 0, time_out: Duration::from_millis(50), ..Policy::default() }
}

impl Bench {
    fn start(policy: Policy, ways: impl FnMut(&Message) -> Way + Send + 'static) -> Self {
        Self::start_on(SimEngine::new(&[SINK], RowKinds::ALL), policy, ways)
    }

    fn start_on(engine: Arc<SimEngine>, policy: Policy, ways: impl FnMut(&Message) -> Way + Send + 'static) -> Self {
        let (transport, shutdown) = (SimTransport::new(ways), CancellationToken::new());
        let (log, rng): (Arc<dyn Log>, _) = (engine.clone(), fastrand::Rng::with_seed(1));
        let worker = Worker::new(SINK.into(), policy, transport.clone(), log, rng, shutdown.clone());
        Self { engine, transport, shutdown, worker: tokio::spawn(worker.run()) }
    }

    fn log<T>(&self, look: impl FnOnce(&mut crate::delivery::sim::SimLog) -> T) -> T {
        self.engine.with(SINK, look)
    }

    fn delivered_rows(&self) -> u32 {
        let is_delivered = |state| matches!(state, DeliveryState::Delivered { .. });
        self.log(|log| log.in_state(is_delivered).iter().map(|delivery| delivery.rows).sum())
    }

    async fn until(&self, what: &str, is: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !is(self) {
            assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
            tokio::time::sleep(StdDuration::from_millis(2)).await;
        }
    }

    /// Ends within the time that a shutdown may take.
    async fn stop(self) -> Arc<SimTransport> {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(ENDS_WITHIN + StdDuration::from_secs(1), self.worker).await;
        ended.expect("the worker ends").expect("the worker does not panic");
        self.transport
    }
}

async fn moment() {
    tokio::time::sleep(StdDuration::from_millis(100)).await;
}

#[tokio::test]
async fn every_row_of_every_kind_goes_out_once_in_filled_messages_of_one_kind() {
    let bench = Bench::start(policy(), |_| Way::Delivers);
    for kind in RowKind::ALL {
        bench.engine.add_rows(SINK, kind, 41);
    }
    bench.until("all delivered", |bench| bench.delivered_rows() == 3 * 41).await;
    let transport = bench.stop().await;
    let sent = transport.sent.lock();
    let rows = sent.iter().flat_map(|message| message.rows.iter().map(|row| (row.kind(), row.position)));
    assert_eq!(rows.collect::<HashSet<_>>().len(), 3 * 41);
    for message in sent.iter() {
        assert!((1..=4).contains(&message.rows.len()) && message.rows.iter().all(|row| row.kind() == message.kind));
    }
    let ids = sent.iter().map(|message| message.id.seq).collect::<HashSet<_>>();
    assert_eq!(ids.len(), sent.len());
}

#[tokio::test]
async fn a_message_is_the_same_at_every_attempt() {
    let mut seen = HashSet::new();
    let bench = Bench::start(policy(), move |message| match seen.insert(message.id.seq) {
        true => Way::Fails(SendFailure::Refused),
        false => Way::Delivers,
    });
    bench.engine.add_rows(SINK, RowKind::Windows, 100);
    bench.until("all delivered", |bench| bench.delivered_rows() == 100).await;
    let transport = bench.stop().await;
    let sent = transport.sent.lock();
    assert_eq!(sent.len(), 50);
    for message in sent.iter() {
        let twin = sent.iter().rfind(|twin| twin.id == message.id).unwrap();
        assert_eq!(Message { now: message.now, ..twin.clone() }, *message);
    }
}

#[tokio::test]
async fn an_attempt_that_hangs_times_out_and_one_that_panics_fails_and_the_sink_goes_on() {
    for (way, error) in [
        (Way::Hangs, "timed out after 0.05 s"),
        (Way::Panics, "the attempt broke down inside meterd"),
        (Way::Fails(SendFailure::Unavailable), "no"),
    ] {
        let bench = Bench::start(policy(), move |message| if message.rows.len() == 1 { way } else { Way::Delivers });
        bench.engine.add_rows(SINK, RowKind::Windows, 9);
        bench.until("a dead letter", |bench| bench.log(|log| log.dead() == 1)).await;
        assert_eq!(bench.delivered_rows(), 8);
        let attempts = bench.log(|log| log.attempts.values().find(|attempts| attempts.len() == 3).unwrap().clone());
        assert!(attempts.iter().all(|attempt| attempt.error == error), "{attempts:?}");
        assert_eq!(bench.engine.health(SINK).unwrap().last_error.unwrap().1, error);
        bench.engine.add_rows(SINK, RowKind::Windows, 4);
        bench.until("more delivered", |bench| bench.delivered_rows() == 12).await;
        bench.stop().await;
    }
}

#[tokio::test]
async fn nothing_is_done_that_is_not_durable() {
    let engine = SimEngine::new(&[SINK], RowKinds::ALL);
    engine.durable.send_replace(Seq(1));
    let bench = Bench::start_on(engine, policy(), |_| Way::Delivers);
    bench.engine.add_rows(SINK, RowKind::Windows, 4);
    moment().await;
    assert_eq!(bench.log(|log| log.deliveries.len()), 0);
    // The rows' record is durable, the plan's is not.
    bench.engine.durable.send_replace(Seq(2));
    bench.until("planned", |bench| bench.log(|log| log.deliveries.len() == 1)).await;
    moment().await;
    assert_eq!(bench.transport.attempts(), 0);
    bench.engine.durable.send_replace(Seq(100));
    bench.until("delivered", |bench| bench.delivered_rows() == 4).await;
    bench.stop().await;
}

#[tokio::test]
async fn an_engine_that_takes_nothing_for_a_while_is_asked_again() {
    let bench = Bench::start(policy(), |_| Way::Takes(StdDuration::from_millis(30)));
    bench.engine.add_rows(SINK, RowKind::Windows, 4);
    bench.until("an attempt", |bench| bench.transport.attempts() == 1).await;
    bench.engine.refuses.store(true, SeqCst);
    moment().await;
    assert_eq!(bench.delivered_rows(), 0);
    bench.engine.refuses.store(false, SeqCst);
    bench.until("delivered", |bench| bench.delivered_rows() == 4).await;
    assert_eq!(bench.stop().await.attempts(), 1, "its outcome was kept, not made again");
}

#[tokio::test]
async fn an_engine_that_ends_ends_the_worker() {
    let bench = Bench::start(policy(), |_| Way::Delivers);
    bench.engine.drops_answers.store(true, SeqCst);
    bench.engine.add_rows(SINK, RowKind::Windows, 1);
    tokio::time::timeout(PATIENCE, bench.worker).await.expect("it ends").unwrap();

    let engine = SimEngine::new(&[SINK], RowKinds::ALL);
    engine.durable.send_replace(Seq(0));
    let bench = Bench::start_on(engine, policy(), |_| Way::Delivers);
    bench.engine.failure.send_replace(Some(Failure { thread: "journal", why: "disk".into() }));
    tokio::time::timeout(PATIENCE, bench.worker).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn rows_that_are_not_committed_yet_cost_no_attempt() {
    let mut seen = HashSet::new();
    let bench = Bench::start(policy(), move |message| match seen.insert(message.id.seq) {
        true => Way::Fails(SendFailure::Refused),
        false => Way::Delivers,
    });
    bench.engine.has_no_rows.store(true, SeqCst);
    bench.engine.add_rows(SINK, RowKind::Windows, 1);
    let failures = |bench: &Bench| bench.log(|log| log.deliveries.values().map(|delivery| delivery.failures).sum());
    bench.until("a failure", |bench| failures(bench) == 1_u32).await;
    moment().await;
    assert_eq!((failures(&bench), bench.transport.attempts()), (1, 1));
    bench.engine.has_no_rows.store(false, SeqCst);
    bench.engine.tick();
    bench.until("delivered", |bench| bench.delivered_rows() == 1).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_paused_sink_gets_nothing_until_it_is_resumed() {
    let bench = Bench::start(policy(), |_| Way::Delivers);
    let at = crate::delivery::sim::start();
    bench.log(|log| log.pause = Some(SinkPause { cause: PauseCause::Operator, reason: String::new(), at }));
    bench.engine.add_rows(SINK, RowKind::Windows, 10);
    moment().await;
    assert_eq!((bench.transport.attempts(), bench.log(|log| log.deliveries.len())), (0, 0));
    bench.log(|log| log.pause = None);
    bench.engine.tick();
    bench.until("delivered", |bench| bench.delivered_rows() == 10).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_sink_that_is_gone_is_paused_by_its_worker() {
    let bench = Bench::start(policy(), |_| Way::Fails(SendFailure::Gone));
    bench.engine.add_rows(SINK, RowKind::Windows, 10);
    bench.until("paused", |bench| bench.log(|log| log.pause.is_some())).await;
    let pause = bench.log(|log| log.pause.clone()).unwrap();
    assert_eq!((pause.cause, pause.reason.as_str()), (PauseCause::Gone, "no"));
    assert!(bench.stop().await.attempts() <= 4);
}

#[tokio::test]
async fn at_shutdown_what_is_under_way_is_recorded_and_nothing_new_is_started() {
    let policy = Policy { time_out: Duration::from_secs(60), max_in_flight: 2, ..policy() };
    let bench = Bench::start(policy, |_| Way::Takes(StdDuration::from_millis(300)));
    bench.engine.add_rows(SINK, RowKind::Windows, 40);
    bench.until("two attempts", |bench| bench.transport.attempts() == 2).await;
    let engine = bench.engine.clone();
    assert_eq!(bench.stop().await.attempts(), 2);
    assert_eq!(engine.with(SINK, |log| log.delivered()), 2);
}

#[tokio::test]
async fn at_shutdown_an_attempt_that_hangs_is_cut_off_and_leaves_its_delivery_as_it_was() {
    let bench = Bench::start(Policy { time_out: Duration::from_secs(60), ..policy() }, |_| Way::Hangs);
    bench.engine.add_rows(SINK, RowKind::Windows, 1);
    bench.until("an attempt", |bench| bench.transport.attempts() == 1).await;
    let (engine, began) = (bench.engine.clone(), Instant::now());
    bench.stop().await;
    assert!(began.elapsed() >= ENDS_WITHIN);
    assert!(engine.with(SINK, |log| log.deliveries.values().all(|delivery| delivery.attempts == 0)));
}
