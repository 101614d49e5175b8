//! The engine itself: what it holds, how it is opened, and the calls that only look a container up and pass on.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use parking_lot::Mutex;
use weft_base::{Clock, Tasks};
use weft_image::ImageStore;
use weft_model::{Container, ContainerId, ContainerStatus, ExecId, Network, Port, RunState};
use weft_store::{Stores, Table};

use crate::{
    EngineError, EventLog, NetGate, Result, actor::wake, cell::Cell, error::blocking, exec::ExecCell,
    oci::HostFacts, stats::Sampler, types::EngineConfig, volumes::Volumes,
};

/// The container engine of one host; cheap to clone.
#[derive(Clone)]
pub struct Engine(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub config: EngineConfig,
    pub stores: Stores,
    pub containers: Table<Container>,
    pub networks: Table<Network>,
    pub ports: Table<Port>,
    pub volumes: Volumes,
    pub images: ImageStore,
    pub gate: Arc<dyn NetGate>,
    pub tasks: Tasks,
    pub clock: Arc<dyn Clock>,
    pub events: EventLog,
    pub host: HostFacts,
    pub cells: Mutex<HashMap<ContainerId, Arc<Cell>>>,
    pub execs: Mutex<HashMap<ExecId, Arc<ExecCell>>>,
    pub sampler: Sampler,
    /// What was found at rest, and its policy has this daemon start it; until that is tried.
    pub due_at_boot: Mutex<HashSet<ContainerId>>,
    /// See [`Engine::close`].
    pub closing: AtomicBool,
}

impl Engine {
    /// Opens the engine: finds what earlier daemons left running, writes down what ended meanwhile, and goes on with
    /// restarts by policy that were waited for. Running containers are not touched. Returns once every container is known; restarts go on behind.
    ///
    /// # Errors
    /// When directories or records cannot be used.
    pub async fn open(
        config: EngineConfig,
        stores: Stores,
        images: ImageStore,
        gate: Arc<dyn NetGate>,
        tasks: Tasks,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        for dir in [config.root.join("containers"), config.run.join("containers"), config.run.join("runtime")]
        {
            make_dir(&dir)?;
        }
        // Environments of containers stand there.
        let group = config.userns_remap.as_ref().map_or(0, |map| map.root().1);
        for dir in [config.run.join("containers"), config.run.join("runtime")] {
            keep_private(&dir, group).map_err(EngineError::io(format!("closing {}", dir.display())))?;
        }
        let host = blocking(|| Ok(HostFacts::detect())).await?;
        let events = EventLog::open(Arc::clone(&clock), &config.root.join("events.log"))?;
        let owner = config.userns_remap.as_ref().map_or((0, 0), crate::oci::UserNamespace::root);
        let volumes = Volumes::open(config.root.join("volumes"), &stores, owner)?;
        let inner = Arc::new(Inner {
            containers: Table::new(&stores),
            networks: Table::new(&stores),
            ports: Table::new(&stores),
            sampler: Sampler::new(),
            config,
            stores,
            volumes,
            images,
            gate,
            tasks,
            clock,
            events,
            host,
            cells: Mutex::default(),
            execs: Mutex::default(),
            due_at_boot: Mutex::default(),
            closing: AtomicBool::new(false),
        });
        crate::reconcile::adopt_all(&inner).await?;
        crate::exec::collect_garbage(&inner);
        crate::baseline::keep(&inner);
        Ok(Self(inner))
    }

    /// What happened and happens. `cloud` emits through it too.
    #[must_use]
    pub fn events(&self) -> &EventLog {
        &self.0.events
    }

    /// Volumes on disk.
    #[must_use]
    pub fn volumes(&self) -> &Volumes {
        &self.0.volumes
    }

    /// What this host can grant.
    #[must_use]
    pub fn host(&self) -> &HostFacts {
        &self.0.host
    }

    /// Refuses a runtime that is not there; the empty name is the default's.
    ///
    /// # Errors
    /// `Invalid` in Docker's words.
    pub fn check_runtime(&self, name: &str) -> Result<()> {
        self.0.runtime(name).map(drop)
    }

    /// Has the container looked after: its spec, or its mark of removal, was changed. Also right for an unknown id.
    pub fn wake(&self, id: ContainerId) {
        let inner = Arc::clone(&self.0);
        match inner.known_cell(id) {
            Some(cell) => wake(&inner, &cell),
            None => self.0.tasks.spawn(async move {
                if let Ok(cell) = inner.cell(id).await {
                    wake(&inner, &cell);
                }
            }),
        }
    }

    /// Waits until request `seq` was carried out, and returns the status as then written. A failed start shows in
    /// `start_failure` and `error`.
    ///
    /// # Errors
    /// `NotFound` when the container is gone, or goes meanwhile.
    pub async fn answered(&self, id: ContainerId, seq: u64) -> Result<ContainerStatus> {
        let cell = self.0.cell(id).await?;
        let mut news = cell.news.subscribe();
        let seen = news.wait_for(|n| n.gone || n.status.answered >= seq).await;
        match seen {
            Ok(news) if news.status.answered >= seq => Ok(ContainerStatus::clone(&news.status)),
            _ => Err(EngineError::NotFound(id)),
        }
    }

    /// Waits until a container whose removal was asked for is gone.
    ///
    /// # Errors
    /// The reason, when its removal got stuck (it is `Dead` then, and tried again).
    pub async fn removed(&self, id: ContainerId) -> Result<()> {
        let cell = match self.0.cell(id).await {
            Err(EngineError::NotFound(_)) => return Ok(()),
            found => found?,
        };
        let mut news = cell.news.subscribe();
        let seen = news.wait_for(|n| n.gone || n.status.state == RunState::Dead).await;
        match seen {
            Ok(news) if !news.gone => Err(EngineError::Conflict(news.status.error.clone())),
            _ => Ok(()),
        }
    }

    /// The directory of the container's durable files (log, `hosts`, `hostname`, `resolv.conf`).
    #[must_use]
    pub fn container_dir(&self, id: ContainerId) -> PathBuf {
        self.0.durable(id)
    }
}

impl Inner {
    pub(crate) fn known_cell(&self, id: ContainerId) -> Option<Arc<Cell>> {
        self.cells.lock().get(&id).cloned()
    }

    /// The container's memory, made when the record exists.
    pub(crate) async fn cell(&self, id: ContainerId) -> Result<Arc<Cell>> {
        if let Some(cell) = self.known_cell(id) {
            return Ok(cell);
        }
        let container = self.container(id).await?;
        let mut cells = self.cells.lock();
        let fresh = || Arc::new(Cell::new(id, container.status.clone()));
        Ok(Arc::clone(cells.entry(id).or_insert_with(fresh)))
    }

    pub(crate) fn forget(&self, cell: &Cell) {
        self.cells.lock().remove(&cell.id);
        self.sampler.forget(cell.id);
        self.execs.lock().retain(|_, exec| exec.spec.container != cell.id);
    }

    /// The living shim, or why there is none.
    pub(crate) async fn running(&self, id: ContainerId) -> Result<(Arc<Cell>, crate::shim::Shim)> {
        let cell = self.cell(id).await?;
        let shim = cell.shim().ok_or(EngineError::NotRunning(id))?;
        Ok((cell, shim))
    }

    /// `ROOT/containers/<id>`.
    pub(crate) fn durable(&self, id: ContainerId) -> PathBuf {
        self.config.root.join("containers").join(id.to_string())
    }

    /// `RUN/containers/<id>`: the shim's directory, with the bundle and the mounts below it.
    pub(crate) fn live(&self, id: ContainerId) -> PathBuf {
        self.config.run.join("containers").join(id.to_string())
    }

    /// Where the root file system is mounted while it runs.
    pub(crate) fn rootfs(&self, id: ContainerId) -> PathBuf {
        self.images.snapshots().mount_point(&id)
    }

    /// The container's cgroup, below each hierarchy's mount.
    pub(crate) fn cgroup(&self, container: &Container) -> String {
        let own = &container.spec.resources.cgroup_parent;
        let parent = if own.is_empty() { &self.config.cgroup_parent } else { own };
        crate::cgroup::path_of(parent, container.spec.id)
    }
}

/// Closes a directory to everybody but root and those who are root in remapped containers (moby `setupDaemonRoot`):
/// programs of images may be set-uid, and nobody who has a mere login may reach them from outside.
///
/// # Errors
/// What chown(2) and chmod(2) say.
pub fn keep_private(dir: &Path, group: u32) -> std::io::Result<()> {
    std::os::unix::fs::chown(dir, None, Some(group))?;
    std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o710))
}

pub(crate) fn make_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(dir)
        .map_err(EngineError::io(format!("making {}", dir.display())))
}
