//! Making one entry: directories, files with their holes, hard links. What stands in the way is an earlier entry.

use std::{
    ffi::OsStr,
    io::{self, BufRead},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, XattrFlags, fsetxattr, ftruncate, linkat, mkdirat, openat, statat,
        unlinkat,
    },
    io::Errno,
};

use super::{
    Target, Unpacker, at,
    attributes::times,
    path::clean,
    whiteout::{OPAQUE_ATTRIBUTE, is_whiteout},
};
use crate::{
    error::{ImageError, Result, from_io},
    tar::{Entry, Kind, TarReader},
};

impl Unpacker {
    pub(super) fn root_entry(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Dir {
            let path = String::from_utf8_lossy(&entry.path).into_owned();
            return Err(ImageError::Unsafe { path, why: "the image's root must be a directory" });
        }
        let fd = self.open_in_root(Path::new("")).map_err(at(Path::new("/")))?;
        self.dirs.push((PathBuf::new(), times(entry)));
        self.describe(fd.as_fd(), entry).map_err(at(Path::new("/")))
    }

    pub(super) fn directory(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        path: PathBuf,
        entry: &Entry,
    ) -> Result<()> {
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

    pub(super) fn file(
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

    pub(super) fn hard_link(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        path: &Path,
        entry: &Entry,
    ) -> Result<()> {
        let target = clean(&entry.link)?;
        let Some(target_name) = target.file_name() else {
            let path = String::from_utf8_lossy(&entry.link).into_owned();
            return Err(ImageError::Unsafe { path, why: "a hard link cannot name the root" });
        };
        self.refuse_through_links(&target)?;
        let missing = |e: Errno| match e {
            Errno::NOENT | Errno::NOTDIR => ImageError::corrupt(
                "layer",
                format!("hard link {} to {}, which it lacks", path.display(), target.display()),
            ),
            other => at(path)(other),
        };
        let target_dir = self.open_in_root(target.parent().unwrap_or(Path::new(""))).map_err(missing)?;
        if target == path {
            return statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map(drop).map_err(missing);
        }
        replacing(parent, name, || linkat(&target_dir, target_name, parent, name, AtFlags::empty()))
            .map_err(missing)?;
        self.forget(path, entry.kind);
        Ok(())
    }
}

/// Runs `make`; what stands in its way (an earlier entry of the same name) is removed first.
pub(super) fn replacing<T>(
    parent: &OwnedFd,
    name: &OsStr,
    make: impl Fn() -> Result<T, Errno>,
) -> Result<T, Errno> {
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
