//! Copy-up: a fresh volume takes over what the image has at its mount point, with owners, modes, times, links,
//! devices and extended attributes.
//!
//! The copy is made beside the volume and put in place by one rename, so a volume is empty or whole, however the daemon ends.

use std::{
    collections::HashMap,
    ffi::CString,
    fs::{self, File},
    io,
    os::{
        fd::AsFd,
        unix::{
            ffi::OsStrExt,
            fs::{FileTypeExt, MetadataExt, symlink},
        },
    },
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid};

use crate::{EngineError, Result};

/// Copies the directory `from` into the volume at `data` if that is empty. `in_place` where others may have it open or
/// it is a mount: then nothing is renamed.
pub(crate) fn copy_up(from: &Path, data: &Path, in_place: bool) -> Result<()> {
    let doing =
        || EngineError::io(format!("copying {} into the volume at {}", from.display(), data.display()));
    if fs::read_dir(data).map_err(doing())?.next().is_some() {
        return Ok(());
    }
    let mut copier = Copier::default();
    if in_place {
        return copier.tree(from, data).map_err(doing());
    }
    let fresh = data.with_file_name("_fresh");
    super::remove_tree(&fresh)?;
    fs::create_dir(&fresh).map_err(doing())?;
    copier.tree(from, &fresh).map_err(doing())?;
    match fs::rename(&fresh, data) {
        // Somebody put something there meanwhile: theirs it is.
        Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => super::remove_tree(&fresh),
        other => other.map_err(doing()),
    }
}

/// Copies trees; remembers hard links.
#[derive(Default)]
struct Copier {
    links: HashMap<(u64, u64), PathBuf>,
}

impl Copier {
    /// The content of directory `from` into the existing directory `to`, and `from`'s own attributes onto it.
    fn tree(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let (source, target) = (entry.path(), to.join(entry.file_name()));
            let meta = fs::symlink_metadata(&source)?;
            if meta.is_dir() {
                fs::create_dir(&target)?;
                self.tree(&source, &target)?;
            } else {
                self.one(&source, &target, &meta)?;
            }
        }
        attributes(from, to, &fs::symlink_metadata(from)?)
    }

    fn one(&mut self, source: &Path, target: &Path, meta: &fs::Metadata) -> io::Result<()> {
        if meta.nlink() > 1 {
            let key = (meta.dev(), meta.ino());
            if let Some(first) = self.links.get(&key) {
                return fs::hard_link(first, target);
            }
            self.links.insert(key, target.to_owned());
        }
        let kind = meta.file_type();
        if kind.is_symlink() {
            symlink(fs::read_link(source)?, target)?;
        } else if kind.is_file() {
            let (mut input, mut output) = (File::open(source)?, File::create_new(target)?);
            io::copy(&mut input, &mut output)?;
        } else {
            let node = match (kind.is_char_device(), kind.is_block_device(), kind.is_fifo()) {
                (true, ..) => FileType::CharacterDevice,
                (_, true, _) => FileType::BlockDevice,
                (_, _, true) => FileType::Fifo,
                _ => FileType::Socket,
            };
            rustix::fs::mknodat(CWD, target, node, Mode::from_raw_mode(0o600), meta.rdev())?;
        }
        attributes(source, target, meta)
    }
}

/// Owner first (it clears set-id bits), then extended attributes, mode, times.
fn attributes(source: &Path, target: &Path, meta: &fs::Metadata) -> io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(meta.uid())), Some(Gid::from_raw(meta.gid())));
    rustix::fs::chownat(CWD, target, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    extended(source, target)?;
    if !meta.file_type().is_symlink() {
        let mode = Mode::from_raw_mode(meta.mode() & 0o7777);
        rustix::fs::chmodat(CWD, target, mode, AtFlags::empty())?;
    }
    let time = |sec, nsec| Timespec { tv_sec: sec, tv_nsec: nsec };
    let times = Timestamps {
        last_access: time(meta.atime(), meta.atime_nsec()),
        last_modification: time(meta.mtime(), meta.mtime_nsec()),
    };
    rustix::fs::utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn extended(source: &Path, target: &Path) -> io::Result<()> {
    let mut names = vec![0u8; 64 << 10];
    let length = match rustix::fs::llistxattr(source, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    let mut value = vec![0u8; 64 << 10];
    for name in names[..length].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        // The overlay's own marks are no content.
        if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
            continue;
        }
        let name = CString::new(name)?;
        let length = rustix::fs::lgetxattr(source, &name, &mut value[..])?;
        match rustix::fs::lsetxattr(target, &name, &value[..length], rustix::fs::XattrFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::PERM) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Opens a directory inside a volume or an image without leaving it, whatever links lie on the way.
pub(crate) fn open_inside(root: &Path, inside: &str) -> io::Result<rustix::fd::OwnedFd> {
    use rustix::fs::{OFlags, ResolveFlags, openat, openat2};
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = openat(CWD, root, flags | OFlags::DIRECTORY, Mode::empty())?;
    let path = Path::new(std::ffi::OsStr::from_bytes(inside.trim_start_matches('/').as_bytes()));
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    Ok(openat2(
        root.as_fd(),
        path,
        flags,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )?)
}

/// Makes the directory `inside` below `root`, with its parents, without leaving `root`, and opens it; what is there stays.
/// Links are followed inside `root`, also those that lead to what is not there yet, which is then made. What is made belongs to
/// `owner`, a user and a group.
pub(crate) fn make_inside(root: &Path, inside: &str, owner: (u32, u32)) -> io::Result<rustix::fd::OwnedFd> {
    /// Most links on the way (the kernel's own limit).
    const LINKS: usize = 40;
    let parts = |path: &str| -> Vec<String> {
        path.split('/').rev().filter(|p| !p.is_empty() && *p != ".").map(str::to_owned).collect()
    };
    // Where we are, without links; each step is taken from the root anew, by the kernel, so that a link put there
    // meanwhile leads nowhere else.
    let (mut todo, mut done, mut links) = (parts(inside), Vec::new(), 0);
    while let Some(part) = todo.pop() {
        if part == ".." {
            done.pop();
            continue;
        }
        let parent = open_inside(root, &done.join("/"))?;
        let kind = match rustix::fs::statat(&parent, &part, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode),
            Err(rustix::io::Errno::NOENT) => {
                rustix::fs::mkdirat(&parent, &part, Mode::from_raw_mode(0o755))?;
                let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
                rustix::fs::chownat(&parent, &part, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::Directory
            }
            Err(e) => return Err(e.into()),
        };
        match kind {
            FileType::Directory => done.push(part),
            FileType::Symlink if links == LINKS => return Err(rustix::io::Errno::LOOP.into()),
            FileType::Symlink => {
                links += 1;
                let text = rustix::fs::readlinkat(&parent, &part, Vec::new())?;
                let text = text.to_str().map_err(io::Error::other)?;
                if text.starts_with('/') {
                    done.clear();
                }
                todo.extend(parts(text));
            }
            _ => return Err(rustix::io::Errno::NOTDIR.into()),
        }
    }
    open_inside(root, &done.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_copied_whole_once() {
        let dir = tempfile::tempdir().unwrap();
        let (from, data) = (dir.path().join("image"), dir.path().join("_data"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::create_dir(&data).unwrap();
        fs::write(from.join("a"), "x").unwrap();
        fs::hard_link(from.join("a"), from.join("sub/b")).unwrap();
        symlink("a", from.join("l")).unwrap();
        rustix::fs::chownat(
            CWD,
            from.join("a"),
            Some(Uid::from_raw(7)),
            Some(Gid::from_raw(8)),
            AtFlags::empty(),
        )
        .unwrap();
        super::super::set_mode(&from, 0o1777).unwrap();
        copy_up(&from, &data, false).unwrap();
        let meta = fs::metadata(data.join("a")).unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.nlink()), (7, 8, 2));
        assert_eq!(fs::metadata(&data).unwrap().mode() & 0o7777, 0o1777);
        assert_eq!(fs::read_link(data.join("l")).unwrap(), Path::new("a"));
        fs::write(from.join("new"), "y").unwrap();
        copy_up(&from, &data, false).unwrap();
        assert!(!data.join("new").exists(), "a volume with content is left alone");
    }

    #[test]
    fn directories_are_made_where_links_lead_to() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("file"), "x").unwrap();
        for (link, text) in [
            ("abs", "/srv/a"),
            ("climb", "../../../../b"),
            ("deep", "abs/x/../y"),
            ("loop", "loop"),
            ("f", "file"),
        ] {
            symlink(text, root.join(link)).unwrap();
        }
        for (asked, made) in
            [("/abs/1", "srv/a/1"), ("climb", "b"), ("/deep/./2", "srv/a/y/2"), ("../c", "c"), ("", "")]
        {
            make_inside(&root, asked, (7, 8)).unwrap();
            assert!(root.join(made).is_dir(), "{asked}");
            let meta = fs::metadata(root.join(made)).unwrap();
            assert!(made.is_empty() || (meta.uid(), meta.gid()) == (7, 8), "{asked}");
        }
        for (asked, why) in
            [("file", "Not a directory"), ("f/x", "Not a directory"), ("loop/x", "symbolic links")]
        {
            assert!(make_inside(&root, asked, (0, 0)).unwrap_err().to_string().contains(why), "{asked}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is made outside");
    }

    #[test]
    fn links_do_not_lead_out() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/etc", dir.path().join("out")).unwrap();
        assert!(open_inside(dir.path(), "out/passwd").is_err());
        assert!(open_inside(dir.path(), "../..").is_ok(), "`..` of the root is the root");
    }
}
