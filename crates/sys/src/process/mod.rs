//! What the shim needs from the kernel about processes, and no crate offers safely: a fork for
//! single-threaded programs, clean signal state for a container's first process, descriptor hygiene,
//! a raw seccomp program, an executable that nobody can write to.
//!
//! All `unsafe` of process handling lives in this folder. Everything here is a thin, checked step; the order of
//! steps (what a container's process must give up, and when) is the shim's.

mod exe;
mod holder;
mod seccomp;
mod state;

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

pub use exe::ProtectedExe;
pub use holder::{Holder, Users, owner};
pub use seccomp::{SeccompProgram, load_seccomp};
pub use state::{ProcessId, start_time};

/// What [`fork`] returned: which of the two processes this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// The new process.
    Child,
    /// The old process, with the child's process id.
    Parent(i32),
}

/// Duplicates the calling process, which must have exactly one thread.
///
/// # Errors
/// `EDEADLK` when the process has more than one thread (locks held by others would stay locked for ever in
/// the child), otherwise what fork(2) says.
pub fn fork() -> io::Result<Fork> {
    // SAFETY: unsharing CLONE_THREAD changes nothing and fails when there is a second thread (unshare(2)); it needs
    // no /proc, which may be a container's by now. With one thread, no lock or allocator state can be held by a thread
    // that the child lacks.
    #[expect(unsafe_code, reason = "fork has no safe wrapper; the single thread is checked first")]
    let pid = unsafe {
        if libc::unshare(libc::CLONE_THREAD) != 0 {
            return Err(io::Error::from_raw_os_error(libc::EDEADLK));
        }
        libc::fork()
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

/// As [`fork`], with the child beginning its life in a cgroup of version 2 (`dir` is its directory): unlike a move, this
/// does not wait for the lock that stops every fork of the machine.
///
/// # Errors
/// As [`fork`]; also what clone3(2) says of `CLONE_INTO_CGROUP`: `EACCES` and `ENOENT` where the caller's namespaces may
/// not reach that cgroup, `ENOSYS` and `EINVAL` on kernels before 5.7.
pub fn fork_into(dir: BorrowedFd<'_>) -> io::Result<Fork> {
    /// Of linux/sched.h; libc's own does not hold it.
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let cgroup = u64::try_from(dir.as_raw_fd()).map_err(io::Error::other)?;
    // SAFETY: a structure of integers, for which zero is valid.
    #[expect(unsafe_code, reason = "the arguments of clone3 have no constructor")]
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = CLONE_INTO_CGROUP;
    args.exit_signal = libc::SIGCHLD as u64;
    args.cgroup = cgroup;
    // SAFETY: see `fork`. Without CLONE_VM and with no stack of its own the child goes on from here in a copy of
    // everything, as after fork; what libc's own fork does beyond that is for threads, of which there is one.
    #[expect(unsafe_code, reason = "clone3 has no safe wrapper; the single thread is checked first")]
    let pid = unsafe {
        if libc::unshare(libc::CLONE_THREAD) != 0 {
            return Err(io::Error::from_raw_os_error(libc::EDEADLK));
        }
        libc::syscall(libc::SYS_clone3, std::ptr::from_ref(&args), size_of::<libc::clone_args>())
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(i32::try_from(pid).map_err(io::Error::other)?)),
    }
}

/// Ends the process at once: no destructor, no exit handler, no flush. For a forked child that must not run its
/// parent's clean-up.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit only ends the process.
    #[expect(unsafe_code, reason = "_exit has no safe wrapper")]
    unsafe {
        libc::_exit(code)
    }
}

/// Gives a soon-to-be container process the signal state of a fresh one: nothing blocked, every handler at its
/// default (Rust programs start with `SIGPIPE` ignored, and ignored signals survive exec).
pub fn reset_signals() {
    // SAFETY: both calls take pointers to locals that live over the call; SIG_DFL is always valid. Failure is
    // possible only for SIGKILL and SIGSTOP, whose state cannot differ.
    #[expect(unsafe_code, reason = "signal and sigprocmask over all signals, real-time ones included")]
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Marks every descriptor from `first` up as close-on-exec (close_range(2) with `CLOSE_RANGE_CLOEXEC`).
///
/// # Errors
/// What the kernel says; `ENOSYS` before Linux 5.11.
pub fn cloexec_from(first: u32) -> io::Result<()> {
    close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

/// Closes every descriptor from 3 up but those in `keep` (which gets sorted). Only for a forked child that drops what
/// its parent had, and that ends with [`exit_now`] or exec: no owner of a closed descriptor may run its drop.
///
/// # Errors
/// What the kernel says.
pub fn close_all_but(keep: &mut [RawFd]) -> io::Result<()> {
    keep.sort_unstable();
    let mut first = 3;
    for fd in keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).filter(|fd| *fd >= 3) {
        if fd > first {
            close_range(first, fd - 1, 0)?;
        }
        first = fd + 1;
    }
    close_range(first, u32::MAX, 0)
}

fn close_range(first: u32, last: u32, flags: u32) -> io::Result<()> {
    // SAFETY: the call takes integers only.
    #[expect(unsafe_code, reason = "close_range has no safe wrapper")]
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes ownership of a descriptor number that this process was started with (as its standard input, or by an
/// agreed number). `None` when no such descriptor is open.
#[must_use]
pub fn inherited_fd(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: F_GETFD takes no pointer; a valid answer proves the descriptor is open.
    #[expect(unsafe_code, reason = "an inherited descriptor is a bare number")]
    unsafe {
        if libc::fcntl(number, libc::F_GETFD) < 0 {
            return None;
        }
        let copy = libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3);
        if copy < 0 { None } else { Some(OwnedFd::from_raw_fd(copy)) }
    }
}

/// Sends a signal by number, real-time ones (34..=64) included; 0 only asks whether the process exists.
///
/// # Errors
/// What kill(2) says: `ESRCH`, `EPERM`, `EINVAL`.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: the call takes integers only.
    #[expect(unsafe_code, reason = "safe wrappers refuse real-time signal numbers")]
    let done = unsafe { libc::kill(pid, signal) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets soft and hard limit of a `RLIMIT_*` resource by number, for a process (0 is the calling one). A hard limit
/// that we may not raise (no `CAP_SYS_RESOURCE`) is granted as far as it goes; the return value says whether all was
/// granted.
///
/// # Errors
/// What prlimit(2) says but `EPERM` for raising.
pub fn set_rlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> io::Result<bool> {
    let set = |wanted: libc::rlimit| prlimit(pid, resource, Some(wanted)).map(drop);
    match set(libc::rlimit { rlim_cur: soft, rlim_max: hard }) {
        Ok(()) => return Ok(true),
        Err(e) if e.raw_os_error() == Some(libc::EPERM) => {}
        Err(e) => return Err(e),
    }
    let most = prlimit(pid, resource, None)?.rlim_max;
    set(libc::rlimit { rlim_cur: soft.min(most), rlim_max: hard.min(most) })?;
    Ok(false)
}

fn prlimit(pid: i32, resource: u32, new: Option<libc::rlimit>) -> io::Result<libc::rlimit> {
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let new_ptr = new.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: both pointers are null or to locals that live over the call.
    #[expect(unsafe_code, reason = "resource numbers come from a specification, wrappers want an enum")]
    let done = unsafe { libc::prlimit(pid, resource, new_ptr, &raw mut old) };
    if done == 0 { Ok(old) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_above_the_hard_one_is_granted_as_far_as_it_goes() {
        assert!(set_rlimit(0, libc::RLIMIT_NOFILE, 256, 512).expect("lower"));
        let whole = set_rlimit(0, libc::RLIMIT_NOFILE, 300, 1024).expect("raise");
        let now = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let expected = if whole { Some(1024) } else { Some(512) };
        assert_eq!((now.current, now.maximum), (Some(300), expected));
    }

    #[test]
    fn a_program_with_threads_cannot_fork() {
        // The test runner has a thread of its own beside this one.
        assert_eq!(fork().expect_err("two threads").raw_os_error(), Some(libc::EDEADLK));
    }

    #[test]
    fn kill_reaches_only_what_exists() {
        assert!(kill(i32::try_from(std::process::id()).expect("pid"), 0).is_ok());
        assert_eq!(kill(i32::MAX, 0).expect_err("no such").raw_os_error(), Some(libc::ESRCH));
    }
}
