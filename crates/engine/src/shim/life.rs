//! The monitor's steps from creating to the end, and its answers to requests.

use std::{
    fs::File,
    io,
    io::Read,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::process::WaitOptions;
use weft_sys::process::{self, ProcessId};

use crate::logs::Stream;

use super::{
    conn::Mode,
    helper::Progress,
    job::{Console, Launched},
    join,
    monitor::{Monitor, RawStatus, now},
    streams::Output,
    types::{self, CREATED_FILE, ConsoleSize, Created, Fault},
    wire::{self, Event, Message, Phase, Reply, Request, State},
};

/// How long the kernel may take from running out of memory to having killed somebody.
const OOM_PATIENCE: Duration = Duration::from_secs(2);

impl Monitor {
    /// Forks the helper and takes the shim's ends of the streams.
    pub(super) fn launch(&mut self) {
        match self.job.launch(&self.dir) {
            Ok(Launched { helper, streams, console, faults }) => {
                self.helper = Some(helper);
                self.console = console;
                self.faults = faults;
                if let Some(fd) = streams.stdin {
                    self.stdin.connect(fd);
                }
                // Errors first: read last to first, so that removing an ended output moves no other.
                let outputs = [(streams.stdout, Stream::Stdout), (streams.stderr, Stream::Stderr)];
                self.outputs
                    .extend(outputs.into_iter().filter_map(|(fd, stream)| Some(Output { fd: fd?, stream })));
            }
            Err(e) => self.fault = Some(Fault::because("preparing the process", &e)),
        }
    }

    /// Collects ended children.
    pub(super) fn reap(&mut self) -> io::Result<()> {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        let mut others = false;
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let pid = pid.as_raw_nonzero().get();
                    match self.init {
                        Some(init) if init.pid == pid => self.ended(status),
                        Some(_) => others = true,
                        None => self.strays.push((pid, status)),
                    }
                }
                Ok(None) | Err(rustix::io::Errno::CHILD) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        if others {
            // It may have been the one that compressed a rotated log; a container that has gone quiet gives the
            // log no other occasion to put the result in place and begin with the next.
            self.flush_log();
        }
        Ok(())
    }

    fn ended(&mut self, status: RawStatus) {
        self.status = Some(status);
        self.finished_at = Some(now());
        self.phase = Phase::Stopped;
        self.hear_faults();
        self.take_console();
        self.answer_start();
        self.start_draining();
        // Without a pid namespace of its own, others of the container may be left; they end with the first.
        if let Some(cgroup) = &self.cgroup {
            cgroup.signal_all(libc::SIGKILL);
        }
    }

    pub(super) fn hear_helper(&mut self) {
        let Some(helper) = &self.helper else { return };
        let ended = read_available(&helper.progress, &mut self.helper_said);
        while let Ok(Some(progress)) = wire::decode(&mut self.helper_said) {
            match progress {
                Progress::Created(created) => self.created(&created),
                Progress::Started(pid) => self.started(pid),
                Progress::Failed(fault) => self.failed(fault),
            }
        }
        if ended {
            self.helper = None;
            if self.init.is_none() && self.fault.is_none() {
                self.failed(Fault::other("the process that was to create the container died"));
            }
        }
    }

    fn created(&mut self, created: &Created) {
        if let Err(error) = types::write_json(&self.dir.join(CREATED_FILE), created) {
            tracing::error!(%error, "what was created cannot be written down");
        }
        self.take_console();
        self.oom = self.cgroup.as_ref().and_then(super::cgroup::Cgroup::watch_oom);
        self.phase = Phase::Created;
        self.learn_init(created.init);
        self.publish(&Event::Created(self.init));
    }

    fn learn_init(&mut self, init: ProcessId) {
        self.init = Some(init);
        let strays = std::mem::take(&mut self.strays);
        if let Some((_, status)) = strays.into_iter().find(|(pid, _)| *pid == init.pid) {
            self.ended(status);
        }
    }

    fn started(&mut self, pid: Option<i32>) {
        if let Some(pid) = pid {
            // A process that has ended already has no start time any more, but we have not reaped it, so its
            // number is still its own.
            let init = ProcessId::of(pid).unwrap_or(ProcessId { pid, start_time: 0 });
            let created = Created { init, seccomp: None, user_namespace: false };
            if let Err(error) = types::write_json(&self.dir.join(CREATED_FILE), &created) {
                tracing::error!(%error, "the exec's process cannot be written down");
            }
            self.learn_init(init);
        }
        self.let_go = true;
        if self.faults.is_none() {
            self.take_console();
            self.answer_start();
        }
    }

    fn failed(&mut self, fault: Fault) {
        // What the process itself said is more exact than what the runtime made of it.
        self.hear_faults();
        if self.fault.is_none() {
            self.fault = Some(fault);
        }
        self.helper = None;
        self.answer_start();
        if let Some(init) = self.init.filter(|_| self.status.is_none()) {
            // It was created but cannot be started: nobody will ever be able to use it.
            let _ = process::kill(init.pid, libc::SIGKILL);
        }
    }

    /// Reads what the process says went wrong; the end of it means that its program runs.
    pub(super) fn hear_faults(&mut self) {
        let Some(pipe) = &self.faults else { return };
        let ended = read_available(pipe, &mut self.faults_said);
        if let Ok(fault) = serde_json::from_slice::<Fault>(&self.faults_said) {
            self.fault = Some(fault);
            self.faults = None;
        } else if ended {
            self.faults = None;
        }
        if self.faults.is_none() {
            self.take_console();
            self.answer_start();
        }
    }

    /// Answers `Start` when it is known how it went.
    fn answer_start(&mut self) {
        let over = self.status.is_some() || self.fault.is_some();
        if !over && (!self.let_go || self.faults.is_some() || self.init.is_none()) {
            return;
        }
        if !over && self.phase == Phase::Created {
            self.phase = Phase::Running;
        }
        let reply = match &self.fault {
            Some(fault) => Reply::Fault(fault.clone()),
            None => Reply::Started(self.init),
        };
        for id in std::mem::take(&mut self.starting) {
            if let Some(conn) = self.conns.iter_mut().find(|c| c.id == id) {
                conn.tell(&Message::Reply(reply.clone()));
            }
        }
    }

    /// Receives the terminal's master, if it has been sent.
    pub(super) fn take_console(&mut self) {
        let master = match &self.console {
            None => return,
            Some(Console::Listener(listener)) => {
                let Ok((socket, _)) = listener.accept() else { return };
                // The sender connects and sends at once.
                join::receive_fd(&socket)
            }
            Some(Console::Socket(socket)) => {
                let _ = rustix::io::ioctl_fionbio(socket, true);
                join::receive_fd(socket)
            }
        };
        match master {
            Ok(Some(master)) => {
                self.console = None;
                let _ = std::fs::remove_file(self.dir.join(super::builtin::CONSOLE_SOCKET));
                if let Err(error) = self.use_master(master) {
                    tracing::error!(%error, "the terminal cannot be used");
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Ok(None) | Err(_) => self.console = None,
        }
    }

    fn use_master(&mut self, master: OwnedFd) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&master, true)?;
        if let Some(size) = self.size.or(self.job.console_size()) {
            join::set_size(&master, size)?;
        }
        self.outputs.push(Output { fd: master.try_clone()?, stream: Stream::Stdout });
        self.stdin.connect(master.try_clone()?);
        self.master = Some(master);
        Ok(())
    }

    pub(super) fn hear_oom(&mut self) {
        let Some(oom) = &self.oom else { return };
        if matches!(rustix::io::read(oom, &mut self.buffer), Ok(0) | Err(rustix::io::Errno::IO)) {
            self.oom = None;
            return;
        }
        self.oom_until = Some(Instant::now() + OOM_PATIENCE);
        self.count_ooms();
    }

    /// Tells of kills that were not told yet. Version 1 wakes us before it chooses whom to kill, so the counter
    /// may lag behind; and where nobody is killed (`--oom-kill-disable`) it never moves.
    pub(super) fn count_ooms(&mut self) {
        let kills = self.cgroup.as_ref().map_or(0, super::cgroup::Cgroup::oom_kills);
        if kills > self.oom_kills {
            self.oom_kills = kills;
            self.oom_until = None;
            self.publish(&Event::Oom);
        } else if self.oom_until.is_some_and(|until| Instant::now() >= until) {
            self.oom_until = None;
        }
    }

    /// Answers one request of one connection.
    pub(super) fn answer(&mut self, n: usize, request: Request) {
        let reply = match request {
            Request::Start => match self.start(n) {
                Ok(()) => return,
                Err(fault) => Err(fault),
            },
            Request::Attach(attach) => {
                if let Some(conn) = self.conns.get_mut(n) {
                    conn.tell(&Message::Reply(Reply::Done));
                    conn.mode = Mode::Stream(attach);
                }
                return;
            }
            Request::Kill { signal, all } => self.kill(signal, all).map(|()| Reply::Done),
            Request::Pause => self.pause(true).map(|()| Reply::Done),
            Request::Resume => self.pause(false).map(|()| Reply::Done),
            Request::Resize(size) => self.resize(size).map(|()| Reply::Done),
            Request::CloseStdin => {
                self.stdin.close();
                Ok(Reply::Done)
            }
            Request::State => Ok(Reply::State(State {
                phase: self.phase,
                init: self.init,
                paused: self.paused,
                oom_killed: self.oom_kills > 0,
            })),
            Request::Update(resources) => self.job.update(&self.dir, &resources).map(|()| Reply::Done),
        };
        if let Some(conn) = self.conns.get_mut(n) {
            conn.tell(&Message::Reply(reply.unwrap_or_else(Reply::Fault)));
        }
    }

    fn start(&mut self, n: usize) -> Result<(), Fault> {
        if self.phase != Phase::Created || self.let_go || !self.starting.is_empty() {
            return Err(Fault::state("it has been started already"));
        }
        self.asked = true;
        self.starting.extend(self.conns.get(n).map(|c| c.id));
        match (&mut self.helper, self.job.container()) {
            (Some(helper), _) => helper.go(),
            (None, Some(_)) => return Err(Fault::state("the container has ended")),
            (None, None) => {
                self.launch();
                self.answer_start();
            }
        }
        Ok(())
    }

    fn kill(&mut self, signal: i32, all: bool) -> Result<(), Fault> {
        let running = self.init.filter(|_| self.status.is_none());
        let Some(init) = running else {
            return match &self.helper {
                // It hangs before there is a process: to kill it is to give up on creating it.
                Some(helper) if signal == libc::SIGKILL => process::kill(helper.pid, signal)
                    .map_err(|e| Fault::because("giving up on creating the container", &e)),
                _ => Err(Fault::state("the process is not running")),
            };
        };
        if !(1..=64).contains(&signal) {
            return Err(Fault::other(format!("there is no signal {signal}")));
        }
        if all && let Some(cgroup) = &self.cgroup {
            cgroup.signal_all(signal);
        }
        process::kill(init.pid, signal).map_err(|e| Fault::because("sending the signal", &e))?;
        // A frozen process (cgroup v1) cannot even die.
        if signal == libc::SIGKILL && self.paused {
            self.pause(false)?;
        }
        Ok(())
    }

    fn pause(&mut self, pause: bool) -> Result<(), Fault> {
        let Some(cgroup) = &self.cgroup else { return Err(Fault::state("only containers are paused")) };
        if self.init.is_none() || self.status.is_some() {
            return Err(Fault::state("the container is not running"));
        }
        if self.paused == pause {
            let word = if pause { "already" } else { "not" };
            return Err(Fault::state(format!("the container is {word} paused")));
        }
        let doing = if pause { "pausing" } else { "resuming" };
        cgroup.freeze(pause).map_err(|e| Fault::because(doing, &e))?;
        self.paused = pause;
        Ok(())
    }

    fn resize(&mut self, size: ConsoleSize) -> Result<(), Fault> {
        if !self.job.tty() {
            return Err(Fault::state("it has no terminal"));
        }
        self.size = Some(size);
        match &self.master {
            Some(master) => join::set_size(master, size).map_err(|e| Fault::because("resizing", &e)),
            None => Ok(()),
        }
    }
}

/// Reads all there is without waiting; `true` at the end.
fn read_available(fd: &OwnedFd, into: &mut Vec<u8>) -> bool {
    let Ok(copy) = fd.try_clone() else { return true };
    match File::from(copy).read_to_end(into) {
        Ok(_) => true,
        Err(e) => e.kind() != io::ErrorKind::WouldBlock,
    }
}
