//! The files of one log, oldest first, opened so that a rotation in between is noticed.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use weft_base::Timestamp;

use super::rotate::numbered;

/// One file of a log.
#[derive(Debug)]
pub(super) struct Segment {
    pub file: File,
    pub compressed: bool,
    /// The one that is written now.
    pub live: bool,
    pub inode: u64,
    /// When it was last written.
    pub modified: (i64, i64),
}

/// How often a rotation in between is tolerated before the reader gives up.
const TRIES: usize = 50;

/// Numbers in use (0 is the live file): compressed or not, and the inode.
fn list(path: &Path) -> io::Result<BTreeMap<u32, (bool, u64)>> {
    let mut found = BTreeMap::new();
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Ok(found);
    };
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let file = entry.file_name();
        let Some(rest) = file.to_str().and_then(|f| f.strip_prefix(name)) else { continue };
        let (number, compressed) = match rest.strip_prefix('.') {
            None if rest.is_empty() => (Some(0), false),
            None => (None, false),
            Some(rest) => match rest.strip_suffix(".gz") {
                Some(digits) => (digits.parse().ok(), true),
                None => (rest.parse().ok(), false),
            },
        };
        let Some(number) = number else { continue };
        // While a compressed file replaces the plain one, both are there for a moment.
        let plain_known = found.get(&number).is_some_and(|(compressed, _)| !compressed);
        if !plain_known {
            found.insert(number, (compressed, std::os::unix::fs::DirEntryExt::ino(&entry)));
        }
    }
    Ok(found)
}

fn open(path: &Path, number: u32, compressed: bool) -> io::Result<Segment> {
    let path = if number == 0 { path.to_owned() } else { numbered(path, number, compressed) };
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    let meta = file.metadata()?;
    let modified = (meta.mtime(), meta.mtime_nsec());
    Ok(Segment { file, compressed, live: number == 0, inode: meta.ino(), modified })
}

/// All files of the log at `path`, oldest first. A log that was never written has none.
pub(super) fn open_all(path: &Path) -> io::Result<Vec<Segment>> {
    for _ in 0..TRIES {
        let before = list(path)?;
        let opened: io::Result<Vec<_>> =
            before.iter().rev().map(|(number, (compressed, _))| open(path, *number, *compressed)).collect();
        match opened {
            Ok(segments) if list(path)? == before => return Ok(segments),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::other(format!("{} is rotated faster than it can be opened", path.display())))
}

/// The files written after `seen`, which was the live one.
pub(super) fn open_after(path: &Path, seen: &Segment) -> io::Result<Vec<Segment>> {
    let mut all = open_all(path)?;
    let modified = seen.file.metadata().map(|m| (m.mtime(), m.mtime_nsec()))?;
    match all.iter().position(|s| s.inode == seen.inode) {
        Some(at) => drop(all.drain(..=at)),
        None => all.retain(|s| s.live || s.modified > modified),
    }
    Ok(all)
}

/// The name no longer leads to this file.
pub(super) fn rotated(path: &Path, live: &Segment) -> bool {
    fs::symlink_metadata(path).map_or(true, |m| m.ino() != live.inode)
}

impl Segment {
    /// Nothing in it is as young as `since`.
    pub fn ends_before(&self, since: Timestamp) -> bool {
        // The time of an entry is taken before it is written: a full second of doubt is allowed for.
        !self.live && self.modified.0 + 1 < since.unix_secs()
    }
}
