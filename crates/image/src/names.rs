//! From what people write to images; tags; removal with Docker's rules (moby `daemon/images/image_delete.go`).

use std::{collections::BTreeSet, sync::Arc};

use weft_model::{Digest, Image, Reference};
use weft_store::{Stored, Txn};

use crate::{
    error::{ImageError, Result},
    snapshot::chain_ids,
    store::ImageStore,
};

/// A container that needs an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUse {
    /// The image.
    pub image: Digest,
    /// The container's short id.
    pub container: String,
    /// Whether it runs.
    pub running: bool,
}

/// One thing a removal did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A name, as people write it.
    Untagged(String),
    /// An image or a layer.
    Deleted(Digest),
}

/// How to remove.
#[derive(Clone, Copy, Debug, Default)]
pub struct RemoveOptions {
    /// Also when stopped containers use it or several repositories name it.
    pub force: bool,
    /// Leave unnamed parents.
    pub no_prune: bool,
}

/// The name as people write it, from the stored text.
#[must_use]
pub fn familiar(name: &str) -> String {
    name.parse::<Reference>().map_or_else(|_| name.to_owned(), |r| r.familiar())
}

fn repository(name: &str) -> String {
    name.parse::<Reference>().map_or_else(|_| name.to_owned(), |r| r.repository())
}

/// At most one tag, and all names in one repository.
fn single_reference(image: &Image) -> bool {
    let names = image.spec.tags.iter().chain(&image.spec.digests);
    image.spec.tags.len() <= 1 && names.map(|n| repository(n)).collect::<BTreeSet<_>>().len() <= 1
}

fn no_such(text: &str) -> ImageError {
    ImageError::NotFound { what: "image", name: text.to_owned() }
}

/// How a text named an image.
#[derive(Clone, Debug, PartialEq, Eq)]
enum By {
    Id,
    Name(String),
}

fn find(all: &[Stored<Image>], text: &str) -> Result<(Stored<Image>, By)> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let is_hex =
        !hex.is_empty() && hex.len() <= 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex && hex.len() == 64 {
        let found = all.iter().find(|i| i.spec.id.hex() == hex);
        return found.map(|i| (i.clone(), By::Id)).ok_or_else(|| no_such(text));
    }
    let reference = text.parse::<Reference>();
    if let Ok(reference) = &reference {
        let name = reference.clone().or_latest();
        let full = match &name.pick.digest {
            Some(digest) => format!("{}@{digest}", name.repository()),
            None => name.to_string(),
        };
        let named = |i: &&Stored<Image>| i.spec.tags.contains(&full) || i.spec.digests.contains(&full);
        if let Some(image) = all.iter().find(named) {
            return Ok((image.clone(), By::Name(full)));
        }
    }
    if is_hex {
        let mut found = all.iter().filter(|i| i.spec.id.hex().starts_with(hex));
        match (found.next(), found.next()) {
            (Some(image), None) => return Ok((image.clone(), By::Id)),
            (Some(_), Some(_)) => return Err(ImageError::Ambiguous { prefix: hex.to_owned() }),
            _ => {}
        }
    }
    match reference {
        Ok(reference) => Err(no_such(&reference.or_latest().familiar())),
        Err(_) if text.starts_with("sha256:") => Err(no_such(text)),
        Err(error) => Err(error.into()),
    }
}

impl ImageStore {
    /// All images.
    pub async fn list(&self) -> Result<Vec<Arc<Image>>> {
        let all = self.table().list().await.map_err(ImageError::store)?;
        Ok(all.into_iter().map(|s| s.value).collect())
    }

    /// The image that `text` names: a tag (`latest` when none is written), `name@digest`, an id or the beginning of one.
    ///
    /// # Errors
    /// `NotFound`, `Ambiguous`, `Reference`.
    pub async fn resolve(&self, text: &str) -> Result<Arc<Image>> {
        let all = self.table().list().await.map_err(ImageError::store)?;
        find(&all, text).map(|(image, _)| image.value)
    }

    /// Gives the image another name; another image loses it.
    ///
    /// # Errors
    /// `Invalid` for a name with a digest.
    pub async fn tag(&self, image: &Digest, name: Reference) -> Result<()> {
        if name.pick.digest.is_some() {
            return Err(ImageError::Invalid("refusing to create a tag with a digest reference".into()));
        }
        let _guard = self.names_lock().await;
        let all = self.table().list().await.map_err(ImageError::store)?;
        let stored = all.iter().find(|s| s.spec.id == *image).ok_or_else(|| no_such(&image.to_string()))?;
        let mut value = Image::clone(&stored.value);
        let txn = self.take_name(Txn::new(self.table().stores()), &all, &mut value, &name.or_latest());
        value.meta.generation += 1;
        txn.update(&value, stored.revision).commit().await.map(drop).map_err(ImageError::store)
    }

    /// Takes a name away, or the image with all its names; `uses` are all containers that exist.
    pub async fn remove(
        &self,
        text: &str,
        options: RemoveOptions,
        uses: &[ImageUse],
    ) -> Result<Vec<Removed>> {
        let guard = self.names_lock().await;
        let all = self.table().list().await.map_err(ImageError::store)?;
        let (stored, by) = find(&all, text)?;
        let mut removal = Removal { all: &all, uses, gone: Vec::new(), report: Vec::new() };
        let mut image = Image::clone(&stored.value);
        let mut quiet = false;
        match by {
            By::Name(name) => {
                removal.may_untag(&image, text, options.force)?;
                removal.untag(&mut image, &name);
                let left = image.spec.tags.len() + image.spec.digests.len();
                if left > 0 {
                    self.write(&image, stored.revision).await?;
                    return Ok(removal.report);
                }
                quiet = true;
            }
            By::Id if single_reference(&image) => {
                removal.check(&image, options.force, false)?;
                for name in image.spec.tags.clone().iter().chain(&image.spec.digests.clone()) {
                    removal.untag(&mut image, name);
                }
            }
            By::Id => {}
        }
        let deleted = match removal.check(&image, options.force, true) {
            Ok(()) => {
                removal.delete(&mut image);
                if !options.no_prune {
                    removal.prune_parents(image.spec.parent);
                }
                true
            }
            // The name is gone; that the image stays is no failure.
            Err(_) if quiet => {
                self.write(&image, stored.revision).await?;
                false
            }
            Err(error) => return Err(error),
        };
        let (gone, mut report) = (removal.gone, removal.report);
        if deleted {
            self.delete_records(&gone).await?;
            drop(guard);
            report.extend(self.collect_reporting(&gone).await?);
        }
        Ok(report)
    }

    async fn write(&self, image: &Image, revision: u64) -> Result<()> {
        let mut image = image.clone();
        image.meta.generation += 1;
        self.table().replace(&image, revision).await.map(drop).map_err(ImageError::store)
    }

    pub(crate) async fn delete_records(&self, gone: &[Image]) -> Result<()> {
        let mut txn = Txn::new(self.table().stores());
        for image in gone {
            txn = txn.delete::<Image>(&image.spec.id);
        }
        txn.commit().await.map(drop).map_err(ImageError::store)
    }

    /// Frees the content of deleted images and names the layers that went, topmost first.
    pub(crate) async fn collect_reporting(&self, gone: &[Image]) -> Result<Vec<Removed>> {
        self.collect().await?;
        let chains = gone.iter().flat_map(|i| chain_ids(&i.spec.diff_ids).into_iter().rev());
        let mut seen = BTreeSet::new();
        let freed = chains.filter(|c| !self.snapshots().has_layer(c) && seen.insert(*c));
        Ok(freed.map(Removed::Deleted).collect())
    }
}

struct Removal<'a> {
    all: &'a [Stored<Image>],
    uses: &'a [ImageUse],
    gone: Vec<Image>,
    report: Vec<Removed>,
}

impl Removal<'_> {
    fn user(&self, image: &Image, running: Option<bool>) -> Option<&ImageUse> {
        self.uses.iter().find(|u| u.image == image.spec.id && running.is_none_or(|r| r == u.running))
    }

    fn in_use(image: &Image, by: &ImageUse, reference: Option<&str>) -> ImageError {
        ImageError::InUse {
            by_name: reference.is_some(),
            reference: reference.unwrap_or_default().to_owned(),
            container: by.container.clone(),
            running: by.running,
            image: image.spec.id,
        }
    }

    fn may_untag(&self, image: &Image, text: &str, force: bool) -> Result<()> {
        if !force
            && single_reference(image)
            && let Some(by) = self.user(image, None)
        {
            return Err(Self::in_use(image, by, Some(text)));
        }
        Ok(())
    }

    /// Whether the image may be deleted.
    fn check(&self, image: &Image, force: bool, names_count: bool) -> Result<()> {
        let gone = |id: &Digest| self.gone.iter().any(|g| g.spec.id == *id);
        if self.all.iter().any(|i| i.spec.parent == Some(image.spec.id) && !gone(&i.spec.id)) {
            return Err(ImageError::HasChildren { image: image.spec.id });
        }
        if let Some(by) = self.user(image, Some(true)) {
            return Err(Self::in_use(image, by, None));
        }
        if force {
            return Ok(());
        }
        if names_count && !(image.spec.tags.is_empty() && image.spec.digests.is_empty()) {
            return Err(ImageError::MultipleNames { image: image.spec.id });
        }
        match self.user(image, Some(false)) {
            Some(by) => Err(Self::in_use(image, by, None)),
            None => Ok(()),
        }
    }

    /// Takes `name` away; when the repository's last tag goes, its digests go too.
    fn untag(&mut self, image: &mut Image, name: &str) {
        image.spec.tags.retain(|t| t != name);
        image.spec.digests.retain(|d| d != name);
        self.report.push(Removed::Untagged(familiar(name)));
        let repo = repository(name);
        if image.spec.tags.iter().all(|t| repository(t) != repo) {
            for digest in image.spec.digests.extract_if(.., |d| repository(d) == repo) {
                self.report.push(Removed::Untagged(familiar(&digest)));
            }
        }
    }

    fn delete(&mut self, image: &mut Image) {
        for name in image.spec.tags.drain(..).chain(image.spec.digests.drain(..)) {
            self.report.push(Removed::Untagged(familiar(&name)));
        }
        self.report.push(Removed::Deleted(image.spec.id));
        self.gone.push(image.clone());
    }

    /// Parents that nothing names or uses go with their last child.
    fn prune_parents(&mut self, mut parent: Option<Digest>) {
        while let Some(id) = parent {
            let Some(stored) = self.all.iter().find(|i| i.spec.id == id) else { return };
            if self.check(&stored.value, false, true).is_err() {
                return;
            }
            let mut image = Image::clone(&stored.value);
            self.delete(&mut image);
            parent = image.spec.parent;
        }
    }
}
