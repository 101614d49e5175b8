//! mount_setattr(2), which no crate offers safely (Linux 5.12).

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;

/// `struct mount_attr`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Sets attributes (`MOUNT_ATTR_*`) and propagation (`MS_*`, 0 to leave it) of a mount, and of all below it.
pub(crate) fn set(mount: impl AsFd, set: u64, propagation: u64, recursive: bool) -> Result<(), Errno> {
    let attr = MountAttr { set, clear: 0, propagation, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `attr` has the kernel's layout and lives over the call; the path is a static empty C string.
    #[expect(unsafe_code, reason = "mount_setattr has no safe wrapper")]
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
    }
}
