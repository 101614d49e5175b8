//! Compresses a rotated file in a child process, so that the single-threaded shim goes on reading.
//!
//! The child writes `NAME.PID.gz.tmp` and, when all is well, renames it to `NAME.PID.gz.done`. The parent
//! looks now and then; it alone knows which number the file has by then, and puts the result in its place.
//! Nothing is lost when either of them is killed: the plain file stays until its replacement is whole.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::{Path, PathBuf},
};

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
        match source.and_then(|source| fork_compress(path, source)) {
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

#[expect(unsafe_code, reason = "the shim has one thread and must not start a second one")]
fn fork_compress(path: &Path, source: File) -> io::Result<(OwnedFd, i32)> {
    // SAFETY: the caller is the single-threaded shim; the child touches only its own memory and files, and
    // leaves by `_exit`, so that no destructor or exit handler of the parent runs twice.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => {
            let pid = Pid::from_raw(child.as_raw()).ok_or_else(|| io::Error::other("fork gave no child"))?;
            Ok((rustix::process::pidfd_open(pid, PidfdFlags::empty())?, child.as_raw()))
        }
        nix::unistd::ForkResult::Child => {
            let pid = nix::unistd::getpid().as_raw();
            // SAFETY: nothing of the parent's descriptors is used from here on but the source, as number 3;
            // clients must not be held open by this child.
            let source = unsafe {
                let moved = libc::dup2(source.into_raw_fd(), 3);
                (moved == 3 && libc::close_range(4, libc::c_uint::MAX, 0) == 0).then(|| File::from_raw_fd(3))
            };
            let result = source.ok_or_else(io::Error::last_os_error).and_then(|source| {
                rustix::process::nice(10).ok();
                compress(source, &beside(path, pid, TEMPORARY), &beside(path, pid, DONE))
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
