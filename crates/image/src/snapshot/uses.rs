//! Who needs a container's tree mounted: the container while it runs, and copies in and out of it at any time.
//!
//! One tree must not be mounted twice (two overlays over one upper directory are undefined), nor be taken from under a
//! user. So the users are counted, under one lock that is held for no longer than a mount takes.

use std::{
    collections::HashMap,
    io::{BufReader, Read, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use weft_model::ContainerId;
use weft_sys::mount;

use super::Snapshots;
use crate::{
    decompress::{Guard, decompress},
    diff::LayerTar,
    error::Result,
    tar::TarReader,
    unpack::{self, Merge},
};

#[derive(Debug, Default)]
pub(super) struct Use {
    /// The container runs on it.
    runs: bool,
    copies: usize,
}

pub(super) type Uses = HashMap<String, Use>;

/// A tree that stays mounted until this is dropped.
#[derive(Debug)]
pub struct InUse {
    snapshots: SnapshotsRef,
    id: ContainerId,
    at: PathBuf,
}

/// [`Snapshots`] without its fields in debug output.
#[derive(Clone)]
struct SnapshotsRef(Snapshots);

impl std::fmt::Debug for SnapshotsRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Snapshots").field(&self.0.root()).finish()
    }
}

impl InUse {
    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.at
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let snapshots = &self.snapshots.0;
        let mut uses = snapshots.0.uses.lock();
        let key = self.id.to_string();
        let Some(user) = uses.get_mut(&key) else { return };
        user.copies = user.copies.saturating_sub(1);
        if user.copies > 0 || user.runs {
            return;
        }
        uses.remove(&key);
        if let Err(error) = mount::unmount(&self.at) {
            tracing::warn!(error = weft_base::chain(&error), "a tree stays mounted");
        }
    }
}

impl Snapshots {
    /// Mounts the tree for the container to run on, and returns where; mounted already is success.
    pub fn mount(&self, id: &ContainerId) -> Result<PathBuf> {
        let record = self.record(id)?;
        let _held = self.ensure(&record.layers)?;
        let mut uses = self.0.uses.lock();
        let at = self.attach(id, &record)?;
        uses.entry(id.to_string()).or_default().runs = true;
        Ok(at)
    }

    /// The container runs no longer: detaches the tree's mount, if there is one and nobody copies.
    pub fn unmount(&self, id: &ContainerId) -> Result<()> {
        let mut uses = self.0.uses.lock();
        let key = id.to_string();
        if let Some(user) = uses.get_mut(&key) {
            user.runs = false;
            if user.copies > 0 {
                return Ok(());
            }
        }
        uses.remove(&key);
        Ok(mount::unmount(&self.mount_point(id))?)
    }

    /// Has the tree mounted for a copy in or out, whether the container runs or not.
    pub fn in_use(&self, id: &ContainerId) -> Result<InUse> {
        let record = self.record(id)?;
        let _held = self.ensure(&record.layers)?;
        let mut uses = self.0.uses.lock();
        // What an earlier daemon mounted for a container that runs on is not ours to take away.
        let runs = self.is_mounted(id);
        let at = self.attach(id, &record)?;
        let user = uses.entry(id.to_string()).or_insert(Use { runs, copies: 0 });
        user.copies += 1;
        Ok(InUse { snapshots: SnapshotsRef(self.clone()), id: *id, at })
    }

    /// Writes what is at `path`, with all below it, as an archive whose names start with `name`. The caller's root
    /// directory is the container's.
    pub fn copy_out(&self, path: &Path, name: &Path, out: impl Write) -> Result<()> {
        let mut tar = LayerTar::new(out, self.0.ids);
        tar.subtree(path, name)?;
        tar.finish().map(drop)
    }

    /// Unpacks an archive (plain or packed) over the tree at `root`.
    pub fn copy_in(&self, archive: impl Read + Send, root: OwnedFd, how: Merge) -> Result<()> {
        let (_, plain) = decompress(BufReader::with_capacity(256 << 10, archive))?;
        // The ratio of packed to plain bytes says nothing here: who may write into a container may fill it.
        let packed = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(u64::MAX));
        let guard = Guard::new(plain, false, packed, self.0.limits);
        unpack::merge(&mut TarReader::new(guard), root, how, self.0.ids, self.0.limits)
    }
}
