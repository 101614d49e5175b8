//! Mounts by the kernel's file-descriptor API (`fsopen`, `fsconfig`, `fsmount`, `move_mount`; Linux 5.2, overlay's
//! `lowerdir+` since 6.5), with classic `mount(2)` where the kernel lacks it.
//!
//! The new API matters for images with many layers: `mount(2)` takes one page of options, which about forty
//! absolute layer paths fill. In the fallback, layers are named by `/proc/self/fd/N`, so that a page holds about 230.
//! Everything here blocks for microseconds to milliseconds; nothing follows a symbolic link in the target's last part.

pub(crate) mod attr;
mod detached;

use std::{
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    fs::{CWD, Mode, OFlags},
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
        UnmountFlags,
    },
};

pub use detached::{Detached, Flags};

/// An overlay file system to mount.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    /// Read-only directories, lowest first; at least one, two when there is no `upper`.
    pub lowers: Vec<PathBuf>,
    /// The writable directory and overlay's work directory beside it; without them the mount is read-only.
    pub upper: Option<(PathBuf, PathBuf)>,
}

/// Why a mount could not be made or taken away.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The overlay was refused; `step` names the call.
    #[error("mounting overlay of {layers} layers at {} ({step})", target.display())]
    Overlay {
        /// Where it should have appeared.
        target: PathBuf,
        /// Number of lower directories.
        layers: usize,
        /// The call that failed.
        step: &'static str,
        /// The kernel's answer.
        source: Errno,
    },
    /// A bind mount was refused.
    #[error("binding {} at {}", from.display(), target.display())]
    Bind {
        /// The directory or file that should appear.
        from: PathBuf,
        /// Where.
        target: PathBuf,
        /// The kernel's answer.
        source: Errno,
    },
    /// The mount could not be detached.
    #[error("unmounting {}", target.display())]
    Unmount {
        /// The mount point.
        target: PathBuf,
        /// The kernel's answer.
        source: Errno,
    },
}

/// `fsconfig` takes strings of at most 255 bytes.
const MAX_STRING: usize = 250;

impl Overlay {
    /// Mounts it at `target`, an existing directory.
    ///
    /// Redirects, metacopy and the inode index are off, so that the upper directory alone says what was changed.
    pub fn mount(&self, target: &Path) -> Result<(), MountError> {
        // Asked once: an old kernel writes a line into its log for each option that it does not know.
        static OLD: AtomicBool = AtomicBool::new(false);
        let tried = if OLD.load(Ordering::Relaxed) { None } else { Some(self.mount_new(target)) };
        match tried {
            // No fsopen, or an overlay that does not know `lowerdir+`.
            None | Some(Err((_, Errno::NOSYS | Errno::INVAL))) => {
                let done = self.mount_classic(target);
                if done.is_ok() {
                    OLD.store(true, Ordering::Relaxed);
                }
                done
            }
            Some(other) => other,
        }
        .map_err(|(step, source)| MountError::Overlay {
            target: target.to_owned(),
            layers: self.lowers.len(),
            step,
            source,
        })
    }

    fn mount_new(&self, target: &Path) -> Result<(), (&'static str, Errno)> {
        use rustix::mount as m;
        let at = |step: &'static str| move |e: Errno| (step, e);
        let fs = m::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(at("fsopen"))?;
        let mut held = Vec::new();
        let mut set = |key: &str, dir: &Path| -> Result<(), (&'static str, Errno)> {
            if dir.as_os_str().len() <= MAX_STRING {
                return m::fsconfig_set_string(&fs, key, dir).map_err(at("fsconfig"));
            }
            let fd = open_dir(dir).map_err(at("open"))?;
            let short = fd_path(&fd);
            held.push(fd);
            m::fsconfig_set_string(&fs, key, short.as_str()).map_err(at("fsconfig"))
        };
        m::fsconfig_set_string(&fs, "source", "overlay").map_err(at("fsconfig source"))?;
        for dir in self.lowers.iter().rev() {
            set("lowerdir+", dir)?;
        }
        if let Some((upper, work)) = &self.upper {
            set("upperdir", upper)?;
            set("workdir", work)?;
        }
        for (key, value) in [("redirect_dir", "off"), ("metacopy", "off"), ("index", "off")] {
            // An old overlay module may lack an option; then it lacks the feature too.
            let _absent = m::fsconfig_set_string(&fs, key, value);
        }
        m::fsconfig_create(&fs).map_err(at("fsconfig create"))?;
        let attr =
            if self.upper.is_some() { MountAttrFlags::empty() } else { MountAttrFlags::MOUNT_ATTR_RDONLY };
        let mount = m::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attr).map_err(at("fsmount"))?;
        m::move_mount(&mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(at("move_mount"))
    }

    /// The fallback by `mount(2)`.
    fn mount_classic(&self, target: &Path) -> Result<(), (&'static str, Errno)> {
        let open = |dir: &PathBuf| open_dir(dir).map_err(|e| ("open", e));
        let lowers = self.lowers.iter().rev().map(open).collect::<Result<Vec<_>, _>>()?;
        let mut options = format!("lowerdir={}", lowers.iter().map(fd_path).collect::<Vec<_>>().join(":"));
        let mut held = Vec::new();
        if let Some((upper, work)) = &self.upper {
            let (upper, work) = (open(upper)?, open(work)?);
            options += &format!(",upperdir={},workdir={}", fd_path(&upper), fd_path(&work));
            held.extend([upper, work]);
        }
        options += ",index=off";
        let flags = if self.upper.is_some() { MountFlags::empty() } else { MountFlags::RDONLY };
        let data = std::ffi::CString::new(options).map_err(|_| ("options", Errno::INVAL))?;
        rustix::mount::mount("overlay", target, "overlay", flags, Some(data.as_c_str()))
            .map_err(|e| ("mount", e))
    }
}

fn open_dir(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn fd_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Makes `from` appear at `target` too, both existing; with what is mounted under it when `recursive`.
pub fn bind(from: &Path, target: &Path, recursive: bool) -> Result<(), MountError> {
    let done = if recursive {
        rustix::mount::mount_bind_recursive(from, target)
    } else {
        rustix::mount::mount_bind(from, target)
    };
    done.map_err(|source| MountError::Bind { from: from.to_owned(), target: target.to_owned(), source })
}

/// Makes the mount at `target` neither send nor receive mount events.
pub fn make_private(target: &Path) -> Result<(), MountError> {
    rustix::mount::mount_change(target, MountPropagationFlags::PRIVATE)
        .map_err(|source| MountError::Unmount { target: target.to_owned(), source })
}

/// Makes the mount at `target` read-only, not those below it. No link on the way is followed.
pub fn make_read_only(target: &Path) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let how = rustix::fs::ResolveFlags::NO_SYMLINKS;
    let at = rustix::fs::openat2(CWD, target, flags, Mode::empty(), how)?;
    attr::set(&at, libc::MOUNT_ATTR_RDONLY, 0, false)
}

/// Whether the kernel would take these options (`size=64m`) for a memory file system. Nothing is mounted.
pub fn try_tmpfs(options: &[&str]) -> Result<(), Errno> {
    let fs = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options.iter().filter_map(|option| option.split_once('=')) {
        rustix::mount::fsconfig_set_string(&fs, key, value)?;
    }
    rustix::mount::fsconfig_create(&fs)
}

/// Gives the calling thread a mount namespace of its own, a copy of the present one that neither sends nor receives mount
/// events, and a root and working directory of its own. The namespace goes with the thread.
#[allow(unsafe_code)]
pub fn own_namespace() -> Result<(), Errno> {
    // SAFETY: only the mount namespace and the file system attributes of this thread are split off (unshare(2),
    // CLONE_NEWNS implies CLONE_FS); the table of descriptors stays shared, on which Rust's I/O safety rests.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
}

/// Detaches what is mounted at `target` (lazily: open files stay usable until closed). Nothing mounted there, or no
/// such path, is success.
pub fn unmount(target: &Path) -> Result<(), MountError> {
    match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(source) => Err(MountError::Unmount { target: target.to_owned(), source }),
    }
}

/// Detaches all that is mounted below `dir`, the innermost first; `dir` itself stays. What a process that died left there
/// would otherwise be in the way of removing the directory, or be emptied with it.
pub fn unmount_below(dir: &Path) -> Result<(), MountError> {
    let list = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let points = list.split(|byte| *byte == b'\n').filter_map(|line| line.split(|b| *b == b' ').nth(4));
    let mut points: Vec<PathBuf> =
        points.map(unescape).filter(|at| at != dir && at.starts_with(dir)).collect();
    points.reverse();
    points.iter().try_for_each(|at| unmount(at))
}

/// A path as `/proc/PID/mountinfo` writes it: blanks and backslashes are `\` and three octal digits (proc(5)).
fn unescape(text: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((first, more)) = rest.split_first() {
        let digits = more.get(..3).and_then(|d| std::str::from_utf8(d).ok()).filter(|_| *first == b'\\');
        match digits.and_then(|d| u8::from_str_radix(d, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &more[3..];
            }
            None => {
                out.push(*first);
                rest = more;
            }
        }
    }
    std::ffi::OsString::from_vec(out).into()
}

/// Whether a mount is attached exactly at `path` (`statx`, `STATX_ATTR_MOUNT_ROOT`, Linux 5.8). A path that does not
/// exist is none.
#[must_use]
pub fn is_mount_point(path: &Path) -> bool {
    use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, statx};
    statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, StatxFlags::empty())
        .is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(root: &Path, count: usize) -> Vec<PathBuf> {
        (0..count)
            .map(|i| {
                let dir = root.join(format!("{i:064}"));
                std::fs::create_dir(&dir).unwrap();
                std::fs::write(dir.join("top"), i.to_string()).unwrap();
                std::fs::write(dir.join(format!("f{i}")), "").unwrap();
                dir
            })
            .collect()
    }

    #[test]
    fn what_is_mounted_below_goes_innermost_first() {
        let dir = Path::new("/tmp").join(format!("weft below {}", std::process::id()));
        let (a, b) = (dir.join("a"), dir.join("a/b"));
        std::fs::create_dir_all(&a).unwrap();
        bind(Path::new("/proc/self"), &a, false).unwrap();
        unmount(&a).unwrap();
        std::fs::create_dir_all(&b).unwrap();
        bind(&dir, &a, false).unwrap();
        std::fs::create_dir_all(&b).unwrap();
        bind(&dir, &b, false).unwrap();
        assert!(is_mount_point(&a) && is_mount_point(&b));
        unmount_below(&dir).unwrap();
        let left = is_mount_point(&a) || is_mount_point(&b);
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(!left);
        assert_eq!(unescape(b"/a\\040b\\134c\\0"), Path::new("/a b\\c\\0"));
    }

    #[test]
    fn both_ways_mount_130_layers() {
        let dir = Path::new("/tmp").join(format!("weft-mount-test-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        for name in ["upper", "work", "at"] {
            std::fs::create_dir(dir.join(name)).unwrap();
        }
        let overlay =
            Overlay { lowers: layers(&dir, 130), upper: Some((dir.join("upper"), dir.join("work"))) };
        let at = dir.join("at");
        let mut seen = Vec::new();
        for classic in [false, true] {
            let done = if classic { overlay.mount_classic(&at) } else { overlay.mount_new(&at) };
            let top = std::fs::read_to_string(at.join("top"));
            let bottom = at.join("f0").exists();
            let mounted = is_mount_point(&at);
            unmount(&at).unwrap();
            seen.push((done, top.ok(), bottom, mounted, is_mount_point(&at)));
        }
        std::fs::remove_dir_all(&dir).unwrap();
        for one in seen {
            assert_eq!(one, (Ok(()), Some("129".to_owned()), true, true, false));
        }
    }
}
