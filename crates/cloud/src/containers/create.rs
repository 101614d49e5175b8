//! Making a container: a draft resolved once, its record written, its files prepared.

use weft_base::Name;
use weft_engine::oci::CgroupVersion;
use weft_model::{
    CgroupNs, Container, ContainerId, ContainerSpec, ContainerStatus, Digest, ImageBinding, IpcMode, Labels,
    LogConfig, Meta, MountKind, Namespace, NetworkMode, RateLimit, Resources, RunRequest, SeccompChoice,
    Volume, ndots,
};
use weft_store::{Conflict, IndexKey, StoreError, Txn};

use super::{ContainerDraft, DraftNetwork, merge::merge, names::friendly, references};
use crate::{Action, Caller, Cloud, CloudError, Result};

/// What a creation answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The new container.
    pub id: ContainerId,
    /// What could not be granted, in words for people.
    pub warnings: Vec<String>,
}

/// A draft that reaches the host needs the right to.
fn authorise(caller: &Caller, draft: &ContainerDraft) -> Result<()> {
    caller.authorise(Action::Write, caller.project)?;
    let confine = &draft.confine;
    let host = confine.privileged
        || confine.pid == Namespace::Host
        || confine.uts == Namespace::Host
        || confine.ipc == IpcMode::Host
        || !confine.cap_add.is_empty()
        || !draft.resources.devices.is_empty()
        || draft.network == DraftNetwork::Host
        || draft.mounts.iter().any(|m| matches!(m.kind, MountKind::Bind { .. }));
    if host { caller.authorise(Action::Host, caller.project) } else { Ok(()) }
}

impl Cloud {
    /// Makes a container from `draft`. Nothing is left when it fails.
    pub async fn container_create(&self, caller: &Caller, mut draft: ContainerDraft) -> Result<Created> {
        authorise(caller, &draft)?;
        let name = draft.name.as_deref().map(references::name).transpose()?;
        if let Some(name) = &name
            && let Some(by) = IndexKey::of::<Container>(name).lookup(self.stores()).await?
        {
            return Err(CloudError::NameInUse { name: name.to_string(), by });
        }
        let image = self.image_for(&draft.image, draft.platform.as_deref()).await?;
        merge(&mut draft, &image.defaults)?;
        self.fill(&mut draft);
        let mut warnings = Vec::new();
        let labels = std::mem::take(&mut draft.labels);
        let resolved = self.resolve(caller, draft, name.clone(), image.id, &mut warnings).await;
        // "Not found" would tell clients to pull the image.
        let (spec, volumes) = resolved.map_err(|error| match error {
            CloudError::NotFound { .. } => CloudError::Invalid(error.to_string()),
            error => error,
        })?;
        warnings.extend(self.validate(&spec)?);
        warnings.extend(self.unpublished(&spec).await?);
        let dots = spec.dns.options.iter().filter_map(|option| ndots(option)?.err());
        warnings.extend(dots.map(|error| error.to_string()));
        let mut spec = spec;
        spec.limit = RateLimit::from_labels(&labels).map_err(|e| CloudError::Invalid(e.to_string()))?;
        if !spec.limit.is_empty() && matches!(spec.network, NetworkMode::Host | NetworkMode::Container(_)) {
            warnings
                .push("Bandwidth limits are discarded for containers without a network of their own.".into());
        }
        let host = self.engine().host();
        spec.resources = weft_engine::oci::granted(&spec.resources, host);
        swap_default(&mut spec.resources, host.swap_limit);
        if spec.confine.cgroup == CgroupNs::Default {
            let unified = host.cgroup == CgroupVersion::V2;
            spec.confine.cgroup = if unified { CgroupNs::Private } else { CgroupNs::Host };
        }
        let mut container = self.record(caller, spec, labels);
        self.write_new(&mut container, name.is_some(), &volumes).await?;
        match self.engine().provision(&container.spec).await {
            Ok(done) => {
                warnings.extend(done.warnings);
                if !done.mounts.is_empty() {
                    let id = container.spec.id;
                    let shown = |c: &mut Container| {
                        c.status.mounts.clone_from(&done.mounts);
                        true
                    };
                    self.0.containers.update(&id, shown).await?;
                }
            }
            Err(error) => {
                self.take_back(&container, &volumes).await;
                return Err(error.into());
            }
        }
        for volume in &volumes {
            self.volume_event(volume, "create");
        }
        self.engine().events().container(&container, "create", []);
        Ok(Created { id: container.spec.id, warnings })
    }

    /// What the daemon's configuration says where the draft says nothing.
    fn fill(&self, draft: &mut ContainerDraft) {
        let defaults = &self.0.parts.defaults;
        if draft.ipc_unsaid {
            draft.confine.ipc = defaults.ipc;
        }
        if draft.confine.cgroup == CgroupNs::Default {
            draft.confine.cgroup = defaults.cgroup;
        }
        if draft.confine.seccomp == SeccompChoice::Default {
            draft.confine.seccomp.clone_from(&defaults.seccomp);
        }
    }

    fn record(&self, caller: &Caller, spec: ContainerSpec, labels: Labels) -> Container {
        let meta =
            Meta { project: caller.project, created: self.now(), generation: 1, labels, deleting: None };
        Container { meta, spec, status: ContainerStatus::default() }
    }

    /// Takes back creations that an earlier daemon was at when it died, and what nobody will start any more. Before the
    /// first request is served.
    ///
    /// # Errors
    /// When records cannot be read.
    pub async fn recover(&self) -> Result<()> {
        for container in self.engine().unfinished().await? {
            tracing::info!(container = %container.spec.id, "taking back a creation that was cut off");
            let volumes = self.volumes_doomed(&container).await?;
            let volumes: Vec<Volume> = volumes.iter().map(|v| Volume::clone(v)).collect();
            self.take_back(&container, &volumes).await;
        }
        self.tidy_unstarted().await
    }

    /// Removes all of a creation that failed; what cannot be removed is logged and swept later.
    async fn take_back(&self, container: &Container, volumes: &[Volume]) {
        if let Err(error) = self.engine().unprovision(container.spec.id).await {
            tracing::warn!(%error, "a failed creation left files behind");
        }
        let files = self.engine().volumes();
        let mut txn = Txn::new(self.stores())
            .release(&IndexKey::of::<Container>(&container.spec.name), &container.spec.id)
            .delete::<Container>(&container.spec.id);
        for volume in volumes {
            let name = volume.spec.name.as_str();
            if let Err(error) = files.retire(name).await {
                tracing::warn!(%error, volume = name, "a failed creation left a volume behind");
                continue;
            }
            txn = txn.delete::<Volume>(name);
        }
        if let Err(error) = txn.commit().await {
            tracing::warn!(%error, "a failed creation left its record behind");
            return;
        }
        for volume in volumes {
            if let Err(error) = files.purge(volume.spec.name.as_str()).await {
                tracing::warn!(%error, volume = %volume.spec.name, "a failed creation left a volume behind");
            }
        }
    }

    /// Writes the record, with another friendly name for as long as one that was not asked for is taken.
    async fn write_new(&self, container: &mut Container, named: bool, volumes: &[Volume]) -> Result<()> {
        let id = container.spec.id;
        for attempt in 0.. {
            if !named {
                container.spec.name = friendly_name(&id, attempt)?;
            }
            let index = IndexKey::of::<Container>(&container.spec.name);
            let mut txn = Txn::new(self.stores()).claim(&index, &id).create(container);
            for volume in volumes {
                txn = txn.put(volume);
            }
            match txn.commit().await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict { reason: Conflict::Claimed { owner }, .. }) if named => {
                    return Err(CloudError::NameInUse { name: container.spec.name.to_string(), by: owner });
                }
                Err(StoreError::Conflict { reason: Conflict::Claimed { .. }, .. }) if attempt < 32 => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn resolve(
        &self,
        caller: &Caller,
        draft: ContainerDraft,
        name: Option<Name>,
        image: Digest,
        warnings: &mut Vec<String>,
    ) -> Result<(ContainerSpec, Vec<Volume>)> {
        let id = ContainerId::new();
        let confine = references::confinement(self, caller, &draft).await?;
        let networking = references::networking(self, caller, &draft).await?;
        let links = if networking.legacy_links { draft.links.clone() } else { Vec::new() };
        references::links(self, caller, &links).await?;
        let (mounts, volumes) = references::mounts(self, caller, &draft).await?;
        let hostname = match (&draft.hostname, networking.mode) {
            (Some(name), _) => name.clone(),
            (None, NetworkMode::Host) => self.0.parts.host.name.clone(),
            (None, NetworkMode::Container(other)) => {
                self.0.containers.get(&other).await?.map(|c| c.spec.hostname.clone()).unwrap_or_default()
            }
            (None, _) => id.short(),
        };
        let spec = ContainerSpec {
            id,
            name: name.map_or_else(|| friendly_name(&id, 0), Ok)?,
            image: ImageBinding { reference: draft.image, id: image },
            process: draft.process,
            hostname,
            domainname: draft.domainname,
            confine,
            resources: draft.resources,
            mounts,
            volumes_from: draft.volumes_from,
            network: networking.mode,
            attachments: networking.attachments,
            exposed: draft.exposed,
            publish: references::publishable(networking.mode, &draft.publish, warnings),
            publish_all: draft.publish_all,
            dns: draft.dns,
            extra_hosts: draft.extra_hosts,
            links,
            limit: RateLimit::default(),
            log: self.log_config(draft.log),
            restart: draft.restart,
            auto_remove: draft.auto_remove,
            health: draft.health,
            stop_signal: draft.stop_signal,
            stop_timeout: draft.stop_timeout,
            runtime: draft.runtime,
            init: draft.init,
            annotations: draft.annotations,
            echo: draft.echo,
            run: RunRequest::default(),
        };
        Ok((spec, volumes))
    }

    /// The draft's log configuration over the daemon's. Options of the default driver do not apply to another.
    fn log_config(&self, draft: Option<LogConfig>) -> LogConfig {
        let default = &self.0.parts.defaults.log;
        let Some(mut log) = draft else { return default.clone() };
        if log.driver.is_empty() {
            log.driver.clone_from(&default.driver);
        }
        if log.driver == default.driver {
            for (key, value) in &default.options {
                log.options.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        log
    }
}

impl Cloud {
    /// What cannot be, and warnings of what will not be granted.
    pub(crate) fn validate(&self, spec: &ContainerSpec) -> Result<Vec<String>> {
        let invalid = |e: &(dyn std::error::Error + 'static)| CloudError::Invalid(weft_base::chain(e));
        self.engine().check_runtime(&spec.runtime)?;
        weft_engine::logs::validate(&spec.log).map_err(|e| invalid(&e))?;
        weft_engine::oci::validate(spec, self.engine().host(), self.0.parts.defaults.remapped)
            .map_err(|e| invalid(&e))
    }
}

/// Swap for a container that says how much memory it may have and nothing else: as much again (moby
/// `adaptContainerSettings`), without a limit where there can be none.
fn swap_default(resources: &mut Resources, swap_limit: bool) {
    if resources.memory > 0 && resources.memory_swap == 0 {
        resources.memory_swap = if swap_limit { resources.memory.saturating_mul(2) } else { -1 };
    }
}

fn friendly_name(id: &ContainerId, attempt: usize) -> Result<Name> {
    Name::new(friendly(id, attempt)).map_err(|e| CloudError::internal(&e))
}
