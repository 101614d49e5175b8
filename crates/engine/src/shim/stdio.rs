//! The two sides of a container's standard streams: pipes, or one terminal.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use nix::fcntl::OFlag;

/// What the container gets.
pub(super) enum ContainerSide {
    /// Three separate streams.
    Pipes { stdin: OwnedFd, stdout: OwnedFd, stderr: OwnedFd },
    /// A terminal, which is made inside the container; its master is sent over the console socket.
    Terminal,
}

/// What the shim keeps.
#[derive(Default)]
pub(super) struct ShimSide {
    /// Write end of standard input, when the container has one.
    pub(super) stdin: Option<OwnedFd>,
    /// Read end of standard output.
    pub(super) stdout: Option<OwnedFd>,
    /// Read end of standard error.
    pub(super) stderr: Option<OwnedFd>,
}

impl ContainerSide {
    /// Both sides of three pipes; without `input` the container's standard input is `/dev/null`.
    pub(super) fn pipes(input: bool) -> io::Result<(Self, ShimSide)> {
        let (stdout_in, stdout) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let (stderr_in, stderr) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let (stdin, stdin_out) = if input {
            let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
            rustix::io::ioctl_fionbio(&write, true)?;
            (read, Some(write))
        } else {
            (File::open("/dev/null")?.into(), None)
        };
        for fd in [&stdout_in, &stderr_in] {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        let ours = ShimSide { stdin: stdin_out, stdout: Some(stdout_in), stderr: Some(stderr_in) };
        Ok((Self::Pipes { stdin, stdout, stderr }, ours))
    }

    /// The descriptors that a child needs.
    pub(super) fn fds(&self) -> Vec<RawFd> {
        match self {
            Self::Pipes { stdin, stdout, stderr } => {
                [stdin, stdout, stderr].iter().map(|fd| fd.as_raw_fd()).collect()
            }
            Self::Terminal => Vec::new(),
        }
    }

    /// Makes the pipes the container user's, so that it may reopen them by `/dev/stdout`. Not being allowed to is
    /// not fatal: only the reopening then fails.
    pub(super) fn give_to(&self, uid: u32, chown: impl Fn(BorrowedFd<'_>, u32) -> io::Result<()>) {
        if let Self::Pipes { stdin, stdout, stderr } = self {
            for fd in [stdin, stdout, stderr] {
                let pipe = rustix::fs::fstat(fd).is_ok_and(|s| {
                    rustix::fs::FileType::from_raw_mode(s.st_mode) == rustix::fs::FileType::Fifo
                });
                if pipe && uid != 0 {
                    let _ = chown(fd.as_fd(), uid);
                }
            }
        }
    }
}
