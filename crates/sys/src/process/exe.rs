//! An executable that a container cannot overwrite (CVE-2019-5736).
//!
//! A container's first process is, until it calls exec, our own program inside the container; through
//! `/proc/PID/exe` a container could reach that file and write to it. So shims are not started from the file
//! itself but from a private, detached, read-only copy of its mount: the path a container can find through
//! `/proc/PID/exe` then lies on a read-only mount that is in no mount namespace, where it cannot be remounted.
//! Where the kernel has no such mounts, from a sealed memory file.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::{Path, PathBuf},
};

/// The running program's file.
const SELF: &str = "/proc/self/exe";

/// A descriptor from which our own program can be started, and which gives nobody a writable file.
#[derive(Debug)]
pub struct ProtectedExe {
    fd: OwnedFd,
    sealed_copy: bool,
}

impl ProtectedExe {
    /// Protects the running program (`/proc/self/exe`).
    ///
    /// # Errors
    /// When neither a read-only mount nor a sealed copy can be made.
    pub fn of_self() -> io::Result<Self> {
        Self::of_file(Path::new(SELF))
    }

    /// Protects a program by its path.
    ///
    /// # Errors
    /// When neither a read-only mount nor a sealed copy can be made.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        match read_only_mount(path) {
            Ok(fd) => Ok(Self { fd, sealed_copy: false }),
            Err(_) => sealed_copy(path).map(|fd| Self { fd, sealed_copy: true }),
        }
    }

    /// The path to start it by, valid in this process and, because exec resolves it before descriptors are closed,
    /// in a child that is about to exec.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }

    /// Whether this is the memory copy (which costs the program's size in memory) instead of the mount.
    #[must_use]
    pub fn is_sealed_copy(&self) -> bool {
        self.sealed_copy
    }
}

fn read_only_mount(path: &Path) -> io::Result<OwnedFd> {
    use rustix::mount::OpenTreeFlags;
    // The magic link is followed: the mount is of the program's file itself.
    let tree = rustix::mount::open_tree(
        rustix::fs::CWD,
        path,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )?;
    let flags = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID;
    crate::mount::attr::set(&tree, flags, libc::MS_PRIVATE, false)?;
    Ok(tree)
}

fn sealed_copy(path: &Path) -> io::Result<OwnedFd> {
    /// Linux 6.3; older kernels answer EINVAL and make executable files anyway.
    const MFD_EXEC: u32 = 0x10;
    let create = |flags: u32| {
        let name = CString::default();
        // SAFETY: the name is a valid C string for the call; a non-negative answer is a new descriptor we own.
        #[expect(unsafe_code, reason = "MFD_EXEC is not in the wrapper's flags")]
        unsafe {
            let fd = libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | flags);
            if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
        }
    };
    let mut copy = File::from(create(MFD_EXEC).or_else(|_| create(0))?);
    io::copy(&mut File::open(path)?, &mut copy)?;
    let seals = rustix::fs::SealFlags::SEAL
        | rustix::fs::SealFlags::SHRINK
        | rustix::fs::SealFlags::GROW
        | rustix::fs::SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&copy, seals)?;
    // Opened anew for reading: a program open for writing cannot be executed.
    let reader = File::open(format!("/proc/self/fd/{}", copy.as_raw_fd()))?;
    Ok(reader.into())
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    fn check(exe: &ProtectedExe) {
        let error = OpenOptions::new().write(true).open(exe.path()).expect_err("not writable");
        let expected = if exe.sealed_copy { libc::EPERM } else { libc::EROFS };
        assert!(
            matches!(error.raw_os_error(), Some(e) if e == expected || e == libc::ETXTBSY),
            "unexpected {error}"
        );
        let size = |p: PathBuf| std::fs::metadata(p).expect("metadata").len();
        assert_eq!(size(exe.path()), size(PathBuf::from(SELF)));
    }

    #[test]
    fn the_mount_is_read_only() {
        check(&ProtectedExe { fd: read_only_mount(Path::new(SELF)).expect("mount"), sealed_copy: false });
    }

    #[test]
    fn the_copy_is_sealed() {
        let exe = ProtectedExe { fd: sealed_copy(Path::new(SELF)).expect("copy"), sealed_copy: true };
        let size = || std::fs::metadata(exe.path()).expect("metadata").len();
        let before = size();
        if let Ok(file) = OpenOptions::new().write(true).open(exe.path()) {
            assert!(rustix::io::pwrite(&file, b"x", 0).is_err());
        }
        assert_eq!(size(), before);
    }
}
