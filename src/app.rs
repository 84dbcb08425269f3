//! The daemon put together: what is opened in which order, and what is closed in which.
//!
//! | start | stop |
//! | --- | --- |
//! | log, metrics | engine refuses new work |
//! | data directory, its lock, store | requests under way are answered, the listener closes |
//! | engine: recovery, threads | engine drains; its last epoch goes to the store, which persists |
//! | listener, delivery, then the line with the address | exit 0 |
//!
//! 1. The address is printed once requests are served, and not before.
//! 2. If the engine fails, no request is answered any more, its threads end, and the process exits with a non-zero code.

use std::path::PathBuf;
use std::sync::Arc;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::delivery::webhook::SetupError;
use crate::delivery::{self, Sink};
use crate::engine::{self, Engine, Entropy, Failure, OpenError, Parts, Reverter, Verified, VerifyError};
use crate::env::{Clock, Disk, OsDisk, SystemClock};
use crate::meter::Definition;
use crate::store::{RocksStore, Store, StoreError};
use crate::{http, metrics};

mod directory;
mod log;
mod replay;
mod sinks;

pub use directory::{Directory, look};
pub use replay::{Replay, audit, is_filled};

/// The store's name in the data directory.
const STORE: &str = "store";

/// After a failure: how long requests under way have to notice that nobody will answer them.
const EDGES_END_WITHIN: std::time::Duration = std::time::Duration::from_secs(1);
/// How often the metrics recorder is asked to tidy up.
const UPKEEP: std::time::Duration = std::time::Duration::from_secs(5);
const ACK_BUCKETS: [f64; 15] =
    [0.0005, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 5.0, 15.0];
const SYNC_BUCKETS: [f64; 14] =
    [0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.003, 0.006, 0.012, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
const GROUP_BUCKETS: [f64; 9] = [1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0];

/// Why the daemon did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("metrics cannot be recorded: {0}")]
    Metrics(#[from] BuildError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error(transparent)]
    Replay(#[from] engine::replay::ReplayFailed),
    #[error("sink {name}: {source}")]
    Sink { name: String, source: SetupError },
    #[error("{0}")]
    Failed(Failure),
}

impl From<StoreError> for AppError {
    fn from(error: StoreError) -> Self {
        AppError::Open(error.into())
    }
}

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> AppError {
    let what = what.into();
    move |source| AppError::Io { what, source }
}

/// Runs the daemon until it is told to stop. What goes wrong is logged before it is returned.
pub fn run(config: &Config) -> Result<(), AppError> {
    log::init(config.log);
    run_logged(config).inspect_err(|error| tracing::error!("{error}"))
}

fn run_logged(config: &Config) -> Result<(), AppError> {
    let metrics = install_metrics()?;
    let sinks = sinks::open(config)?;
    let parts = open_parts(config)?;
    let entropy = entropy().map_err(io("cannot read random bytes"))?;
    let mut options = config.engine.clone();
    options.retention.directory = Some(config.data_dir.clone());
    let engine = Engine::open(&parts, &options, config.journal, &config.meters, entropy)?;
    log_recovery(&engine);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("meterd-http")
        .enable_all()
        .build()
        .map_err(io("cannot start threads"))?;
    let reverter = Reverter::start(&engine).map_err(io("cannot start threads"))?;
    let served = runtime.block_on(serve(config, &engine, sinks, metrics));
    reverter.stop();
    match &served {
        Ok(()) => {
            engine.stop();
            // A thread that hangs in a sink's file system must not keep the process.
            runtime.shutdown_timeout(EDGES_END_WITHIN);
            if let Some(failure) = engine.failure().borrow().clone() {
                return Err(AppError::Failed(failure));
            }
            tracing::info!("stopped");
        }
        // Nothing more may be answered. The threads end by themselves; leaving before them would let the store's own
        // threads meet a process that is being taken down, and its exit code would be a signal.
        Err(AppError::Failed(_)) => {
            runtime.shutdown_timeout(EDGES_END_WITHIN);
            engine.stop();
        }
        Err(_) => engine.stop(),
    }
    served
}

fn install_metrics() -> Result<PrometheusHandle, AppError> {
    let exact = |name: &str| Matcher::Full(name.to_owned());
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(exact(metrics::ACK_SECONDS), &ACK_BUCKETS)?
        .set_buckets_for_metric(exact(metrics::JOURNAL_SYNC_SECONDS), &SYNC_BUCKETS)?
        .set_buckets_for_metric(exact(metrics::STORE_COMMIT_SECONDS), &ACK_BUCKETS)?
        .set_buckets_for_metric(exact(metrics::DELIVERY_SECONDS), &ACK_BUCKETS)?
        .set_buckets_for_metric(exact(metrics::GROUP_RECORDS), &GROUP_BUCKETS)?
        .install_recorder()?;
    metrics::describe();
    ::metrics::gauge!(metrics::BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}

fn store_path(config: &Config) -> PathBuf {
    config.data_dir.join(STORE)
}

fn open_parts(config: &Config) -> Result<Parts, AppError> {
    let disk = OsDisk::create(&config.data_dir).map_err(io(format!("cannot use {}", config.data_dir.display())))?;
    let lock = engine::lock(&disk)?;
    directory::restore_lost_store(config, &disk)?;
    let store = RocksStore::open(&store_path(config), &config.store)?;
    Ok(Parts { lock, disk: Arc::new(disk), clock: Arc::new(SystemClock::new()), store: Arc::new(store) })
}

fn entropy() -> std::io::Result<Entropy> {
    use std::io::Read;
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let (store_id, dedupe_key) = bytes.split_at(16);
    let halves: (&[u8; 16], &[u8; 16]) =
        (store_id.try_into().expect("half of 32 bytes"), dedupe_key.try_into().expect("half of 32 bytes"));
    Ok(Entropy { store_id: u128::from_le_bytes(*halves.0), dedupe_key: *halves.1 })
}

fn log_recovery(engine: &Engine) {
    let report = engine.report();
    if let Some((file, offset)) = &report.cut_at {
        tracing::warn!(
            file,
            offset,
            bytes = report.cut_bytes,
            "a torn tail was cut off the journal; none of it was acknowledged"
        );
    }
    tracing::info!(
        store = report.store.0,
        replayed = report.replayed_records,
        last = report.last.0,
        meters = engine.meters().len(),
        "recovered"
    );
}

/// What the edge is told, that of `[metrics]` included.
fn http_options(config: &Config) -> http::Options {
    http::Options { top_customers: config.metrics.top_customers, ..config.http.clone() }
}

async fn serve(config: &Config, engine: &Engine, sinks: Vec<Sink>, metrics: PrometheusHandle) -> Result<(), AppError> {
    let listener = TcpListener::bind(config.http.listen).await;
    let listener = listener.map_err(io(format!("cannot listen on {}", config.http.listen)))?;
    let address = listener.local_addr().map_err(io("cannot tell the address"))?;
    let shutdown = CancellationToken::new();
    tokio::spawn(upkeep(metrics.clone(), engine.clone(), shutdown.clone()));
    let delivery = delivery::start(engine, sinks, shutdown.clone());
    let mut failure = engine.failure();
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate()).map_err(io("cannot handle SIGTERM"))?,
        signal(SignalKind::interrupt()).map_err(io("cannot handle SIGINT"))?,
    );
    let server = tokio::spawn(http::serve(listener, http_options(config), engine.clone(), metrics, shutdown.clone()));
    announce(address);
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        failed = failure.wait_for(Option::is_some) => return Err(failed_with(failed.ok().and_then(|f| f.clone()))),
    };
    tracing::info!("{name}: taking nothing new, answering what is under way");
    engine.close();
    shutdown.cancel();
    tokio::select! {
        drained = tokio::time::timeout(config.shutdown_timeout.to_std(), server) => {
            if drained.is_err() {
                tracing::warn!("requests were still under way after server.shutdown_timeout; their clients will retry");
            }
        }
        failed = failure.wait_for(Option::is_some) => return Err(failed_with(failed.ok().and_then(|f| f.clone()))),
    }
    delivery.stop().await;
    Ok(())
}

fn failed_with(failure: Option<Failure>) -> AppError {
    AppError::Failed(failure.unwrap_or(Failure { thread: "engine", why: "ended".into() }))
}

/// The one line on standard output: scripts wait for it.
fn announce(address: std::net::SocketAddr) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    // Nobody has to read it.
    let _ =
        writeln!(out, "meterd {} listening on http://{address}", env!("CARGO_PKG_VERSION")).and_then(|()| out.flush());
    tracing::info!(%address, "serving");
}

async fn upkeep(metrics: PrometheusHandle, engine: Engine, shutdown: CancellationToken) {
    let (mut interval, mut sinks) = (tokio::time::interval(UPKEEP), Vec::new());
    while shutdown.run_until_cancelled(interval.tick()).await.is_some() {
        metrics.run_upkeep();
        let engine = engine.clone();
        // A panic in there has been reported; it costs no more than a stale gauge.
        let measured = tokio::task::spawn_blocking(move || sinks::measure(&engine, &sinks)).await;
        sinks = measured.unwrap_or_default();
    }
}

/// The meters that the config's data directory knows; none where there is no such directory yet.
pub fn recorded_meters(config: &Config) -> anyhow::Result<Vec<Definition>> {
    let path = store_path(config);
    if !path.try_exists()? {
        return Ok(Vec::new());
    }
    Ok(engine::recorded_meters(&RocksStore::open_read_only(&path)?)?)
}

/// Refolds the journal of a directory that is not in use, and compares it with its store.
pub fn verify(config: &Config) -> Result<Verified, AppError> {
    log::init(config.log);
    let disk = OsDisk::new(&config.data_dir);
    let _lock = engine::lock(&disk)?;
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let store: Arc<dyn Store> = Arc::new(RocksStore::open_read_only(&store_path(config))?);
    let base = directory::open_base(config)?;
    let clock = SystemClock::new();
    let mut reported = clock.monotonic();
    let mut progress = |seq: crate::model::Seq| {
        if clock.monotonic() >= reported.saturating_add(crate::model::Duration::from_secs(1)) {
            reported = clock.monotonic();
            tracing::info!(record = seq.0, of = store.position().0, "refolding the journal");
        }
    };
    Ok(engine::verify_from(&disk, &store, base.as_ref(), &mut progress)?)
}
