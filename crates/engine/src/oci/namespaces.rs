//! Which namespaces a container makes, joins, or shares with the host.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType as Kind};
use weft_model::{CgroupNs, Confinement, ContainerSpec, IpcMode, Namespace, NetworkMode};

use super::{
    error::OciError,
    host::{CgroupVersion, HostFacts},
    types::{BundleFacts, IdMap},
};

fn namespace(kind: Kind, path: Option<PathBuf>) -> LinuxNamespace {
    let mut made = LinuxNamespace::default();
    made.set_typ(kind).set_path(path);
    made
}

/// The namespaces of the configuration.
pub(super) fn namespaces(spec: &ContainerSpec, facts: &BundleFacts) -> Result<Vec<LinuxNamespace>, OciError> {
    let confine = &spec.confine;
    let of = |pid: Option<u32>, kind, file| match pid {
        Some(pid) => Ok(PathBuf::from(format!("/proc/{pid}/ns/{file}"))),
        None => Err(OciError::NotRunning { kind }),
    };
    let mut all = vec![namespace(Kind::Mount, None)];
    let mut owner = None;
    match spec.network {
        NetworkMode::Host => {}
        NetworkMode::Attached | NetworkMode::None => all.push(namespace(Kind::Network, facts.netns.clone())),
        NetworkMode::Container(_) => {
            let path = facts.netns.clone().map_or_else(|| of(facts.net_of, "network", "net"), Ok)?;
            all.push(namespace(Kind::Network, Some(path)));
            owner = facts.net_of;
        }
    }
    if confine.uts != Namespace::Host {
        all.push(namespace(Kind::Uts, None));
    }
    match confine.pid {
        Namespace::Host => {}
        Namespace::Private => all.push(namespace(Kind::Pid, None)),
        Namespace::Container(_) => {
            all.push(namespace(Kind::Pid, Some(of(facts.pid_of, "pid", "pid")?)));
            owner = facts.pid_of;
        }
    }
    match confine.ipc {
        IpcMode::Host => {}
        IpcMode::Private | IpcMode::Shareable | IpcMode::None => all.push(namespace(Kind::Ipc, None)),
        IpcMode::Container(_) => {
            all.push(namespace(Kind::Ipc, Some(of(facts.ipc_of, "ipc", "ipc")?)));
            owner = facts.ipc_of;
        }
    }
    if private_cgroup(confine, &facts.host) {
        all.push(namespace(Kind::Cgroup, None));
    }
    if facts.userns.is_some() {
        // A joined namespace belongs to its container's user namespace: that one is joined as well.
        all.push(namespace(Kind::User, owner.map(|pid| PathBuf::from(format!("/proc/{pid}/ns/user")))));
    }
    Ok(all)
}

/// Whether the container sees its cgroup as the root of the hierarchy.
pub(super) fn private_cgroup(confine: &Confinement, host: &HostFacts) -> bool {
    host.cgroup_namespaces
        && match confine.cgroup {
            CgroupNs::Private => true,
            CgroupNs::Host => false,
            CgroupNs::Default => host.cgroup == CgroupVersion::V2,
        }
}

/// Id maps in the configuration's form.
pub(super) fn id_maps(maps: &[IdMap]) -> Result<Vec<LinuxIdMapping>, OciError> {
    let one = |map: &IdMap| {
        let made = LinuxIdMappingBuilder::default();
        Ok(made.container_id(map.inside).host_id(map.outside).size(map.count).build()?)
    };
    maps.iter().map(one).collect()
}
