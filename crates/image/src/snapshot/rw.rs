//! Writable trees: prepare, mount, look at what changed, take away.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use weft_model::ContainerId;
use weft_sys::mount::{self, Overlay};

use super::{Driver, LayerRef, Snapshots, layers::write_json};
use crate::{
    content::random_name,
    diff::{self, Change, LayerTar, Upper},
    error::{ImageError, Result},
    layer::TempDir,
    stack::is_dir,
    tree,
};

/// What `snapshot.json` says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub driver: Driver,
    pub layers: Vec<LayerRef>,
}

/// A read-only mount of an image, taken away when dropped.
#[derive(Debug)]
pub struct View {
    dir: TempDir,
}

impl View {
    /// The image's root.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("at")
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if let Err(error) = mount::unmount(&self.path()) {
            tracing::warn!(error = weft_base::chain(&error), "view is left");
        }
    }
}

impl Snapshots {
    fn rw_dir(&self, id: &ContainerId) -> PathBuf {
        self.0.root.join("rw").join(id.to_string())
    }

    /// Where the container's tree is mounted.
    #[must_use]
    pub fn mount_point(&self, id: &ContainerId) -> PathBuf {
        self.0.mounts.join(id.to_string()).join("rootfs")
    }

    /// Makes the container's writable tree over `layers` (lowest first). One that is there already stays as it is.
    pub fn prepare(&self, id: &ContainerId, layers: &[LayerRef]) -> Result<()> {
        let target = self.rw_dir(id);
        if target.exists() {
            return Ok(());
        }
        let _held = self.ensure(layers)?;
        let record = Record { driver: self.0.driver, layers: layers.to_vec() };
        let lowers = self.lowers(&record)?;
        let dir = self.temp()?;
        let upper = dir.path().join("fs");
        for path in [&upper, &dir.path().join("work")] {
            fs::create_dir(path).map_err(ImageError::io("making", path))?;
        }
        // The root of the tree is the upper directory itself: it looks like the image's.
        if let Some(top) = lowers.first() {
            super::copy::describe(top, &upper)?;
        }
        if record.driver == Driver::Copy {
            super::copy::copy_merged(&lowers, &upper)?;
        }
        write_json(&dir.path().join("snapshot.json"), &record)?;
        fs::rename(dir.path(), &target).map_err(ImageError::io("renaming", dir.path()))?;
        dir.keep();
        self.0.rw.lock().insert(id.to_string(), record);
        Ok(())
    }

    pub(super) fn record(&self, id: &ContainerId) -> Result<Record> {
        let found = self.0.rw.lock().get(&id.to_string()).cloned();
        found.ok_or_else(|| ImageError::NotFound { what: "snapshot", name: id.to_string() })
    }

    /// Reads the records of all trees at start.
    pub(super) fn read_records(&self) -> Result<()> {
        let dir = self.0.root.join("rw");
        let mut known = self.0.rw.lock();
        for entry in fs::read_dir(&dir).map_err(ImageError::io("reading", &dir))?.flatten() {
            let path = entry.path().join("snapshot.json");
            let record = fs::read(&path).map_err(ImageError::io("reading", &path)).and_then(|t| {
                let what = path.display().to_string();
                serde_json::from_slice(&t).map_err(|e| ImageError::corrupt(what, e.to_string()))
            });
            match record {
                Ok(record) => drop(known.insert(entry.file_name().to_string_lossy().into_owned(), record)),
                Err(error) => {
                    tracing::error!(error = weft_base::chain(&error), "container's tree cannot be used")
                }
            }
        }
        Ok(())
    }

    /// Ids of the containers that have a tree here, whether or not anything else knows them.
    #[must_use]
    pub fn prepared(&self) -> Vec<String> {
        self.0.rw.lock().keys().cloned().collect()
    }

    /// Directories below the writable one, topmost first: mount points, then the layers.
    fn lowers(&self, record: &Record) -> Result<Vec<PathBuf>> {
        let mut lowers: Vec<_> = record.layers.iter().rev().map(|l| self.layer_fs(&l.chain)).collect();
        let init = self.init_dir(record.layers.last().map(|l| l.chain), &lowers)?;
        lowers.insert(0, init);
        Ok(lowers)
    }

    /// Mounts the tree where it is not yet; `record`'s layers are there.
    pub(super) fn attach(&self, id: &ContainerId, record: &Record) -> Result<PathBuf> {
        let at = self.mount_point(id);
        if mount::is_mount_point(&at) {
            return Ok(at);
        }
        fs::create_dir_all(&at).map_err(ImageError::io("making", &at))?;
        let dir = self.rw_dir(id);
        let upper = dir.join("fs");
        match record.driver {
            Driver::Copy => mount::bind(&upper, &at, false)?,
            Driver::Overlay => {
                let mut lowers = self.lowers(record)?;
                lowers.reverse();
                Overlay { lowers, upper: Some((upper, dir.join("work"))) }.mount(&at)?;
            }
        }
        Ok(at)
    }

    /// Whether the tree is mounted.
    #[must_use]
    pub fn is_mounted(&self, id: &ContainerId) -> bool {
        mount::is_mount_point(&self.mount_point(id))
    }

    /// Unmounts and deletes the container's tree; none is success.
    pub fn remove(&self, id: &ContainerId) -> Result<()> {
        self.unmount(id)?;
        let at = self.mount_point(id);
        match fs::remove_dir(&at) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(ImageError::io("removing", at)(e));
            }
            _ => {}
        }
        // Renamed first, so that a crash leaves nothing that looks whole.
        let dir = self.rw_dir(id);
        let gone = self.0.root.join("tmp").join(random_name()?);
        match fs::rename(&dir, &gone) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(ImageError::io("removing", dir)(e));
            }
            _ => {}
        }
        self.0.rw.lock().remove(&id.to_string());
        tree::remove(&gone).map_err(ImageError::os("removing", gone))
    }

    /// Mounts layers (lowest first) read-only until the view is dropped.
    pub fn view(&self, layers: &[LayerRef]) -> Result<View> {
        let _held = self.ensure(layers)?;
        let dir = self.temp()?;
        let at = dir.path().join("at");
        fs::create_dir(&at).map_err(ImageError::io("making", &at))?;
        let mut lowers = vec![self.0.root.join("empty")];
        lowers.extend(layers.iter().map(|l| self.layer_fs(&l.chain)));
        if self.0.driver == Driver::Copy {
            lowers.reverse();
            super::copy::copy_merged(&lowers, &at)?;
        } else {
            if lowers.len() == 1 {
                lowers.push(self.0.root.join("tmp"));
            }
            Overlay { lowers, upper: None }.mount(&at)?;
        }
        Ok(View { dir })
    }

    fn changed(&self, id: &ContainerId) -> Result<(PathBuf, Vec<Change>)> {
        let record = self.record(id)?;
        let upper = self.rw_dir(id).join("fs");
        let mode = match record.driver {
            Driver::Overlay => Upper::Overlay,
            Driver::Copy => Upper::Copy,
        };
        let changes = diff::changes(&upper, &self.lowers(&record)?, mode)?;
        Ok((upper, changes))
    }

    /// What the container changed, sorted by path.
    pub fn diff(&self, id: &ContainerId) -> Result<Vec<Change>> {
        self.changed(id).map(|(_, changes)| changes)
    }

    /// Writes what the container changed as a layer archive with whiteouts.
    pub fn diff_tar<W: Write>(&self, id: &ContainerId, out: W) -> Result<W> {
        let (upper, changes) = self.changed(id)?;
        let mut tar = LayerTar::new(out, self.0.ids);
        tar.changes(&upper, &changes)?;
        tar.finish()
    }

    /// Writes the container's whole tree (`docker export`). Mounts it meanwhile when it is not.
    pub fn export_tar<W: Write>(&self, id: &ContainerId, out: W) -> Result<W> {
        let record = self.record(id)?;
        let _held = self.ensure(&record.layers)?;
        let mut tar = LayerTar::new(out, self.0.ids);
        if self.is_mounted(id) || record.driver == Driver::Copy {
            let root =
                if record.driver == Driver::Copy { self.rw_dir(id).join("fs") } else { self.mount_point(id) };
            tar.tree(&root, Path::new(""))?;
            return tar.finish();
        }
        let mut lowers = self.lowers(&record)?;
        lowers.reverse();
        lowers.push(self.rw_dir(id).join("fs"));
        let dir = self.temp()?;
        let at = dir.path().join("at");
        fs::create_dir(&at).map_err(ImageError::io("making", &at))?;
        let view = View { dir };
        Overlay { lowers, upper: None }.mount(&at)?;
        tar.tree(&view.path(), Path::new(""))?;
        tar.finish()
    }

    /// Bytes that the container's tree takes beyond its layers.
    pub fn size_rw(&self, id: &ContainerId) -> Result<u64> {
        let record = self.record(id)?;
        let upper = self.rw_dir(id).join("fs");
        if record.driver == Driver::Overlay {
            return diff::usage(&upper);
        }
        let mut sum = 0;
        for change in self.diff(id)? {
            let path = upper.join(change.path.strip_prefix("/").unwrap_or(&change.path));
            if let Ok(stat) = rustix::fs::lstat(&path)
                && !is_dir(&stat)
            {
                sum += u64::try_from(stat.st_size).unwrap_or(0);
            }
        }
        Ok(sum)
    }

    /// Bytes of all layers below the container.
    pub fn size_layers(&self, id: &ContainerId) -> Result<u64> {
        self.record(id)?.layers.iter().map(|l| self.layer_size(&l.chain)).sum()
    }
}
