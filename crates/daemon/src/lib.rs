//! The weft daemon: configuration, choice of backends and drivers, wiring. No logic of its own.
//!
//! Start order: the store, the data plane, the networks, the engine (which adopts what runs), names, the use
//! cases, and last the listeners; `ready` is said when every listener accepts.

mod activation;
mod alive;
pub mod config;
mod control;
pub mod docker_config;
mod docker_inert;
pub mod doctor;
mod faces;
mod facts;
pub mod features;
mod gate;
mod identity;
mod lease;
mod lock;
mod log;
mod lost;
mod metrics;
mod notify;
mod reload;
mod resolver;
mod sandboxes;
mod stores;
mod switch;
mod userns;
mod wire;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

pub use config::{Config, ConfigError};
pub use lock::noted_root;
pub use log::LogFormat;
pub use weft_model::PublishPolicy;

/// The commit it was built from; empty when unknown.
pub(crate) const COMMIT: &str = match option_env!("WEFT_COMMIT") {
    Some(commit) => commit,
    None => "",
};
/// When it was built, RFC 3339; empty when unknown.
pub(crate) const BUILT: &str = match option_env!("WEFT_BUILT") {
    Some(built) => built,
    None => "",
};

/// Resolves the configuration again, from the same command line and files.
pub type Reread = Box<dyn Fn() -> anyhow::Result<Config> + Send + Sync>;

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// When it cannot start. Nothing runs then, and what containers ran go on.
pub fn run(config: Config, format: LogFormat, reread: Reread) -> anyhow::Result<()> {
    let format = if config.log_json { LogFormat::Json } else { format };
    log::init(config.debug, config.log_level, format);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, |n| n.get().min(8)))
        // Made when they are needed, gone after two idle seconds. Many, because one may hang in the kernel (a file
        // system whose server is gone) and must not take the place of others; volumes' mounts have threads of their own.
        .max_blocking_threads(512)
        .thread_keep_alive(std::time::Duration::from_secs(2))
        .thread_stack_size(1 << 20)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let result = runtime.block_on(serve(config, &reread));
    // Blocking work that hangs in the kernel must not keep the daemon from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    result
}

async fn serve(mut config: Config, reread: &Reread) -> anyhow::Result<()> {
    // Signals are caught before anything is made, so that a stop during the start is orderly too.
    let mut terminate = signal(SignalKind::terminate()).context("catching SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("catching SIGINT")?;
    // Not acted upon before everything stands, but it must not end us from the first moment on.
    let mut hangup = signal(SignalKind::hangup()).context("catching SIGHUP")?;
    let adopted = activation::adopt()?;
    let lock = lock::take(&config.run)?;
    lock::note_root(&config.run, &config.root)?;
    let running = tokio::select! {
        running = wire::start(&config, adopted) => running?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    notify::ready();
    loop {
        let signal = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            _ = hangup.recv() => {
                notify::reloading();
                reload::reload(&mut config, reread, &running.reload);
                notify::reloaded();
                continue;
            }
        };
        let containers = if config.stop_containers { "stop too" } else { "go on" };
        tracing::info!("stopping on {signal}; containers {containers}");
        break;
    }
    notify::stopping();
    if config.stop_containers {
        // Who asks again does not want to wait.
        tokio::select! {
            () = running.close_containers(config.shutdown_timeout) => {}
            _ = terminate.recv() => tracing::warn!("asked again; containers are left as they are"),
            _ = interrupt.recv() => tracing::warn!("asked again; containers are left as they are"),
        }
    }
    running.stop().await;
    drop(lock);
    Ok(())
}
