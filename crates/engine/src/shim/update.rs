//! Changing a running container's limits with the built-in runtime's cgroup code, in a child, so that the shim keeps its
//! size. On cgroup version 2 with our own (`limits`).

use std::{fs::File, io::Read, path::PathBuf};

use libcgroups::common::{CgroupConfig, CgroupManager, ControllerOpt, create_cgroup_manager};
use oci_spec::runtime::LinuxResources;

use super::{
    helper::{self, Progress},
    limits,
    types::Fault,
    wire,
};

/// Applies an OCI `LinuxResources` object; limits it does not name stay.
pub(super) fn apply(id: &str, cgroup: &str, resources: &serde_json::Value) -> Result<(), Fault> {
    let helper = helper::spawn(&[], |_| {
        let resources: LinuxResources = serde_json::from_value(resources.clone())
            .map_err(|e| Fault::because("reading the new limits", &e))?;
        if limits::ours() {
            return limits::apply(cgroup, &resources);
        }
        let config = CgroupConfig {
            cgroup_path: PathBuf::from(cgroup),
            systemd_cgroup: false,
            container_name: id.to_owned(),
        };
        let manager = create_cgroup_manager(config).map_err(|e| Fault::because("finding the cgroup", &e))?;
        let change = ControllerOpt {
            resources: &resources,
            disable_oom_killer: false,
            oom_score_adj: None,
            freezer_state: None,
        };
        manager.apply(&change).map_err(|e| Fault::because("setting the new limits", &e))
    })
    .map_err(|e| Fault::because("forking", &e))?;
    let mut said = Vec::new();
    let mut progress = File::from(helper.progress);
    let told = rustix::io::ioctl_fionbio(&progress, false)
        .map_err(std::io::Error::from)
        .and_then(|()| progress.read_to_end(&mut said));
    told.map_err(|e| Fault::because("waiting for the new limits", &e))?;
    match wire::decode(&mut said) {
        Ok(Some(Progress::Failed(fault))) => Err(fault),
        Ok(_) => Ok(()),
        Err(e) => Err(Fault::because("waiting for the new limits", &e)),
    }
}
