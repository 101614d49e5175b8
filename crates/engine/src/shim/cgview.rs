//! `/sys/fs/cgroup` of a container that shares another's processes, on version 1 and hybrid hosts.
//!
//! libcontainer (0.7, `rootfs/mount.rs`) finds the container's cgroups by looking for its own process id in the host's
//! `/proc`. In a process namespace that is joined, that number is another process's on the host, or nobody's, and then
//! nothing starts. Where the cgroup is, is known here: the mount becomes bind mounts.

use std::path::Path;

use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};

use super::types::Fault;
use crate::cgroup::Hierarchies;

/// Puts bind mounts in the place of the cgroup mount, where the runtime would not find its way.
pub(super) fn spell_out(oci: &mut Spec, cgroup: &str) -> Result<(), Fault> {
    let namespaces = oci.linux().as_ref().and_then(|l| l.namespaces().as_ref());
    let joined =
        |n: &oci_spec::runtime::LinuxNamespace| n.typ() == LinuxNamespaceType::Pid && n.path().is_some();
    if !namespaces.is_some_and(|all| all.iter().any(joined)) {
        return Ok(());
    }
    let failed = |e| Fault::because("finding the cgroup hierarchies", &e);
    let hierarchies = Hierarchies::detect().map_err(failed)?;
    if hierarchies.unified() {
        return Ok(());
    }
    let points = hierarchies.points();
    let mounts = oci.mounts().clone().unwrap_or_default();
    let spelled = mounts.into_iter().flat_map(|mount| match mount.typ().as_deref() {
        Some("cgroup") => bound(&mount, &points, cgroup),
        _ => vec![mount],
    });
    oci.set_mounts(Some(spelled.collect()));
    Ok(())
}

/// A memory file system with each hierarchy's part, under each of its controllers' names.
fn bound(mount: &Mount, points: &[&Path], cgroup: &str) -> Vec<Mount> {
    let read_only = mount.options().iter().flatten().any(|o| o == "ro");
    let mut root = mount.clone();
    let options = ["nosuid", "noexec", "nodev", "mode=755"].map(str::to_owned).to_vec();
    root.set_typ(Some("tmpfs".to_owned())).set_source(Some("tmpfs".into())).set_options(Some(options));
    let mut all = vec![root];
    for point in points {
        let Some(name) = point.file_name().and_then(|n| n.to_str()) else { continue };
        let source = point.join(cgroup.trim_start_matches('/'));
        let joint = name.contains(',').then_some(name);
        for name in name.split(',').chain(joint) {
            let mut options = vec!["rbind".to_owned()];
            options.extend(read_only.then(|| "ro".to_owned()));
            let mut part = Mount::default();
            part.set_destination(mount.destination().join(name))
                .set_typ(Some("bind".to_owned()))
                .set_source(Some(source.clone()))
                .set_options(Some(options));
            all.push(part);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_controller_has_its_name() {
        let mut mount = Mount::default();
        mount
            .set_destination("/sys/fs/cgroup".into())
            .set_typ(Some("cgroup".into()))
            .set_options(Some(vec!["ro".into()]));
        let points = [Path::new("/h/cpu,cpuacct"), Path::new("/h/memory")];
        let all = bound(&mount, &points, "/weft/x");
        let seen: Vec<_> = all
            .iter()
            .map(|m| {
                format!("{} {}", m.destination().display(), m.source().clone().unwrap_or_default().display())
            })
            .collect();
        let expected = [
            "/sys/fs/cgroup tmpfs",
            "/sys/fs/cgroup/cpu /h/cpu,cpuacct/weft/x",
            "/sys/fs/cgroup/cpuacct /h/cpu,cpuacct/weft/x",
            "/sys/fs/cgroup/cpu,cpuacct /h/cpu,cpuacct/weft/x",
            "/sys/fs/cgroup/memory /h/memory/weft/x",
        ];
        assert_eq!(seen, expected);
        assert!(all[1].options().iter().flatten().any(|o| o == "ro"));
    }
}
