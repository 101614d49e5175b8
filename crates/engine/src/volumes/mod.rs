//! Volumes on disk: `ROOT/volumes/<name>/_data`, a plain directory or the mount point of what the local driver's options
//! name (NFS, a bind, a tmpfs).
//!
//! What is removed moves to `ROOT/volumes/.gone/<name>` first, so that a removal that was cut off is either finished or
//! taken back at the next start, by whether its record is still there. A directory without a record is never deleted:
//! it may be all that is left of somebody's data.
//!
//! A mount is made when the first running container needs it and taken away with the last. Who needs it is not
//! counted in a file: it is derived from the containers that run, at each start of the daemon again.
//!
//! A mount may hang for ever (an NFS server that is gone). Each volume therefore has its own lock, what hangs is waited for
//! only by containers that use this volume, and it hangs in a thread of its own, not in one of the runtime's few.

mod copy;
mod local;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;
use weft_base::chain;
use weft_model::{ContainerId, MountKind, Volume, VolumeSpec};
use weft_store::{Stores, Table};
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
    /// Who owns an empty volume: the first user of the containers' user namespace.
    owner: Owner,
    /// Volumes that have to be mounted, as far as anybody used them. Never held over anything that waits.
    mounted: Mutex<HashMap<String, Arc<Mounted>>>,
}

/// Host ids of user and group 0 inside containers.
pub(crate) type Owner = (u32, u32);

/// A volume that is a mount of something.
#[derive(Default)]
struct Mounted {
    /// Who uses it or is about to.
    users: Mutex<HashSet<ContainerId>>,
    /// Held over mounting and unmounting: two starts must not mount one volume twice.
    turn: Arc<AsyncMutex<()>>,
}

/// Bytes that a volume takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VolumeUsage {
    /// Bytes on disk.
    pub size: u64,
}

impl Volumes {
    pub(crate) fn open(dir: PathBuf, stores: &Stores, owner: Owner) -> Result<Self> {
        crate::engine::make_dir(&dir.join(".gone"))?;
        Ok(Self(Arc::new(Shared { dir, table: Table::new(stores), owner, mounted: Mutex::default() })))
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
        let (made, owner) = (path.clone(), self.0.owner);
        blocking(move || make_data(&made, owner)).await?;
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
        let in_use = || EngineError::Conflict(format!("volume is in use: {name}"));
        let (mounted, mut turn) = (self.mounted(name), None);
        if let Some(mounted) = &mounted {
            // Somebody waits for a mount of it: that may take for ever.
            turn = Some(Arc::clone(&mounted.turn).try_lock_owned().map_err(|_| in_use())?);
            if !mounted.users.lock().is_empty() {
                return Err(in_use());
            }
        }
        let (dir, gone) = (self.0.dir.join(name), self.gone(name));
        apart(move || {
            unmount(&dir.join("_data"))?;
            rename(&dir, &gone)
        })
        .await?;
        self.0.mounted.lock().remove(name);
        drop(turn);
        Ok(())
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

    fn mounted(&self, name: &str) -> Option<Arc<Mounted>> {
        self.0.mounted.lock().get(name).cloned()
    }

    fn mounted_or_new(&self, name: &str) -> Arc<Mounted> {
        Arc::clone(self.0.mounted.lock().entry(name.to_owned()).or_default())
    }

    /// Makes the content reachable at [`Volumes::path`] for a container.
    pub(crate) async fn hold(&self, name: &str, container: ContainerId) -> Result<PathBuf> {
        let path = self.path(name);
        let Some(options) = self.options(name).await? else {
            return Ok(path);
        };
        let mounted = self.mounted_or_new(name);
        // A user from now on: whoever lets go of it meanwhile must not take the mount away.
        let new = mounted.users.lock().insert(container);
        let turn = Arc::clone(&mounted.turn).lock_owned().await;
        let target = path.clone();
        // The turn goes into the thread: it ends with the mount, also when nobody waits for that any more.
        let done = apart(move || {
            let _turn = turn;
            crate::engine::make_dir(&target)?;
            if mount::is_mount_point(&target) { Ok(()) } else { local::mount(&options, &target) }
        })
        .await;
        if done.is_err() && new {
            mounted.users.lock().remove(&container);
        }
        done.map(|()| path)
    }

    /// Gives back all that a container held; mounts that nobody needs any more go.
    pub(crate) async fn release(&self, container: ContainerId) -> Result<()> {
        let all: Vec<(String, Arc<Mounted>)> = {
            let mounted = self.0.mounted.lock();
            mounted.iter().map(|(name, m)| (name.clone(), Arc::clone(m))).collect()
        };
        for (name, mounted) in all {
            if mounted.users.lock().remove(&container) {
                self.unmount_unused(&name, &mounted).await?;
            }
        }
        Ok(())
    }

    async fn unmount_unused(&self, name: &str, mounted: &Arc<Mounted>) -> Result<()> {
        let (path, mounted) = (self.path(name), Arc::clone(mounted));
        if !mounted.users.lock().is_empty() {
            return Ok(());
        }
        let turn = Arc::clone(&mounted.turn).lock_owned().await;
        apart(move || {
            let _turn = turn;
            // Somebody may have come while we waited for our turn.
            if mounted.users.lock().is_empty() { unmount(&path) } else { Ok(()) }
        })
        .await
    }

    /// Finishes or takes back what an earlier daemon was at when it died.
    async fn mend(&self, known: HashSet<String>) -> Result<()> {
        let (dir, owner) = (self.0.dir.clone(), self.0.owner);
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
            known.iter().try_for_each(|name| make_data(&dir.join(name).join("_data"), owner))
        })
        .await
    }

    /// After a start of the daemon: who holds what is derived from the containers that run, and the mounts of the
    /// others go, behind the daemon's back.
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
        for container in containers.iter().filter(|c| c.status.state.is_alive()) {
            for mount in &container.spec.mounts {
                if let MountKind::Volume { name, .. } = &mount.kind
                    && with_options.contains(name)
                {
                    self.mounted_or_new(name).users.lock().insert(container.spec.id);
                }
            }
        }
        for name in with_options {
            let me = self.clone();
            inner.tasks.spawn(async move {
                if let Err(error) = me.unmount_unused(&name, &me.mounted_or_new(&name)).await {
                    tracing::warn!(volume = %name, error = chain(&error), "an unused mount stays");
                }
            });
        }
    }
}

/// Does `work`, which may hang in the kernel for ever, in a thread of its own.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("weft-volume".into()).stack_size(256 << 10);
    // Nobody may be there any more to be told.
    let work = move || drop(tell.send(work()));
    thread.spawn(work).map_err(EngineError::io("starting a thread"))?;
    told.await.map_err(|_| EngineError::Internal("a volume's worker died".into()))?
}

/// Makes a volume's `_data`, where it is not yet.
fn make_data(at: &Path, (uid, gid): Owner) -> Result<()> {
    // The parent keeps others out of it; the content's own mode is the container's business.
    crate::engine::make_dir(at.parent().unwrap_or(at))?;
    match fs::create_dir(at) {
        Ok(()) => {
            std::os::unix::fs::chown(at, Some(uid), Some(gid))
                .map_err(EngineError::io(format!("giving {} to {uid}:{gid}", at.display())))?;
            set_mode(at, 0o755)
        }
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
    // Something that still writes there (a log's compressor, an exec that ends) finds no directory the second time.
    let twice = || fs::remove_dir_all(dir).or_else(|_| fs::remove_dir_all(dir));
    match twice() {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(EngineError::io(format!("removing {}", dir.display()))(e))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weft_base::Timestamp;
    use weft_model::{Labels, default_project};
    use weft_store::{Embedded, Options};

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    async fn volumes(dir: &Path, names: &[&str], owner: Owner) -> Volumes {
        let stores = Stores::single(Arc::new(Embedded::open(dir.join("s"), Options::default()).unwrap()));
        let volumes = Volumes::open(dir.join("volumes"), &stores, owner).unwrap();
        for name in names {
            let options = [("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")];
            let options = options.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
            let (name, driver) = (name.parse().unwrap(), "local".into());
            let spec = VolumeSpec { name, driver, options, anonymous: false };
            volumes.create(&spec).await.unwrap();
            let now = Timestamp::from_unix(1, 0).unwrap();
            volumes.0.table.create(&Volume::new(default_project(), now, Labels::new(), spec)).await.unwrap();
        }
        volumes
    }

    #[tokio::test]
    async fn a_mount_that_hangs_is_waited_for_by_its_users_only() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = volumes(dir.path(), &["stuck", "good"], (0, 0)).await;
        let (ill, well) = (ContainerId::new(), ContainerId::new());
        // What a mount(2) that does not return looks like from outside: its turn does not end.
        let hung = volumes.mounted_or_new("stuck").turn.clone().lock_owned().await;
        let me = volumes.clone();
        let waiting = tokio::spawn(async move { me.hold("stuck", ill).await });
        while volumes.mounted("stuck").unwrap().users.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        let path = tokio::time::timeout(SOON, volumes.hold("good", well)).await.unwrap().unwrap();
        assert!(mount::is_mount_point(&path));
        tokio::time::timeout(SOON, volumes.release(well)).await.unwrap().unwrap();
        assert!(!mount::is_mount_point(&path));
        let refused = tokio::time::timeout(SOON, volumes.remove("stuck")).await.unwrap().unwrap_err();
        assert_eq!(refused.to_string(), "volume is in use: stuck");
        tokio::time::timeout(SOON, volumes.remove("good")).await.unwrap().unwrap();
        assert!(!waiting.is_finished());
        drop(hung);
        let path = waiting.await.unwrap().unwrap();
        assert!(mount::is_mount_point(&path));
        volumes.release(ill).await.unwrap();
        assert!(!mount::is_mount_point(&path));
    }

    #[tokio::test]
    async fn the_last_user_takes_the_mount_away() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = volumes(dir.path(), &["v"], (0, 0)).await;
        let (a, b) = (ContainerId::new(), ContainerId::new());
        let path = volumes.hold("v", a).await.unwrap();
        volumes.hold("v", b).await.unwrap();
        volumes.release(a).await.unwrap();
        assert!(mount::is_mount_point(&path));
        volumes.release(b).await.unwrap();
        assert!(!mount::is_mount_point(&path));
    }
}
