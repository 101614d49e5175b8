//! A container's files as it sees them, for one thread.
//!
//! ```text
//!  thread ── unshare(mounts) ── tree of the container ── its binds and volumes on it ── work ── ends
//! ```
//! The mounts live in the thread's own mount namespace, which the kernel takes away with the thread: nothing is left
//! behind, however the daemon ends, and no other process ever sees them.

use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat, StatxFlags},
    io::Errno,
    mount::MountFlags,
};
use weft_image::{LayerRef, Snapshots};
use weft_model::{Container, ContainerId, MountKind, MountSpec};

use crate::{
    EngineError, Result,
    engine::Inner,
    volumes::{Volumes, make_inside, open_inside},
};

/// What has to be in a view.
pub(super) struct ViewPlan {
    id: ContainerId,
    snapshots: Snapshots,
    volumes: Volumes,
    mounts: Vec<Planned>,
    /// Volumes that are mounts of something are held under this name.
    held: Option<ContainerId>,
}

struct Planned {
    target: String,
    source: Source,
    recursive: bool,
    read_only: bool,
}

enum Source {
    /// A directory or file of the host, and what below it is meant.
    Path(PathBuf, String),
    Image(Vec<LayerRef>, String),
}

/// The container's files, seen from inside the thread.
pub(super) struct View {
    at: PathBuf,
    root: OwnedFd,
    mount: u64,
}

impl ViewPlan {
    /// Finds the sources of the container's mounts.
    pub(super) async fn new(inner: &Arc<Inner>, container: &Container) -> Result<Self> {
        let id = container.spec.id;
        let (volumes, snapshots) = (inner.volumes.clone(), inner.images.snapshots().clone());
        let mut plan = Self { id, snapshots, volumes, mounts: Vec::new(), held: None };
        let mut mounts = inner.all_mounts(&container.spec).await?;
        // Outer before inner, as at the start.
        mounts.sort_by_key(|m| m.target.split('/').filter(|part| !part.is_empty()).count());
        let files = inner.own_files(&container.spec);
        for (source, target) in files.filter(|(_, target)| mounts.iter().all(|m| m.target != *target)) {
            let source = Source::Path(source, String::new());
            plan.mounts.push(Planned { target: target.into(), source, recursive: false, read_only: false });
        }
        for mount in mounts {
            plan.add(inner, mount).await?;
        }
        Ok(plan)
    }

    async fn add(&mut self, inner: &Inner, mount: MountSpec) -> Result<()> {
        let recursive = !matches!(mount.kind, MountKind::Bind { non_recursive: true, .. });
        let source = match mount.kind {
            MountKind::Tmpfs(_) => return Ok(()),
            MountKind::Bind { source, .. } => Source::Path(source.into(), String::new()),
            MountKind::Volume { name, subpath, .. } => {
                if self.volumes.is_foreign(&name).await? {
                    let holder = *self.held.get_or_insert_with(ContainerId::new);
                    self.volumes.hold(&name, holder).await?;
                }
                Source::Path(self.volumes.path(&name), subpath)
            }
            MountKind::Image { reference, id, subpath } => {
                let id = id.ok_or_else(|| EngineError::Missing(format!("No such image: {reference}")))?;
                Source::Image(inner.layers(id).await?, subpath)
            }
        };
        let target = crate::provision::clean(&mount.target);
        self.mounts.push(Planned { target, source, recursive, read_only: mount.read_only });
        Ok(())
    }

    /// Makes the view in a thread of its own and does `work` there. Blocks.
    pub(super) fn enter<T: Send>(self, work: impl FnOnce(&View) -> Result<T> + Send) -> Result<T> {
        let runtime = tokio::runtime::Handle::current();
        let done = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("weft-cp".into());
            let started = thread.spawn_scoped(scope, || self.in_thread(work));
            match started.map(std::thread::ScopedJoinHandle::join) {
                Ok(Ok(done)) => done,
                Ok(Err(_)) => Err(EngineError::Internal("a copying thread died".into())),
                Err(error) => Err(EngineError::io("starting a thread")(error)),
            }
        });
        if let Some(holder) = self.held {
            runtime.block_on(self.volumes.release(holder))?;
        }
        done
    }

    fn in_thread<T>(&self, work: impl FnOnce(&View) -> Result<T>) -> Result<T> {
        // The tree is mounted for all to see first, so that a container that starts meanwhile runs on the same mount.
        let tree = self.snapshots.in_use(&self.id)?;
        weft_sys::mount::own_namespace().map_err(EngineError::os("splitting off mounts"))?;
        let at = tree.path();
        let mut images = Vec::new();
        for mount in &self.mounts {
            self.attach(at, mount, &mut images)
                .map_err(EngineError::io(format!("mounting {} for a copy", mount.target)))?;
        }
        let root = open_inside(at, "").map_err(EngineError::io("opening the container's tree"))?;
        let mount = mount_id(&root)?;
        work(&View { at: at.to_owned(), root, mount })
    }

    fn attach(
        &self,
        root: &Path,
        mount: &Planned,
        images: &mut Vec<weft_image::View>,
    ) -> std::io::Result<()> {
        let (base, inside) = match &mount.source {
            Source::Path(path, inside) => (path.clone(), inside),
            Source::Image(layers, inside) => {
                let view = self.snapshots.view(layers).map_err(std::io::Error::other)?;
                let path = view.path();
                images.push(view);
                (path, inside)
            }
        };
        // The source of a bind may be a file.
        let pinned = if inside.is_empty() { None } else { Some(open_inside(&base, inside)?) };
        let source = pinned.as_ref().map_or(base, fd_path);
        let target = match open_inside(root, &mount.target) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => make_target(root, &mount.target, &source)?,
            opened => opened?,
        };
        let at = fd_path(&target);
        weft_sys::mount::bind(&source, &at, mount.recursive).map_err(std::io::Error::other)?;
        if mount.read_only {
            // Looked up again, to land on what was just mounted.
            let top = open_inside(root, &mount.target)?;
            rustix::mount::mount_remount(fd_path(&top), MountFlags::BIND | MountFlags::RDONLY, c"")?;
        }
        Ok(())
    }
}

/// What a mount point of a container that never ran looks like: as the runtime would make it.
fn make_target(root: &Path, target: &str, source: &Path) -> std::io::Result<OwnedFd> {
    if source.metadata()?.is_dir() {
        make_inside(root, target, (0, 0))?;
    } else {
        let (dir, name) = target.rsplit_once('/').unwrap_or(("", target));
        make_inside(root, dir, (0, 0))?;
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(open_inside(root, dir)?, name, flags, Mode::from_raw_mode(0o644))?;
    }
    open_inside(root, target)
}

fn fd_path(fd: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

/// The mount a descriptor lies on (`STATX_MNT_ID`, Linux 5.8).
fn mount_id(fd: &OwnedFd) -> Result<u64> {
    let stat = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID);
    Ok(stat.map_err(EngineError::os("asking for a mount"))?.stx_mnt_id)
}

pub(super) fn stat_in(dir: &OwnedFd, name: &str) -> Result<Stat, Errno> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

impl View {
    /// Where it is mounted, in the thread's namespace.
    pub(super) fn path(&self) -> &Path {
        &self.at
    }

    /// Its root once more.
    pub(super) fn root_fd(&self) -> Result<OwnedFd> {
        self.root.try_clone().map_err(EngineError::io("copying a descriptor"))
    }

    /// Opens what a path leads to, links followed inside the view.
    pub(super) fn open(&self, path: &str) -> Result<OwnedFd, Errno> {
        let path = path.trim_start_matches('/');
        let path = if path.is_empty() { "." } else { path };
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            // EAGAIN: something was renamed meanwhile, somewhere.
            match rustix::fs::openat2(
                self.root.as_fd(),
                path,
                OFlags::PATH | OFlags::CLOEXEC,
                Mode::empty(),
                how,
            ) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }

    /// The path of something opened, from the container's root.
    pub(super) fn real_path(&self, fd: &OwnedFd) -> Result<PathBuf> {
        let full = std::fs::read_link(fd_path(fd)).map_err(EngineError::io("asking for a path"))?;
        let inside = full.strip_prefix(&self.at).unwrap_or(Path::new(""));
        Ok(Path::new("/").join(inside))
    }

    /// The text of a link at a real path.
    pub(super) fn read_link(&self, link: &Path) -> Result<PathBuf, Errno> {
        let dir = self.open(&link.parent().unwrap_or(Path::new("/")).to_string_lossy())?;
        let name = link.file_name().unwrap_or_default();
        let text = rustix::fs::readlinkat(&dir, name, Vec::new())?;
        Ok(PathBuf::from(std::ffi::OsString::from(text.to_string_lossy().into_owned())))
    }

    /// Whether it lies in the container's own tree, not in something mounted on it.
    pub(super) fn is_in_tree(&self, fd: &OwnedFd) -> Result<bool> {
        Ok(mount_id(fd)? == self.mount)
    }

    /// Makes the container's root this thread's: from here on, every path is one of the container.
    pub(super) fn change_root(&self) -> Result<()> {
        rustix::process::fchdir(&self.root)
            .and_then(|()| rustix::process::chroot("."))
            .map_err(EngineError::os("changing the root directory"))
    }
}
