//! Removing trees without following links, whatever they hold (unlike a plain walk, a directory that is swapped for a link
//! meanwhile is not followed).

use std::{ffi::OsStr, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{AtFlags, CWD, Dir, Mode, OFlags, openat, unlinkat},
    io::Errno,
};

/// Removes `name` in `parent` with everything below it.
pub(crate) fn remove_at(parent: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        other => return other,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(parent, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            remove_at(&fd, std::os::unix::ffi::OsStrExt::from_bytes(name))?;
        }
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// Removes the tree at `path`; one that does not exist is success.
pub(crate) fn remove(path: &Path) -> Result<(), Errno> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::INVAL) };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let done = openat(CWD, parent, flags, Mode::empty()).and_then(|parent| remove_at(&parent, name));
    match done {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}
