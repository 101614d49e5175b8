//! Where an entry goes: its path made plain, and its directory resolved by the kernel inside the layer.

use std::{
    ffi::OsStr,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    rc::Rc,
};

use rustix::{
    fs::{Gid, Mode, OFlags, ResolveFlags, Uid, fchown, mkdirat, openat2},
    io::Errno,
};

use super::{Target, Unpacker, at};
use crate::{
    error::{ImageError, Result},
    tar::Kind,
};

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

/// Whether a relative link at `path` climbs above the root.
pub(super) fn climbs(path: &Path, link: &[u8]) -> bool {
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

impl Unpacker {
    /// A directory of the archive as a path from the tree's root.
    pub(super) fn below_root(&self, dir: &Path) -> PathBuf {
        let base = match &self.target {
            Target::Layer => Path::new(""),
            Target::Tree(merge) => merge.base.strip_prefix("/").unwrap_or(&merge.base),
        };
        let path = base.join(dir);
        if path.as_os_str().is_empty() { ".".into() } else { path }
    }

    /// A link that climbs above the root is a text like any other, clipped at the root in a container: images have such,
    /// and every other engine keeps them. An entry that goes through one means to leave.
    pub(super) fn refuse_through_links(&self, path: &Path) -> Result<()> {
        match path.ancestors().skip(1).find(|dir| self.climbing.contains(*dir)) {
            None => Ok(()),
            Some(_) => {
                let path = path.display().to_string();
                Err(ImageError::Unsafe { path, why: "it leads through a link out of the image" })
            }
        }
    }

    /// The directory an entry belongs in, made when the archive only implies it.
    pub(super) fn parent_of(&mut self, path: &Path) -> Result<Rc<OwnedFd>> {
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

    pub(super) fn open_in_root(&self, dir: &Path) -> Result<OwnedFd, Errno> {
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

    pub(super) fn make_implied(&mut self, dir: &Path) -> Result<OwnedFd> {
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
    pub(super) fn forget(&mut self, path: &Path, kind: Kind) {
        if kind != Kind::Dir && self.parent.as_ref().is_some_and(|(cached, _)| cached.starts_with(path)) {
            self.parent = None;
        }
    }
}
