//! A further process in a running container: join its cgroup and namespaces, then take the same last steps as the first
//! process does (`enter`).
//!
//! ```text
//! helper     cgroup · limits · setns(pidfd: all namespaces at once) · fork ─▶ tells the process id, ends
//!   └─ child in the container's pid namespace: session · terminal or pipes · user · prepare · execute
//! ```
//! The child, orphaned, becomes the shim's (a child subreaper). It holds no descriptor but its standard ones and the
//! pipes that close by exec, cannot be traced or dumped before that, and checks that its working directory is
//! inside the container.

use std::{
    ffi::CString,
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::fchown,
    },
    path::Path,
};

use nix::unistd::{self, Gid, Uid};
use oci_spec::runtime::User;
use rustix::{
    process::{DumpableBehavior, PidfdFlags},
    pty::OpenptFlags,
    thread::ThreadNameSpaceType,
};
use weft_sys::process::{self, Fork, ProcessId};

use super::{
    builtin::{set_oom_score, set_rlimits},
    cgroup::{Cgroup, Unified},
    enter::{self, Entry},
    helper::{Progress, Shim},
    seccomp,
    stdio::ContainerSide,
    types::{ConsoleSize, Created, ExecSpec, Fault},
};

/// Everything a join needs, resolved.
pub(super) struct Join<'a> {
    pub(super) exec: &'a ExecSpec,
    pub(super) container: &'a Created,
    pub(super) cgroup: &'a str,
    pub(super) stdio: ContainerSide,
    /// Where a fault of the new process goes; closes when its program runs.
    pub(super) faults: OwnedFd,
    /// Where a terminal's master goes.
    pub(super) console: Option<OwnedFd>,
}

impl Join<'_> {
    /// Runs in the helper.
    pub(super) fn run(self, shim: &mut Shim) -> Result<(), Fault> {
        let entry = self.entry()?;
        let init = self.container.init;
        let pidfd = open_exactly(init)?;
        let cgroup = Cgroup::open(self.cgroup).map_err(|e| Fault::because("finding the cgroup", &e))?;
        let unified =
            cgroup.join_beside(init.pid).map_err(|e| Fault::because("joining the container's cgroup", &e))?;
        set_rlimits(0, self.exec.process.rlimits().as_deref().unwrap_or_default())?;
        if let Some(score) = self.exec.process.oom_score_adj() {
            set_oom_score(i32::try_from(std::process::id()).unwrap_or_default(), score);
        }
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(|e| Fault::because("hiding from the container", &e))?;
        let spaces = different_namespaces(init.pid).map_err(|e| Fault::because("reading namespaces", &e))?;
        if !spaces.is_empty() {
            rustix::thread::move_into_thread_name_spaces(pidfd.as_fd(), spaces)
                .map_err(|e| Fault::because("joining the container's namespaces", &e))?;
        }
        drop(pidfd);
        let forked = unified.map_or_else(process::fork, Unified::fork);
        match forked.map_err(|e| Fault::because("forking", &e))? {
            Fork::Parent(pid) => {
                shim.tell(&Progress::Started(Some(pid)));
                Ok(())
            }
            Fork::Child => {
                let fault = match self.become_user(&entry) {
                    Ok(program) => entry.execute(&program),
                    Err(fault) => fault,
                };
                enter::report(&self.faults, &fault);
                process::exit_now(fault.exit_code())
            }
        }
    }

    fn entry(&self) -> Result<Entry, Fault> {
        let filter = match &self.container.seccomp {
            Some(file) => {
                let program = seccomp::load(&file.path)
                    .map_err(|e| Fault::because("reading the seccomp program", &e))?;
                Some((program, file.flags))
            }
            None => None,
        };
        Ok(Entry::new(&self.exec.process, filter))
    }

    /// In the child: everything up to the program.
    fn become_user(&self, entry: &Entry) -> Result<std::path::PathBuf, Fault> {
        let process = &self.exec.process;
        rustix::process::setsid().map_err(|e| Fault::because("making a session", &e))?;
        self.connect_streams(process.user().uid())
            .map_err(|e| Fault::because("connecting the streams", &e))?;
        if process.no_new_privileges() == Some(true) {
            rustix::thread::set_no_new_privs(true).map_err(|e| Fault::because("no-new-privileges", &e))?;
        }
        // Some directories are open to root only, some (FUSE, NFS) to the user only: both may have a try.
        let early = unistd::chdir(process.cwd());
        if !matches!(early, Ok(()) | Err(nix::Error::EACCES | nix::Error::EPERM)) {
            return Err(chdir_fault(process.cwd(), early));
        }
        process::cloexec_from(3).map_err(|e| Fault::because("closing descriptors", &e))?;
        set_user(process.user()).map_err(|e| Fault::because("setting the user", &e))?;
        if early.is_err() {
            let late = unistd::chdir(process.cwd());
            if late.is_err() {
                return Err(chdir_fault(process.cwd(), late));
            }
        }
        check_inside()?;
        entry.prepare()
    }

    fn connect_streams(&self, uid: u32) -> io::Result<()> {
        match &self.stdio {
            ContainerSide::Pipes { stdin, stdout, stderr } => {
                self.stdio.give_to(uid, |fd, uid| fchown(fd, Some(uid), None));
                rustix::stdio::dup2_stdin(stdin)?;
                rustix::stdio::dup2_stdout(stdout)?;
                rustix::stdio::dup2_stderr(stderr)?;
            }
            ContainerSide::Terminal => {
                let (master, slave) = open_terminal(self.exec.console_size)?;
                if let Some(console) = &self.console {
                    send_fd(console, &master)?;
                }
                fchown(&slave, Some(uid), None)?;
                rustix::process::ioctl_tiocsctty(&slave)?;
                rustix::stdio::dup2_stdin(&slave)?;
                rustix::stdio::dup2_stdout(&slave)?;
                rustix::stdio::dup2_stderr(&slave)?;
            }
        }
        Ok(())
    }
}

/// A pidfd of this process and no other that got its number later.
fn open_exactly(id: ProcessId) -> Result<OwnedFd, Fault> {
    let gone = || Fault::state("the container is not running");
    let pid = rustix::process::Pid::from_raw(id.pid).ok_or_else(gone)?;
    let fd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(|_| gone())?;
    if id.is_alive() { Ok(fd) } else { Err(gone()) }
}

/// Namespaces of `pid` that are not ours. (Joining one's own user namespace is an error, and the others' needless.)
fn different_namespaces(pid: i32) -> io::Result<ThreadNameSpaceType> {
    let kinds = [
        ("user", ThreadNameSpaceType::USER),
        ("mnt", ThreadNameSpaceType::MOUNT),
        ("pid", ThreadNameSpaceType::PROCESS_ID),
        ("net", ThreadNameSpaceType::NETWORK),
        ("ipc", ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION),
        ("uts", ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME),
        ("cgroup", ThreadNameSpaceType::CONTROL_GROUP),
        ("time", ThreadNameSpaceType::TIME),
    ];
    let mut different = ThreadNameSpaceType::empty();
    for (name, kind) in kinds {
        let theirs = std::fs::read_link(format!("/proc/{pid}/ns/{name}"));
        match (theirs, std::fs::read_link(format!("/proc/self/ns/{name}"))) {
            (Ok(theirs), Ok(ours)) if theirs != ours => different |= kind,
            (Err(e), Ok(_)) => return Err(e),
            _ => {}
        }
    }
    Ok(different)
}

fn set_user(user: &User) -> io::Result<()> {
    if let Some(umask) = user.umask() {
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(umask));
    }
    let groups: Vec<Gid> = user.additional_gids().iter().flatten().map(|g| Gid::from_raw(*g)).collect();
    unistd::setgroups(&groups)?;
    rustix::thread::set_keep_capabilities(true)?;
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    unistd::setresgid(gid, gid, gid)?;
    unistd::setresuid(uid, uid, uid)?;
    rustix::thread::set_keep_capabilities(false)?;
    // Leaving user 0 cleared the effective set; what is permitted is still needed for the steps to come.
    let mut caps = rustix::thread::capabilities(None)?;
    caps.effective = caps.permitted;
    rustix::thread::set_capabilities(None, caps)?;
    Ok(())
}

fn chdir_fault(cwd: &Path, result: nix::Result<()>) -> Fault {
    let reason = result.err().map_or_else(String::new, |e| e.desc().to_lowercase());
    Fault::other(format!("chdir to cwd (\"{}\") set in config.json failed: {reason}", cwd.display()))
}

/// A working directory outside of the container shows as a path that does not start with `/` (CVE-2024-21626).
fn check_inside() -> Result<(), Fault> {
    match rustix::process::getcwd(Vec::new()) {
        Ok(path) if path.as_bytes().starts_with(b"/") => Ok(()),
        _ => Err(Fault::other("current working directory is outside of container mount namespace root")),
    }
}

/// A terminal of the container's own devpts. The slave is opened through the master, not by a path that the container
/// could have replaced (CVE-2025-52565).
fn open_terminal(size: Option<ConsoleSize>) -> io::Result<(OwnedFd, OwnedFd)> {
    /// `DEVPTS_SUPER_MAGIC` of linux/magic.h.
    const DEVPTS: i64 = 0x1cd1;
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let open = |path: &str| rustix::fs::open(path, flags, rustix::fs::Mode::empty());
    let master = open("/dev/pts/ptmx").or_else(|_| open("/dev/ptmx"))?;
    if rustix::fs::fstatfs(&master)?.f_type != DEVPTS {
        return Err(io::Error::other("/dev/pts/ptmx of the container is no terminal multiplexer"));
    }
    rustix::pty::unlockpt(&master)?;
    let slave = rustix::pty::ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )?;
    if let Some(size) = size {
        set_size(&master, size)?;
    }
    Ok((master, slave))
}

/// Sets a terminal's size.
pub(super) fn set_size(terminal: &OwnedFd, size: ConsoleSize) -> io::Result<()> {
    let size =
        rustix::termios::Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

fn send_fd(socket: &OwnedFd, fd: &OwnedFd) -> io::Result<()> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let fds = [fd.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let name = CString::default();
    sendmsg(socket, &[io::IoSlice::new(name.as_bytes_with_nul())], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives the descriptor that a runtime, or [`Join`], sends as a terminal's master.
pub(super) fn receive_fd(socket: &impl AsFd) -> io::Result<Option<OwnedFd>> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 64];
    recvmsg(socket, &mut [io::IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message {
            return Ok(fds.next());
        }
    }
    Ok(None)
}
