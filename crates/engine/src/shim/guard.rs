//! What the built-in runtime must not be given, because an image or a volume could use it to reach out of the container.
//!
//! libcontainer 0.7 makes `/dev/fd`, `/dev/stdin`, …, `/dev/ptmx` by paths *before* it changes the root: an image whose
//! `/dev` is a link would have them made, and `ptmx` removed, on the host. And it does so in whatever is mounted on `/dev`,
//! so that `-v /dev:/dev` would lose the host's `ptmx`. Mounts on `/dev` and below it are therefore kept back where `/dev`
//! itself is among them: the runtime gets a `/dev` in memory, and ours go over it once the root is the container's.
//!
//! Mounts over `/proc` are refused in runc's words; the runtime's own check is blind to `/proc/self`.

use std::{
    ffi::OsString,
    fs, io,
    path::{Component, Path, PathBuf},
};

use libcontainer::oci_spec::runtime::{Mount, Spec};
use rustix::io::Errno;
use weft_sys::mount::{Detached, Flags, make_read_only};

use super::types::Fault;

/// Most links on the way to a mount target (the kernel's own limit).
const LINKS: usize = 40;
/// Files of `/proc` that are emulated by mounts (lxcfs), as in runc.
const PROC_FILES: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Refuses what cannot be mounted without harm. `root` is the container's tree on the host.
pub(super) fn check(root: &Path, spec: &Spec) -> Result<(), Fault> {
    let mut tree = Tree { root: root.to_owned(), mounts: Vec::new() };
    for mount in spec.mounts().iter().flatten() {
        let target = mount.destination();
        let refuse = |why: String| {
            let source = mount.source().as_deref().unwrap_or(Path::new(""));
            Fault::other(format!("error mounting {source:?} to rootfs at {target:?}: {why}"))
        };
        let real = tree.resolve(target).map_err(|e| refuse(e.to_string()))?;
        let kernels = ["/proc", "/sys", "/dev"].iter().any(|dir| target == Path::new(dir));
        let there = tree.on_host(target).symlink_metadata();
        if kernels && (real != *target || there.is_ok_and(|meta| !meta.is_dir())) {
            let kind = mount.typ().as_deref().unwrap_or_default();
            return Err(refuse(format!("filesystem {kind:?} must be mounted on ordinary directory")));
        }
        check_proc(mount, &real).map_err(refuse)?;
        if is_bind(mount)
            && let Some(source) = mount.source()
        {
            tree.mounts.push((real, source.clone()));
        }
    }
    Ok(())
}

fn check_proc(mount: &Mount, real: &Path) -> Result<(), String> {
    let Ok(below) = real.strip_prefix("/proc") else { return Ok(()) };
    if !below.as_os_str().is_empty() {
        let emulated = PROC_FILES.iter().any(|file| real == Path::new(file));
        let refused = || format!("{real:?} cannot be mounted because it is inside /proc");
        return if emulated { Ok(()) } else { Err(refused()) };
    }
    let is_proc = match mount.source() {
        Some(source) if is_bind(mount) => rustix::fs::statfs(source)
            .is_ok_and(|stat| u64::try_from(stat.f_type).is_ok_and(|kind| kind == PROC_SUPER_MAGIC)),
        _ => mount.typ().as_deref() == Some("proc"),
    };
    if is_proc { Ok(()) } else { Err(format!("{real:?} cannot be mounted because it is not of type proc")) }
}

/// linux/magic.h
const PROC_SUPER_MAGIC: u64 = 0x9fa0;

fn is_bind(mount: &Mount) -> bool {
    let words = mount.options().as_deref().unwrap_or_default();
    mount.typ().as_deref() == Some("bind") || words.iter().any(|word| word == "bind" || word == "rbind")
}

/// The container's tree with what has been mounted on it so far.
struct Tree {
    root: PathBuf,
    /// Where, and what of the host.
    mounts: Vec<(PathBuf, PathBuf)>,
}

impl Tree {
    /// Where a path without links in it lies on the host.
    fn on_host(&self, path: &Path) -> PathBuf {
        let below =
            self.mounts.iter().rev().find_map(|(at, source)| Some((source, path.strip_prefix(at).ok()?)));
        match below {
            Some((source, rest)) if rest.as_os_str().is_empty() => source.clone(),
            Some((source, rest)) => source.join(rest),
            None => self.root.join(path.strip_prefix("/").unwrap_or(path)),
        }
    }

    /// Follows links inside the tree; what is not there, and what the kernel shows in `/proc`, is taken as it is written.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let parts = |path: &Path| -> Vec<OsString> {
            let part = |part| match part {
                Component::Normal(name) => Some(OsString::from(name)),
                Component::ParentDir => Some("..".into()),
                _ => None,
            };
            path.components().rev().filter_map(part).collect()
        };
        let (mut todo, mut done, mut links) = (parts(path), PathBuf::from("/"), 0);
        while let Some(part) = todo.pop() {
            if part == ".." {
                done.pop();
                continue;
            }
            let next = done.join(part);
            let kernels = done.starts_with("/proc");
            match fs::read_link(self.on_host(&next)) {
                Ok(_) if links == LINKS => return Err(Errno::LOOP.into()),
                Ok(text) if !kernels => {
                    links += 1;
                    if text.is_absolute() {
                        done = PathBuf::from("/");
                    }
                    todo.extend(parts(&text));
                }
                _ => done = next,
            }
        }
        Ok(done)
    }
}

/// What is left to do about mounts once the runtime has made its own.
#[derive(Debug, Default)]
pub(super) struct Late {
    /// Mounts that go over the runtime's `/dev`, in order.
    mounts: Vec<(PathBuf, Detached)>,
    /// A mount that could not be read-only while others were made in it.
    pub(super) read_only: Option<PathBuf>,
}

impl Late {
    /// Takes them out of the specification, if `/dev` is among its binds, and puts a `/dev` in memory in their place.
    pub(super) fn take(oci: &mut Spec) -> Result<Self, Fault> {
        let mut mounts = oci.mounts().clone().unwrap_or_default();
        if !mounts.iter().any(|m| is_bind(m) && m.destination() == Path::new("/dev")) {
            return Ok(Self::default());
        }
        let mut late = Vec::new();
        for mount in mounts.extract_if(.., |m| m.destination().starts_with("/dev")) {
            let fault = |e: Errno| {
                Fault::other(format!("mounting {:?} at {:?}: {e}", mount.source(), mount.destination()))
            };
            let source =
                mount.source().as_ref().filter(|_| is_bind(&mount)).ok_or_else(|| fault(Errno::NOTSUP))?;
            let copy = Detached::copy(source, flags(&mount)).map_err(fault)?;
            late.push((mount.destination().clone(), copy));
        }
        let memory = |target: &str, kind: &str, words: &str| {
            let mut made = Mount::default();
            made.set_destination(target.into())
                .set_typ(Some(kind.to_owned()))
                .set_source(Some(kind.into()))
                .set_options(Some(words.split(',').map(str::to_owned).collect()));
            made
        };
        let at = mounts.iter().position(|m| m.destination() == Path::new("/proc")).map_or(0, |n| n + 1);
        let terminals = "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620";
        mounts.insert(at, memory("/dev/pts", "devpts", terminals));
        mounts.insert(at, memory("/dev", "tmpfs", "nosuid,mode=755,size=64k"));
        oci.set_mounts(Some(mounts));
        if let Some(mut linux) = oci.linux().clone() {
            // What lies in people's own `/dev` is theirs to bring.
            linux.set_devices(None);
            oci.set_linux(Some(linux));
        }
        Ok(Self { mounts: late, read_only: None })
    }

    /// Mounts them. The calling process is in the container, and privileged.
    pub(super) fn attach(&self) -> Result<(), Fault> {
        for (target, mount) in &self.mounts {
            let attached = match mount.attach(target) {
                Err(Errno::NOENT) => fs::create_dir_all(target)
                    .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
                    .and_then(|()| mount.attach(target)),
                other => other,
            };
            attached.map_err(|e| {
                Fault::because(&format!("mounting {}", target.display()), &io::Error::from(e))
            })?;
        }
        if let Some(target) = &self.read_only {
            make_read_only(target).map_err(|e| {
                Fault::because(&format!("making {} read-only", target.display()), &io::Error::from(e))
            })?;
        }
        Ok(())
    }
}

fn flags(mount: &Mount) -> Flags {
    let words = mount.options().as_deref().unwrap_or_default();
    let has = |wanted: &str| words.iter().any(|word| word == wanted);
    let propagation = if has("shared") || has("rshared") {
        libc::MS_SHARED
    } else if has("slave") || has("rslave") {
        libc::MS_SLAVE
    } else {
        libc::MS_PRIVATE
    };
    Flags {
        recursive: has("rbind"),
        read_only: has("ro") || has("rro"),
        read_only_below: has("rro"),
        propagation,
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
