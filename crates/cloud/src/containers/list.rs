//! Containers shown: gathered with their ports, networks and files.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::Arc,
};

use weft_image::chain_ids;
use weft_model::{
    Container, ContainerId, Digest, Image, Network, NetworkId, NetworkKind, NetworkMode, Port, PortOwner,
    Reference, RunState,
};

use super::{ContainerPaths, ContainerSize, ContainerView};
use crate::{Caller, Cloud, ContainerCounts, Result, Target};

/// What all views of one moment share.
struct Moment {
    networks: BTreeMap<NetworkId, Arc<Network>>,
    ports: HashMap<ContainerId, Vec<Arc<Port>>>,
    images: HashMap<Digest, Arc<Image>>,
    targets: HashMap<Digest, Arc<Target>>,
    link_names: HashMap<ContainerId, Vec<String>>,
}

impl Cloud {
    async fn moment(&self) -> Result<Moment> {
        let networks = self.0.networks.list_shared().await?;
        let mut ports: HashMap<ContainerId, Vec<Arc<Port>>> = HashMap::new();
        for port in self.0.ports.list_shared().await?.iter() {
            let PortOwner::Container(owner) = port.spec.owner;
            ports.entry(owner).or_default().push(Arc::clone(&port.value));
        }
        for list in ports.values_mut() {
            list.sort_by(|a, b| a.spec.ifname.cmp(&b.spec.ifname));
        }
        let images = self.images().list().await?;
        let mut targets = HashMap::new();
        for image in &images {
            // An image that cannot be read is no reason to show no containers.
            if let Ok(Some(target)) = self.target(image).await {
                targets.insert(image.spec.id, target);
            }
        }
        let link_names = super::links::given(&self.0.containers.list_shared().await?);
        Ok(Moment {
            networks: networks.iter().map(|n| (n.spec.id, Arc::clone(&n.value))).collect(),
            ports,
            images: images.iter().map(|i| (i.spec.id, Arc::clone(i))).collect(),
            targets,
            link_names,
        })
    }

    fn view_at(&self, moment: &Moment, container: &Arc<Container>) -> ContainerView {
        let spec = &container.spec;
        let wanted = |n: &Network| match spec.network {
            NetworkMode::Attached => spec.attachments.iter().any(|a| a.network == n.spec.id),
            NetworkMode::Host => n.spec.kind == NetworkKind::Host,
            NetworkMode::None => n.spec.kind == NetworkKind::None,
            NetworkMode::Container(_) => false,
        };
        let image = moment.images.get(&spec.image.id);
        ContainerView {
            container: Arc::clone(container),
            link_names: moment.link_names.get(&spec.id).cloned().unwrap_or_default(),
            ports: moment.ports.get(&spec.id).cloned().unwrap_or_default(),
            networks: moment
                .networks
                .iter()
                .filter(|(_, n)| wanted(n))
                .map(|(id, n)| (*id, Arc::clone(n)))
                .collect(),
            paths: ContainerPaths::default(),
            execs: Vec::new(),
            size: None,
            image: shown_image(&spec.image.reference, &spec.image.id, image.map(AsRef::as_ref)),
            image_manifest: image.and_then(|i| moment.targets.get(&i.spec.id).cloned()),
            image_layers: image.map(|i| i.spec.diff_ids.clone()),
        }
    }

    /// The caller's containers, in no order.
    pub async fn container_list(&self, caller: &Caller, sizes: bool) -> Result<Vec<ContainerView>> {
        let moment = self.moment().await?;
        let containers = self.0.containers.list_shared().await?;
        let mut views: Vec<ContainerView> = containers
            .iter()
            .filter(|c| caller.sees(c.meta.project))
            .map(|c| self.view_at(&moment, &c.value))
            .collect();
        if sizes {
            for view in &mut views {
                view.size = Some(self.container_size(view.container.spec.id).await?);
            }
        }
        Ok(views)
    }

    /// One container with everything that belongs to it.
    pub async fn container_view(&self, caller: &Caller, name: &str, size: bool) -> Result<ContainerView> {
        let found = self.container_find(caller, name).await?;
        let moment = self.moment().await?;
        let mut view = self.view_at(&moment, &found.value);
        let id = found.spec.id;
        view.paths = self.paths(&found, view.image_layers.as_deref());
        view.execs = self.engine().execs(id);
        if size {
            view.size = Some(self.container_size(id).await?);
        }
        Ok(view)
    }

    fn paths(&self, container: &Container, layers: Option<&[Digest]>) -> ContainerPaths {
        let id = container.spec.id;
        let dir = self.engine().container_dir(id);
        let started =
            |name: &str| if container.status.started_at.is_some() { dir.join(name) } else { PathBuf::new() };
        let snapshots = self.images().snapshots();
        let rw = snapshots.root().join("rw").join(id.to_string());
        let log = if container.spec.log.driver == "json-file" {
            started(&format!("{id}-json.log"))
        } else {
            PathBuf::new()
        };
        ContainerPaths {
            resolv_conf: started("resolv.conf"),
            hostname: started("hostname"),
            hosts: started("hosts"),
            log,
            netns: self.netns(container),
            rootfs: snapshots.mount_point(&id),
            upper: rw.join("fs"),
            work: rw.join("work"),
            lower: chain_ids(layers.unwrap_or_default())
                .iter()
                .rev()
                .map(|c| snapshots.layer_fs(c))
                .collect(),
        }
    }

    async fn container_size(&self, id: ContainerId) -> Result<ContainerSize> {
        let size = self.engine().size(id).await?;
        Ok(ContainerSize { writable: size.rw, root: size.root_fs })
    }

    /// How many containers are in which state.
    pub async fn container_counts(&self, caller: &Caller) -> Result<ContainerCounts> {
        let mut counts = ContainerCounts::default();
        for container in self.0.containers.list_shared().await?.iter().filter(|c| caller.sees(c.meta.project))
        {
            counts.total += 1;
            match container.status.state {
                RunState::Running | RunState::Restarting => counts.running += 1,
                RunState::Paused => counts.paused += 1,
                _ => counts.stopped += 1,
            }
        }
        Ok(counts)
    }
}

/// The reference as written, or the id once it means another image.
fn shown_image(written: &str, id: &Digest, image: Option<&Image>) -> String {
    let Ok(reference) = written.parse::<Reference>() else { return written.to_owned() };
    let Some(image) = image else { return written.to_owned() };
    let full = reference.clone().or_latest().to_string();
    let named = image.spec.tags.contains(&full) || image.spec.digests.contains(&reference.to_string());
    let by_id = id.hex().starts_with(written.strip_prefix("sha256:").unwrap_or(written));
    if named || by_id { written.to_owned() } else { id.to_string() }
}
