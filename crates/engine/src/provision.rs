//! What a container needs before its first start: a writable tree, its volumes with the image's content in them, the
//! sources of its binds. And the same taken away again.
//!
//! Everything here may be done twice; a creation that was cut off is done again or taken back by
//! [`Engine::unprovision`].

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use weft_image::{LayerRef, layer_refs};
use weft_model::{
    Container, ContainerId, ContainerSpec, Image, MountKind, MountPoint, MountSpec, Notation, RunState,
    VolumeSpec,
};
use weft_store::Table;

use crate::{
    Engine, EngineError, Result,
    engine::{Inner, make_dir},
    error::blocking,
    types::Provisioned,
    volumes::{self, copy_up},
};

impl Engine {
    /// Makes the writable tree, volumes (with copy-up) and missing bind sources of a new container, and says which mounts
    /// it will have. Names of anonymous volumes must be chosen by then. On failure everything but volumes is taken
    /// back.
    ///
    /// # Errors
    /// `Invalid` with Docker's text for a bind without source; `Missing` for an unknown volume driver.
    pub async fn provision(&self, spec: &ContainerSpec) -> Result<Provisioned> {
        let done = self.0.provision(spec).await;
        if done.is_err() {
            let _ = self.unprovision(spec.id).await;
        }
        done
    }

    /// Takes away the tree and the files of a container that does not run. Volumes stay.
    ///
    /// # Errors
    /// What could not be removed.
    pub async fn unprovision(&self, id: ContainerId) -> Result<()> {
        self.0.take_down(id).await
    }

    /// Containers whose creation an earlier daemon began and did not finish: nobody was told of them. Right only before
    /// the first request is served.
    ///
    /// # Errors
    /// When records cannot be read.
    pub async fn unfinished(&self) -> Result<Vec<Arc<Container>>> {
        let inner = &self.0;
        let prepared: HashSet<String> = inner.images.snapshots().prepared().into_iter().collect();
        let mut found = Vec::new();
        for container in inner.all_containers().await? {
            let untouched = container.status.state == RunState::Created
                && container.spec.run.seq == 0
                && container.meta.deleting.is_none();
            // What the tree's rename does not tell is told by the mounts, which are written down last.
            if untouched
                && (!prepared.contains(&container.spec.id.to_string())
                    || container.status.mounts.is_empty() && inner.has_points(&container.spec).await)
            {
                found.push(container);
            }
        }
        Ok(found)
    }

    /// Containers at rest that their policies have a new daemon start, in rounds of which each may need those before. Right
    /// only before the first request is served.
    ///
    /// # Errors
    /// When records cannot be read.
    pub async fn due_at_boot(&self) -> Result<Vec<Vec<ContainerId>>> {
        Ok(crate::plan::rounds_at_boot(&self.0.all_containers().await?))
    }

    /// Waits for `patience` at most until the containers whose namespaces it joins are up, as far as they are on their way.
    pub async fn joined_up(&self, id: ContainerId, patience: Duration) {
        let deadline = tokio::time::Instant::now() + patience;
        while let Ok(container) = self.0.container(id).await {
            if !self.0.waits_for_joined(&container).await || tokio::time::Instant::now() >= deadline {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Inner {
    async fn provision(&self, spec: &ContainerSpec) -> Result<Provisioned> {
        let mounts = self.all_mounts(spec).await?;
        let mut points = Vec::with_capacity(mounts.len());
        let mut fresh = Vec::new();
        for mount in &mounts {
            match &mount.kind {
                MountKind::Bind { source, create, .. } => bind_source(source, *create)?,
                MountKind::Volume { .. } => {
                    let data = self.make_volume(mount).await?;
                    if matches!(&mount.kind, MountKind::Volume { no_copy: false, .. }) {
                        fresh.push((mount.clone(), data));
                    }
                }
                MountKind::Tmpfs(_) | MountKind::Image { .. } => {}
            }
            points.extend(self.mount_point(mount));
        }
        let (id, layers) = (spec.id, self.layers(spec.image.id).await?);
        let durable = self.durable(id);
        let snapshots = self.images.snapshots().clone();
        blocking(move || {
            make_dir(&durable)?;
            Ok(snapshots.prepare(&id, &layers)?)
        })
        .await?;
        self.copy_up_all(spec, fresh).await?;
        Ok(Provisioned { mounts: points, warnings: Vec::new() })
    }

    /// It will have mounts that are shown.
    async fn has_points(&self, spec: &ContainerSpec) -> bool {
        let mounts = self.all_mounts(spec).await.unwrap_or_default();
        mounts.iter().any(|mount| self.mount_point(mount).is_some())
    }

    /// The container's own mounts, and those of the containers it takes volumes from (its own win).
    pub(crate) async fn all_mounts(&self, spec: &ContainerSpec) -> Result<Vec<MountSpec>> {
        let mut all = spec.mounts.clone();
        let mut seen = HashSet::from([spec.id]);
        let mut todo: Vec<(String, bool)> = Vec::new();
        let push = |list: &[String], todo: &mut Vec<(String, bool)>, below_ro: bool| {
            for written in list {
                let (name, mode) = written.split_once(':').unwrap_or((written, "rw"));
                todo.push((name.to_owned(), below_ro || mode.split(',').any(|w| w == "ro")));
            }
        };
        push(&spec.volumes_from, &mut todo, false);
        while let Some((name, read_only)) = todo.pop() {
            let from = self.by_name(&name).await?;
            if !seen.insert(from.spec.id) {
                continue;
            }
            push(&from.spec.volumes_from, &mut todo, read_only);
            for mount in &from.spec.mounts {
                let same = |m: &MountSpec| clean(&m.target) == clean(&mount.target);
                if matches!(mount.kind, MountKind::Tmpfs(_)) || all.iter().any(same) {
                    continue;
                }
                let mut mount = mount.clone();
                mount.read_only |= read_only;
                if let MountKind::Volume { no_copy, .. } = &mut mount.kind {
                    *no_copy = true;
                }
                all.push(mount);
            }
        }
        Ok(all)
    }

    async fn by_name(&self, name: &str) -> Result<Arc<Container>> {
        let all = self.containers.list_shared().await?;
        let exact = all.iter().find(|c| c.spec.id.to_string() == name || c.spec.name.as_str() == name);
        let prefix = || all.iter().find(|c| name.len() >= 4 && c.spec.id.to_string().starts_with(name));
        let found = exact.or_else(prefix).map(|c| Arc::clone(&c.value));
        found.ok_or_else(|| EngineError::Missing(format!("No such container: {name}")))
    }

    async fn make_volume(&self, mount: &MountSpec) -> Result<PathBuf> {
        let MountKind::Volume { name, anonymous, driver, options, .. } = &mount.kind else {
            return Err(EngineError::Internal("a volume was expected".into()));
        };
        let spec = VolumeSpec {
            name: name.parse().map_err(|e| EngineError::Invalid(format!("{e}")))?,
            driver: if driver.is_empty() { "local".into() } else { driver.clone() },
            options: options.clone(),
            anonymous: *anonymous,
        };
        self.volumes.create(&spec).await
    }

    /// How a mount is shown.
    fn mount_point(&self, mount: &MountSpec) -> Option<MountPoint> {
        let (kind, name, source, driver) = match &mount.kind {
            MountKind::Bind { source, .. } => ("bind", "", source.clone(), ""),
            MountKind::Volume { name, driver, .. } => {
                let driver = if driver.is_empty() { "local" } else { driver };
                ("volume", name.as_str(), self.volumes.path(name).to_string_lossy().into_owned(), driver)
            }
            // The map of tmpfs mounts is no list of mounts to Docker's users.
            MountKind::Tmpfs(_) if matches!(mount.notation, Notation::TmpfsMap(_)) => return None,
            MountKind::Tmpfs(_) => ("tmpfs", "", String::new(), ""),
            MountKind::Image { reference, .. } => ("image", reference.as_str(), String::new(), ""),
        };
        Some(MountPoint {
            kind: kind.to_owned(),
            name: name.to_owned(),
            source,
            target: clean(&mount.target),
            driver: driver.to_owned(),
            mode: mount.mode.clone(),
            rw: !mount.read_only && kind != "image",
            propagation: mount.propagation,
        })
    }

    /// Layers of an image by its id.
    pub(crate) async fn layers(&self, image: weft_model::Digest) -> Result<Vec<LayerRef>> {
        let table: Table<Image> = Table::new(&self.stores);
        let found = table.get(&image).await?;
        let found = found.ok_or_else(|| EngineError::Missing(format!("No such image: {image}")))?;
        Ok(layer_refs(&found.spec.layers, &found.spec.diff_ids))
    }

    async fn copy_up_all(&self, spec: &ContainerSpec, fresh: Vec<(MountSpec, PathBuf)>) -> Result<()> {
        let mut work = Vec::new();
        for (mount, data) in fresh {
            let MountKind::Volume { name, options, .. } = &mount.kind else { continue };
            // A volume that is a mount of something is mounted for the copy.
            let in_place = !options.is_empty() || self.volumes.is_foreign(name).await?;
            if in_place {
                self.volumes.hold(name, spec.id).await?;
            }
            work.push((mount.target.clone(), data, in_place || self.is_used(name).await?));
        }
        if work.is_empty() {
            return Ok(());
        }
        let layers = self.layers(spec.image.id).await?;
        let snapshots = self.images.snapshots().clone();
        let done = blocking(move || {
            let view = snapshots.view(&layers)?;
            for (target, data, in_place) in work {
                let Ok(dir) = volumes::open_inside(&view.path(), &target) else { continue };
                let path = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&dir)));
                if path.is_dir() {
                    copy_up(&path.join("."), &data, in_place)?;
                }
            }
            Ok(())
        })
        .await;
        self.volumes.release(spec.id).await?;
        done
    }

    /// A running container has the volume open.
    async fn is_used(&self, name: &str) -> Result<bool> {
        let all = self.containers.list_shared().await?;
        let uses = |c: &Container| c.status.mounts.iter().any(|m| m.kind == "volume" && m.name == name);
        Ok(all.iter().any(|c| c.status.state.is_alive() && uses(c)))
    }

    /// Takes away everything of a container that does not run but its record and volumes.
    pub(crate) async fn take_down(&self, id: ContainerId) -> Result<()> {
        self.clean_up(id).await?;
        let (durable, snapshots) = (self.durable(id), self.images.snapshots().clone());
        blocking(move || {
            snapshots.remove(&id)?;
            volumes::remove_tree(&durable)
        })
        .await
    }
}

/// Checks, or makes, the source of a bind.
pub(crate) fn bind_source(source: &str, create: bool) -> Result<()> {
    if Path::new(source).symlink_metadata().is_ok() {
        return Ok(());
    }
    if create {
        return std::fs::create_dir_all(source)
            .map_err(EngineError::io(format!("error while creating mount source path '{source}'")));
    }
    Err(EngineError::Invalid(format!(
        "invalid mount config for type \"bind\": bind source path does not exist: {source}"
    )))
}

/// A path inside with single slashes, without `.` and `..`.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn paths_are_cleaned() {
        for (path, expected) in [("/", "/"), ("a//b/", "/a/b"), ("/a/./../b", "/b"), ("/..", "/")] {
            assert_eq!(clean(path), expected);
        }
    }
}
