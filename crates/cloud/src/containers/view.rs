//! A container with everything that showing it needs, gathered in one place for all faces.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use weft_model::{Container, ExecId, Network, NetworkId, Port};

/// Where a container's files are on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerPaths {
    /// `resolv.conf` mounted into it; empty before its first start.
    pub resolv_conf: PathBuf,
    /// `hostname` mounted into it; empty before its first start.
    pub hostname: PathBuf,
    /// `hosts` mounted into it; empty before its first start.
    pub hosts: PathBuf,
    /// The log file; empty for drivers without one.
    pub log: PathBuf,
    /// The network namespace; empty while it has none.
    pub netns: PathBuf,
    /// The root file system while it is mounted.
    pub rootfs: PathBuf,
    /// The writable layer.
    pub upper: PathBuf,
    /// The work directory of the overlay.
    pub work: PathBuf,
    /// The image's layers, uppermost first.
    pub lower: Vec<PathBuf>,
}

/// Bytes a container takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContainerSize {
    /// In its writable layer.
    pub writable: u64,
    /// In its root file system altogether.
    pub root: u64,
}

/// A container and what belongs to it.
#[derive(Clone, Debug)]
pub struct ContainerView {
    /// The container.
    pub container: Arc<Container>,
    /// Its ports, while it runs.
    pub ports: Vec<Arc<Port>>,
    /// Names that links of other containers give it: `/parent/alias`.
    pub link_names: Vec<String>,
    /// The networks it is attached to.
    pub networks: BTreeMap<NetworkId, Arc<Network>>,
    /// Its files.
    pub paths: ContainerPaths,
    /// Execs that have not been forgotten yet.
    pub execs: Vec<ExecId>,
    /// What it takes, when that was asked for.
    pub size: Option<ContainerSize>,
    /// The image's reference as it is best shown now: as written, or the id once the tag points elsewhere.
    pub image: String,
    /// The image's layers, lowest first, while the image is there.
    pub image_layers: Option<Vec<weft_model::Digest>>,
    /// The image's manifest, where it can be said.
    pub image_manifest: Option<Arc<crate::Target>>,
}
