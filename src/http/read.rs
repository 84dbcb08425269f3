//! Reads of the engine's state: off the connection's thread, a few at a time, answered once what they saw is durable.

use tokio::task::spawn_blocking;

use crate::engine::View;
use crate::http::problem::Problem;
use crate::http::routes::App;
use crate::model::Seq;

/// Runs `look`, and gives its finding back once the record that it goes with is durable.
pub async fn read<T: Send + 'static>(
    app: &App,
    look: impl FnOnce(&View) -> Result<(T, Seq), Problem> + Send + 'static,
) -> Result<T, Problem> {
    let turn = app.reads.clone().acquire_owned().await.map_err(|_| Problem::EngineFailed)?;
    let view = app.engine.view();
    let mut durable = view.durable();
    let (found, seq) = spawn_blocking(move || {
        let _turn = turn; // held by the read itself: a client that leaves does not make room for another one
        look(&view)
    })
    .await
    .map_err(|_| Problem::EngineFailed)??;
    let mut failure = app.engine.failure();
    tokio::select! {
        reached = durable.wait_for(|durable| *durable >= seq) => reached.map(drop).map_err(|_| Problem::EngineFailed)?,
        _ = failure.wait_for(Option::is_some) => return Err(Problem::EngineFailed),
    }
    Ok(found)
}
