//! Unpacked layers, and the writable trees that containers get over them.
//!
//! ```text
//! ROOT/snapshots/layers/<chain id>/fs          one layer unpacked, shared by all images with the same chain
//!                                 /layer.json  what it is; written last before the rename
//!                                 /init        mount points for containers over it (`/etc/hosts`, `/dev/console`, …)
//! ROOT/snapshots/rw/<container>/fs, work       what the container writes, overlay's scratch space
//!                              /snapshot.json  over which layers
//! ROOT/snapshots/tmp/*                         half-made; swept at start
//! ROOT/containers/<container>/rootfs           where it is mounted, in the daemon's mount namespace
//! ```
//! All that has a final name is whole: it was made under `tmp` and renamed. Layers are synced behind the scenes;
//! after a power failure those not yet synced are dropped and unpacked again from their blobs when they are needed.
//!
//! Where overlayfs cannot work on ROOT's file system, a container gets a full copy instead ([`Driver::Copy`]).

mod collect;
mod copy;
mod init;
mod layers;
mod rw;
mod uses;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use weft_model::Digest;

pub use rw::View;
pub use uses::InUse;

use crate::{
    content::{ContentStore, boot_id, random_name},
    error::{ImageError, Result},
    idmap::IdMap,
    layer::TempDir,
    pins::Pins,
    unpack::Limits,
};

/// How writable trees are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// Stacked directories by overlayfs.
    Overlay,
    /// A full copy of all layers.
    Copy,
}

/// One layer of an image, with all that is needed to unpack it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRef {
    /// Identifies the layer together with all below it.
    pub chain: Digest,
    /// Digest of its plain archive.
    pub diff_id: Digest,
    /// Its blob.
    pub blob: Digest,
}

/// Layers and writable trees; cheap to clone. All methods block.
#[derive(Clone)]
pub struct Snapshots(Arc<Inner>);

struct Inner {
    root: PathBuf,
    mounts: PathBuf,
    driver: Driver,
    ids: Option<IdMap>,
    limits: Limits,
    content: ContentStore,
    boot: String,
    pins: Pins,
    rw: Mutex<HashMap<String, rw::Record>>,
    unsynced: Mutex<layers::Unsynced>,
    uses: Mutex<uses::Uses>,
}

/// The chain ids of a stack of layers, lowest first (OCI image specification, "Layer ChainID").
#[must_use]
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut out: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let chain = match out.last() {
            None => *diff_id,
            Some(below) => Digest::from_sha256(Sha256::digest(format!("{below} {diff_id}")).into()),
        };
        out.push(chain);
    }
    out
}

/// The layers of an image from its lists of blobs and diff ids.
#[must_use]
pub fn layer_refs(blobs: &[Digest], diff_ids: &[Digest]) -> Vec<LayerRef> {
    let layers = chain_ids(diff_ids).into_iter().zip(diff_ids).zip(blobs);
    layers.map(|((chain, diff_id), blob)| LayerRef { chain, diff_id: *diff_id, blob: *blob }).collect()
}

impl Snapshots {
    /// Opens (makes) the directories, sweeps what is half-made. `driver` is probed for when not given.
    pub fn open(
        root: &Path,
        content: ContentStore,
        ids: Option<IdMap>,
        limits: Limits,
        driver: Option<Driver>,
    ) -> Result<Self> {
        let name = match ids {
            Some(ids) => format!("snapshots-{}.{}", ids.uid, ids.gid),
            None => "snapshots".to_owned(),
        };
        let (root, mounts) = (root.join(name), root.join("containers"));
        // Views of images may still be mounted there, when an earlier daemon died over them.
        weft_sys::mount::unmount_below(&root.join("tmp"))?;
        crate::tree::remove(&root.join("tmp")).map_err(ImageError::os("sweeping", root.join("tmp")))?;
        for dir in ["layers", "rw", "tmp", "empty"] {
            let dir = root.join(dir);
            std::fs::create_dir_all(&dir).map_err(ImageError::io("making", dir))?;
        }
        if let Some(ids) = ids {
            // What a container of an image without layers begins with.
            let (empty, (uid, gid)) = (root.join("empty"), ids.to_host(0, 0)?);
            std::os::unix::fs::chown(&empty, Some(uid), Some(gid))
                .map_err(ImageError::io("giving away", empty))?;
        }
        let driver = match driver {
            Some(driver) => driver,
            None => probe(&root)?,
        };
        let inner = Inner {
            root,
            mounts,
            driver,
            ids,
            limits,
            content,
            boot: boot_id()?,
            pins: Pins::default(),
            rw: Mutex::default(),
            unsynced: Mutex::default(),
            uses: Mutex::default(),
        };
        let snapshots = Self(Arc::new(inner));
        snapshots.drop_unsynced()?;
        snapshots.read_records()?;
        Ok(snapshots)
    }

    /// Bounds for unpacking.
    pub(crate) fn limits(&self) -> Limits {
        self.0.limits
    }

    /// How writable trees are made here.
    #[must_use]
    pub fn driver(&self) -> Driver {
        self.0.driver
    }

    /// The directory that holds layers and trees, for `info` and disk usage.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    fn temp(&self) -> Result<TempDir> {
        TempDir::make(self.0.root.join("tmp").join(random_name()?))
    }
}

/// Tries a small overlay on this file system.
fn probe(root: &Path) -> Result<Driver> {
    let dir = TempDir::make(root.join("tmp").join(random_name()?))?;
    let [lower, upper, work, at] = ["lower", "upper", "work", "at"].map(|n| dir.path().join(n));
    for path in [&lower, &upper, &work, &at] {
        std::fs::create_dir(path).map_err(ImageError::io("making", path))?;
    }
    let overlay = weft_sys::mount::Overlay { lowers: vec![lower], upper: Some((upper, work)) };
    match overlay.mount(&at) {
        Ok(()) => {
            weft_sys::mount::unmount(&at)?;
            Ok(Driver::Overlay)
        }
        Err(error) => {
            tracing::warn!(error = weft_base::chain(&error), "no overlay here: containers get full copies");
            Ok(Driver::Copy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_ids_are_those_of_the_specification() {
        let [a, b] = [1, 2].map(|n| Digest::from_sha256([n; 32]));
        let ab = Digest::from_sha256(Sha256::digest(format!("{a} {b}")).into());
        assert_eq!(chain_ids(&[a, b]), [a, ab]);
        assert!(chain_ids(&[]).is_empty());
    }
}
