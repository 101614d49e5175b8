//! Listening sockets handed over by a service manager, by the protocol of sd_listen_fds(3): descriptors from 3 on,
//! `LISTEN_FDS` says how many, `LISTEN_PID` for which process, `LISTEN_FDNAMES` what each is called.
//!
//! The variables stay as they are: they name our process id, so no child can take them for its own.

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd, RawFd},
    sync::atomic::{AtomicBool, Ordering},
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// The first descriptor that is handed over.
const START: RawFd = 3;

/// One descriptor and its name; empty when the service manager gave none.
#[derive(Debug)]
pub struct Passed {
    /// `FileDescriptorName=`, else the socket unit's name.
    pub name: String,
    /// The descriptor, closed on exec from now on.
    pub fd: OwnedFd,
}

static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes what was handed to this process; nothing the second time, or when it was meant for another process. To be
/// called before this process has opened descriptors that could have these numbers.
///
/// # Errors
/// Variables that are no numbers, or a promised descriptor that is not open.
pub fn take() -> io::Result<Vec<Passed>> {
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    let count = count(&var("LISTEN_PID"), &var("LISTEN_FDS"), std::process::id())?;
    if count == 0 || TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(Vec::new());
    }
    let names = var("LISTEN_FDNAMES");
    let mut names = names.split(':');
    let mut passed = Vec::new();
    for fd in START..START + count {
        let missing = |e: nix::Error| {
            let why = format!("LISTEN_FDS promises descriptor {fd}, which is not open");
            io::Error::new(io::Error::from(e).kind(), why)
        };
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(missing)?;
        #[expect(unsafe_code, reason = "a number out of the environment becomes a descriptor here only")]
        // SAFETY: it is open (checked above), was given to this process for itself by the protocol, and is taken
        // once (`TAKEN`), so nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        passed.push(Passed { name: names.next().unwrap_or_default().to_owned(), fd });
    }
    Ok(passed)
}

/// How many descriptors are for process `me`.
fn count(pid: &str, fds: &str, me: u32) -> io::Result<RawFd> {
    if pid.is_empty() || fds.is_empty() {
        return Ok(0);
    }
    let bad = |name: &str, text: &str| io::Error::other(format!("{name}={text:?} is no number"));
    let for_us = pid.parse::<u32>().map_err(|_| bad("LISTEN_PID", pid))? == me;
    let count = fds.parse::<u16>().map_err(|_| bad("LISTEN_FDS", fds))?;
    Ok(if for_us { RawFd::from(count) } else { 0 })
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_what_is_meant_for_us_counts() {
        let count = |pid, fds| super::count(pid, fds, 7).ok();
        assert_eq!(count("7", "2"), Some(2));
        assert_eq!(count("8", "2"), Some(0));
        assert_eq!(count("", "2"), Some(0));
        assert_eq!(count("7", ""), Some(0));
        assert_eq!(count("7", "-1"), None);
        assert_eq!(count("x", "1"), None);
    }
}
