//! Turning a layer archive into a directory that overlayfs can stack.
//!
//! Every path is resolved by the kernel inside the layer (`openat2` with `RESOLVE_IN_ROOT`): a link that an archive
//! plants can at most lead to another place of the same layer. Paths that name a place above the root are refused, not
//! clipped. Whiteouts become overlay's own: a character device 0:0, or the `trusted.overlay.opaque` attribute
//! (OCI image specification "Layers: Representing Changes"; kernel `Documentation/filesystems/overlayfs.rst`).
//!
//! Directories get their times last, because writing into them changes these. Directories that an archive only implies
//! are reported, so that they take the owner and mode of the layers below.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    io::{self, BufRead},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    rc::Rc,
};

use rustix::{
    fs::{
        AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
        chownat, fchmod, fchown, fsetxattr, ftruncate, futimens, linkat, lsetxattr, mkdirat, mknodat, open,
        openat, openat2, statat, symlinkat, unlinkat, utimensat,
    },
    io::Errno,
};

use crate::{
    error::{ImageError, Result, from_io},
    idmap::IdMap,
    tar::{Entry, Kind, TarReader},
};

/// Bounds of what an archive may make.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one unpacked layer, holes counted.
    pub layer_bytes: u64,
    /// Entries of one layer.
    pub entries: u64,
    /// Unpacked bytes for each compressed byte, looked at once 256 MiB came out.
    pub ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { layer_bytes: 1 << 40, entries: 5_000_000, ratio: 400 }
    }
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Sum of the lengths of regular files.
    pub size: u64,
    /// Directories that the archive implied but did not describe, lowest first.
    pub implied: BTreeSet<PathBuf>,
}

/// Unpacks the archive in `reader` into the empty directory `root`.
pub(crate) fn unpack(
    reader: &mut TarReader<impl BufRead>,
    root: &Path,
    ids: Option<IdMap>,
    limits: Limits,
) -> Result<Unpacked> {
    let fd = open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(ImageError::os("opening", root))?;
    let (target, out) = (Target::Layer, Unpacked::default());
    if let Some(ids) = ids {
        // An archive need not have an entry for its root.
        let (uid, gid) = ids.to_host(0, 0)?;
        std::os::unix::fs::chown(root, Some(uid), Some(gid)).map_err(ImageError::io("giving away", root))?;
    }
    Unpacker { root: fd, ids, limits, target, parent: None, dirs: Vec::new(), climbing: BTreeSet::new(), out }
        .run(reader)
}

/// What an archive becomes.
#[derive(Clone, Debug, Default)]
enum Target {
    /// A layer: whiteouts mean something, links stay inside.
    #[default]
    Layer,
    /// Part of a tree that is there already.
    Tree(Merge),
}

/// How an archive is unpacked over a tree (`docker cp`).
#[derive(Clone, Debug, Default)]
pub struct Merge {
    /// The directory inside the tree that the archive's paths start from; links on the way to it are followed in the
    /// tree.
    pub base: PathBuf,
    /// Owner of all that is made, instead of the archive's: uid, gid as in the archive (before any id map).
    pub owner: Option<(u32, u32)>,
    /// Refuse to replace a directory by something else, and something else by a directory.
    pub keep_kinds: bool,
}

/// Unpacks an archive over the tree at `root`. What is written before a failure stays, as with `tar`.
pub(crate) fn merge(
    reader: &mut TarReader<impl BufRead>,
    root: OwnedFd,
    merge: Merge,
    ids: Option<IdMap>,
    limits: Limits,
) -> Result<()> {
    let target = Target::Tree(merge);
    let out = Unpacked::default();
    Unpacker { root, ids, limits, target, parent: None, dirs: Vec::new(), climbing: BTreeSet::new(), out }
        .run(reader)
        .map(drop)
}

struct Unpacker {
    root: OwnedFd,
    target: Target,
    ids: Option<IdMap>,
    limits: Limits,
    parent: Option<(PathBuf, Rc<OwnedFd>)>,
    dirs: Vec<(PathBuf, Timestamps)>,
    /// Links of this layer that climb above its root.
    climbing: BTreeSet<PathBuf>,
    out: Unpacked,
}

/// A path without `.`, doubled and leading slashes; one that climbs above the root is refused.
pub(crate) fn clean(raw: &[u8]) -> Result<PathBuf> {
    let refuse = |why| ImageError::Unsafe { path: String::from_utf8_lossy(raw).into_owned(), why };
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in raw.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop().ok_or_else(|| refuse("it leads out of the image"))?),
            _ if part.contains(&0) => return Err(refuse("it contains a NUL byte")),
            _ => parts.push(part),
        }
    }
    Ok(parts.iter().map(|p| OsStr::from_bytes(p)).collect())
}

const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const OPAQUE_ATTRIBUTE: &str = "trusted.overlay.opaque";

impl Unpacker {
    fn run(mut self, reader: &mut TarReader<impl BufRead>) -> Result<Unpacked> {
        let mut count = 0;
        while let Some(entry) = reader.next_entry().map_err(|e| from_io("layer", e))? {
            count += 1;
            if count > self.limits.entries {
                let (what, limit) = ("number of entries".into(), self.limits.entries);
                return Err(ImageError::TooLarge { what, size: count, limit });
            }
            self.entry(&entry, reader)?;
        }
        self.finish_dirs()?;
        Ok(self.out)
    }

    fn entry(&mut self, entry: &Entry, reader: &mut TarReader<impl BufRead>) -> Result<()> {
        let path = clean(&entry.path)?;
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            return self.root_entry(entry);
        };
        self.refuse_through_links(&path)?;
        let parent = self.parent_of(&path)?;
        if name.as_bytes().starts_with(PREFIX) && matches!(self.target, Target::Layer) {
            return whiteout(&parent, name.as_bytes()).map_err(at(&path));
        }
        self.admit(entry)?;
        if entry.kind != Kind::Dir {
            self.check_kind(&parent, &name, &path, entry)?;
        }
        let made = match entry.kind {
            Kind::File => self.file(&parent, &name, entry, reader)?,
            Kind::HardLink => return self.hard_link(&parent, &name, &path, entry),
            Kind::Dir => return self.directory(&parent, &name, path, entry),
            Kind::Symlink => {
                if matches!(self.target, Target::Layer) && climbs(&path, &entry.link) {
                    self.climbing.insert(path.clone());
                }
                let target = OsStr::from_bytes(&entry.link);
                replacing(&parent, &name, || symlinkat(target, &*parent, &name)).map_err(at(&path))?;
                None
            }
            Kind::Char | Kind::Block | Kind::Fifo => {
                let (kind, device) = match entry.kind {
                    Kind::Char => (FileType::CharacterDevice, entry.device),
                    Kind::Block => (FileType::BlockDevice, entry.device),
                    _ => (FileType::Fifo, (0, 0)),
                };
                let device = rustix::fs::makedev(device.0, device.1);
                let make = || mknodat(&*parent, &name, kind, Mode::from_raw_mode(0o600), device);
                replacing(&parent, &name, make).map_err(at(&path))?;
                None
            }
            Kind::Other(kind) => {
                return Err(ImageError::Unsupported(format!("tar entry of type {:?}", char::from(kind))));
            }
        };
        self.forget(&path, entry.kind);
        self.attributes(&parent, &name, made, entry).map_err(at(&path))
    }

    /// Refuses to change a directory into something else, and back, where that was asked for.
    fn check_kind(&self, parent: &OwnedFd, name: &OsStr, path: &Path, entry: &Entry) -> Result<()> {
        if !matches!(&self.target, Target::Tree(merge) if merge.keep_kinds) {
            return Ok(());
        }
        let Ok(stat) = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(()) };
        let (is, comes) =
            (FileType::from_raw_mode(stat.st_mode) == FileType::Directory, entry.kind == Kind::Dir);
        let (there, new) = match (is, comes) {
            (true, false) => ("directory", "non-directory"),
            (false, true) => ("non-directory", "directory"),
            _ => return Ok(()),
        };
        let path = Path::new("/").join(self.below_root(path));
        Err(ImageError::Invalid(format!(
            "cannot overwrite {there} {:?} with {new}",
            path.display().to_string()
        )))
    }

    /// A directory of the archive as a path from the tree's root.
    fn below_root(&self, dir: &Path) -> PathBuf {
        let base = match &self.target {
            Target::Layer => Path::new(""),
            Target::Tree(merge) => merge.base.strip_prefix("/").unwrap_or(&merge.base),
        };
        let path = base.join(dir);
        if path.as_os_str().is_empty() { ".".into() } else { path }
    }

    /// Refuses what is declared to be too large before a byte of it is written.
    fn admit(&mut self, entry: &Entry) -> Result<()> {
        let size = self.out.size.saturating_add(entry.length());
        if size > self.limits.layer_bytes {
            return Err(ImageError::TooLarge {
                what: "unpacked layer".into(),
                size,
                limit: self.limits.layer_bytes,
            });
        }
        if entry.size > 64 << 20 {
            let space = rustix::fs::fstatvfs(&self.root).map_err(at(Path::new("/")))?;
            let limit = space.f_bavail.saturating_mul(space.f_frsize);
            if entry.size > limit {
                return Err(ImageError::TooLarge {
                    what: format!("file {} beside the free disk space", String::from_utf8_lossy(&entry.path)),
                    size: entry.size,
                    limit,
                });
            }
        }
        if matches!(entry.kind, Kind::File) {
            self.out.size = size;
        }
        Ok(())
    }

    /// The directory an entry belongs in, made when the archive only implies it.
    /// A link that climbs above the root is a text like any other, clipped at the root in a container: images have such,
    /// and every other engine keeps them. An entry that goes through one means to leave.
    fn refuse_through_links(&self, path: &Path) -> Result<()> {
        match path.ancestors().skip(1).find(|dir| self.climbing.contains(*dir)) {
            None => Ok(()),
            Some(_) => {
                let path = path.display().to_string();
                Err(ImageError::Unsafe { path, why: "it leads through a link out of the image" })
            }
        }
    }

    fn parent_of(&mut self, path: &Path) -> Result<Rc<OwnedFd>> {
        let dir = path.parent().unwrap_or(Path::new(""));
        if let Some((_, fd)) = self.parent.as_ref().filter(|(cached, _)| cached == dir) {
            return Ok(Rc::clone(fd));
        }
        let fd = match self.open_in_root(dir) {
            Err(Errno::NOENT) => self.make_implied(dir)?,
            other => other.map_err(at(dir))?,
        };
        let fd = Rc::new(fd);
        self.parent = Some((dir.to_owned(), Rc::clone(&fd)));
        Ok(fd)
    }

    fn open_in_root(&self, dir: &Path) -> Result<OwnedFd, Errno> {
        let dir = self.below_root(dir);
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        loop {
            // EAGAIN: something was renamed meanwhile, somewhere.
            match openat2(&self.root, &dir, flags, Mode::empty(), how) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }

    fn make_implied(&mut self, dir: &Path) -> Result<OwnedFd> {
        let mut at_path = PathBuf::new();
        let mut fd = self.open_in_root(&at_path).map_err(at(&at_path))?;
        for part in dir.iter() {
            at_path.push(part);
            fd = match self.open_in_root(&at_path) {
                Err(Errno::NOENT) => {
                    match mkdirat(&fd, part, Mode::from_raw_mode(0o755)) {
                        // A link that leads nowhere stands in the way.
                        Err(Errno::EXIST) => {
                            let path = at_path.display().to_string();
                            return Err(ImageError::Unsafe { path, why: "it leads through a dangling link" });
                        }
                        other => other.map_err(at(&at_path))?,
                    }
                    let made = self.open_in_root(&at_path).map_err(at(&at_path))?;
                    if let Some(ids) = self.ids {
                        let (uid, gid) = ids.to_host(0, 0)?;
                        fchown(&made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                            .map_err(at(&at_path))?;
                    }
                    self.out.implied.insert(at_path.clone());
                    made
                }
                other => other.map_err(at(&at_path))?,
            };
        }
        Ok(fd)
    }

    /// A changed entry may have replaced a directory that is cached or will get its times.
    fn forget(&mut self, path: &Path, kind: Kind) {
        if kind != Kind::Dir && self.parent.as_ref().is_some_and(|(cached, _)| cached.starts_with(path)) {
            self.parent = None;
        }
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Dir {
            let path = String::from_utf8_lossy(&entry.path).into_owned();
            return Err(ImageError::Unsafe { path, why: "the image's root must be a directory" });
        }
        let fd = self.open_in_root(Path::new("")).map_err(at(Path::new("/")))?;
        self.dirs.push((PathBuf::new(), times(entry)));
        self.describe(fd.as_fd(), entry).map_err(at(Path::new("/")))
    }

    fn directory(&mut self, parent: &OwnedFd, name: &OsStr, path: PathBuf, entry: &Entry) -> Result<()> {
        self.check_kind(parent, name, &path, entry)?;
        let mut hides_lower = false;
        if let Err(error) = mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
            let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(at(&path))?;
            if error != Errno::EXIST {
                return Err(at(&path)(error));
            }
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                hides_lower = is_whiteout(&stat) && matches!(self.target, Target::Layer);
                unlinkat(parent, name, AtFlags::empty()).map_err(at(&path))?;
                mkdirat(parent, name, Mode::from_raw_mode(0o700)).map_err(at(&path))?;
                self.parent = None;
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(parent, name, flags, Mode::empty()).map_err(at(&path))?;
        if hides_lower {
            fsetxattr(&fd, OPAQUE_ATTRIBUTE, b"y", XattrFlags::empty()).map_err(at(&path))?;
        }
        self.describe(fd.as_fd(), entry).map_err(at(&path))?;
        self.out.implied.remove(&path);
        self.dirs.push((path, times(entry)));
        Ok(())
    }

    fn file(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        entry: &Entry,
        reader: &mut TarReader<impl BufRead>,
    ) -> Result<Option<OwnedFd>> {
        let path = Path::new(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = || openat(parent, name, flags, Mode::from_raw_mode(0o600));
        let fd = replacing(parent, name, make).map_err(at(path))?;
        match &entry.sparse {
            None => copy_data(reader, &fd, 0, entry.size)?,
            Some(sparse) => {
                ftruncate(&fd, sparse.length).map_err(at(path))?;
                for (offset, length) in &sparse.extents {
                    copy_data(reader, &fd, *offset, *length)?;
                }
            }
        }
        Ok(Some(fd))
    }

    fn hard_link(&mut self, parent: &OwnedFd, name: &OsStr, path: &Path, entry: &Entry) -> Result<()> {
        let target = clean(&entry.link)?;
        let Some(target_name) = target.file_name() else {
            let path = String::from_utf8_lossy(&entry.link).into_owned();
            return Err(ImageError::Unsafe { path, why: "a hard link cannot name the root" });
        };
        if target == path {
            return Ok(());
        }
        self.refuse_through_links(&target)?;
        let missing = |e: Errno| match e {
            Errno::NOENT | Errno::NOTDIR => ImageError::corrupt(
                "layer",
                format!("hard link {} to {}, which it lacks", path.display(), target.display()),
            ),
            other => at(path)(other),
        };
        let target_dir = self.open_in_root(target.parent().unwrap_or(Path::new(""))).map_err(missing)?;
        replacing(parent, name, || linkat(&target_dir, target_name, parent, name, AtFlags::empty()))
            .map_err(missing)?;
        self.forget(path, entry.kind);
        Ok(())
    }

    /// Owner, mode and attributes of an open file or directory.
    fn describe(&self, fd: BorrowedFd<'_>, entry: &Entry) -> Result<(), Errno> {
        let (uid, gid) = self.owner(entry)?;
        fchown(fd, Some(uid), Some(gid))?;
        fchmod(fd, Mode::from_raw_mode(entry.mode & 0o7777))?;
        for (name, value) in kept_attributes(entry) {
            tolerate(fsetxattr(fd, name, value, XattrFlags::empty()))?;
        }
        Ok(())
    }

    fn owner(&self, entry: &Entry) -> Result<(Uid, Gid), Errno> {
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

    fn attributes(
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

    fn finish_dirs(&mut self) -> Result<()> {
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

fn at(path: &Path) -> impl FnOnce(Errno) -> ImageError + use<> {
    let path = path.to_owned();
    move |source| match source {
        Errno::LOOP => {
            ImageError::Unsafe { path: path.display().to_string(), why: "its links lead in a circle" }
        }
        Errno::NOTDIR => {
            ImageError::Unsafe { path: path.display().to_string(), why: "it leads through a file" }
        }
        _ => ImageError::Io { doing: "unpacking", path, source: source.into() },
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

/// Whether a relative link at `path` climbs above the root.
fn climbs(path: &Path, link: &[u8]) -> bool {
    if link.starts_with(b"/") {
        return false;
    }
    let mut depth = path.iter().count() - 1;
    for part in link.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." if depth == 0 => return true,
            b".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

pub(crate) fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn whiteout(parent: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
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

/// Runs `make`; what stands in its way (an earlier entry of the same name) is removed first.
fn replacing<T>(parent: &OwnedFd, name: &OsStr, make: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
    match make() {
        Err(Errno::EXIST) => {
            match unlinkat(parent, name, AtFlags::empty()) {
                Err(Errno::ISDIR) => crate::tree::remove_at(parent, name)?,
                other => other?,
            }
            make()
        }
        other => other,
    }
}

fn times(entry: &Entry) -> Timestamps {
    let at = Timespec { tv_sec: entry.mtime.0, tv_nsec: i64::from(entry.mtime.1) };
    Timestamps { last_access: at, last_modification: at }
}

fn copy_data(
    reader: &mut TarReader<impl BufRead>,
    fd: &OwnedFd,
    mut offset: u64,
    mut left: u64,
) -> Result<()> {
    while left > 0 {
        let data = reader.data().map_err(|e| from_io("layer", e))?;
        let n = data.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if n == 0 {
            return Err(from_io("layer", io::ErrorKind::UnexpectedEof.into()));
        }
        let n = loop {
            match rustix::io::pwrite(fd, &data[..n], offset) {
                Err(Errno::INTR) => {}
                other => break other.map_err(ImageError::os("unpacking", "file"))?,
            }
        };
        reader.consume(n);
        offset += n as u64;
        left -= n as u64;
    }
    Ok(())
}

/// Copies owner and mode of directory `from` to directory `to` (both below trusted roots).
pub(crate) fn copy_owner_and_mode(from: &Path, to: &Path) -> Result<(), Errno> {
    let stat = rustix::fs::lstat(from)?;
    let owner = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(CWD, to, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW)?;
    rustix::fs::chmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))
}
