//! A process that is nothing but a place: it enters, or makes, a user namespace, makes a network namespace that belongs to
//! it, and waits to be let go.
//!
//! A program with threads may not move into a user namespace (setns(2), user_namespaces(7)), and a namespace belongs to the
//! user namespace that its maker was in. So a forked child makes it, and who wants it takes it from `/proc`. Between fork and
//! end the child makes system calls only: locks that other threads held in the parent stay locked in it.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

/// The user namespace that is entered.
#[derive(Debug)]
pub enum Users {
    /// A new one, with lines for `uid_map` and `gid_map` (user_namespaces(7)).
    Fresh {
        /// Users.
        uids: String,
        /// Groups.
        gids: String,
    },
    /// One that is there.
    Of(OwnedFd),
}

/// The waiting process; it ends when this is dropped, and when its parent dies.
#[derive(Debug)]
pub struct Holder {
    pid: i32,
    _go: OwnedFd,
}

impl Holder {
    /// Starts it; returns when both namespaces are there.
    ///
    /// # Errors
    /// What a system call, in it or here, says.
    pub fn start(users: &Users) -> io::Result<Self> {
        let pipe = || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC);
        let (done, tell) = pipe()?;
        let (wait, go) = pipe()?;
        let joined = match users {
            Users::Fresh { .. } => None,
            Users::Of(fd) => Some(fd.as_raw_fd()),
        };
        let ends = Ends { tell: tell.as_raw_fd(), wait: wait.as_raw_fd() };
        // SAFETY: as fork(2), without the C library's own handlers; the child keeps to system calls (`live`) and never returns.
        #[expect(unsafe_code, reason = "a fork that is allowed beside other threads has no safe wrapper")]
        let pid = unsafe {
            let pid = libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0);
            if pid == 0 {
                live(joined, &ends);
            }
            pid
        };
        let pid = i32::try_from(pid).map_err(io::Error::other)?;
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        let holder = Self { pid, _go: go };
        drop((tell, wait));
        let mut errno = [0; 4];
        if rustix::io::read(&done, &mut errno)? != errno.len() {
            return Err(io::Error::other("the process that makes the namespace died"));
        }
        match i32::from_ne_bytes(errno) {
            0 => {}
            code => return Err(io::Error::from_raw_os_error(code)),
        }
        if let Users::Fresh { uids, gids } = users {
            fs::write(format!("/proc/{pid}/uid_map"), uids)?;
            fs::write(format!("/proc/{pid}/gid_map"), gids)?;
        }
        Ok(holder)
    }

    /// Its network namespace.
    ///
    /// # Errors
    /// What opening says.
    pub fn network(&self) -> io::Result<OwnedFd> {
        File::open(format!("/proc/{}/ns/net", self.pid)).map(OwnedFd::from)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = super::kill(self.pid, libc::SIGKILL);
        let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(self.pid), None);
    }
}

/// The child's ends of the pipes.
struct Ends {
    tell: RawFd,
    wait: RawFd,
}

/// The child.
///
/// # Safety
/// Only in a fresh child, whose descriptors these are.
#[expect(unsafe_code, reason = "bare system calls, all that is allowed here")]
unsafe fn live(joined: Option<RawFd>, ends: &Ends) -> ! {
    let (fresh, net) = (libc::CLONE_NEWUSER, libc::CLONE_NEWNET);
    // SAFETY: the descriptors are open in this process, the buffers are on this stack, errno is this thread's.
    unsafe {
        let failed = match joined {
            None => libc::unshare(fresh | net) != 0,
            Some(fd) => libc::setns(fd, fresh) != 0 || libc::unshare(net) != 0,
        };
        let errno = if failed { *libc::__errno_location() } else { 0 }.to_ne_bytes();
        // All else is closed: nobody is to wait for an end, a lock or a port because of this process.
        libc::dup2(ends.wait, 0);
        libc::dup2(ends.tell, 1);
        libc::syscall(libc::SYS_close_range, 2, u32::MAX, 0);
        libc::write(1, errno.as_ptr().cast(), errno.len());
        let mut end = [0_u8; 1];
        libc::read(0, end.as_mut_ptr().cast(), 1);
        libc::_exit(0)
    }
}

/// The user namespace that a namespace belongs to (ioctl_ns(2)); `None` where it is that of the calling process.
///
/// # Errors
/// It is no namespace, or belongs to one that is out of sight.
pub fn owner(namespace: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    /// `NS_GET_USERNS` of `linux/nsfs.h`.
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    // SAFETY: the request takes no argument and answers a new descriptor.
    #[expect(unsafe_code, reason = "ioctl_ns(2) has no safe wrapper")]
    let fd = unsafe {
        match libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS as _) {
            -1 => return Err(io::Error::last_os_error()),
            fd => OwnedFd::from_raw_fd(fd),
        }
    };
    let (theirs, ours) = (rustix::fs::fstat(&fd)?, rustix::fs::stat("/proc/self/ns/user")?);
    Ok(((theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino)).then_some(fd))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn its_network_belongs_to_its_users_and_it_ends() {
        let map = "0 231072 10\n".to_owned();
        let holder = Holder::start(&Users::Fresh { uids: map.clone(), gids: map }).unwrap();
        let pid = holder.pid;
        let seen = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
        assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["0", "231072", "10"]);
        let net = holder.network().unwrap();
        let users = owner(net.as_fd()).unwrap().expect("not ours");
        let second = Holder::start(&Users::Of(users.try_clone().unwrap())).unwrap();
        let both = [&net, &second.network().unwrap()].map(|fd| rustix::fs::fstat(fd).unwrap().st_ino);
        assert_ne!(both[0], both[1], "a network of its own");
        let owners = both.map(|_| rustix::fs::fstat(&users).unwrap().st_ino);
        let theirs = owner(second.network().unwrap().as_fd()).unwrap().unwrap();
        assert_eq!(rustix::fs::fstat(&theirs).unwrap().st_ino, owners[0]);
        drop(holder);
        assert!(fs::metadata(format!("/proc/{pid}")).is_err(), "ended and reaped");
        let mine = File::open("/proc/self/ns/net").unwrap();
        assert!(owner(mine.as_fd()).unwrap().is_none());
    }

    #[test]
    fn a_wrong_map_is_an_error_and_nothing_stays() {
        let wrong = Users::Fresh { uids: "nonsense".into(), gids: String::new() };
        assert_eq!(Holder::start(&wrong).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        let net = File::open("/proc/self/ns/net").unwrap();
        assert!(Holder::start(&Users::Of(net.into())).is_err(), "no user namespace");
    }
}
