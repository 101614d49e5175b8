//! Every use case of Weft, written once: authorise the caller, one transaction, wake the reconcilers.
//!
//! Faces translate their API into one call here each; nothing else writes a spec. A use case returns when
//! the status says that the wish came true, or why it did not, so that a user may wait where users wait,
//! while everything underneath is level-triggered.

mod caller;
mod containers;
mod convert;
mod error;
mod execs;
mod figures;
mod host;
mod hosts;
mod images;
mod insight;
mod networks;
mod policies;
mod progress;
mod system;
mod tidy;
mod volumes;

use std::{collections::HashMap, sync::Arc};

use weft_base::{Clock, Tasks};
use weft_engine::Engine;
use weft_image::{ImageStore, registry::RegistryClient};
use weft_model::{Alive, Container, Digest, Host, LogConfig, Network, Policy, Port, Volume};
use weft_net::{Hints, Net, Pools};
use weft_store::{Stores, Table};

pub use caller::{Action, Caller};
pub use containers::{
    ContainerDraft, ContainerPaths, ContainerSize, ContainerUpdate, ContainerView, Created, DraftEndpoint,
    DraftNetwork, ImageDefaults, Logs, RemoveOptions, Usage,
};
pub use error::{CloudError, Kind, Result};
pub use execs::ExecDraft;
pub use figures::{ContainerFigures, Figures};
pub use host::{ContainerCounts, HostFacts, HostLimits};
pub use hosts::HostView;
pub use images::{
    CommitDraft, Credentials, Distribution, ImageDetail, ImageRemoval, ImageRemoved, ImageView, ImagesPruned,
    ImportDraft, Loaded, Platform, PruneFilter, PullDraft, PushDraft, SearchHit, Target,
};
pub use insight::{ExplainDraft, GraphNetwork, GraphPort, NetworkGraph, NetworkStats, PortStats, Watching};
pub use networks::{LimitChange, LimitView, NetworkView, ensure_networks};
pub use policies::{PolicyDraft, PolicyView};
pub use progress::{Progress, ProgressSink};
pub use system::{DiskUsage, EventFeed, UsageKinds};
pub use volumes::{Pruned, VolumeDraft, VolumeUsage, VolumeView};
pub use weft_engine::{
    ArchiveStat, AttachOptions, Attachment, ChangeKind, ExecView, InterfaceUsage, LogQuery, Pair, PathChange,
    PutOptions, Sample, StatsStream, TopTable, WaitCondition, WaitResult,
    cgroup::{BlockIo, CpuUsage},
    logs::{LogEntry, Stream as LogSource},
};
pub use weft_model::StopRequest;
pub use weft_net::{IpamDraft, NetworkChange, NetworkDraft, ParentDraft};
pub use weft_store::Mark;

/// All use cases. Cheap to clone.
#[derive(Clone)]
pub struct Cloud(Arc<Inner>);

/// What containers get when they say nothing.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// Where output goes.
    pub log: LogConfig,
    /// Containers get a user namespace of their own.
    pub remapped: bool,
    /// Where published ports listen when nobody says.
    pub publish_ip: Option<std::net::IpAddr>,
    /// Cgroup namespace.
    pub cgroup: weft_model::CgroupNs,
    /// IPC namespace.
    pub ipc: weft_model::IpcMode,
    /// System call filter.
    pub seccomp: weft_model::SeccompChoice,
}

/// What the use cases work on.
pub struct Parts {
    /// What is remembered.
    pub stores: Stores,
    /// Containers made real.
    pub engine: Engine,
    /// Images.
    pub images: ImageStore,
    /// Registries.
    pub registry: RegistryClient,
    /// Networks made real.
    pub net: Net,
    /// Where subnets come from when nobody chose one.
    pub pools: Pools,
    /// Facts about this host.
    pub host: HostFacts,
    /// Defaults.
    pub defaults: Defaults,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

struct Inner {
    alive: Table<Alive>,
    containers: Table<Container>,
    hosts: Table<Host>,
    networks: Table<Network>,
    policies: Table<Policy>,
    ports: Table<Port>,
    volumes: Table<Volume>,
    parts: Parts,
    host: parking_lot::RwLock<Arc<HostFacts>>,
    /// Turns at choosing addresses and host ports.
    hints: Hints,
    /// Whose turn it is to say what no policy says yet.
    policing: tokio::sync::Mutex<()>,
    /// Configurations of images, which never change.
    configs: parking_lot::Mutex<HashMap<Digest, Arc<serde_json::Value>>>,
    /// Manifests of images, by image and the manifest it came with.
    targets: parking_lot::Mutex<images::Targets>,
}

impl Cloud {
    /// The use cases on `parts`; what tidies up behind containers runs in `tasks`.
    #[must_use]
    pub fn start(parts: Parts, tasks: &Tasks) -> Self {
        let stores = &parts.stores;
        let cloud = Self(Arc::new(Inner {
            alive: Table::new(stores),
            containers: Table::new(stores),
            hosts: Table::new(stores),
            networks: Table::new(stores),
            policies: Table::new(stores),
            ports: Table::new(stores),
            volumes: Table::new(stores),
            hints: Hints::from_kernel(),
            policing: tokio::sync::Mutex::default(),
            host: parking_lot::RwLock::new(Arc::new(parts.host.clone())),
            configs: parking_lot::Mutex::default(),
            targets: parking_lot::Mutex::default(),
            parts,
        }));
        tidy::start(&cloud, tasks);
        cloud
    }

    /// A mark that changes whenever anything that is kept changes: what was gathered after it was read is true as long
    /// as it stays the same.
    pub async fn mark(&self) -> Result<Mark> {
        Ok(self.stores().mark().await?)
    }

    fn stores(&self) -> &Stores {
        &self.0.parts.stores
    }

    fn engine(&self) -> &Engine {
        &self.0.parts.engine
    }

    fn images(&self) -> &ImageStore {
        &self.0.parts.images
    }

    fn now(&self) -> weft_base::Timestamp {
        self.0.parts.clock.now()
    }
}
