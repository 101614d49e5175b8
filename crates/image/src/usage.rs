//! What images take on the disk, how they came to be, and which can go.

use std::collections::{BTreeMap, HashMap, HashSet};

use weft_base::Timestamp;
use weft_model::{Digest, Image, Labels};

use crate::{
    content::Freed,
    error::{ImageError, Result},
    names::{ImageUse, Removed, familiar},
    snapshot::chain_ids,
    store::ImageStore,
};

/// One line of `docker history`, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryItem {
    /// The image, for the newest line; earlier ones have none.
    pub id: Option<Digest>,
    /// When, if it says so.
    pub created: Option<Timestamp>,
    /// By which command.
    pub created_by: String,
    /// Names, for the newest line.
    pub tags: Vec<String>,
    /// Bytes of its layer.
    pub size: u64,
    /// Message.
    pub comment: String,
}

/// What images take (`system df`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Bytes of all layers, each once.
    pub layers_size: u64,
    /// For each image: bytes of layers that other images have too.
    pub shared: BTreeMap<Digest, u64>,
}

/// Which images a prune may take.
#[derive(Clone, Debug, Default)]
pub struct PruneFilter {
    /// Also named images that no container uses.
    pub all: bool,
    /// Only those made before.
    pub until: Option<Timestamp>,
    /// Only those with these labels (an empty value stands for any).
    pub labels: Labels,
    /// Not those with these labels.
    pub not_labels: Labels,
}

fn has(labels: &Labels, (key, value): (&String, &String)) -> bool {
    labels.get(key).is_some_and(|v| value.is_empty() || v == value)
}

impl ImageStore {
    /// How the image was made, newest first.
    pub async fn history(&self, image: &Image) -> Result<Vec<HistoryItem>> {
        let config = self.config(image).await?;
        let chains = chain_ids(&image.spec.diff_ids);
        let snapshots = self.snapshots().clone();
        let sizes: Vec<u64> =
            self.blocking(move || chains.iter().map(|c| snapshots.layer_size(c)).collect()).await?;
        let mut sizes = sizes.into_iter();
        let mut out: Vec<HistoryItem> = config
            .history
            .iter()
            .map(|step| HistoryItem {
                id: None,
                created: step.created.as_deref().and_then(Timestamp::parse_rfc3339),
                created_by: step.created_by.clone(),
                tags: Vec::new(),
                size: if step.empty_layer { 0 } else { sizes.next().unwrap_or(0) },
                comment: step.comment.clone(),
            })
            .collect();
        out.reverse();
        if let Some(newest) = out.first_mut() {
            newest.id = Some(image.spec.id);
            newest.tags = image.spec.tags.iter().map(|t| familiar(t)).collect();
        }
        Ok(out)
    }

    /// What images take on the disk.
    pub async fn disk_usage(&self) -> Result<DiskUsage> {
        let images = self.list().await?;
        let snapshots = self.snapshots().clone();
        self.blocking(move || {
            let mut users: HashMap<Digest, HashSet<Digest>> = HashMap::new();
            for image in &images {
                for chain in chain_ids(&image.spec.diff_ids) {
                    users.entry(chain).or_default().insert(image.spec.id);
                }
            }
            let mut usage = DiskUsage::default();
            for (chain, images) in users {
                let size = snapshots.layer_size(&chain).unwrap_or(0);
                usage.layers_size += size;
                for image in &images {
                    *usage.shared.entry(*image).or_default() += if images.len() > 1 { size } else { 0 };
                }
            }
            Ok(usage)
        })
        .await
    }

    /// Removes images that nothing uses: unnamed ones, or with `all` named ones too.
    pub async fn prune(&self, filter: &PruneFilter, uses: &[ImageUse]) -> Result<(Vec<Removed>, Freed)> {
        let guard = self.names_lock().await;
        let all = self.table().list().await.map_err(ImageError::store)?;
        let mut gone: Vec<Image> = Vec::new();
        let mut report = Vec::new();
        // Children before parents: again until nothing more can go.
        loop {
            let before = gone.len();
            for stored in &all {
                let id = stored.spec.id;
                let is_gone = |id: &Digest| gone.iter().any(|g: &Image| g.spec.id == *id);
                let children = all.iter().any(|i| i.spec.parent == Some(id) && !is_gone(&i.spec.id));
                let named = !stored.spec.tags.is_empty() || !stored.spec.digests.is_empty();
                let used = uses.iter().any(|u| u.image == id);
                if is_gone(&id)
                    || children
                    || used
                    || (named && !filter.all)
                    || !self.wanted(stored, filter).await?
                {
                    continue;
                }
                let names = stored.spec.tags.iter().chain(&stored.spec.digests);
                report.extend(names.map(|n| Removed::Untagged(familiar(n))));
                report.push(Removed::Deleted(id));
                gone.push(Image::clone(&stored.value));
            }
            if gone.len() == before {
                break;
            }
        }
        self.delete_records(&gone).await?;
        drop(guard);
        let content = self.content().clone();
        let mut freed = self.collect().await?;
        freed += self.blocking(move || content.drop_partial()).await?;
        Ok((report, freed))
    }

    async fn wanted(&self, image: &Image, filter: &PruneFilter) -> Result<bool> {
        if filter.until.is_some_and(|until| image.meta.created >= until) {
            return Ok(false);
        }
        if filter.labels.is_empty() && filter.not_labels.is_empty() {
            return Ok(true);
        }
        let labels = self.config(image).await?.config.labels;
        Ok(filter.labels.iter().all(|l| has(&labels, l))
            && !filter.not_labels.iter().any(|l| has(&labels, l)))
    }
}
