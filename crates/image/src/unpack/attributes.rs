//! Owner, mode, extended attributes and times of what was made; of directories the times come last, because writing into
//! them changes these.

use std::{
    ffi::OsStr,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, chownat,
        fchmod, fchown, fsetxattr, futimens, lsetxattr, openat2, utimensat,
    },
    io::Errno,
};

use super::{Merge, Target, Unpacker, at};
use crate::{
    error::Result,
    tar::{Entry, Kind},
};

impl Unpacker {
    /// Owner, mode and attributes of an open file or directory.
    pub(super) fn describe(&self, fd: BorrowedFd<'_>, entry: &Entry) -> Result<(), Errno> {
        let (uid, gid) = self.owner(entry)?;
        fchown(fd, Some(uid), Some(gid))?;
        fchmod(fd, Mode::from_raw_mode(entry.mode & 0o7777))?;
        for (name, value) in kept_attributes(entry) {
            tolerate(fsetxattr(fd, name, value, XattrFlags::empty()))?;
        }
        Ok(())
    }

    pub(super) fn owner(&self, entry: &Entry) -> Result<(Uid, Gid), Errno> {
        let (uid, gid) = match &self.target {
            Target::Tree(Merge { owner: Some(owner), .. }) => *owner,
            _ => (entry.uid, entry.gid),
        };
        let (uid, gid) = match self.ids {
            Some(ids) => ids.to_host(uid, gid).map_err(|_| Errno::OVERFLOW)?,
            None => (uid, gid),
        };
        // All ones means "leave it" to the kernel.
        if uid == u32::MAX || gid == u32::MAX {
            return Err(Errno::OVERFLOW);
        }
        Ok((Uid::from_raw(uid), Gid::from_raw(gid)))
    }

    pub(super) fn attributes(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        fd: Option<OwnedFd>,
        entry: &Entry,
    ) -> Result<(), Errno> {
        if let Some(fd) = fd {
            self.describe(fd.as_fd(), entry)?;
            return futimens(&fd, &times(entry));
        }
        let (uid, gid) = self.owner(entry)?;
        chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        let proc =
            PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(parent))).join(name);
        if entry.kind != Kind::Symlink {
            rustix::fs::chmodat(parent, name, Mode::from_raw_mode(entry.mode & 0o7777), AtFlags::empty())?;
        }
        for (attribute, value) in kept_attributes(entry) {
            tolerate(lsetxattr(&proc, attribute, value, XattrFlags::empty()))?;
        }
        utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)
    }

    pub(super) fn finish_dirs(&mut self) -> Result<()> {
        for (path, times) in std::mem::take(&mut self.dirs).into_iter().rev() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            match openat2(&self.root, self.below_root(&path), flags, Mode::empty(), how) {
                Ok(fd) => futimens(&fd, &times).map_err(at(&path))?,
                // Replaced by a later entry.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(at(&path)(error)),
            }
        }
        Ok(())
    }
}

/// Attributes that belong to the image; overlay's own would let an archive reach into other layers.
fn kept_attributes(entry: &Entry) -> impl Iterator<Item = (&OsStr, &[u8])> {
    let ours = |name: &[u8]| name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    entry
        .xattrs
        .iter()
        .filter(move |(name, _)| !ours(name))
        .map(|(n, v)| (OsStr::from_bytes(n), v.as_slice()))
}

/// File systems without an attribute's namespace lose it, as with every other engine.
fn tolerate(done: Result<(), Errno>) -> Result<(), Errno> {
    match done {
        Err(Errno::OPNOTSUPP | Errno::PERM) => Ok(()),
        other => other,
    }
}

pub(super) fn times(entry: &Entry) -> Timestamps {
    let at = Timespec { tv_sec: entry.mtime.0, tv_nsec: i64::from(entry.mtime.1) };
    Timestamps { last_access: at, last_modification: at }
}

/// Copies owner and mode of directory `from` to directory `to` (both below trusted roots).
pub(crate) fn copy_owner_and_mode(from: &Path, to: &Path) -> Result<(), Errno> {
    let stat = rustix::fs::lstat(from)?;
    let owner = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(CWD, to, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW)?;
    rustix::fs::chmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))
}
