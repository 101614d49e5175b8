//! The weft daemon: configuration, choice of backends and drivers, wiring. No logic of its own.
//!
//! Start order: the store, the data plane, the networks, the engine (which adopts what runs), names, the use
//! cases, and last the listeners; `ready` is said when every listener accepts.

pub mod config;
pub mod docker_config;
pub mod doctor;
mod facts;
pub mod features;
mod gate;
mod lock;
mod log;
mod notify;
mod userns;
mod wire;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

pub use config::{Config, ConfigError};
pub use log::LogFormat;

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// When it cannot start. Nothing runs then, and what containers ran go on.
pub fn run(config: Config, format: LogFormat) -> anyhow::Result<()> {
    log::init(config.debug, format);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, |n| n.get().min(8)))
        .max_blocking_threads(64)
        .thread_keep_alive(std::time::Duration::from_secs(2))
        .thread_stack_size(1 << 20)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let result = runtime.block_on(serve(config));
    // Blocking work that hangs in the kernel must not keep the daemon from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    result
}

async fn serve(config: Config) -> anyhow::Result<()> {
    // Signals are caught before anything is made, so that a stop during the start is orderly too.
    let mut terminate = signal(SignalKind::terminate()).context("catching SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("catching SIGINT")?;
    let lock = lock::take(&config.run)?;
    let running = tokio::select! {
        running = wire::start(&config) => running?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    notify::ready();
    tokio::select! {
        _ = terminate.recv() => tracing::info!("stopping on SIGTERM; containers go on"),
        _ = interrupt.recv() => tracing::info!("stopping on SIGINT; containers go on"),
    }
    notify::stopping();
    running.stop().await;
    drop(lock);
    Ok(())
}
