//! Names within a draft resolved to ids: containers whose namespaces are joined, networks, volumes.

use std::collections::BTreeMap;

use weft_base::Name;
use weft_model::{
    Attachment, Confinement, ContainerId, IpcMode, Link, MountKind, MountSpec, Namespace, NetworkId,
    NetworkKind, NetworkMode, Notation, PublishSpec, Volume,
};
use weft_net::NetError;

use super::{ContainerDraft, DraftEndpoint, DraftNetwork};
use crate::{Caller, Cloud, CloudError, Result, VolumeDraft};

/// Networks of a container, resolved.
pub(super) struct Networking {
    pub mode: NetworkMode,
    pub attachments: Vec<Attachment>,
    /// It runs on the default bridge, where links of the container itself count; elsewhere those of its endpoints do.
    pub legacy_links: bool,
}

impl DraftEndpoint {
    /// These wishes for `network`, which was written as `written`.
    pub(crate) fn attachment(&self, network: NetworkId, written: &str) -> Attachment {
        Attachment {
            network,
            written: written.to_owned(),
            aliases: self.aliases.clone(),
            links: self.links.clone(),
            ipv4: self.ipv4,
            ipv6: self.ipv6,
            link_local: self.link_local.clone(),
            mac: self.mac,
            gateway_priority: self.gateway_priority,
            options: self.options.clone(),
            ifname: self.ifname.clone(),
            sysctls: self.sysctls.clone(),
            explicit: self.ipv4.is_some() || self.ipv6.is_some() || !self.link_local.is_empty(),
        }
    }
}

/// Namespaces given by a container's name.
pub(super) async fn confinement(
    cloud: &Cloud,
    caller: &Caller,
    draft: &ContainerDraft,
) -> Result<Confinement> {
    let mut confine = draft.confine.clone();
    if confine.uts == Namespace::Host && draft.hostname.is_some() {
        return Err(CloudError::Invalid("conflicting options: hostname and the UTS mode".into()));
    }
    if let Some(name) = &draft.pid_of {
        confine.pid = Namespace::Container(joined(cloud, caller, name).await?);
    }
    if let Some(name) = &draft.ipc_of {
        let target = cloud.container_find(caller, name).await?;
        if matches!(target.spec.confine.ipc, IpcMode::None | IpcMode::Private) {
            return Err(CloudError::Conflict(format!(
                "cannot join IPC of a non-shareable container: {name} (hint: use IpcMode:shareable for the donor container)"
            )));
        }
        confine.ipc = IpcMode::Container(target.spec.id);
    }
    Ok(confine)
}

async fn joined(cloud: &Cloud, caller: &Caller, name: &str) -> Result<ContainerId> {
    Ok(cloud.container_find(caller, name).await?.spec.id)
}

/// What cannot go with another's network stack (moby `runconfig/hostconfig_unix.go`).
fn refuse_with_container(draft: &ContainerDraft) -> Result<()> {
    let dns = &draft.dns;
    let conflicts = [
        (draft.hostname.is_some(), "hostname and the network mode"),
        (
            !draft.links.is_empty(),
            "container type network can't be used with links. This would result in undefined behavior",
        ),
        (
            !dns.servers.is_empty() || !dns.search.is_empty() || !dns.options.is_empty(),
            "dns and the network mode",
        ),
        (!draft.extra_hosts.is_empty(), "custom host-to-IP mapping and the network mode"),
        (draft.mac.is_some(), "mac-address and the network mode"),
        (
            !draft.publish.is_empty() || draft.publish_all,
            "port publishing and the container type network mode",
        ),
        (!draft.exposed.is_empty(), "port exposing and the container type network mode"),
    ];
    match conflicts.iter().find(|(given, _)| *given) {
        Some((_, what)) => Err(CloudError::Invalid(format!("conflicting options: {what}"))),
        None => Ok(()),
    }
}

/// A link to nobody is refused when it is made (moby `setupLinks`).
pub(super) async fn links(cloud: &Cloud, caller: &Caller, links: &[String]) -> Result<()> {
    for written in links {
        let target = Link::parse(written).target;
        cloud.container_find(caller, target).await.map_err(|e| match e {
            CloudError::NotFound { .. } => {
                CloudError::Invalid(format!("could not get container for {target}: {e}"))
            }
            e => e,
        })?;
    }
    Ok(())
}

/// The network stack and the networks.
pub(super) async fn networking(cloud: &Cloud, caller: &Caller, draft: &ContainerDraft) -> Result<Networking> {
    let plain = |mode| Ok(Networking { mode, attachments: Vec::new(), legacy_links: true });
    let first = match &draft.network {
        DraftNetwork::Container(name) => {
            refuse_with_container(draft)?;
            return plain(NetworkMode::Container(joined(cloud, caller, name).await?));
        }
        DraftNetwork::Host => {
            if !draft.links.is_empty() {
                return Err(CloudError::Invalid("conflicting options: host type networking can't be used with links. This would result in undefined behavior".into()));
            }
            return predefined(draft, NetworkMode::Host);
        }
        DraftNetwork::None => return predefined(draft, NetworkMode::None),
        DraftNetwork::Default => "bridge",
        DraftNetwork::Named(name) => name.as_str(),
    };
    // Aliases and addresses on a network that will be made before the start are allowed only when it exists.
    let network = match cloud.network_find(caller, first).await {
        // Configuration wants no default bridge: then what asks for it has loopback only, as with dockerd.
        Err(CloudError::NotFound { .. }) if first == "bridge" => return plain(NetworkMode::None),
        found => found?,
    };
    match network.spec.kind {
        NetworkKind::Host => return predefined(draft, NetworkMode::Host),
        NetworkKind::None => return predefined(draft, NetworkMode::None),
        _ => {}
    }
    let mut attachments: Vec<Attachment> = Vec::new();
    let mut wishes: BTreeMap<NetworkId, &DraftEndpoint> = BTreeMap::new();
    let mut order = vec![network.spec.id];
    for endpoint in &draft.endpoints {
        let found = match endpoint.network.as_str() {
            "default" => network.clone(),
            name => cloud.network_find(caller, name).await?,
        };
        if !matches!(found.spec.kind, NetworkKind::Host | NetworkKind::None) {
            if !order.contains(&found.spec.id) {
                order.push(found.spec.id);
            }
            wishes.insert(found.spec.id, endpoint);
        }
    }
    let none = DraftEndpoint::default();
    for id in order {
        let endpoint = wishes.get(&id).copied().unwrap_or(&none);
        let network = cloud.network_by_id(id).await?;
        let written = if endpoint.network.is_empty() { first } else { &endpoint.network };
        let mut attachment = endpoint.attachment(id, written);
        if attachments.is_empty() && attachment.mac.is_none() {
            attachment.mac = draft.mac;
        }
        cloud.attachment_check(&network, &attachment)?;
        attachments.push(attachment);
    }
    let legacy_links = network.spec.is_default_bridge();
    Ok(Networking { mode: NetworkMode::Attached, attachments, legacy_links })
}

/// The stack of a mode without endpoints of its own: nothing can be wished of them (moby `updateNetworkConfig`).
fn predefined(draft: &ContainerDraft, mode: NetworkMode) -> Result<Networking> {
    if draft.endpoints.iter().any(|e| e.ipv4.is_some() || e.ipv6.is_some()) {
        return Err(NetError::PredefinedAddress.into());
    }
    if draft.endpoints.iter().any(|e| !e.aliases.is_empty()) {
        return Err(NetError::PredefinedAlias.into());
    }
    Ok(Networking { mode, attachments: Vec::new(), legacy_links: true })
}

/// Ports that host and none networks cannot publish are dropped, as dockerd does with a warning.
pub(super) fn publishable(
    mode: NetworkMode,
    publish: &[PublishSpec],
    warnings: &mut Vec<String>,
) -> Vec<PublishSpec> {
    if mode == NetworkMode::Host && !publish.is_empty() {
        warnings.push("Published ports are discarded when using host network mode".into());
        return Vec::new();
    }
    publish.to_vec()
}

/// Mounts with every volume named, mounts of other containers added, and the volumes that must be made.
pub(super) async fn mounts(
    cloud: &Cloud,
    caller: &Caller,
    draft: &ContainerDraft,
) -> Result<(Vec<MountSpec>, Vec<Volume>)> {
    let mut mounts: Vec<MountSpec> = Vec::new();
    let mut made: Vec<Volume> = Vec::new();
    let inherited = inherited(cloud, caller, &draft.volumes_from).await?;
    for mount in &draft.mounts {
        let mut mount = mount.clone();
        if let MountKind::Volume { name, anonymous, driver, options, labels, .. } = &mut mount.kind {
            // What the image declares gives way to what another container brings.
            if *anonymous
                && mount.notation == Notation::Implied
                && inherited.iter().any(|m| m.target == mount.target)
            {
                continue;
            }
            let mut wish = VolumeDraft {
                name: Some(name.clone()).filter(|n| !n.is_empty()),
                driver: driver.clone(),
                options: options.clone(),
                labels: labels.clone(),
            };
            if wish.name.is_none() {
                *anonymous = true;
                wish.labels.insert("com.docker.volume.anonymous".into(), String::new());
            }
            let volume = cloud.volume_resolve(caller, &wish, *anonymous)?;
            *name = volume.spec.name.to_string();
            let known = cloud.0.volumes.get(&volume.spec.name).await?.is_some();
            if !known && made.iter().all(|v| v.spec.name != volume.spec.name) {
                made.push(volume);
            }
        }
        if let MountKind::Image { reference, id, .. } = &mut mount.kind {
            *id = Some(cloud.image_for(reference, None).await?.id);
        }
        mounts.push(mount);
    }
    for mount in inherited {
        if mounts.iter().all(|m| m.target != mount.target) {
            mounts.push(mount);
        }
    }
    Ok((mounts, made))
}

async fn inherited(cloud: &Cloud, caller: &Caller, from: &[String]) -> Result<Vec<MountSpec>> {
    let mut mounts: Vec<MountSpec> = Vec::new();
    for written in from {
        let (name, mode) = written.split_once(':').unwrap_or((written, "rw"));
        let read_only = match mode {
            "ro" => true,
            "rw" | "z" | "Z" | "" => false,
            other => return Err(CloudError::Invalid(format!("invalid mode: {other}"))),
        };
        let source = cloud.container_find(caller, name).await?;
        for mount in source.spec.mounts.iter().filter(|m| !matches!(m.kind, MountKind::Tmpfs(_))) {
            let mut mount = mount.clone();
            mount.read_only |= read_only;
            mount.notation = Notation::Long(serde_json::Value::Null);
            if let MountKind::Volume { anonymous, no_copy, .. } = &mut mount.kind {
                (*anonymous, *no_copy) = (false, true);
            }
            mounts.retain(|m| m.target != mount.target);
            mounts.push(mount);
        }
    }
    Ok(mounts)
}

/// The name a draft gives, checked.
pub(super) fn name(text: &str) -> Result<Name> {
    Name::new(text).ok().filter(|n| n.as_str().len() > 1).ok_or_else(|| {
        CloudError::Invalid(format!(
            "Invalid container name ({text}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        ))
    })
}
