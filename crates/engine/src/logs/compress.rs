//! Compresses a rotated file in a child process, so that the single-threaded shim goes on reading.
//!
//! The child writes `NAME.PID.gz.tmp` and, when all is well, renames it to `NAME.PID.gz.done`. The parent
//! looks now and then; it alone knows which number the file has by then, and puts the result in its place.
//! Nothing is lost when either of them is killed: the plain file stays until its replacement is whole.
//!
//! What waits when the writer ends is left to a last child, the finisher. There is no writer then, so it puts its results in
//! place by itself. It holds a record lock on `NAME`, by which the next writer finds it and ends it.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::{Path, PathBuf},
};

use nix::fcntl::{FcntlArg, fcntl};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use super::rotate::numbered;

#[derive(Debug)]
struct Job {
    child: OwnedFd,
    /// The number that the file being compressed has now.
    number: u32,
    done: PathBuf,
}

/// At most one compression at a time.
#[derive(Debug)]
pub(super) struct Compressor {
    job: Option<Job>,
    /// Nothing is known to wait for compression.
    idle: bool,
}

const DONE: &str = ".gz.done";
const TEMPORARY: &str = ".gz.tmp";

fn beside(path: &Path, pid: i32, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{pid}{suffix}"));
    PathBuf::from(name)
}

impl Compressor {
    /// Nothing under way; remains of an earlier writer are removed.
    pub fn new(path: &Path) -> Self {
        end_finisher(path);
        sweep(path);
        Self { job: None, idle: false }
    }

    /// A compression is under way.
    pub fn busy(&self) -> bool {
        self.job.is_some()
    }

    /// All numbers grew by one, and one more file may wait.
    pub fn shifted(&mut self) {
        self.idle = false;
        if let Some(job) = &mut self.job {
            job.number += 1;
        }
    }

    /// Begins with the newest plain file among `1..=last`, if there is one.
    pub fn begin(&mut self, path: &Path, last: u32) {
        if self.idle {
            return;
        }
        let Some(number) = (1..=last.min(1000)).find(|n| numbered(path, *n, false).exists()) else {
            self.idle = true;
            return;
        };
        // Opened before the fork: by the time the child runs, the name may lead to another file.
        let source = File::open(numbered(path, number, false));
        let compress = |source: Option<File>| {
            let pid = nix::unistd::getpid().as_raw();
            let source = source.ok_or(io::ErrorKind::NotFound)?;
            compress(source, &beside(path, pid, TEMPORARY), &beside(path, pid, DONE))
        };
        match source.and_then(|source| fork(Some(source), compress)) {
            Ok((child, pid)) => self.job = Some(Job { child, number, done: beside(path, pid, DONE) }),
            Err(error) => {
                self.idle = true;
                tracing::warn!(%error, "a rotated log stays uncompressed");
            }
        }
    }

    /// Puts a finished compression in place.
    pub fn poll(&mut self, path: &Path) {
        let Some(job) = &self.job else { return };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        // A shim that reaps all children may have taken this one's status: then it is finished as well.
        let Ok(None) = rustix::process::waitid(WaitId::PidFd(job.child.as_fd()), options) else {
            let (number, done) = (job.number, job.done.clone());
            self.job = None;
            if let Err(error) = install(path, number, &done) {
                self.idle = true;
                tracing::warn!(%error, "a rotated log stays uncompressed");
            }
            return;
        };
    }

    /// The writer ends: what waits is left to a child.
    pub fn leave(&mut self, path: &Path, last: u32) {
        self.abandon();
        let last = last.min(1000);
        if (1..=last).any(|n| numbered(path, n, false).exists())
            && let Err(error) = fork(None, |_| finish(path, last))
        {
            tracing::warn!(%error, "rotated logs stay uncompressed");
        }
    }

    /// Ends a compression that is under way.
    pub fn abandon(&mut self) {
        if let Some(job) = self.job.take() {
            rustix::process::pidfd_send_signal(job.child.as_fd(), Signal::KILL).unwrap_or_default();
            rustix::process::waitid(WaitId::PidFd(job.child.as_fd()), WaitIdOptions::EXITED).ok();
            fs::remove_file(&job.done).ok();
            fs::remove_file(job.done.with_extension("tmp")).ok();
        }
    }
}

/// `done` becomes `NAME.K.gz`, `NAME.K` goes.
fn install(path: &Path, number: u32, done: &Path) -> io::Result<()> {
    let plain = numbered(path, number, false);
    if !plain.exists() {
        // Rotated away meanwhile: the result is of no use.
        return fs::remove_file(done);
    }
    fs::rename(done, numbered(path, number, true))?;
    fs::remove_file(plain)
}

fn sweep(path: &Path) {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else { return };
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let file = entry.file_name();
        let text = file.to_string_lossy();
        if text.starts_with(name) && (text.ends_with(DONE) || text.ends_with(TEMPORARY)) {
            fs::remove_file(entry.path()).ok();
        }
    }
}

/// The finisher's work: every plain file among `1..=last`, newest first.
fn finish(path: &Path, last: u32) -> io::Result<()> {
    let log = OpenOptions::new().write(true).open(path)?;
    fcntl(log.as_raw_fd(), FcntlArg::F_SETLK(&whole(libc::F_WRLCK)))?;
    let temporary = beside(path, nix::unistd::getpid().as_raw(), TEMPORARY);
    for number in 1..=last {
        let plain = numbered(path, number, false);
        match File::open(&plain) {
            Ok(source) => compress(source, &temporary, &numbered(path, number, true))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        }
        fs::remove_file(plain)?;
    }
    Ok(())
}

/// Ends the finisher of an earlier writer, if it is still at work.
fn end_finisher(path: &Path) {
    let Ok(log) = OpenOptions::new().write(true).open(path) else { return };
    let mut lock = whole(libc::F_WRLCK);
    let asked = fcntl(log.as_raw_fd(), FcntlArg::F_GETLK(&mut lock));
    if asked.is_err() || lock.l_type == whole(libc::F_UNLCK).l_type {
        return;
    }
    if let Some(pid) = Pid::from_raw(lock.l_pid) {
        rustix::process::kill_process(pid, Signal::KILL).unwrap_or_default();
    }
    // Granted when it is gone; given back with the descriptor.
    fcntl(log.as_raw_fd(), FcntlArg::F_SETLKW(&whole(libc::F_WRLCK))).unwrap_or_default();
}

/// A lock of a whole file.
fn whole(kind: libc::c_int) -> libc::flock {
    let kind = libc::c_short::try_from(kind).unwrap_or_default();
    libc::flock { l_type: kind, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 }
}

/// A child that does `work` with one file of ours at most, and ends.
#[expect(unsafe_code, reason = "the shim has one thread and must not start a second one")]
fn fork(
    source: Option<File>,
    work: impl FnOnce(Option<File>) -> io::Result<()>,
) -> io::Result<(OwnedFd, i32)> {
    // SAFETY: the caller is the single-threaded shim; the child touches only its own memory and files, and
    // leaves by `_exit`, so that no destructor or exit handler of the parent runs twice.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => {
            let pid = Pid::from_raw(child.as_raw()).ok_or_else(|| io::Error::other("fork gave no child"))?;
            Ok((rustix::process::pidfd_open(pid, PidfdFlags::empty())?, child.as_raw()))
        }
        nix::unistd::ForkResult::Child => {
            // SAFETY: nothing of the parent's descriptors is used from here on but the source, as number 3;
            // clients must not be held open by this child.
            let source = unsafe {
                let moved = source.map(|source| libc::dup2(source.into_raw_fd(), 3));
                let first = if moved.is_some() { 4 } else { 3 };
                let closed = libc::close_range(first, libc::c_uint::MAX, 0) == 0;
                (closed && moved.is_none_or(|fd| fd == 3)).then(|| moved.map(|_| File::from_raw_fd(3)))
            };
            let result = source.ok_or_else(io::Error::last_os_error).and_then(|source| {
                rustix::process::nice(10).ok();
                work(source)
            });
            // SAFETY: ends this process at once.
            unsafe { libc::_exit(i32::from(result.is_err())) }
        }
    }
}

/// `source` compressed as `temporary`, then renamed to `done`; it keeps the time of the last write, by which
/// readers pass over files that are too old.
fn compress(mut from: File, temporary: &Path, done: &Path) -> io::Result<()> {
    let to = OpenOptions::new().write(true).create_new(true).mode(0o640).open(temporary)?;
    let mut encoder = flate2::write::GzEncoder::new(to, flate2::Compression::new(3));
    io::copy(&mut from, &mut encoder)?;
    let to = encoder.finish()?;
    to.set_modified(from.metadata()?.modified()?)?;
    fs::rename(temporary, done)
}
