//! What libcontainer knows of a failure and does not tell.
//!
//! Its processes pass an error on as the text of its outermost part (0.7, `process/channel.rs`): "failed to prepare rootfs".
//! The rest of the chain goes to its log, by `tracing`, which nobody reads in a shim. So the helper listens: the first error
//! that is logged with its cause is kept in memory that the processes share, and completes what is told.

use std::{
    fmt::{Debug, Write as _},
    fs::File,
    io::{self, Seek, Write as _},
};

use rustix::fs::MemfdFlags;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
};

use super::types::Fault;

/// Bytes of a cause that are kept.
const LIMIT: usize = 2048;

/// The listener's end that reads.
pub(super) struct Ear(File);

impl Ear {
    /// Listens from now on, in this process and those it forks. Once in a process.
    pub(super) fn open() -> io::Result<Self> {
        let heard = File::from(rustix::fs::memfd_create("weft-heard", MemfdFlags::CLOEXEC)?);
        // Another subscriber is as good: then nothing is heard here.
        let _taken = tracing::subscriber::set_global_default(Listener(heard.try_clone()?));
        Ok(Self(heard))
    }

    /// A failure of the runtime, with what was heard of its cause.
    pub(super) fn complete(&self, error: &(dyn std::error::Error + 'static)) -> Fault {
        let mut text = format!("unable to start container process: {}", weft_base::chain(error));
        if let Some(heard) = self.heard() {
            let _infallible = write!(text, ": {heard}");
        }
        Fault::other(text)
    }

    fn heard(&self) -> Option<String> {
        let mut file = self.0.try_clone().ok()?;
        file.rewind().ok()?;
        let text = io::read_to_string(file).ok()?;
        Some(plain(&text)).filter(|text| !text.is_empty())
    }
}

/// The system's word out of Rust's way to write an error (`Os { code: 22, kind: …, message: "Invalid argument" }`), with
/// the path that was logged beside it; other errors as they are.
fn plain(heard: &str) -> String {
    let quoted = |key: &str| {
        let (_, rest) = heard.split_once(key)?;
        rest.split_once('"').map(|(text, _)| text)
    };
    let Some(message) = quoted("message: \"") else { return heard.to_owned() };
    let path = quoted("path: \"").or_else(|| quoted("path=\""));
    let mut letters = message.chars();
    let first = letters.next().map(|c| c.to_ascii_lowercase());
    let message: String = first.into_iter().chain(letters).collect();
    path.map(|path| format!("{path}: {message}")).unwrap_or(message)
}

struct Listener(File);

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::ERROR)
    }

    fn event(&self, event: &Event<'_>) {
        let mut cause = Cause::default();
        event.record(&mut cause);
        let first = self.0.metadata().is_ok_and(|meta| meta.len() == 0);
        if cause.is_one && first {
            cause.text.truncate(cause.text.floor_char_boundary(LIMIT));
            // What cannot be kept is not told.
            let _ = (&self.0).write_all(cause.text.as_bytes());
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The fields of an event, all but its message: `path="/x" err=Syscall(Nix(EINVAL))`.
#[derive(Default)]
struct Cause {
    text: String,
    is_one: bool,
}

impl Visit for Cause {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            return;
        }
        self.is_one |= matches!(field.name(), "err" | "error" | "e");
        let space = if self.text.is_empty() { "" } else { " " };
        let _infallible = write!(self.text, "{space}{}={value:?}", field.name());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_cause_is_kept() {
        let file = File::from(rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC).expect("memory"));
        let ear = Ear(file.try_clone().expect("copy"));
        tracing::subscriber::with_default(Listener(file), || {
            tracing::error!("no cause");
            tracing::warn!(err = "too low", "a warning");
            let err = io::Error::from_raw_os_error(libc::EINVAL);
            tracing::error!(?err, path = "/x", "the innermost");
            tracing::error!(?err, "what was made of it");
        });
        let fault = ear.complete(&io::Error::other("failed to prepare rootfs"));
        let start = "unable to start container process: failed to prepare rootfs: ";
        let cause = fault.message.strip_prefix(start).expect(&fault.message);
        assert_eq!(cause, "/x: invalid argument");
    }
}
