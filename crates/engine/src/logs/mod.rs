//! What containers print, kept and read back.
//!
//! Two sides that meet only in files. The **writer** lives in a container's single-threaded shim: bytes and
//! a time come in, lines leave through one of a few drivers (`json-file`, `local`, `none`, `journald`,
//! `syslog`). It has no threads, little memory, and never blocks on a reader. The **reader** lives in the
//! daemon and only ever opens files: it works the same while the shim runs, after it was killed, and after
//! the daemon was upgraded.
//!
//! ```text
//!  chunk, time ──> lines (split, 16 KiB parts) ──> driver ──> rotate ──> NAME, NAME.1, NAME.2.gz …
//!                                                                          │
//!  batches of entries <── filter (since, until, stream) <── decode <── files, tail, follow
//! ```
//!
//! A shim killed in the middle of a write leaves a torn last line; the reader passes over it, and the next
//! writer begins behind it.

pub mod options;
pub mod reader;
pub mod types;
pub mod writer;

mod attrs;
mod compress;
mod cursor;
mod decode;
mod files;
#[cfg(test)]
mod fuzz_tests;
mod journald;
mod json;
mod lines;
mod local;
mod lossy;
mod rotate;
mod syslog;
mod tail;
mod time;

pub use options::{LogOptionError, check, validate};
pub use reader::{LogQuery, LogReader, ReadError};
pub use time::push_fixed as push_fixed_time;
pub use types::{LogConfig, LogEntry, LogFacts, LogSink, Stream};

#[cfg(test)]
mod tests;
