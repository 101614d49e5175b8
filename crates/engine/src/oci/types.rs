//! What the builder is told beside the container's spec, and what it gives back.

use std::{collections::BTreeMap, path::PathBuf};

use oci_spec::runtime::Spec;
use weft_model::{Propagation, ReadOnlyDepth, TmpfsOptions, Ulimit};

use super::{devices::Gathered, host::HostFacts, user::ResolvedUser};

/// What lies behind a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSource {
    /// A path of the host; symbolic links resolved by the caller.
    Path {
        /// The path.
        path: PathBuf,
        /// Mounts below it come along.
        recursive: bool,
        /// How far a read-only mount reaches.
        depth: ReadOnlyDepth,
    },
    /// Memory.
    Tmpfs(TmpfsOptions),
}

/// A mount with its source found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedMount {
    /// Absolute path inside.
    pub target: String,
    /// What lies behind it.
    pub source: MountSource,
    /// Not writable through this mount.
    pub read_only: bool,
    /// Propagation.
    pub propagation: Propagation,
}

/// A range of ids: `inside..inside+count` is `outside..outside+count` on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdMap {
    /// First id inside.
    pub inside: u32,
    /// First id on the host.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// A user namespace of the container's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserNamespace {
    /// User ids.
    pub uids: Vec<IdMap>,
    /// Group ids.
    pub gids: Vec<IdMap>,
}

impl UserNamespace {
    /// Host ids of user and group 0 inside.
    #[must_use]
    pub fn root(&self) -> (u32, u32) {
        let zero = |maps: &[IdMap]| maps.iter().find(|m| m.inside == 0).map_or(0, |m| m.outside);
        (zero(&self.uids), zero(&self.gids))
    }
}

/// Facts of one start.
#[derive(Clone, Debug)]
pub struct BundleFacts {
    /// The prepared root file system.
    pub rootfs: PathBuf,
    /// The network namespace to enter; `None` with the host's network, or for a fresh empty one.
    pub netns: Option<PathBuf>,
    /// Pid of the container whose process namespace is joined.
    pub pid_of: Option<u32>,
    /// Pid of the container whose IPC namespace is joined.
    pub ipc_of: Option<u32>,
    /// Pid of the container whose network is joined (its user namespace is joined too where there is one).
    pub net_of: Option<u32>,
    /// `/dev/shm` on the host: of the joined container, of the host, or this container's own when it is
    /// shareable. `None` makes a private one inside.
    pub shm: Option<PathBuf>,
    /// Bytes of a `/dev/shm` that nobody gave a size; 0 for Docker's 64 MiB.
    pub shm_size: i64,
    /// Mounts of the spec, sources found, in any order.
    pub mounts: Vec<ResolvedMount>,
    /// `/etc/hosts` on the host.
    pub hosts: Option<PathBuf>,
    /// `/etc/resolv.conf` on the host.
    pub resolv_conf: Option<PathBuf>,
    /// `/etc/hostname` on the host.
    pub hostname: Option<PathBuf>,
    /// Who the process is.
    pub user: ResolvedUser,
    /// Device nodes and numbers.
    pub devices: Gathered,
    /// What this host can grant.
    pub host: HostFacts,
    /// The container's cgroup: `/weft/<id>`.
    pub cgroup: String,
    /// Limits for containers that say nothing of their own, by name.
    pub default_ulimits: Vec<Ulimit>,
    /// A user namespace of its own; `None` for the host's.
    pub userns: Option<UserNamespace>,
    /// The small init on the host, for `--init`; see [`super::init::install`].
    pub init: Option<PathBuf>,
    /// Run an init where the spec says nothing.
    pub init_by_default: bool,
    /// `NAME=value` pairs that legacy links bring.
    pub link_env: Vec<String>,
    /// `no_new_privs` for all containers.
    pub no_new_privileges: bool,
    /// Annotations added by the engine.
    pub annotations: BTreeMap<String, String>,
}

impl BundleFacts {
    /// Facts with nothing but a root file system, a user, a host and a cgroup.
    #[must_use]
    pub fn new(rootfs: PathBuf, user: ResolvedUser, host: HostFacts, cgroup: String) -> Self {
        Self {
            rootfs,
            user,
            host,
            cgroup,
            netns: None,
            pid_of: None,
            ipc_of: None,
            net_of: None,
            shm: None,
            shm_size: 0,
            mounts: Vec::new(),
            hosts: None,
            resolv_conf: None,
            hostname: None,
            devices: Gathered::default(),
            default_ulimits: Vec::new(),
            userns: None,
            init: None,
            init_by_default: false,
            link_env: Vec::new(),
            no_new_privileges: false,
            annotations: BTreeMap::new(),
        }
    }
}

/// A configuration and what was not granted.
#[derive(Clone, Debug)]
pub struct Built {
    /// The configuration, to be written as `config.json`.
    pub spec: Spec,
    /// What of the wishes was left out, in words for people.
    pub warnings: Vec<String>,
}
