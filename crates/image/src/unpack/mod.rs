//! Turning a layer archive into a directory that overlayfs can stack.
//!
//! Every path is resolved by the kernel inside the layer (`openat2` with `RESOLVE_IN_ROOT`): a link that an archive
//! plants can at most lead to another place of the same layer. Paths that name a place above the root are refused, not
//! clipped. Whiteouts become overlay's own: a character device 0:0, or the `trusted.overlay.opaque` attribute
//! (OCI image specification "Layers: Representing Changes"; kernel `Documentation/filesystems/overlayfs.rst`).
//!
//! Directories get their times last, because writing into them changes these. Directories that an archive only implies
//! are reported, so that they take the owner and mode of the layers below.

mod attributes;
mod make;
mod path;
mod whiteout;

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    io::BufRead,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    rc::Rc,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Timestamps, mknodat, open, statat, symlinkat},
    io::Errno,
};

pub(crate) use attributes::copy_owner_and_mode;
pub(crate) use path::clean;
pub(crate) use whiteout::is_whiteout;

use self::{make::replacing, path::climbs, whiteout::PREFIX};
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
            return whiteout::whiteout(&parent, name.as_bytes()).map_err(|error| match error {
                Errno::INVAL => {
                    ImageError::corrupt("layer", format!("whiteout {} hides nothing", path.display()))
                }
                other => at(&path)(other),
            });
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
