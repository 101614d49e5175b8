//! Short-lived children of the shim that do the heavy work (running the OCI runtime, joining a container), so that the
//! shim itself never grows: what they allocate goes when they go.
//!
//! ```text
//! shim ──go──▶ helper      one byte: start
//! shim ◀─progress── helper Progress frames; end of file when the helper is gone
//! ```

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsRawFd, OwnedFd, RawFd},
};

use nix::fcntl::OFlag;
use rustix::process::WaitOptions;
use serde::{Deserialize, Serialize};
use weft_sys::process::{self, Fork};

use super::{
    types::{Created, Fault},
    wire,
};

/// What a helper tells the shim.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Progress {
    /// The container is there and waits.
    Created(Created),
    /// The process was let go; for an exec, this is its process id.
    Started(Option<i32>),
    /// It did not work out.
    Failed(Fault),
}

/// The shim's side.
pub(super) struct Helper {
    /// Its process id; it is our child.
    pub(super) pid: i32,
    /// Frames of [`Progress`].
    pub(super) progress: OwnedFd,
    go: Option<OwnedFd>,
}

impl Helper {
    /// Lets a helper that waits go on.
    pub(super) fn go(&mut self) {
        if let Some(fd) = self.go.take() {
            // A helper that is gone tells so on its progress pipe.
            let _ = File::from(fd).write_all(b"g");
        }
    }

    /// Ends it, if it has not ended, and returns when it is gone.
    pub(super) fn end(self) {
        let Some(pid) = rustix::process::Pid::from_raw(self.pid) else { return };
        // Its number is its own only as long as it is our child.
        if matches!(rustix::process::waitpid(Some(pid), WaitOptions::NOHANG), Ok(None)) {
            let _ = process::kill(self.pid, libc::SIGKILL);
            while matches!(
                rustix::process::waitpid(Some(pid), WaitOptions::empty()),
                Err(rustix::io::Errno::INTR)
            ) {}
        }
    }
}

/// The helper's side.
pub(super) struct Shim {
    progress: File,
    go: File,
}

impl Shim {
    /// Tells the shim.
    pub(super) fn tell(&mut self, progress: &Progress) {
        let mut frame = Vec::new();
        wire::encode(progress, &mut frame);
        // Without a shim there is nobody to tell and nothing to do about it.
        let _ = self.progress.write_all(&frame);
    }

    /// Waits for the shim's word; `false` when the shim is gone.
    pub(super) fn wait_for_go(&mut self) -> bool {
        matches!(self.go.read(&mut [0]), Ok(1))
    }
}

/// Forks a helper that runs `work` and ends. It starts with default signal handling and with no descriptors but its
/// pipes, the standard ones and `keep`.
pub(super) fn spawn(keep: &[RawFd], work: impl FnOnce(&mut Shim) -> Result<(), Fault>) -> io::Result<Helper> {
    let (progress_in, progress_out) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let (go_in, go_out) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    match process::fork()? {
        Fork::Parent(pid) => {
            rustix::io::ioctl_fionbio(&progress_in, true)?;
            Ok(Helper { pid, progress: progress_in, go: Some(go_out) })
        }
        Fork::Child => {
            process::reset_signals();
            let mut open = keep.to_vec();
            open.extend([progress_out.as_raw_fd(), go_in.as_raw_fd()]);
            let closed = process::close_all_but(&mut open);
            let mut shim = Shim { progress: progress_out.into(), go: go_in.into() };
            let done =
                closed.map_err(|e| Fault::because("closing descriptors", &e)).and_then(|()| work(&mut shim));
            if let Err(fault) = &done {
                shim.tell(&Progress::Failed(fault.clone()));
            }
            process::exit_now(i32::from(done.is_err()));
        }
    }
}
