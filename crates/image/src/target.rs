//! What an image is to a registry: its manifest, and how much of what it names is stored here.

use weft_model::{Digest, Image};

use crate::{
    archive::save::manifest_as_stored, config::ImageConfig, error::Result, registry::Platform,
    store::ImageStore,
};

/// An image's manifest as a descriptor, and what it amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Media type of the manifest.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// What the image is made for.
    pub platform: Platform,
    /// Bytes of manifest, configuration and layers in the content store.
    pub content: u64,
    /// All of them are there.
    pub available: bool,
}

impl ImageStore {
    /// The manifest that the image came with, or the one it would be saved under. `None` where that cannot be said
    /// without packing a layer.
    pub async fn target(&self, image: &Image) -> Result<Option<Target>> {
        let (content, image) = (self.content().clone(), image.clone());
        self.blocking(move || {
            let Some(made) = manifest_as_stored(&image, &content)? else { return Ok(None) };
            let config = ImageConfig::parse(&content.read(&image.spec.id)?)?;
            let (os, architecture, variant) = (config.os, config.architecture, config.variant);
            let size = made.bytes.len() as u64;
            let parts = || image.spec.layers.iter().chain([&image.spec.id]);
            Ok(Some(Target {
                media_type: made.media_type,
                digest: made.digest,
                size,
                platform: Platform { os, architecture, variant },
                content: parts().filter_map(|d| content.size(d).ok()).sum::<u64>()
                    + if made.stored { size } else { 0 },
                available: parts().all(|d| content.contains(d)),
            }))
        })
        .await
    }

    /// The image that `text` names, if it is made for `platform`.
    ///
    /// # Errors
    /// As [`ImageStore::resolve`]; `WrongPlatform`.
    pub async fn resolve_for(
        &self,
        text: &str,
        platform: Option<&Platform>,
    ) -> Result<std::sync::Arc<Image>> {
        let image = self.resolve(text).await?;
        let Some(wanted) = platform else { return Ok(image) };
        let config = self.config(&image).await?;
        let actual = Platform { os: config.os, architecture: config.architecture, variant: config.variant };
        if wanted.fits(&actual) {
            return Ok(image);
        }
        Err(crate::ImageError::WrongPlatform {
            reference: crate::familiar(text),
            wanted: wanted.to_string(),
            actual: actual.to_string(),
        })
    }
}
