//! A mount that is nowhere yet: copied from a path, given its flags, and attached later, perhaps by a process that can no
//! longer see the path it came from (`open_tree`, `mount_setattr`, `move_mount`; Linux 5.12).

use std::{os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags},
    io::Errno,
    mount::{MoveMountFlags, OpenTreeFlags},
};

use super::attr;

/// What the copy will be, beside its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Mounts below the source come along.
    pub recursive: bool,
    /// Not writable.
    pub read_only: bool,
    /// What comes along is not writable either.
    pub read_only_below: bool,
    /// `MS_PRIVATE`, `MS_SLAVE` or `MS_SHARED` of mount(2).
    pub propagation: u64,
}

/// A mount without a place. It goes when it is dropped.
#[derive(Debug)]
pub struct Detached(OwnedFd);

impl Detached {
    /// Copies what is at `path`.
    pub fn copy(path: &Path, flags: Flags) -> Result<Self, Errno> {
        let mut how = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        how.set(OpenTreeFlags::AT_RECURSIVE, flags.recursive);
        let copy = Self(rustix::mount::open_tree(CWD, path, how)?);
        let read_only = |on: bool| if on { libc::MOUNT_ATTR_RDONLY } else { 0 };
        attr::set(&copy.0, read_only(flags.read_only), flags.propagation, false)?;
        if flags.recursive {
            attr::set(&copy.0, read_only(flags.read_only_below), flags.propagation, true)?;
        }
        Ok(copy)
    }

    /// Attaches it at `target`, which must be there; no link on the way is followed.
    pub fn attach(&self, target: &Path) -> Result<(), Errno> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let at = rustix::fs::openat2(CWD, target, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
        let how = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        rustix::mount::move_mount(&self.0, "", &at, "", how)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_attached_later_and_through_no_link() {
        let dir = Path::new("/tmp").join(format!("weft-detached-test-{}", std::process::id()));
        for name in ["from", "at", "other"] {
            std::fs::create_dir_all(dir.join(name)).unwrap();
        }
        std::fs::write(dir.join("from/file"), "x").unwrap();
        std::os::unix::fs::symlink("other", dir.join("link")).unwrap();
        let flags = Flags { read_only: true, propagation: libc::MS_PRIVATE, ..Flags::default() };
        let copy = Detached::copy(&dir.join("from"), flags).unwrap();
        let through_link = copy.attach(&dir.join("link"));
        let attached = copy.attach(&dir.join("at"));
        let read = std::fs::read_to_string(dir.join("at/file"));
        let written = std::fs::write(dir.join("at/file"), "y").map_err(|e| e.kind());
        super::super::unmount(&dir.join("at")).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!((through_link, attached), (Err(Errno::LOOP), Ok(())));
        assert_eq!(read.unwrap(), "x");
        assert_eq!(written, Err(std::io::ErrorKind::ReadOnlyFilesystem));
    }
}
