//! The values both sides of the log speak of.

use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weft_base::Timestamp;

/// Which of the two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output; also everything a terminal shows.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The lower-case word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// What a driver may say about the container beside its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogFacts {
    /// Id, 64 hexadecimal digits.
    pub id: String,
    /// Name without slash.
    pub name: String,
    /// Image as written.
    pub image: String,
    /// Image id with its algorithm (`sha256:…`).
    pub image_id: String,
    /// Name of the daemon, for `{{.DaemonName}}`.
    pub daemon: String,
    /// Host name, for syslog.
    pub hostname: String,
    /// The container's labels.
    pub labels: BTreeMap<String, String>,
    /// The container's environment, `NAME=value`.
    pub env: Vec<String>,
}

/// All that a shim must know to keep a container's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// Driver and options.
    pub config: weft_model::LogConfig,
    /// Directory of the log files; must exist.
    pub dir: PathBuf,
    /// What the driver may say about the container.
    #[serde(default)]
    pub facts: LogFacts,
}

impl LogConfig {
    /// Opens the sink.
    pub fn open(&self) -> io::Result<Box<dyn LogSink>> {
        super::writer::open(&self.config, &self.dir, &self.facts)
    }
}

/// Where a shim puts what its container prints. One sink is used by one thread.
pub trait LogSink: Send {
    /// Takes bytes as they came, in any pieces; `at` is when they came. An error means that some of it was
    /// lost; the sink stays usable.
    fn write(&mut self, stream: Stream, chunk: &[u8], at: Timestamp) -> io::Result<()>;

    /// Hands everything complete to the kernel. To be called when there is nothing to read for the moment;
    /// also gives back memory and looks after rotated files.
    fn flush(&mut self) -> io::Result<()>;

    /// Writes unfinished lines, flushes and ends.
    fn close(self: Box<Self>) -> io::Result<()>;
}

/// One line, or a part of one that is longer than 16 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Where it was printed.
    pub stream: Stream,
    /// When it was printed.
    pub time: Timestamp,
    /// The text without its line feed.
    pub line: Bytes,
    /// No line feed follows: the line goes on in the next entry, or the container ended in the middle of it.
    pub partial: bool,
    /// Attributes asked for by `labels`, `env` and `tag` options; shown with `details`.
    pub attrs: Option<Arc<BTreeMap<String, String>>>,
}
