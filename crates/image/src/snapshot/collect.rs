//! Removing layers that no image names, no container stands on and nobody holds.

use std::{collections::HashSet, fs};

use weft_model::Digest;

use super::Snapshots;
use crate::{
    content::{Freed, random_name},
    error::{ImageError, Result},
    pins::Watch,
    tree,
};

impl Snapshots {
    pub(crate) fn watch(&self) -> Watch {
        self.0.pins.watch()
    }

    /// Layers and blobs that containers stand on, of images that may be gone already.
    pub(crate) fn used_by_containers(&self) -> (HashSet<Digest>, HashSet<Digest>) {
        let rw = self.0.rw.lock();
        let layers = || rw.values().flat_map(|r| &r.layers);
        (layers().map(|l| l.chain).collect(), layers().map(|l| l.blob).collect())
    }

    /// Removes layers that are not in `keep` and were not held since `watch` began.
    pub(crate) fn collect(&self, watch: &Watch, keep: &HashSet<Digest>) -> Result<Freed> {
        let mut freed = Freed::default();
        let dir = self.0.root.join("layers");
        for entry in fs::read_dir(&dir).map_err(ImageError::io("reading", &dir))?.flatten() {
            let chain = format!("sha256:{}", entry.file_name().to_string_lossy()).parse::<Digest>();
            let Ok(chain) = chain else { continue };
            if keep.contains(&chain) {
                continue;
            }
            let size = self.layer_size(&chain).unwrap_or(0);
            let gone = self.0.root.join("tmp").join(random_name()?);
            if let Some(Ok(())) = watch.unless_held(&chain, || fs::rename(entry.path(), &gone)) {
                tree::remove(&gone).map_err(ImageError::os("removing", &gone))?;
                freed += Freed { count: 1, bytes: size };
            }
        }
        Ok(freed)
    }
}
