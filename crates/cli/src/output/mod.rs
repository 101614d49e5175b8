//! What is printed: tables aligned as Docker's, JSON, sizes and times for people, progress.

pub mod human;
pub mod progress;
pub mod table;

use std::io::{self, IsTerminal as _, Write as _};

use serde_json::Value;

use crate::failure::exit;

pub use table::Table;

/// Prints a line on standard output. A reader that has gone ends the program quietly, as `head` expects.
pub fn line(text: impl AsRef<str>) -> anyhow::Result<()> {
    bytes(text.as_ref().as_bytes())?;
    bytes(b"\n")
}

/// Prints bytes as they are.
pub fn bytes(data: &[u8]) -> anyhow::Result<()> {
    match io::stdout().lock().write_all(data) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(exit(0)),
        other => Ok(other?),
    }
}

/// Prints a value as indented JSON.
pub fn json(value: &Value) -> anyhow::Result<()> {
    line(serde_json::to_string_pretty(value)?)
}

/// Prints a value as one line of JSON, for streams.
pub fn json_line(value: &Value) -> anyhow::Result<()> {
    line(value.to_string())
}

/// Says something to the person on standard error; whether it is heard makes no difference.
pub fn note(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
}

/// Says on standard error what went wrong with one of several things; the others go on.
pub fn fault(error: &anyhow::Error) {
    note(format!("weft: {error:#}"));
}

/// Whether a person reads standard output.
#[must_use]
pub fn to_terminal() -> bool {
    io::stdout().is_terminal()
}
