//! Reads a log back: the last N entries or all, within times, of one stream or both, and on as it grows.
//!
//! The work (files, decompression, decoding) is done in a blocking task, a batch at a time. Following waits
//! on inotify, or looks ten times a second where the kernel grants no more watches.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::inotify;
use tokio::{io::unix::AsyncFd, sync::watch, task::JoinHandle};
use weft_base::{Clock, SystemClock, Timestamp};

use super::{
    cursor::{Cursor, Step},
    decode::Format,
    options,
    types::LogEntry,
    writer,
};

/// What is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogQuery {
    /// Not older than this.
    pub since: Option<Timestamp>,
    /// Not younger than this; following ends there.
    pub until: Option<Timestamp>,
    /// Only the last so many entries of both streams (before the other conditions apply, as in Docker).
    pub tail: Option<u64>,
    /// Go on as the log grows.
    pub follow: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

impl Default for LogQuery {
    /// Everything that was written so far.
    fn default() -> Self {
        Self { since: None, until: None, tail: None, follow: false, stdout: true, stderr: true }
    }
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The driver keeps nothing here; Docker's text.
    #[error("configured logging driver does not support reading")]
    NotReadable,
    /// The files cannot be read.
    #[error("reading the log in {dir}")]
    Io {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A log being read.
pub struct LogReader {
    dir: PathBuf,
    work: Work,
    follow: bool,
    until: Option<Timestamp>,
    ended: watch::Receiver<bool>,
    growth: Option<AsyncFd<OwnedFd>>,
}

type Task = JoinHandle<(Cursor, io::Result<Step>)>;

enum Work {
    Ready(Box<Cursor>),
    Busy(Task),
    Over,
}

/// Opens the log that `config` makes in `dir` for container `id` (64 hexadecimal digits). `ended` turns true
/// once the container writes no more (or its sender goes); a log that is not followed does not look at it.
pub async fn open(
    config: &weft_model::LogConfig,
    dir: &Path,
    id: &str,
    query: LogQuery,
    ended: watch::Receiver<bool>,
) -> Result<LogReader, ReadError> {
    let (path, format) = match config.driver.as_str() {
        "json-file" => (writer::json_path(dir, id), Format::Json),
        "local" => (writer::local_path(dir), Format::Local),
        // Drivers that keep nothing here have a copy, unless it was not wanted.
        _ if options::is_cached(config) => (writer::local_path(dir), Format::Local),
        _ => return Err(ReadError::NotReadable),
    };
    let fail = |source| ReadError::Io { dir: dir.to_owned(), source };
    // Watching begins before reading, so that no growth in between is missed.
    let growth = if query.follow { growth(dir).ok() } else { None };
    let (follow, until) = (query.follow, query.until);
    let opened = tokio::task::spawn_blocking(move || Cursor::open(path, format, query)).await;
    let cursor = opened.map_err(io::Error::other).and_then(|c| c).map_err(fail)?;
    let work = Work::Ready(Box::new(cursor));
    Ok(LogReader { dir: dir.to_owned(), work, follow, until, ended, growth })
}

#[expect(
    deprecated,
    reason = "an OwnedFd keeps its number until it is dropped, which is what the new form asks for"
)]
fn growth(dir: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let events = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let what = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&events, dir, what)?;
    AsyncFd::new(events)
}

impl LogReader {
    /// The next entries, never an empty batch; `None` at the end. May be cancelled and called again.
    pub async fn next_batch(&mut self) -> Result<Option<Vec<LogEntry>>, ReadError> {
        loop {
            // Looked at before the files: what was written before the end is read behind it.
            let sender_gone = self.ended.has_changed().is_err();
            let over = !self.follow || *self.ended.borrow_and_update() || sender_gone || self.is_past();
            match self.step().await.map_err(|source| ReadError::Io { dir: self.dir.clone(), source })? {
                Step::Entries(entries) => return Ok(Some(entries)),
                Step::Idle if !over => self.wait().await,
                Step::Idle | Step::End => {
                    self.work = Work::Over;
                    return Ok(None);
                }
            }
        }
    }

    fn is_past(&self) -> bool {
        self.until.is_some_and(|until| SystemClock.now() > until)
    }

    async fn step(&mut self) -> io::Result<Step> {
        if let Work::Ready(_) = self.work {
            let Work::Ready(mut cursor) = std::mem::replace(&mut self.work, Work::Over) else {
                return Ok(Step::End);
            };
            self.work = Work::Busy(tokio::task::spawn_blocking(move || {
                let step = cursor.step();
                (*cursor, step)
            }));
        }
        let Work::Busy(task) = &mut self.work else { return Ok(Step::End) };
        let (cursor, step) = task.await.map_err(io::Error::other)?;
        self.work = Work::Ready(Box::new(cursor));
        step
    }

    /// Until the log grew, the container ended, or the end of the wanted time.
    async fn wait(&mut self) {
        let limit = match self.until {
            Some(until) => until.since(SystemClock.now()),
            None => Duration::from_secs(3600),
        };
        tokio::select! {
            () = grown(self.growth.as_ref()) => {}
            _ = self.ended.changed() => {}
            () = tokio::time::sleep(limit) => {}
        }
    }
}

async fn grown(events: Option<&AsyncFd<OwnedFd>>) {
    let Some(events) = events else {
        return tokio::time::sleep(Duration::from_millis(100)).await;
    };
    if let Ok(mut guard) = events.readable().await {
        let mut buffer = [0u8; 4096];
        while rustix::io::read(events.get_ref(), &mut buffer).is_ok_and(|n| n > 0) {}
        guard.clear_ready();
    }
}
