//! Full copies for file systems on which overlayfs cannot stand.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, chownat, lstat, mknodat, utimensat,
};

use crate::{
    error::{ImageError, Result},
    stack::{Node, children},
};

/// Gives `to` the owner, mode, times and attributes of `from`.
pub(super) fn describe(from: &Path, to: &Path) -> Result<()> {
    let os = |doing| ImageError::os(doing, to);
    let stat = lstat(from).map_err(ImageError::os("reading", from))?;
    let link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
    let owner = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(CWD, to, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW).map_err(os("owning"))?;
    if !link {
        rustix::fs::chmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777)).map_err(os("describing"))?;
        for name in xattr::list(from).into_iter().flatten() {
            let overlay = name.to_string_lossy().starts_with("trusted.overlay.");
            if let Ok(Some(value)) = xattr::get(from, &name)
                && !overlay
            {
                let _unsupported_here = xattr::set(to, &name, &value);
            }
        }
    }
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.cast_signed() };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(os("dating"))
}

/// Copies the view merged from `lowers` (topmost first) into the directory `to`.
pub(super) fn copy_merged(lowers: &[PathBuf], to: &Path) -> Result<()> {
    copy_dir(lowers, to, &mut HashMap::new())
}

fn copy_dir(dirs: &[PathBuf], to: &Path, links: &mut HashMap<(u64, u64), PathBuf>) -> Result<()> {
    for (name, node) in children(dirs)? {
        copy_one(&node, &to.join(name), links)?;
    }
    match dirs.first() {
        Some(top) => describe(top, to),
        None => Ok(()),
    }
}

fn copy_one(node: &Node, to: &Path, links: &mut HashMap<(u64, u64), PathBuf>) -> Result<()> {
    let kind = FileType::from_raw_mode(node.stat.st_mode);
    if kind == FileType::Directory {
        fs::create_dir(to).map_err(ImageError::io("making", to))?;
        return copy_dir(&node.dirs, to, links);
    }
    if node.stat.st_nlink > 1 {
        let key = (node.stat.st_dev, node.stat.st_ino);
        if let Some(first) = links.get(&key) {
            return fs::hard_link(first, to).map_err(ImageError::io("linking", to));
        }
        links.insert(key, to.to_owned());
    }
    match kind {
        // `fs::copy` clones blocks where the file system can.
        FileType::RegularFile => {
            fs::copy(&node.real, to).map_err(ImageError::io("copying", &node.real))?;
        }
        FileType::Symlink => {
            let target = fs::read_link(&node.real).map_err(ImageError::io("reading", &node.real))?;
            symlink(target, to).map_err(ImageError::io("linking", to))?;
        }
        _ => mknodat(CWD, to, kind, Mode::from_raw_mode(0o600), node.stat.st_rdev)
            .map_err(ImageError::os("making", to))?,
    }
    describe(&node.real, to)
}
