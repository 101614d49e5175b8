//! Copies into and out of a container (`docker cp`), whether it runs or not.
//!
//! A path is looked up in a [view](view) of the container: its tree with its volumes, in a mount namespace of one thread,
//! without `/proc`, `/sys` or memory file systems. Links are resolved by the kernel inside the view (`openat2` with
//! `RESOLVE_IN_ROOT`), so that one that the container plants, or swaps in meanwhile, leads nowhere else.
//!
//! Rules for names are Docker's (moby `daemon/archive.go`): the last part of a path is not followed, unless a slash or
//! `/.` comes after it; entries are named after the last part as it was written.

mod view;

use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};
use tokio::io::AsyncRead;
use tokio_util::io::SyncIoBridge;
use weft_base::Timestamp;
use weft_image::{ImageError, Merge};
use weft_model::{Container, ContainerId};

use crate::{ByteStream, Engine, EngineError, Result, disk::stream, error::blocking, oci};
use view::{View, ViewPlan};

/// What is at a path (Docker's `X-Docker-Container-Path-Stat`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveStat {
    /// Last part of the path as it was written.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// `st_mode`.
    pub mode: u32,
    /// Last change of its content.
    pub mtime: Timestamp,
    /// Where a link leads to, from the container's root; empty for others.
    pub link_target: String,
}

/// How an archive is unpacked into a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// Refuse to replace a directory by something else, and back.
    pub no_overwrite_dir_non_dir: bool,
    /// Everything belongs to the container's user, where it has one.
    pub copy_uid_gid: bool,
}

impl Engine {
    /// What is at `path`.
    ///
    /// # Errors
    /// `NotFound`; `NoFile` when nothing is there.
    pub async fn archive_stat(&self, id: ContainerId, path: &str) -> Result<ArchiveStat> {
        let (plan, wanted) = (self.view_plan(id).await?, Wanted::new(id, path));
        blocking(move || plan.enter(|view| Ok(wanted.look(view)?.stat))).await
    }

    /// What is at `path`, and it with all below it as a tar archive.
    ///
    /// # Errors
    /// As [`Engine::archive_stat`]; later ones come in the stream.
    pub async fn archive_get(&self, id: ContainerId, path: &str) -> Result<(ArchiveStat, ByteStream)> {
        let (plan, wanted) = (self.view_plan(id).await?, Wanted::new(id, path));
        let snapshots = self.0.images.snapshots().clone();
        let (tell, told) = tokio::sync::oneshot::channel();
        let bytes = stream(move |out| {
            plan.enter(|view| {
                let found = match wanted.look(view) {
                    Ok(found) => found,
                    Err(error) => {
                        // Who asked may be gone.
                        let _ = tell.send(Err(error));
                        return Ok(());
                    }
                };
                let _ = tell.send(Ok(found.stat.clone()));
                view.change_root()?;
                Ok(snapshots.copy_out(&found.path, Path::new(&found.stat.name), out)?)
            })
        });
        match told.await {
            Ok(stat) => Ok((stat?, bytes)),
            // The view could not be made: the stream says why.
            Err(_) => {
                let mut bytes = bytes;
                Err(match bytes.recv().await {
                    Some(Err(error)) => error,
                    _ => EngineError::Internal("a copy ended without an answer".into()),
                })
            }
        }
    }

    /// Unpacks a tar archive, plain or packed, into the directory at `path`.
    ///
    /// # Errors
    /// `NotFound`; `NoFile`; `Invalid` when `path` is no directory or the archive is none; `ReadOnly`.
    pub async fn archive_put(
        &self,
        id: ContainerId,
        path: &str,
        options: PutOptions,
        archive: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<()> {
        let container = self.0.container(id).await?;
        let (plan, wanted) = (self.view_plan(id).await?, Wanted::new(id, path));
        let snapshots = self.0.images.snapshots().clone();
        let archive = SyncIoBridge::new(archive);
        blocking(move || {
            plan.enter(|view| {
                let base = wanted.target(view, &container)?;
                let owner = owner(view, &container, options)?;
                let how = Merge { base, owner, keep_kinds: options.no_overwrite_dir_non_dir };
                snapshots.copy_in(archive, view.root_fd()?, how).map_err(refused)
            })
        })
        .await
    }

    async fn view_plan(&self, id: ContainerId) -> Result<ViewPlan> {
        let container = self.0.container(id).await?;
        ViewPlan::new(&self.0, &container).await
    }
}

/// An archive that is none, as dockerd says it: to the layers' reader all is a layer.
fn refused(error: ImageError) -> EngineError {
    match error {
        ImageError::Corrupt { why, .. } => {
            EngineError::Invalid(format!("Error processing tar file(exit status 1): {why}"))
        }
        other => other.into(),
    }
}

fn owner(view: &View, container: &Container, options: PutOptions) -> Result<Option<(u32, u32)>> {
    let process = &container.spec.process;
    if !options.copy_uid_gid || process.user.is_empty() {
        return Ok(None);
    }
    let user = oci::user::resolve(view.path(), &process.user, &[]).map_err(oci::OciError::from)?;
    Ok(Some((user.uid, user.gid)))
}

/// A path as it was asked for.
struct Wanted {
    container: ContainerId,
    written: String,
    /// Absolute and clean, but for a slash or `/.` at its end.
    path: String,
}

/// What a path led to.
struct Found {
    stat: ArchiveStat,
    /// Where it really is, from the container's root.
    path: PathBuf,
}

impl Wanted {
    fn new(container: ContainerId, written: &str) -> Self {
        let mut path = crate::provision::clean(written);
        if path != "/" && written.ends_with('/') {
            path.push('/');
        } else if written == "." || written.ends_with("/.") {
            path.push_str(if path == "/" { "." } else { "/." });
        }
        Self { container, written: written.to_owned(), path }
    }

    /// Its last part, as Go's `path.Base` finds it.
    fn base(&self) -> &str {
        let trimmed = self.path.trim_end_matches('/');
        trimmed.rsplit('/').next().filter(|base| !base.is_empty()).unwrap_or("/")
    }

    fn fault(&self) -> impl FnOnce(rustix::io::Errno) -> EngineError + '_ {
        move |errno| match errno {
            rustix::io::Errno::NOENT => {
                EngineError::NoFile { path: self.written.clone(), container: self.container }
            }
            rustix::io::Errno::NOTDIR => EngineError::Invalid(format!("{}: not a directory", self.written)),
            rustix::io::Errno::LOOP => {
                EngineError::Invalid(format!("{}: too many levels of symbolic links", self.written))
            }
            other => EngineError::os(format!("looking at {}", self.written))(other),
        }
    }

    fn look(&self, view: &View) -> Result<Found> {
        let (dir, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let parent = view.open(dir).map_err(self.fault())?;
        let real = view.real_path(&parent)?;
        let (stat, path) = if name.is_empty() || name == "." {
            (rustix::fs::fstat(&parent).map_err(self.fault())?, real)
        } else {
            (view::stat_in(&parent, name).map_err(self.fault())?, real.join(name))
        };
        let link_target =
            if is(&stat, FileType::Symlink) { self.link_target(view, &path)? } else { String::new() };
        let stat = ArchiveStat {
            name: self.base().to_owned(),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mode: stat.st_mode,
            mtime: timestamp(&stat),
            link_target,
        };
        Ok(Found { stat, path })
    }

    /// Where the link leads, all links followed; where it dangles, as far as its text says.
    fn link_target(&self, view: &View, link: &Path) -> Result<String> {
        let inside = link.to_string_lossy();
        let real = match view.open(&inside) {
            Ok(end) => view.real_path(&end)?,
            Err(_) => {
                let text = view.read_link(link).map_err(self.fault())?;
                link.parent().unwrap_or(Path::new("/")).join(text)
            }
        };
        Ok(crate::provision::clean(&real.to_string_lossy()))
    }

    /// The directory to unpack into.
    fn target(&self, view: &View, container: &Container) -> Result<PathBuf> {
        let dir = view.open(&self.path).map_err(self.fault())?;
        let stat = rustix::fs::fstat(&dir).map_err(self.fault())?;
        if !is(&stat, FileType::Directory) {
            return Err(EngineError::Invalid("extraction point is not a directory".into()));
        }
        if !view.is_in_tree(&dir)? {
            let read_only = rustix::fs::fstatvfs(&dir).map_err(self.fault())?.f_flag;
            if read_only.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
                return Err(EngineError::ReadOnly("mounted volume is marked read-only"));
            }
        } else if container.spec.confine.read_only_root {
            return Err(EngineError::ReadOnly("container rootfs is marked read-only"));
        }
        view.real_path(&dir)
    }
}

fn is(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

fn timestamp(stat: &Stat) -> Timestamp {
    let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    Timestamp::from_unix(stat.st_mtime, nanos).unwrap_or(Timestamp::EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_parts_are_those_of_go() {
        for (written, path, base) in [
            ("/", "/", "/"),
            ("", "/", "/"),
            (".", "/.", "."),
            ("/.", "/.", "."),
            ("a/b", "/a/b", "b"),
            ("/a/b/", "/a/b/", "b"),
            ("/a/b/.", "/a/b/.", "."),
            ("/a/../../b", "/b", "b"),
        ] {
            let wanted = Wanted::new(ContainerId::new(), written);
            assert_eq!((wanted.path.as_str(), wanted.base()), (path, base), "{written:?}");
        }
    }
}
