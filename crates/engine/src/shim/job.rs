//! What a shim runs: a container or an exec. Everything in which the two differ is here; the monitor is the same.

use std::{
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

use super::{
    builtin::{self, CONSOLE_SOCKET},
    cgroup::Cgroup,
    external::Program,
    helper::{self, Helper},
    join::Join,
    stdio::{ContainerSide, ShimSide},
    types::{self, CREATED_FILE, ConsoleSize, Created, ExecSpec, Fault, Runtime, SPEC_FILE, ShimSpec},
};

/// A container or an exec, with what the monitor asks of either.
pub(super) enum Job {
    Container(Box<ShimSpec>),
    Exec { exec: Box<ExecSpec>, container: Box<ShimSpec>, created: Created },
}

/// Where a terminal's master will come from.
pub(super) enum Console {
    /// A runtime connects here.
    Listener(UnixListener),
    /// Our own helper sends it here.
    Socket(OwnedFd),
}

/// A launched helper with the shim's ends of everything.
pub(super) struct Launched {
    pub(super) helper: Helper,
    pub(super) streams: ShimSide,
    pub(super) console: Option<Console>,
    /// Faults of the process; ends when its program runs.
    pub(super) faults: Option<OwnedFd>,
}

impl Job {
    pub(super) fn load(dir: &Path, is_exec: bool) -> io::Result<Self> {
        if !is_exec {
            return Ok(Self::Container(types::read_json(&dir.join(SPEC_FILE))?));
        }
        let exec: Box<ExecSpec> = types::read_json(&dir.join(SPEC_FILE))?;
        let container = types::read_json(&exec.container.join(SPEC_FILE))?;
        let created = types::read_json(&exec.container.join(CREATED_FILE))?;
        Ok(Self::Exec { exec, container, created })
    }

    pub(super) fn tty(&self) -> bool {
        match self {
            Self::Container(spec) => spec.tty,
            Self::Exec { exec, .. } => exec.tty,
        }
    }

    pub(super) fn stdin(&self) -> bool {
        match self {
            Self::Container(spec) => spec.stdin,
            Self::Exec { exec, .. } => exec.stdin,
        }
    }

    pub(super) fn stdin_once(&self) -> bool {
        match self {
            Self::Container(spec) => spec.stdin_once,
            Self::Exec { .. } => true,
        }
    }

    pub(super) fn console_size(&self) -> Option<ConsoleSize> {
        match self {
            Self::Container(spec) => spec.console_size,
            Self::Exec { exec, .. } => exec.console_size,
        }
    }

    /// The container, whose cgroup, pauses and limits the shim looks after; `None` for an exec.
    pub(super) fn container(&self) -> Option<&ShimSpec> {
        match self {
            Self::Container(spec) => Some(spec),
            Self::Exec { .. } => None,
        }
    }

    /// Forks the helper. A container's then creates and waits; an exec's runs through.
    pub(super) fn launch(&self, dir: &Path) -> io::Result<Launched> {
        let spec = match self {
            Self::Container(spec) => spec,
            Self::Exec { container, .. } => container,
        };
        let external = match &spec.runtime {
            Runtime::Builtin => None,
            Runtime::External { path, args } => {
                Some(Program { path, args, state_root: &spec.state_root, dir })
            }
        };
        let (stdio, streams) = if self.tty() {
            (ContainerSide::Terminal, ShimSide::default())
        } else {
            ContainerSide::pipes(self.stdin())?
        };
        let (faults_in, faults) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        rustix::io::ioctl_fionbio(&faults_in, true)?;
        let mut keep = stdio.fds();
        keep.push(faults.as_raw_fd());
        let mut sender = None;
        let console = match (self.tty(), self, external) {
            (false, ..) => None,
            (true, Self::Exec { .. }, None) => {
                let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
                keep.push(theirs.as_raw_fd());
                sender = Some(OwnedFd::from(theirs));
                Some(Console::Socket(ours.into()))
            }
            (true, ..) => Some(Console::Listener(listen(dir, CONSOLE_SOCKET)?)),
        };
        let has_faults = external.is_none();
        let helper = helper::spawn(&keep, move |shim| match (self, external) {
            (Self::Container(spec), Some(runtime)) => runtime.run_container(spec, stdio, shim),
            (Self::Container(spec), None) => builtin::run(dir, spec, stdio, faults, shim),
            (Self::Exec { exec, container, .. }, Some(runtime)) => {
                runtime.run_exec(&container.id, exec, stdio, shim)
            }
            (Self::Exec { exec, container, created }, None) => {
                Join { exec, container: created, cgroup: &container.cgroup, stdio, faults, console: sender }
                    .run(shim)
            }
        })?;
        Ok(Launched { helper, streams, console, faults: has_faults.then_some(faults_in) })
    }

    /// Removes what the runtime and the kernel keep of a container that has ended.
    pub(super) fn clean_up(&self, dir: &Path, cgroup: Option<&Cgroup>) {
        let Self::Container(spec) = self else { return };
        match &spec.runtime {
            Runtime::Builtin => builtin::delete(spec),
            Runtime::External { path, args } => {
                Program { path, args, state_root: &spec.state_root, dir }.delete(&spec.id);
            }
        }
        if let Some(error) = cgroup.and_then(|c| c.remove().err()) {
            tracing::warn!(%error, cgroup = spec.cgroup, "the cgroup cannot be removed");
        }
    }

    /// Changes limits, in a helper, and waits for it.
    pub(super) fn update(&self, dir: &Path, resources: &serde_json::Value) -> Result<(), Fault> {
        let Self::Container(spec) = self else {
            return Err(Fault::state("an exec has no limits of its own"));
        };
        if let Runtime::External { path, args } = &spec.runtime {
            return Program { path, args, state_root: &spec.state_root, dir }.update(&spec.id, resources);
        }
        super::update::apply(&spec.id, &spec.cgroup, resources)
    }
}

/// Listens on a socket in `dir`, whose path may be longer than a socket address holds.
pub(super) fn listen(dir: &Path, name: &str) -> io::Result<UnixListener> {
    let before: PathBuf = std::env::current_dir()?;
    std::env::set_current_dir(dir)?;
    let listener = match std::fs::remove_file(name) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => UnixListener::bind(name),
    };
    std::env::set_current_dir(before)?;
    let listener = listener?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
