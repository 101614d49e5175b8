//! The shim's one loop: waits on everything at once, never blocks on any client, and ends when the process has.
//!
//! ```text
//!            ┌──────── helper fails ────────────────────────────┐
//!  Creating ─┴▶ Created ──Start──▶ Starting ──exec done──▶ Running ──▶ ended: drain ▶ clean up ▶ exit.json ▶ tell ▶ leave
//!                   └──────── killed, or exec failed ──────────────────────▲
//! ```
//!
//! Descriptors wait in one poll(2). Children are reaped on SIGCHLD by a signalfd: the container's first process, and,
//! because the shim is a child subreaper, whatever the container orphans in the host's pid namespace.

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    time::{Duration, Instant},
};

use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, Timespec};
use weft_base::Timestamp;
use weft_sys::process::ProcessId;

use crate::logs::{LogSink, Stream};

use super::{
    cgroup::Cgroup,
    conn::{Conn, HIGH_WATER, Input, Mode},
    job::{Console, Job},
    streams::{Chunk, Output, StdinPipe},
    types::{ConsoleSize, Exit, Fault},
    wire::{self, Attach, Event, Message, Phase},
};

/// How long output may stay silent after the process has ended while somebody else keeps it open.
const DRAIN_PATIENCE: Duration = Duration::from_millis(500);
/// How long a client may take nothing of the last output before it is left.
const LINGER_PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at the counter of kills, after the kernel said that memory ran out.
const OOM_LOOK: Duration = Duration::from_millis(10);
/// Read size; the pipe's default capacity.
const BUFFER: usize = 64 << 10;

/// A child's end as waitpid told it.
pub(super) type RawStatus = rustix::process::WaitStatus;

pub(super) struct Monitor {
    pub(super) dir: PathBuf,
    pub(super) job: Job,
    pub(super) cgroup: Option<Cgroup>,
    pub(super) listener: Option<UnixListener>,
    pub(super) conns: Vec<Conn>,
    pub(super) next_conn: u64,
    pub(super) signals: SignalFd,
    pub(super) helper: Option<super::helper::Helper>,
    pub(super) helper_said: Vec<u8>,
    pub(super) faults: Option<OwnedFd>,
    pub(super) faults_said: Vec<u8>,
    pub(super) console: Option<Console>,
    pub(super) master: Option<OwnedFd>,
    pub(super) size: Option<ConsoleSize>,
    pub(super) stdin: StdinPipe,
    pub(super) outputs: Vec<Output>,
    pub(super) log: Option<Box<dyn LogSink>>,
    pub(super) log_dirty: bool,
    pub(super) phase: Phase,
    /// Connections that wait for the answer to `Start`.
    pub(super) starting: Vec<u64>,
    pub(super) let_go: bool,
    /// Somebody asked for its start.
    pub(super) asked: bool,
    pub(super) init: Option<ProcessId>,
    /// Children that ended before we knew which one is ours.
    pub(super) strays: Vec<(i32, RawStatus)>,
    pub(super) status: Option<RawStatus>,
    pub(super) finished_at: Option<Timestamp>,
    pub(super) fault: Option<Fault>,
    pub(super) oom: Option<OwnedFd>,
    pub(super) oom_kills: u64,
    /// Until when a kill that was announced may still show in the counter.
    pub(super) oom_until: Option<Instant>,
    pub(super) paused: bool,
    pub(super) drain_until: Option<Instant>,
    pub(super) buffer: Vec<u8>,
}

/// What a ready descriptor is.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Listener,
    Helper,
    Faults,
    Console,
    Oom,
    Stdin,
    Output(usize),
    Conn(usize),
}

impl Monitor {
    pub(super) fn buffer() -> Vec<u8> {
        vec![0; BUFFER]
    }

    /// Runs until the process has ended and everybody who can be told has been told.
    pub(super) fn run(&mut self) -> io::Result<()> {
        while !self.is_over() {
            let timeout = match (self.drain_until, self.log_dirty) {
                (Some(until), _) => Some(until.saturating_duration_since(Instant::now())),
                // Output has paused as soon as one look finds nothing: then the log is handed to the kernel.
                (None, true) => Some(Duration::ZERO),
                (None, false) => None,
            };
            let counting = self.oom_until.map(|_| OOM_LOOK);
            let ready = self.wait(timeout.into_iter().chain(counting).min())?;
            if self.oom_until.is_some() {
                self.count_ooms();
            }
            if ready.is_empty() && self.log_dirty {
                self.flush_log();
            }
            for (source, flags) in ready {
                self.handle(source, flags)?;
            }
            self.conns.retain(|c| !c.dead);
            self.give_up_if_forsaken();
        }
        self.finish();
        Ok(())
    }

    /// A daemon that dies before it said `Start` told nobody of the process: it goes too. One that hangs in its
    /// creation is left for the next daemon to find.
    fn give_up_if_forsaken(&mut self) {
        let settled = self.asked || self.fault.is_some() || self.status.is_some();
        if settled || self.conns.iter().any(|c| c.mode == Mode::Control) {
            return;
        }
        match (self.init, &self.helper) {
            (Some(init), _) => {
                let _ = weft_sys::process::kill(init.pid, libc::SIGKILL);
            }
            (None, Some(_)) => return,
            (None, None) => {}
        }
        self.fault = Some(Fault::other("the daemon went away before the process was started"));
    }

    /// Whether it never came to life, or has ended and its output is all read.
    fn is_over(&self) -> bool {
        if self.fault.is_some() && self.init.is_none() && self.helper.is_none() {
            return true;
        }
        let drained =
            self.outputs.is_empty() || self.drain_until.is_some_and(|until| Instant::now() >= until);
        self.status.is_some() && drained
    }

    fn wait(&self, timeout: Option<Duration>) -> io::Result<Vec<(Source, PollFlags)>> {
        let mut sources = Vec::with_capacity(8 + self.conns.len());
        let mut fds = Vec::with_capacity(8 + self.conns.len());
        let mut add = |source: Source, fd, flags: PollFlags| {
            sources.push(source);
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        };
        add(Source::Signals, self.signals.as_fd(), PollFlags::IN);
        if let Some(listener) = &self.listener {
            add(Source::Listener, listener.as_fd(), PollFlags::IN);
        }
        if let Some(helper) = &self.helper {
            add(Source::Helper, helper.progress.as_fd(), PollFlags::IN);
        }
        if let Some(faults) = &self.faults {
            add(Source::Faults, faults.as_fd(), PollFlags::IN);
        }
        if let Some(oom) = &self.oom {
            add(Source::Oom, oom.as_fd(), PollFlags::IN);
        }
        match &self.console {
            Some(Console::Listener(socket)) => add(Source::Console, socket.as_fd(), PollFlags::IN),
            Some(Console::Socket(socket)) => add(Source::Console, socket.as_fd(), PollFlags::IN),
            None => {}
        }
        if let Some(stdin) = self.stdin.wants_write() {
            add(Source::Stdin, stdin.as_fd(), PollFlags::OUT);
        }
        // After the end, what is left in the pipes is bounded: it is taken whatever the clients do.
        let room = self.status.is_some() || self.conns.iter().all(|c| c.waiting() < HIGH_WATER);
        for (n, output) in self.outputs.iter().enumerate().filter(|_| room) {
            add(Source::Output(n), output.fd.as_fd(), PollFlags::IN);
        }
        for (n, conn) in self.conns.iter().enumerate() {
            let mut flags = PollFlags::empty();
            let takes_input = matches!(conn.mode, Mode::Stream(Attach { stdin: true, .. }));
            flags.set(PollFlags::IN, conn.readable && (!takes_input || self.stdin.has_room()));
            flags.set(PollFlags::OUT, conn.waiting() > 0);
            add(Source::Conn(n), conn.sock.as_fd(), flags);
        }
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ready = fds.iter().zip(sources).filter(|(fd, _)| !fd.revents().is_empty());
        Ok(ready.map(|(fd, source)| (source, fd.revents())).collect())
    }

    fn handle(&mut self, source: Source, flags: PollFlags) -> io::Result<()> {
        match source {
            Source::Signals => self.reap()?,
            Source::Listener => self.accept(),
            Source::Helper => self.hear_helper(),
            Source::Faults => self.hear_faults(),
            Source::Console => self.take_console(),
            Source::Oom => self.hear_oom(),
            Source::Stdin => {
                if flags.contains(PollFlags::ERR) {
                    self.stdin.abandon();
                } else {
                    self.stdin.flush();
                }
            }
            Source::Output(n) => self.pass_output(n),
            Source::Conn(n) => self.serve(n, flags),
        }
        Ok(())
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        // A client that is gone before it was taken is no client.
        if let Ok((sock, _)) = listener.accept() {
            self.add_conn(sock);
        }
    }

    pub(super) fn add_conn(&mut self, sock: UnixStream) {
        self.next_conn += 1;
        if let Ok(conn) = Conn::new(self.next_conn, sock) {
            self.conns.push(conn);
        }
    }

    /// Reads one piece of output and hands it to the log and to everybody attached. Ended outputs become empty
    /// places that the next look removes.
    fn pass_output(&mut self, n: usize) {
        let Some(output) = self.outputs.get(n) else { return };
        let stream = output.stream;
        match output.read(&mut self.buffer) {
            Ok(Chunk::Data(len)) => {
                let bytes = &self.buffer[..len];
                if let Some(log) = &mut self.log {
                    if let Err(error) = log.write(stream, bytes, now()) {
                        tracing::warn!(%error, "output is lost to the log");
                    }
                    self.log_dirty = true;
                }
                let number = if stream == Stream::Stdout { 1 } else { 2 };
                let header = wire::stdcopy_header(number, len);
                let raw = self.job.tty();
                for conn in &mut self.conns {
                    let Mode::Stream(attach) = conn.mode else { continue };
                    if (stream == Stream::Stdout && attach.stdout)
                        || (stream == Stream::Stderr && attach.stderr)
                    {
                        if raw { conn.send(&[bytes]) } else { conn.send(&[&header, bytes]) }
                    }
                }
                if self.drain_until.is_some() {
                    self.drain_until = Some(Instant::now() + DRAIN_PATIENCE);
                }
            }
            Ok(Chunk::Nothing) => {}
            Ok(Chunk::End) | Err(_) => {
                // The other output's index must stay valid for this round, so the last one is handled first.
                self.outputs.retain(|o| o.stream != stream);
            }
        }
    }

    fn serve(&mut self, n: usize, flags: PollFlags) {
        let Some(conn) = self.conns.get_mut(n) else { return };
        if flags.contains(PollFlags::OUT) {
            conn.flush();
        }
        if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            let end = if conn.readable { conn.read(&mut self.buffer) } else { Input::End };
            if matches!(end, Input::End) {
                conn.readable = false;
                // HUP: both directions are closed, nobody is there any more.
                conn.dead |= flags.intersects(PollFlags::HUP | PollFlags::ERR) || conn.mode == Mode::Control;
                self.input_ended(n);
                return;
            }
        }
        self.use_received(n);
    }

    fn use_received(&mut self, n: usize) {
        while let Some(request) = self.conns.get_mut(n).and_then(Conn::request) {
            self.answer(n, request);
        }
        let Some(conn) = self.conns.get_mut(n) else { return };
        if let Mode::Stream(attach) = conn.mode {
            let bytes = std::mem::take(&mut conn.received);
            if attach.stdin {
                self.stdin.feed(&bytes);
            }
        }
    }

    /// A client will send no more: its input is the last there is when standard input is for one client only.
    fn input_ended(&mut self, n: usize) {
        let Some(conn) = self.conns.get_mut(n) else { return };
        let Mode::Stream(attach) = conn.mode else { return };
        if attach.stdin && self.job.stdin_once() && !self.job.tty() {
            self.stdin.close();
        }
        if !attach.stdout && !attach.stderr {
            conn.dead = true;
        }
    }

    pub(super) fn flush_log(&mut self) {
        self.log_dirty = false;
        if let Some(log) = &mut self.log
            && let Err(error) = log.flush()
        {
            tracing::warn!(%error, "the log cannot be written");
        }
    }

    /// Tells every control connection.
    pub(super) fn publish(&mut self, event: &Event) {
        let message = Message::Event(event.clone());
        for conn in self.conns.iter_mut().filter(|c| c.mode == Mode::Control) {
            conn.tell(&message);
        }
    }

    /// The process is gone and its output read: clean up, write down, tell, leave.
    fn finish(&mut self) {
        for conn in self.conns.iter_mut().filter(|c| c.mode != Mode::Control) {
            conn.end();
        }
        if let Some(Err(error)) = self.log.take().map(LogSink::close) {
            tracing::warn!(%error, "the log cannot be finished");
        }
        if let Some(cgroup) = &self.cgroup {
            self.oom_kills = self.oom_kills.max(cgroup.oom_kills());
        }
        let exit = self.exit();
        let path = self.dir.join(super::types::EXIT_FILE);
        if let Err(error) = super::types::write_json(&path, &exit) {
            tracing::error!(%error, path = %path.display(), "the exit status cannot be written");
        }
        if let Some(helper) = self.helper.take() {
            // What it would note of the process from here on would stay.
            helper.end();
        }
        self.job.clean_up(&self.dir, self.cgroup.as_ref());
        if self.listener.take().is_some() {
            let _ = std::fs::remove_file(self.dir.join(super::types::SOCKET_FILE));
        }
        match self.fault.take().filter(|_| self.init.is_none()) {
            Some(fault) => self.publish(&Event::Failed(fault)),
            None => self.publish(&Event::Exited(exit)),
        }
        self.linger();
    }

    fn exit(&self) -> Exit {
        let signal = self.status.and_then(RawStatus::terminating_signal);
        let code = match (&self.fault, self.status) {
            (Some(fault), _) => fault.exit_code(),
            (None, Some(status)) => status.exit_status().unwrap_or(128 + signal.unwrap_or(0)),
            (None, None) => 125,
        };
        Exit {
            code,
            signal,
            oom_killed: self.oom_kills > 0,
            finished_at: self.finished_at.unwrap_or_else(now),
            // Who finds this must not take it for a run.
            fault: self.fault.clone().or_else(|| {
                (!self.asked).then(|| Fault::other("the process was ended before it was started"))
            }),
        }
    }

    /// Gives slow clients what is left, as long as they take any of it.
    fn linger(&mut self) {
        loop {
            self.conns.retain(|c| !c.dead && c.waiting() > 0);
            if self.conns.is_empty() {
                return;
            }
            let mut fds: Vec<_> =
                self.conns.iter().map(|c| PollFd::from_borrowed_fd(c.sock.as_fd(), PollFlags::OUT)).collect();
            let patience = Timespec::try_from(LINGER_PATIENCE).ok();
            match rustix::event::poll(&mut fds, patience.as_ref()) {
                Ok(0) => return,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            drop(fds);
            for conn in &mut self.conns {
                conn.flush();
            }
        }
    }

    /// From now on output is only waited for so long.
    pub(super) fn start_draining(&mut self) {
        self.drain_until = Some(Instant::now() + DRAIN_PATIENCE);
    }
}

/// The time now.
pub(super) fn now() -> Timestamp {
    use weft_base::Clock;
    weft_base::SystemClock.now()
}
