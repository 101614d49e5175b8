//! What the built-in runtime must not be given, because an image or a volume could use it to reach out of the container.
//!
//! libcontainer 0.7 makes `/dev/fd`, `/dev/stdin`, …, `/dev/ptmx` by paths *before* it changes the root: an image whose
//! `/dev` is a link would have them made, and `ptmx` removed, on the host. And it does so in whatever is mounted on `/dev`,
//! so that `-v /dev:/dev` would lose the host's `ptmx`. Mounts on `/dev` and below it are therefore kept back where `/dev`
//! itself is among them: the runtime gets a `/dev` in memory, and ours go over it once the root is the container's.
//!
//! Targets are resolved here, inside the container: where a link in the image leads to nothing, the runtime would fail, and
//! Docker makes the directory that it names.
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

use super::{enter, nodes::Node, types::Fault};

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

/// Refuses what cannot be mounted, or not without harm, and writes each target as what it really is once links inside of the
/// container are followed: the runtime makes what is missing, but not where a link leads to nothing. `root` is the
/// container's tree on the host.
pub(super) fn settle(root: &Path, spec: &mut Spec) -> Result<Tree, Fault> {
    let mut tree = Tree::new(root);
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    for mount in &mut mounts {
        let target = mount.destination().clone();
        let source = mount.source().clone().unwrap_or_default();
        let refuse =
            |why: String| Fault::init(&format!("error mounting {source:?} to rootfs at {target:?}: {why}"));
        let real = tree.resolve(&target).map_err(|e| refuse(e.to_string()))?;
        let kernels = ["/proc", "/sys", "/dev"].iter().any(|dir| target == Path::new(dir));
        let there = tree.kind(&real);
        if kernels && (real != target || there == Kind::File) {
            let kind = mount.typ().as_deref().unwrap_or_default();
            return Err(refuse(format!("filesystem {kind:?} must be mounted on ordinary directory")));
        }
        check_proc(mount, &real).map_err(refuse)?;
        check_kinds(&tree, mount, &real).map_err(refuse)?;
        tree.cover(&real, is_bind(mount).then_some(source.as_path()));
        mount.set_destination(real);
    }
    spec.set_mounts(Some(mounts));
    Ok(tree)
}

/// Directories go onto directories, files onto files, and options are what the kernel takes: the runtime would not say which
/// of all its steps failed. In the words of runc.
fn check_kinds(tree: &Tree, mount: &Mount, real: &Path) -> Result<(), String> {
    let source = mount.source().clone().unwrap_or_default();
    if let Some(file) = real.ancestors().skip(1).find(|dir| tree.kind(dir) == Kind::File) {
        return Err(format!("create mountpoint for {real:?} mount: mkdir {file:?}: not a directory"));
    }
    let directory = if is_bind(mount) {
        fs::metadata(&source).map_err(|e| format!("stat {}: {}", source.display(), words(&e)))?.is_dir()
    } else {
        true
    };
    let failed = |data: &str, why: &str| {
        format!("mount src={}, dst={}{data}: {why}", source.display(), real.display())
    };
    match (tree.kind(real), directory) {
        (Kind::File, true) | (Kind::Directory, false) => return Err(failed("", "not a directory")),
        _ => {}
    }
    if mount.typ().as_deref() == Some("tmpfs") && !is_bind(mount) {
        let options: Vec<&str> =
            mount.options().iter().flatten().map(String::as_str).filter(|o| o.contains('=')).collect();
        if let Err(error) = weft_sys::mount::try_tmpfs(&options) {
            return Err(failed(&format!(", data={}", options.join(",")), &words(&error.into())));
        }
    }
    Ok(())
}

/// An error as Go says it.
fn words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => enter::go_words(nix::errno::Errno::from_raw(number)),
        None => error.to_string(),
    }
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

/// What is at a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nothing,
    Directory,
    File,
}

/// The container's tree with what has been mounted on it so far.
pub(super) struct Tree {
    /// Where, and what of the host; `None` is a file system that begins empty, or that the kernel fills. The first is the
    /// root.
    mounts: Vec<(PathBuf, Option<PathBuf>)>,
}

impl Tree {
    fn new(root: &Path) -> Self {
        Self { mounts: vec![("/".into(), Some(root.to_owned()))] }
    }

    fn cover(&mut self, at: &Path, source: Option<&Path>) {
        self.mounts.push((at.to_owned(), source.map(Path::to_owned)));
    }

    /// Something is mounted exactly there.
    pub(super) fn is_covered(&self, path: &Path) -> bool {
        self.mounts.iter().any(|(at, _)| at == path)
    }

    /// The tree of the host that a path without links in it lies in, and where in that tree; `None` if it is in none.
    pub(super) fn place<'a>(&self, path: &'a Path) -> Option<(&Path, &'a Path)> {
        let (source, rest) =
            self.mounts.iter().rev().find_map(|(at, source)| Some((source, path.strip_prefix(at).ok()?)))?;
        Some((source.as_deref()?, rest))
    }

    /// Where such a path lies on the host.
    fn on_host(&self, path: &Path) -> Option<PathBuf> {
        let (source, rest) = self.place(path)?;
        Some(if rest.as_os_str().is_empty() { source.to_owned() } else { source.join(rest) })
    }

    fn kind(&self, path: &Path) -> Kind {
        if self.mounts.iter().any(|(at, source)| at == path && source.is_none()) {
            return Kind::Directory;
        }
        match self.on_host(path).map(|at| at.symlink_metadata()) {
            Some(Ok(meta)) if meta.is_dir() => Kind::Directory,
            Some(Ok(_)) => Kind::File,
            _ => Kind::Nothing,
        }
    }

    /// Follows links inside the tree; what is not there, and what the kernel shows in `/proc`, is taken as it is written.
    pub(super) fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
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
            match self.on_host(&next).map(fs::read_link) {
                Some(Ok(_)) if links == LINKS => return Err(Errno::LOOP.into()),
                Some(Ok(text)) if !kernels => {
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
    /// Device nodes in file systems that are empty until then.
    pub(super) nodes: Vec<Node>,
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
        Ok(Self { mounts: late, ..Self::default() })
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
        for node in &self.nodes {
            node.make_here()?;
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
