//! Mount points that every container needs: made once for each image as one more layer, so that they never show up as
//! changes of a container (moby `daemon/initlayer`).

use std::{
    fs,
    os::unix::fs::{OpenOptionsExt, symlink},
    path::{Path, PathBuf},
};

use weft_model::Digest;

use super::Snapshots;
use crate::{
    error::{ImageError, Result},
    stack::lookup,
};

enum Point {
    Dir,
    File,
    Link(&'static str),
}

const POINTS: &[(&str, Point)] = &[
    ("dev", Point::Dir),
    ("dev/pts", Point::Dir),
    ("dev/shm", Point::Dir),
    ("dev/console", Point::File),
    ("proc", Point::Dir),
    ("sys", Point::Dir),
    (".dockerenv", Point::File),
    ("etc", Point::Dir),
    ("etc/hosts", Point::File),
    ("etc/hostname", Point::File),
    ("etc/resolv.conf", Point::File),
    ("etc/mtab", Point::Link("/proc/mounts")),
];

impl Snapshots {
    /// The init layer over the image whose topmost layer is `chain`, made when it is not there.
    pub(super) fn init_dir(&self, chain: Option<Digest>, lowers: &[PathBuf]) -> Result<PathBuf> {
        let target = match chain {
            Some(chain) => self.layer_dir(&chain).join("init"),
            None => self.0.root.join("layers").join("scratch-init"),
        };
        if target.exists() {
            return Ok(target);
        }
        let dir = self.temp()?;
        let init = dir.path().join("fs");
        fs::create_dir(&init).map_err(ImageError::io("making", &init))?;
        super::copy::describe(lowers.first().unwrap_or(&self.0.root.join("empty")), &init)?;
        for (name, point) in POINTS {
            self.point(&init, lowers, Path::new(name), point)?;
        }
        for (name, point) in POINTS {
            // Directories last: making entries in them changed their times.
            if let (Point::Dir, Some(node)) = (point, lookup(lowers, Path::new(name)))
                && init.join(name).is_dir()
            {
                super::copy::describe(&node.real, &init.join(name))?;
            }
        }
        match fs::rename(&init, &target) {
            Err(e) if !target.exists() => Err(ImageError::io("renaming", init)(e)),
            _ => Ok(target),
        }
    }

    fn point(&self, init: &Path, lowers: &[PathBuf], name: &Path, point: &Point) -> Result<()> {
        let path = init.join(name);
        let lower = lookup(lowers, name);
        // Links that an image puts there are resolved when a container starts, not here.
        let parent_is_ours = path.parent().is_some_and(Path::is_dir);
        if !parent_is_ours || lower.as_ref().is_some_and(|n| n.dirs.is_empty()) {
            return Ok(());
        }
        let made = match point {
            Point::Dir => fs::create_dir(&path),
            _ if lower.is_some() => Ok(()),
            // The mode is Docker's.
            Point::File => {
                fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&path).map(drop)
            }
            Point::Link(target) => symlink(target, &path),
        };
        made.map_err(ImageError::io("making", &path))?;
        if let Some(ids) = self.0.ids.filter(|_| lower.is_none()) {
            let (uid, gid) = ids.to_host(0, 0)?;
            std::os::unix::fs::lchown(&path, Some(uid), Some(gid))
                .map_err(ImageError::io("describing", &path))?;
        }
        Ok(())
    }
}
