//! The daemon's own log, on standard error.

use std::sync::OnceLock;

use tracing_subscriber::{EnvFilter, fmt};

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Changes the filter of the log that was set up.
type SetFilter = Box<dyn Fn(EnvFilter) + Send + Sync>;

static FILTER: OnceLock<SetFilter> = OnceLock::new();

/// `WEFT_LOG` overrides the level (`debug`, `weft_net=trace`).
fn filter(debug: bool, level: &str) -> EnvFilter {
    let level = if debug { "debug" } else { level };
    EnvFilter::try_from_env("WEFT_LOG").unwrap_or_else(|_| EnvFilter::new(level))
}

/// Sets up logging.
pub(crate) fn init(debug: bool, level: &str, format: LogFormat) {
    let builder = fmt().with_env_filter(filter(debug, level)).with_writer(std::io::stderr);
    macro_rules! install {
        ($builder:expr) => {{
            let builder = $builder.with_filter_reloading();
            let handle = builder.reload_handle();
            // Only the first one counts; a second set-up fails below.
            let _ = FILTER.set(Box::new(move |filter| {
                if let Err(error) = handle.reload(filter) {
                    tracing::warn!(%error, "the log's level stays");
                }
            }));
            builder.try_init()
        }};
    }
    let set = match format {
        LogFormat::Json => install!(builder.json().flatten_event(true)),
        LogFormat::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            install!(builder.with_ansi(colours).with_target(false))
        }
    };
    if let Err(error) = set {
        tracing::debug!(%error, "logging was set up before");
    }
}

/// Logs more, or less.
pub(crate) fn set(debug: bool, level: &str) {
    if let Some(set) = FILTER.get() {
        set(filter(debug, level));
    }
}
