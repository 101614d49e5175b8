//! The container's cgroups on version 1 and hybrid hosts: that it is in all of them, and what it sees of them.
//!
//! libcontainer (0.7) is not trusted with that, for three reasons (`rootfs/mount.rs`, `libcgroups/src/v1`):
//! - it drops `ro` from the mounts of the hierarchies, so that a container could lift its own limits;
//! - it joins controllers only, not `name=systemd` and not version 2 beside version 1, and shows of the first the whole of
//!   the host's;
//! - it looks for the container's cgroups by its own process id in the host's `/proc`, which in a joined process
//!   namespace is another process's, or nobody's.
//!
//! Where the cgroup is, is known here: the one mount becomes a bind mount for each hierarchy, with the flags that were asked
//! for, and the hierarchies that libcontainer leaves out are joined by the helper before it runs it. On version 2 there is
//! one hierarchy, one mount, and nothing to mend.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};

use super::{cgroup::enter, types::Fault};
use crate::cgroup::{Hierarchies, place_in};

/// What every part is mounted with.
const FLAGS: [&str; 3] = ["nosuid", "noexec", "nodev"];

/// The calling process, in those cgroups of a container that the runtime would leave out. The processes it makes are there
/// too; it leaves when it is done.
pub(super) struct Visit(Vec<PathBuf>);

impl Visit {
    /// Makes the cgroup in the hierarchies that libcontainer does not know, and joins it.
    pub(super) fn enter(cgroup: &str) -> Result<Self, Fault> {
        let hierarchies = detect()?;
        let places =
            fs::read_to_string("/proc/self/cgroup").map_err(|e| Fault::because("finding our cgroups", &e))?;
        let mut back = Vec::new();
        for (point, controllers) in hierarchies.left_out() {
            let dir = point.join(cgroup.trim_start_matches('/'));
            let joined = fs::create_dir_all(&dir).and_then(|()| enter(&dir));
            joined.map_err(|e| Fault::because(&format!("joining cgroup {}", dir.display()), &e))?;
            if let Some(place) = place_in(&places, controllers) {
                back.push(point.join(place.trim_start_matches('/')));
            }
        }
        Ok(Self(back))
    }

    /// Goes back to where it was.
    pub(super) fn leave(self) {
        for dir in self.0 {
            if let Err(error) = enter(&dir) {
                // It ends soon, and the cgroup's removal waits for that.
                tracing::warn!(%error, dir = %dir.display(), "the helper stays in the container's cgroup");
            }
        }
    }
}

fn detect() -> Result<Arc<Hierarchies>, Fault> {
    Hierarchies::detect().map_err(|e| Fault::because("finding the cgroup hierarchies", &e))
}

/// Puts bind mounts in the place of the cgroup mount. What is returned is to be made read-only once all is mounted: the
/// memory file system that holds them.
pub(super) fn spell_out(oci: &mut Spec, cgroup: &str) -> Result<Option<PathBuf>, Fault> {
    let hierarchies = detect()?;
    if hierarchies.unified() {
        return Ok(None);
    }
    let mut mounts = oci.mounts().clone().unwrap_or_default();
    let Some(at) = mounts.iter().position(|m| m.typ().as_deref() == Some("cgroup")) else { return Ok(None) };
    let mount = mounts.remove(at);
    // Docker's configuration has no `ro` for those in a user namespace, where older runtimes could not do it. These binds
    // can.
    let namespaces = oci.linux().as_ref().and_then(|l| l.namespaces().as_ref());
    let remapped = namespaces.is_some_and(|all| all.iter().any(|n| n.typ() == LinuxNamespaceType::User));
    let read_only = remapped || mount.options().iter().flatten().any(|o| o == "ro");
    let target = mount.destination().clone();
    // Something of the container's own that covers the whole is not ours to change.
    let covered = mounts.iter().skip(at).any(|m| target.starts_with(m.destination()));
    mounts.splice(at..at, bound(&target, &hierarchies.points(), cgroup, read_only));
    oci.set_mounts(Some(mounts));
    Ok((read_only && !covered).then_some(target))
}

/// A memory file system with each hierarchy's part, under each of its controllers' names.
fn bound(target: &Path, points: &[&Path], cgroup: &str, read_only: bool) -> Vec<Mount> {
    let make = |target: PathBuf, kind: &str, source: &Path, more: &[&str]| {
        let mut made = Mount::default();
        made.set_destination(target)
            .set_typ(Some(kind.to_owned()))
            .set_source(Some(source.to_owned()))
            .set_options(Some(FLAGS.iter().chain(more).map(|o| (*o).to_owned()).collect()));
        made
    };
    let mut all = vec![make(target.to_owned(), "tmpfs", Path::new("tmpfs"), &["mode=755"])];
    let mut taken = BTreeSet::new();
    for point in points {
        let Some(name) = point.file_name().and_then(|n| n.to_str()) else { continue };
        let source = point.join(cgroup.trim_start_matches('/'));
        let joint = name.contains(',').then_some(name);
        for name in name.split(',').chain(joint).filter(|name| taken.insert((*name).to_owned())) {
            let write = if read_only { "ro" } else { "rw" };
            all.push(make(target.join(name), "bind", &source, &["bind", write]));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_controller_has_its_name() {
        let points = [Path::new("/h/cpu,cpuacct"), Path::new("/h/memory"), Path::new("/h/systemd")];
        let seen = |read_only| -> Vec<String> {
            bound(Path::new("/c"), &points, "/weft/x", read_only)
                .iter()
                .map(|m| {
                    let source = m.source().clone().unwrap_or_default();
                    let options = m.options().clone().unwrap_or_default().join(",");
                    format!("{} {} {options}", m.destination().display(), source.display())
                })
                .collect()
        };
        let expected = [
            "/c tmpfs nosuid,noexec,nodev,mode=755",
            "/c/cpu /h/cpu,cpuacct/weft/x nosuid,noexec,nodev,bind,ro",
            "/c/cpuacct /h/cpu,cpuacct/weft/x nosuid,noexec,nodev,bind,ro",
            "/c/cpu,cpuacct /h/cpu,cpuacct/weft/x nosuid,noexec,nodev,bind,ro",
            "/c/memory /h/memory/weft/x nosuid,noexec,nodev,bind,ro",
            "/c/systemd /h/systemd/weft/x nosuid,noexec,nodev,bind,ro",
        ];
        assert_eq!(seen(true), expected);
        assert!(seen(false)[1..].iter().all(|line| line.ends_with(",bind,rw")));
    }
}
