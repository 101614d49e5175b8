//! Use cases around volumes.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use weft_base::Name;
use weft_engine::EngineError;
use weft_model::{Container, EventKind, Labels, MountKind, Volume, VolumeSpec};
use weft_store::{Conflict, StoreError, Stored, Txn};

use crate::{Action, Caller, Cloud, CloudError, Kind, Result};

/// A volume as it is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeDraft {
    /// Name; a random one when absent.
    pub name: Option<String>,
    /// Driver; `local` when empty.
    pub driver: String,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: Labels,
}

/// What a volume takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeUsage {
    /// Containers that refer to it.
    pub users: usize,
    /// Bytes; -1 when they cannot be counted.
    pub bytes: i64,
}

/// A volume and what belongs to it.
#[derive(Clone, Debug)]
pub struct VolumeView {
    /// The volume.
    pub volume: Arc<Volume>,
    /// Where its files are on the host.
    pub mountpoint: PathBuf,
    /// Containers that refer to it.
    pub users: usize,
    /// What it takes, when that was asked for.
    pub usage: Option<VolumeUsage>,
}

/// What a prune removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Names or ids.
    pub names: Vec<String>,
    /// Bytes freed.
    pub bytes: u64,
}

/// Bytes of a volume's name: it is a directory's name (`NAME_MAX` of linux/limits.h).
const LONGEST_NAME: usize = 255;

/// The volumes that `container` mounts.
pub(crate) fn mounted(container: &Container) -> impl Iterator<Item = &str> {
    let own = container.spec.mounts.iter().filter_map(|m| match &m.kind {
        MountKind::Volume { name, .. } => Some(name.as_str()),
        _ => None,
    });
    // Mounts taken over from other containers are only in the status.
    own.chain(container.status.mounts.iter().filter(|m| m.kind == "volume").map(|m| m.name.as_str()))
}

fn name_error(name: &str) -> CloudError {
    if name.len() > LONGEST_NAME {
        return CloudError::Invalid(format!(
            "create {name}: the name is too long, at most {LONGEST_NAME} bytes fit"
        ));
    }
    if name.chars().count() == 1 {
        return CloudError::Invalid(format!(
            "create {name}: volume name is too short, names should be at least two alphanumeric characters"
        ));
    }
    CloudError::Invalid(format!(
        "create {name}: \"{name}\" includes invalid characters for a local volume name, only \
         \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    ))
}

/// A random name of 64 hexadecimal digits.
pub(crate) fn random_name() -> Result<Name> {
    Name::new(weft_model::ContainerId::new().to_string()).map_err(|e| CloudError::internal(&e))
}

impl Cloud {
    /// Checks a draft of a volume and completes it; nothing is written.
    pub(crate) fn volume_resolve(
        &self,
        caller: &Caller,
        draft: &VolumeDraft,
        anonymous: bool,
    ) -> Result<Volume> {
        if !matches!(draft.driver.as_str(), "" | "local") {
            let subject = draft.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
            return Err(CloudError::Missing(format!(
                "create{subject}: error looking up volume plugin {0}: plugin \"{0}\" not found",
                draft.driver
            )));
        }
        let name = match &draft.name {
            Some(name) => Name::new(name.as_str())
                .ok()
                .filter(|n| (2..=LONGEST_NAME).contains(&n.as_str().len()))
                .ok_or_else(|| name_error(name))?,
            None => random_name()?,
        };
        weft_engine::check_volume_options(&draft.options).map_err(|refused| match refused {
            EngineError::Invalid(text) => CloudError::Invalid(format!("create {name}: {text}")),
            other => other.into(),
        })?;
        if !draft.options.is_empty() {
            // Options name devices and file systems of the host.
            caller.authorise(Action::Host, caller.project)?;
        }
        let spec = VolumeSpec { name, driver: "local".into(), options: draft.options.clone(), anonymous };
        Ok(Volume::new(caller.project, self.now(), draft.labels.clone(), spec))
    }

    /// Makes a volume; one that is there already with the same options is taken as it is.
    pub async fn volume_create(&self, caller: &Caller, draft: VolumeDraft) -> Result<VolumeView> {
        caller.authorise(Action::Write, caller.project)?;
        let mut draft = draft;
        let anonymous = draft.name.is_none();
        if anonymous {
            draft.labels.insert("com.docker.volume.anonymous".into(), String::new());
        }
        let volume = self.volume_resolve(caller, &draft, anonymous)?;
        if let Some(known) = self.0.volumes.get(&volume.spec.name).await? {
            if known.spec.options != volume.spec.options && !volume.spec.options.is_empty() {
                let name = &volume.spec.name;
                return Err(CloudError::Conflict(format!(
                    "create {name}: a volume named {name} already exists with different options"
                )));
            }
            return self.volume_show(known.value).await;
        }
        weft_engine::check_volume_options(&volume.spec.options)?;
        // The record goes first: a record without a directory is mended at the next start, the other would stay.
        let stored = self.0.volumes.create(&volume).await?;
        if let Err(error) = self.engine().volumes().create(&volume.spec).await {
            self.volume_drop(&stored).await?;
            return Err(error.into());
        }
        self.volume_event(&stored, "create");
        self.volume_show(stored.value).await
    }

    pub(crate) fn volume_event(&self, volume: &Volume, action: &str) {
        let attributes = [("driver".to_owned(), volume.spec.driver.clone())].into();
        let name = volume.spec.name.to_string();
        self.engine().events().emit(EventKind::Volume, action, name, volume.meta.project, attributes);
    }

    async fn volume_show(&self, volume: Arc<Volume>) -> Result<VolumeView> {
        let containers = self.0.containers.list_shared().await?;
        let users = containers.iter().filter(|c| mounted(c).any(|v| v == volume.spec.name.as_str())).count();
        Ok(VolumeView {
            mountpoint: self.engine().volumes().path(volume.spec.name.as_str()),
            volume,
            users,
            usage: None,
        })
    }

    /// The caller's volumes, in the order of their names.
    pub async fn volume_list(&self, caller: &Caller) -> Result<Vec<VolumeView>> {
        let volumes = self.0.volumes.list_shared().await?;
        let mut views = Vec::with_capacity(volumes.len());
        for volume in volumes.iter().filter(|v| caller.sees(v.meta.project)) {
            views.push(self.volume_show(Arc::clone(&volume.value)).await?);
        }
        Ok(views)
    }

    async fn volume_find(&self, caller: &Caller, name: &str) -> Result<Stored<Volume>> {
        let found = self.0.volumes.get(name).await?.filter(|v| caller.sees(v.meta.project));
        found.ok_or_else(|| CloudError::not_found(Kind::Volume, name))
    }

    /// One volume.
    pub async fn volume_view(&self, caller: &Caller, name: &str) -> Result<VolumeView> {
        let volume = self.volume_find(caller, name).await?;
        self.volume_show(volume.value).await
    }

    /// Removes a volume that no container refers to; with `force` a missing one is no error.
    pub async fn volume_remove(&self, caller: &Caller, name: &str, force: bool) -> Result<()> {
        let volume = match self.volume_find(caller, name).await {
            Err(CloudError::NotFound { .. }) if force => return Ok(()),
            found => found?,
        };
        caller.authorise(Action::Write, volume.meta.project)?;
        let containers = self.0.containers.list_shared().await?;
        let users: Vec<String> = containers
            .iter()
            .filter(|c| mounted(c).any(|v| v == name))
            .map(|c| c.spec.id.to_string())
            .collect();
        if !users.is_empty() {
            return Err(CloudError::Conflict(format!(
                "remove {name}: volume is in use - [{}]",
                users.join(", ")
            )));
        }
        self.volume_drop(&volume).await
    }

    async fn volume_drop(&self, volume: &Stored<Volume>) -> Result<()> {
        let (name, files) = (volume.spec.name.as_str(), self.engine().volumes());
        files.retire(name).await?;
        let done = Txn::new(self.stores()).delete_at::<Volume>(name, volume.revision).commit().await;
        match done {
            Ok(_) => {}
            // Somebody else removed it in the meantime: that is what was wanted.
            Err(StoreError::Conflict { reason: Conflict::Missing, .. }) => {
                return Ok(files.purge(name).await?);
            }
            Err(error) => {
                files.restore(name).await?;
                return Err(error.into());
            }
        }
        files.purge(name).await?;
        self.volume_event(volume, "destroy");
        Ok(())
    }

    /// Those volumes that go with `container`: the anonymous ones that no other container refers to.
    pub(crate) async fn volumes_doomed(&self, container: &Container) -> Result<Vec<Stored<Volume>>> {
        let containers = self.0.containers.list_shared().await?;
        let others: Vec<_> = containers.iter().filter(|c| c.spec.id != container.spec.id).collect();
        let mut doomed = Vec::new();
        for name in mounted(container).collect::<BTreeSet<_>>() {
            let volume = self.0.volumes.get(name).await?.filter(|v| v.spec.anonymous);
            doomed.extend(volume.filter(|_| others.iter().all(|c| mounted(c).all(|v| v != name))));
        }
        Ok(doomed)
    }

    /// Removes the volumes that were to go with containers that are gone now. One that somebody has begun to use
    /// in the meantime stays, and is an ordinary one again.
    pub(crate) async fn volumes_tidy(&self) -> Result<()> {
        let all = self.0.volumes.list_shared().await?;
        let doomed: Vec<_> = all.iter().filter(|v| v.meta.deleting.is_some()).cloned().collect();
        for volume in doomed {
            let name = volume.spec.name.as_str();
            let containers = self.0.containers.list_shared().await?;
            let users: Vec<_> = containers.iter().filter(|c| mounted(c).any(|v| v == name)).collect();
            if users.is_empty() {
                self.volume_drop(&volume).await?;
            } else if users.iter().any(|c| c.meta.deleting.is_none()) {
                let keep = |v: &mut Volume| v.meta.deleting.take().is_some();
                self.0.volumes.update(name, keep).await?;
            }
        }
        Ok(())
    }

    /// Removes the volumes that pass `keep_out` and that no container refers to.
    pub async fn volume_prune(
        &self,
        caller: &Caller,
        chosen: impl Fn(&Volume) -> bool + Send + Sync,
    ) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        for view in self.volume_list(caller).await? {
            if view.users > 0 || !chosen(&view.volume) {
                continue;
            }
            caller.authorise(Action::Write, view.volume.meta.project)?;
            let bytes =
                self.engine().volumes().usage(view.volume.spec.name.as_str()).await.map_or(0, |u| u.size);
            match self.volume_remove(caller, view.volume.spec.name.as_str(), false).await {
                Ok(()) => {
                    pruned.names.push(view.volume.spec.name.to_string());
                    pruned.bytes += bytes;
                }
                // Taken into use in the meantime.
                Err(CloudError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let attributes = [("reclaimed".to_owned(), pruned.bytes.to_string())].into();
        self.engine().events().emit(EventKind::Volume, "prune", "", caller.project, attributes);
        Ok(pruned)
    }
}
