//! Whiteouts of archives made overlay's own: a character device 0:0, or the opaque attribute (OCI image specification
//! "Layers: Representing Changes"; kernel `Documentation/filesystems/overlayfs.rst`).

use std::{
    ffi::OsStr,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
};

use rustix::{
    fs::{FileType, Mode, OFlags, XattrFlags, fsetxattr, mknodat, openat},
    io::Errno,
};

pub(super) const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
pub(super) const OPAQUE_ATTRIBUTE: &str = "trusted.overlay.opaque";

pub(crate) fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub(super) fn whiteout(parent: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    if name == OPAQUE {
        return fsetxattr(parent, OPAQUE_ATTRIBUTE, b"y", XattrFlags::empty());
    }
    let hidden = OsStr::from_bytes(&name[PREFIX.len()..]);
    // `.wh..wh.plnk` and others are notes of the AUFS driver.
    if hidden.as_bytes().starts_with(PREFIX) {
        return Ok(());
    }
    if hidden.is_empty() || hidden == "." || hidden == ".." {
        return Err(Errno::INVAL);
    }
    let device = rustix::fs::makedev(0, 0);
    match mknodat(parent, hidden, FileType::CharacterDevice, Mode::empty(), device) {
        // The same layer brought it: only what lies below is hidden, which a file does by itself.
        Err(Errno::EXIST) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat(parent, hidden, flags, Mode::empty()) {
                Ok(dir) => fsetxattr(&dir, OPAQUE_ATTRIBUTE, b"y", XattrFlags::empty()),
                Err(_) => Ok(()),
            }
        }
        other => other,
    }
}
