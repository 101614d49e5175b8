//! The shim: the small single-threaded process beside each container and each exec, so that the daemon can die, be
//! upgraded or hang with no effect on what runs.
//!
//! ```text
//!  daemon (any number, any version, or none)          shim                         container
//!  ──────────────────────────────────────            ──────────────────────────   ─────────────────
//!  Shim::spawn / adopt ── control socket ──▶ monitor ── stdio pipes or terminal ── first process
//!  attach ─────────────── stream socket ───▶    │ └─ log                             (its child)
//!                                               └─ helper (short-lived): OCI runtime, joins
//! ```
//!
//! The monitor (`monitor`, `life`) holds the streams, the log, the exit status, and nothing else; all heavy work is
//! done in forked helpers (`helper`), whose memory goes with them. It trusts nobody to be there: its results are files
//! in its directory (`types`), written before anybody is told.
//!
//! What it refuses to do: threads, timers, restarts, policy. The daemon decides; the shim keeps.

mod builtin;
pub(crate) mod cgroup;
mod cgview;
pub mod client;
mod conn;
mod devices;
mod ear;
mod enter;
mod external;
mod guard;
mod helper;
mod job;
mod join;
mod life;
mod limits;
mod monitor;
mod nodes;
mod remap;
mod seccomp;
mod stdio;
mod streams;
pub mod types;
mod update;
pub mod wire;

use std::{
    ffi::OsString,
    io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::ExitCode,
};

use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::event::{PollFd, PollFlags, Timespec};
use weft_sys::process::{ProcessId, inherited_fd};

pub use client::{ExecHandle, Launcher, Shim, ShimError};
pub use types::{ConsoleSize, ExecSpec, Exit, Fault, FaultKind, Log, Runtime, ShimSpec};
pub use wire::{Attach, Phase, State};

use crate::logs;
use monitor::Monitor;

/// Runs a shim: `container DIR` or `exec DIR`, with the first control connection as standard input. To be called
/// before any thread exists.
pub fn main(args: &[OsString]) -> ExitCode {
    let (is_exec, dir) = match args {
        [kind, dir] if kind == "container" => (false, PathBuf::from(dir)),
        [kind, dir] if kind == "exec" => (true, PathBuf::from(dir)),
        _ => return complain("usage: weft shim container|exec DIR"),
    };
    match run(&dir, is_exec) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("weft shim {}: {}", dir.display(), weft_base::chain(&error))),
    }
}

#[expect(clippy::print_stderr, reason = "a shim's standard error is its log file")]
fn complain(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::FAILURE
}

fn run(dir: &Path, is_exec: bool) -> io::Result<()> {
    // Whatever the daemon, or who started it, forgot to close is not for us, still less for a container.
    weft_sys::process::close_all_but(&mut [])?;
    let control = inherited_fd(0).map(UnixStream::from);
    rustix::stdio::dup2_stdin(&std::fs::File::open("/dev/null")?)?;
    // A session of our own: no terminal's signals, no group kill reaches us. (EPERM: we lead one already.)
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"weft-shim");
    std::env::set_current_dir("/")?;
    rustix::process::set_child_subreaper(Some(rustix::process::Pid::INIT))?;
    let mut quiet = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT] {
        quiet.add(signal);
    }
    quiet.thread_block()?;
    let signals = SignalFd::with_flags(&quiet, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let me = i32::try_from(std::process::id()).map_err(io::Error::other)?;
    types::write_json(&dir.join(types::PID_FILE), &ProcessId::of(me)?)?;
    // From here on the next daemon finds us. One that died before looks for nobody, and must find nothing made.
    if control.as_ref().is_some_and(hung_up) {
        return Ok(());
    }
    let mut monitor = prepare(dir, is_exec, signals)?;
    if let Some(control) = control {
        monitor.add_conn(control);
    }
    monitor.begin();
    monitor.run()
}

/// The other end is closed.
fn hung_up(control: &UnixStream) -> bool {
    let mut fds = [PollFd::new(control, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::HUP)
}

fn prepare(dir: &Path, is_exec: bool, signals: SignalFd) -> io::Result<Monitor> {
    let job = job::Job::load(dir, is_exec)?;
    let mut fault = None;
    let log = match job.container().and_then(|spec| spec.log.as_ref()) {
        Some(log) => match logs::writer::open(&log.config, &log.dir, &log.facts) {
            Ok(sink) => Some(sink),
            Err(e) => {
                let because = Fault::because("failed to initialize logging driver", &e);
                fault = Some(Fault { kind: FaultKind::Log, ..because });
                None
            }
        },
        None => None,
    };
    let cgroup = match job.container() {
        Some(spec) => Some(cgroup::Cgroup::open(&spec.cgroup)?),
        None => None,
    };
    Ok(Monitor {
        listener: Some(job::listen(dir, types::SOCKET_FILE)?),
        dir: dir.to_owned(),
        cgroup,
        conns: Vec::new(),
        next_conn: 0,
        signals,
        helper: None,
        helper_said: Vec::new(),
        faults: None,
        faults_said: Vec::new(),
        console: None,
        master: None,
        size: None,
        stdin: streams::StdinPipe::new(job.stdin() || job.tty()),
        job,
        outputs: Vec::new(),
        log,
        log_dirty: false,
        phase: Phase::Creating,
        starting: Vec::new(),
        let_go: false,
        asked: false,
        init: None,
        strays: Vec::new(),
        status: None,
        finished_at: None,
        fault,
        oom: None,
        oom_kills: 0,
        oom_until: None,
        paused: false,
        drain_until: None,
        buffer: Monitor::buffer(),
    })
}

impl Monitor {
    /// The first step: a container is created at once, an exec only when it is started.
    fn begin(&mut self) {
        if self.fault.is_some() {
            return;
        }
        if self.job.container().is_some() {
            self.launch();
        } else {
            self.phase = Phase::Created;
            self.publish(&wire::Event::Created(None));
        }
    }
}
