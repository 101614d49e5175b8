//! Volumes on disk: `ROOT/volumes/<name>/_data`, a plain directory or the mount point of what the local driver's options
//! name (NFS, a bind, a tmpfs).
//!
//! What is removed moves to `ROOT/volumes/.gone/<name>` first, so that a removal that was cut off is either finished or
//! taken back at the next start, by whether its record is still there. A directory without a record is never deleted:
//! it may be all that is left of somebody's data.
//!
//! A mount is made when the first running container needs it and taken away with the last. Who needs it is not
//! counted in a file: it is derived from the containers that run, at each start of the daemon again.

mod copy;
mod local;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::Mutex;
use weft_base::chain;
use weft_model::{ContainerId, MountKind, Volume, VolumeSpec};
use weft_store::{Kv, Table};
use weft_sys::mount;

pub(crate) use copy::{copy_up, make_inside, open_inside};
pub use local::check_options;

use crate::{EngineError, Result, engine::Inner, error::blocking};

/// The volumes of one host; cheap to clone.
#[derive(Clone)]
pub struct Volumes(Arc<Shared>);

struct Shared {
    dir: PathBuf,
    table: Table<Volume>,
    /// Users of volumes that have to be mounted. Held over the mount itself: two starts must not mount one
    /// volume twice; volumes without options never come here.
    users: Mutex<HashMap<String, HashSet<ContainerId>>>,
}

/// Bytes that a volume takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VolumeUsage {
    /// Bytes on disk.
    pub size: u64,
}

impl Volumes {
    pub(crate) fn open(dir: PathBuf, kv: Arc<dyn Kv>) -> Result<Self> {
        crate::engine::make_dir(&dir.join(".gone"))?;
        Ok(Self(Arc::new(Shared { dir, table: Table::new(kv), users: Mutex::default() })))
    }

    /// Where a volume's content is on the host.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.dir.join(name).join("_data")
    }

    /// Makes a volume's directory; nothing changes when it is there.
    ///
    /// # Errors
    /// `Invalid` for options that the local driver does not have; `Unsupported` for another driver.
    pub async fn create(&self, spec: &VolumeSpec) -> Result<PathBuf> {
        if !matches!(spec.driver.as_str(), "" | "local") {
            return Err(EngineError::Missing(format!("plugin {:?} not found", spec.driver)));
        }
        check_options(&spec.options)?;
        let path = self.path(spec.name.as_str());
        let made = path.clone();
        blocking(move || make_data(&made)).await?;
        Ok(path)
    }

    /// Removes a volume's content, for good.
    ///
    /// # Errors
    /// `Conflict` while it is mounted for a container.
    pub async fn remove(&self, name: &str) -> Result<()> {
        self.retire(name).await?;
        self.purge(name).await
    }

    /// The first half of a removal: the content moves aside. Its record is still there; once that is gone too,
    /// [`Volumes::purge`] follows, or else [`Volumes::restore`].
    ///
    /// # Errors
    /// `Conflict` while it is mounted for a container.
    pub async fn retire(&self, name: &str) -> Result<()> {
        let users = self.0.users.lock().await;
        if users.get(name).is_some_and(|u| !u.is_empty()) {
            return Err(EngineError::Conflict(format!("volume is in use: {name}")));
        }
        let (dir, gone) = (self.0.dir.join(name), self.gone(name));
        blocking(move || {
            unmount(&dir.join("_data"))?;
            rename(&dir, &gone)
        })
        .await
    }

    /// Takes a removal back: the content is where it was.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub async fn restore(&self, name: &str) -> Result<()> {
        let (dir, gone) = (self.0.dir.join(name), self.gone(name));
        blocking(move || rename(&gone, &dir)).await
    }

    /// The second half of a removal: deletes the content that moved aside.
    ///
    /// # Errors
    /// When it cannot be deleted; it is tried again at the next start.
    pub async fn purge(&self, name: &str) -> Result<()> {
        let gone = self.gone(name);
        blocking(move || remove_tree(&gone)).await
    }

    fn gone(&self, name: &str) -> PathBuf {
        // No volume's name begins with a dot.
        self.0.dir.join(".gone").join(name)
    }

    /// Bytes of a volume's content; what it is a mount of is not counted.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn usage(&self, name: &str) -> Result<VolumeUsage> {
        let path = self.path(name);
        let foreign = self.options(name).await?.is_some();
        blocking(move || {
            let size = if foreign { 0 } else { crate::disk::tree_size(&path) };
            Ok(VolumeUsage { size })
        })
        .await
    }

    /// The volume is a mount of something.
    pub(crate) async fn is_foreign(&self, name: &str) -> Result<bool> {
        Ok(self.options(name).await?.is_some())
    }

    async fn options(&self, name: &str) -> Result<Option<BTreeMap<String, String>>> {
        let found = self.0.table.get(name).await?;
        Ok(found.map(|v| v.spec.options.clone()).filter(|o| !o.is_empty()))
    }

    /// Makes the content reachable at [`Volumes::path`] for a container.
    pub(crate) async fn hold(&self, name: &str, container: ContainerId) -> Result<PathBuf> {
        let path = self.path(name);
        let Some(options) = self.options(name).await? else {
            return Ok(path);
        };
        let mut users = self.0.users.lock().await;
        let target = path.clone();
        blocking(move || {
            crate::engine::make_dir(&target)?;
            if mount::is_mount_point(&target) { Ok(()) } else { local::mount(&options, &target) }
        })
        .await?;
        users.entry(name.to_owned()).or_default().insert(container);
        Ok(path)
    }

    /// Gives back all that a container held; mounts that nobody needs any more go.
    pub(crate) async fn release(&self, container: ContainerId) -> Result<()> {
        let mut users = self.0.users.lock().await;
        let mut free = Vec::new();
        users.retain(|name, held| {
            if held.remove(&container) && held.is_empty() {
                free.push(self.path(name));
            }
            !held.is_empty()
        });
        if free.is_empty() {
            return Ok(());
        }
        blocking(move || free.iter().try_for_each(|path| unmount(path))).await
    }

    /// Finishes or takes back what an earlier daemon was at when it died.
    async fn mend(&self, known: HashSet<String>) -> Result<()> {
        let dir = self.0.dir.clone();
        blocking(move || {
            for entry in fs::read_dir(dir.join(".gone")).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let back = dir.join(&name);
                if known.contains(&name) && !back.exists() {
                    rename(&entry.path(), &back)?;
                } else {
                    remove_tree(&entry.path())?;
                }
            }
            known.iter().try_for_each(|name| make_data(&dir.join(name).join("_data")))
        })
        .await
    }

    /// After a start of the daemon: who holds what is derived from the containers that run, and the mounts of the
    /// others go.
    pub(crate) async fn sweep(&self, inner: &Inner) {
        let all = match self.0.table.list().await {
            Ok(all) => all,
            Err(error) => {
                tracing::error!(error = chain(&error), "volumes cannot be listed");
                return;
            }
        };
        if let Err(error) = self.mend(all.iter().map(|v| v.spec.name.to_string()).collect()).await {
            tracing::error!(error = chain(&error), "what an earlier daemon left half-done stays so");
        }
        let with_options: Vec<String> =
            all.iter().filter(|v| !v.spec.options.is_empty()).map(|v| v.spec.name.to_string()).collect();
        if with_options.is_empty() {
            return;
        }
        let containers = inner.all_containers().await.unwrap_or_default();
        let mut users = self.0.users.lock().await;
        for container in containers.iter().filter(|c| c.status.state.is_alive()) {
            for mount in &container.spec.mounts {
                if let MountKind::Volume { name, .. } = &mount.kind
                    && with_options.contains(name)
                {
                    users.entry(name.clone()).or_default().insert(container.spec.id);
                }
            }
        }
        for name in with_options.iter().filter(|name| !users.contains_key(*name)) {
            if let Err(error) = unmount(&self.path(name)) {
                tracing::warn!(volume = %name, error = chain(&error), "an unused mount stays");
            }
        }
    }
}

/// Makes a volume's `_data`, where it is not yet.
fn make_data(at: &Path) -> Result<()> {
    // The parent keeps others out of it; the content's own mode is the container's business.
    crate::engine::make_dir(at.parent().unwrap_or(at))?;
    match fs::create_dir(at) {
        Ok(()) => set_mode(at, 0o755),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(EngineError::io(format!("making {}", at.display()))(e)),
    }
}

/// Moves a volume's directory; that there is none is fine.
fn rename(from: &Path, to: &Path) -> Result<()> {
    match fs::rename(from, to) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(EngineError::io(format!("moving {} to {}", from.display(), to.display()))(e))
        }
        _ => Ok(()),
    }
}

fn unmount(path: &Path) -> Result<()> {
    if !mount::is_mount_point(path) {
        return Ok(());
    }
    mount::unmount(path).map_err(|e| EngineError::Internal(chain(&e)))
}

pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(EngineError::io(format!("setting the mode of {}", path.display())))
}

/// Removes a directory tree; that it is not there is fine.
pub(crate) fn remove_tree(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(EngineError::io(format!("removing {}", dir.display()))(e))
        }
        _ => Ok(()),
    }
}
