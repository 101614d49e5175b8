//! What a container changed: as a list (`docker diff`), and as a layer archive (`commit`).
//!
//! With overlayfs the upper directory is the answer; with full copies, the copy is compared with what it was copied from.
//! A directory counts as changed when its own attributes differ or something in it was added or deleted, as in Docker
//! (moby `pkg/archive/changes.go`).

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io::{self, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FileType, Mode, OFlags, Stat, lstat};

use crate::{
    error::{ImageError, Result},
    idmap::IdMap,
    stack::{Node, child, children, is_dir, is_opaque, names_in},
    tar::{Entry, Kind, TarWriter},
    unpack::is_whiteout,
};

/// How a path changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// `C`, 0 on Docker's wire.
    Modified,
    /// `A`, 1.
    Added,
    /// `D`, 2.
    Deleted,
}

/// One changed path, absolute in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub path: PathBuf,
    /// How.
    pub kind: ChangeKind,
}

/// Whether the writable directory holds only changes, or everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upper {
    Overlay,
    Copy,
}

/// The changes in `upper` over the merged `lowers` (topmost first), sorted by path, parents first.
pub(crate) fn changes(upper: &Path, lowers: &[PathBuf], mode: Upper) -> Result<Vec<Change>> {
    let mut out = Vec::new();
    walk(upper, lowers, Path::new("/"), mode, &mut out)?;
    Ok(out)
}

fn same(a: &Stat, b: &Stat) -> bool {
    let base =
        a.st_mode == b.st_mode && a.st_uid == b.st_uid && a.st_gid == b.st_gid && a.st_rdev == b.st_rdev;
    base && a.st_mtime == b.st_mtime
        && a.st_mtime_nsec == b.st_mtime_nsec
        && (is_dir(a) || a.st_size == b.st_size)
}

/// `true` when an entry of `dir` was added or deleted.
fn walk(dir: &Path, lowers: &[PathBuf], path: &Path, mode: Upper, out: &mut Vec<Change>) -> Result<bool> {
    let mut touched = false;
    let mut names = names_in(dir)?;
    let hides = mode == Upper::Copy || is_opaque(dir);
    if hides {
        names.extend(children(lowers)?.into_keys());
    }
    for name in names {
        let real = dir.join(&name);
        let at = path.join(&name);
        let lower = child(lowers, &name);
        let stat = lstat(&real).ok().filter(|s| !is_whiteout(s));
        let Some(stat) = stat else {
            if lower.is_some() {
                out.push(Change { path: at, kind: ChangeKind::Deleted });
                touched = true;
            }
            continue;
        };
        touched |= lower.is_none();
        one(&real, &stat, lower.as_ref(), at, mode, out)?;
    }
    Ok(touched)
}

fn one(
    real: &Path,
    stat: &Stat,
    lower: Option<&Node>,
    at: PathBuf,
    mode: Upper,
    out: &mut Vec<Change>,
) -> Result<()> {
    let kind = if lower.is_some() { ChangeKind::Modified } else { ChangeKind::Added };
    let unchanged = lower.is_some_and(|l| same(stat, &l.stat)) && (mode == Upper::Copy || is_dir(stat));
    let index = out.len();
    if !unchanged {
        out.push(Change { path: at.clone(), kind });
    }
    if is_dir(stat) {
        let below = lower.map(|l| l.dirs.clone()).unwrap_or_default();
        if walk(real, &below, &at, mode, out)? && unchanged {
            out.insert(index, Change { path: at, kind });
        }
    }
    Ok(())
}

/// Bytes of the regular files below `dir`, each inode once.
pub(crate) fn usage(dir: &Path) -> Result<u64> {
    let mut seen = std::collections::HashSet::new();
    let mut sum = 0;
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for name in names_in(&dir)? {
            let path = dir.join(name);
            let Ok(stat) = lstat(&path) else { continue };
            if is_dir(&stat) {
                todo.push(path);
            } else if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && seen.insert(stat.st_ino)
            {
                sum += u64::try_from(stat.st_size).unwrap_or(0);
            }
        }
    }
    Ok(sum)
}

/// Writes trees as layer archives.
pub(crate) struct LayerTar<W> {
    tar: TarWriter<W>,
    ids: Option<IdMap>,
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> LayerTar<W> {
    pub fn new(out: W, ids: Option<IdMap>) -> Self {
        Self { tar: TarWriter::new(out), ids, links: HashMap::new() }
    }

    pub fn finish(self) -> Result<W> {
        self.tar.finish().map_err(|e| crate::error::from_io("archive", e))
    }

    /// Adds `changes` of the tree at `root`, whiteouts for what was deleted.
    pub fn changes(&mut self, root: &Path, changes: &[Change]) -> Result<()> {
        for change in changes {
            let inside = change.path.strip_prefix("/").unwrap_or(&change.path);
            if change.kind != ChangeKind::Deleted {
                self.add(&root.join(inside), inside)?;
                continue;
            }
            let mut name = b".wh.".to_vec();
            name.extend(inside.file_name().unwrap_or_default().as_bytes());
            let path = inside.parent().unwrap_or(Path::new("")).join(OsStr::from_bytes(&name));
            let entry = Entry { mode: 0, ..Entry::new(path.as_os_str().as_bytes(), Kind::File) };
            self.write(&entry, &mut io::empty())?;
        }
        Ok(())
    }

    /// Adds everything below `dir` as it is.
    pub fn tree(&mut self, dir: &Path, inside: &Path) -> Result<()> {
        for name in names_in(dir)? {
            let (real, path) = (dir.join(&name), inside.join(&name));
            let Ok(stat) = lstat(&real) else { continue };
            self.add(&real, &path)?;
            if is_dir(&stat) {
                self.tree(&real, &path)?;
            }
        }
        Ok(())
    }

    /// Adds what is at `real`, and all below it, as `inside`.
    pub fn subtree(&mut self, real: &Path, inside: &Path) -> Result<()> {
        self.add(real, inside)?;
        let is_a_dir = lstat(real).is_ok_and(|stat| is_dir(&stat));
        if is_a_dir { self.tree(real, inside) } else { Ok(()) }
    }

    fn write(&mut self, entry: &Entry, data: &mut dyn io::Read) -> Result<()> {
        self.tar.append(entry, data).map_err(|e| crate::error::from_io("archive", e))
    }

    /// Adds one file; sockets are left out, as nothing can unpack them.
    fn add(&mut self, real: &Path, inside: &Path) -> Result<()> {
        let stat = match lstat(real) {
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            other => other.map_err(ImageError::os("reading", real))?,
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Dir,
            FileType::Symlink => Kind::Symlink,
            FileType::CharacterDevice => Kind::Char,
            FileType::BlockDevice => Kind::Block,
            FileType::Fifo => Kind::Fifo,
            _ => return Ok(()),
        };
        let mut entry = describe(real, inside, &stat, kind, self.ids)?;
        if kind != Kind::Dir && stat.st_nlink > 1 {
            let first = self.links.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| entry.path.clone());
            if *first != entry.path {
                entry.kind = Kind::HardLink;
                entry.link.clone_from(first);
                entry.size = 0;
                entry.xattrs.clear();
            }
        }
        if entry.kind == Kind::File && entry.size > 0 {
            // Something else may stand there by now: a pipe would block, a link lead elsewhere.
            let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            let open = rustix::fs::open(real, flags, Mode::empty());
            let mut file = File::from(open.map_err(ImageError::os("opening", real))?);
            return self.write(&entry, &mut file);
        }
        self.write(&entry, &mut io::empty())
    }
}

fn describe(real: &Path, inside: &Path, stat: &Stat, kind: Kind, ids: Option<IdMap>) -> Result<Entry> {
    let mut entry = Entry::new(inside.as_os_str().as_bytes(), kind);
    if kind == Kind::Dir && !entry.path.ends_with(b"/") {
        entry.path.push(b'/');
    }
    entry.mode = stat.st_mode & 0o7777;
    (entry.uid, entry.gid) = match ids {
        Some(ids) => ids.to_image(stat.st_uid, stat.st_gid),
        None => (stat.st_uid, stat.st_gid),
    };
    entry.mtime = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
    match kind {
        Kind::File => entry.size = u64::try_from(stat.st_size).unwrap_or(0),
        Kind::Symlink => {
            let target = std::fs::read_link(real).map_err(ImageError::io("reading", real))?;
            entry.link = target.into_os_string().into_encoded_bytes();
        }
        Kind::Char | Kind::Block => {
            entry.device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        }
        _ => {}
    }
    if kind != Kind::Symlink {
        entry.xattrs = attributes(real);
    }
    Ok(entry)
}

/// The attributes that belong in an image; those of overlayfs, security labels and trusted ones stay with the host.
fn attributes(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let Ok(names) = xattr::list(path) else { return Vec::new() };
    let wanted = |n: &[u8]| {
        n == b"security.capability"
            || n.starts_with(b"system.posix_acl_")
            || (n.starts_with(b"user.") && !n.starts_with(b"user.overlay."))
    };
    let mut out: Vec<_> = names
        .filter(|n| wanted(n.as_bytes()))
        .filter_map(|n| Some((n.as_bytes().to_vec(), xattr::get(path, &n).ok()??)))
        .collect();
    out.sort();
    out
}
