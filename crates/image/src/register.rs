//! Making an image known: its content is stored and held, now its record and names are written in one transaction.

use weft_model::{Digest, Image, ImageSpec, Labels, Reference, default_project};
use weft_store::Txn;

use crate::{
    config::ImageConfig,
    error::{ImageError, Result},
    pins::Pin,
    snapshot::chain_ids,
    store::ImageStore,
};

/// Stored content that shall become an image.
#[derive(Debug)]
pub struct NewImage {
    /// The configuration blob: its digest is the image's id.
    pub config: Pin,
    /// The manifest blob, if it came with one.
    pub manifest: Option<Pin>,
    /// Layer blobs, lowest first.
    pub blobs: Vec<Digest>,
    /// Digests of the plain layers, as the configuration lists them.
    pub diff_ids: Vec<Digest>,
    /// Names it gets: tags, and `repository@digest` names of a pull.
    pub names: Vec<Reference>,
    /// The image it was made from.
    pub parent: Option<Digest>,
    /// Pins of blobs and layers, kept until the record holds them.
    pub held: Vec<Pin>,
}

impl ImageStore {
    /// Writes the record of `new` (or adds to the one that is there) and moves its names to it.
    pub async fn register(&self, new: NewImage) -> Result<Image> {
        let id = new.config.digest();
        let size = self.layers_size(&new.diff_ids).await?;
        let created =
            ImageConfig::parse(&self.content().read(&id)?)?.created_at().unwrap_or_else(|| self.now());
        let guard = self.names_lock().await;
        let all = self.table().list().await.map_err(ImageError::store)?;
        let before = all.iter().find(|s| s.spec.id == id);
        let mut image = match before {
            Some(stored) => Image::clone(&stored.value),
            None => {
                let spec = ImageSpec {
                    id,
                    manifest: None,
                    layers: new.blobs.clone(),
                    diff_ids: new.diff_ids.clone(),
                    tags: Vec::new(),
                    digests: Vec::new(),
                    parent: new.parent,
                };
                Image::new(default_project(), created, Labels::new(), spec)
            }
        };
        if let Some(manifest) = &new.manifest {
            // Manifest and blobs belong together: a pulled one names its own (packed) layers.
            image.spec.manifest = Some(manifest.digest());
            image.spec.layers = new.blobs;
        }
        image.status.size = size;
        let mut txn = Txn::new(self.table().stores());
        for name in &new.names {
            txn = self.take_name(txn, &all, &mut image, name);
        }
        image.meta.generation += u64::from(before.is_some());
        txn = match before {
            Some(stored) => txn.update(&image, stored.revision),
            None => txn.create(&image),
        };
        txn.commit().await.map_err(ImageError::store)?;
        drop(guard);
        Ok(image)
    }

    /// Adds `name` to `image`, taking it away from whichever other image has it.
    pub(crate) fn take_name(
        &self,
        mut txn: Txn,
        all: &[weft_store::Stored<Image>],
        image: &mut Image,
        name: &Reference,
    ) -> Txn {
        let text = name.to_string();
        let list = if name.pick.digest.is_some() { &mut image.spec.digests } else { &mut image.spec.tags };
        if !list.contains(&text) {
            list.push(text.clone());
            list.sort();
        }
        image.status.tagged_at = Some(self.now());
        if name.pick.digest.is_none() {
            for other in all.iter().filter(|o| o.spec.id != image.spec.id && o.spec.tags.contains(&text)) {
                let mut value = Image::clone(&other.value);
                value.spec.tags.retain(|t| *t != text);
                value.meta.generation += 1;
                txn = txn.update(&value, other.revision);
            }
        }
        txn
    }

    async fn layers_size(&self, diff_ids: &[Digest]) -> Result<u64> {
        let chains = chain_ids(diff_ids);
        let snapshots = self.snapshots().clone();
        self.blocking(move || chains.iter().map(|c| snapshots.layer_size(c)).sum()).await
    }
}
