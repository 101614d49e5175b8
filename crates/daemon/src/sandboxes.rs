//! Network namespaces of running containers whose names are lost.
//!
//! A name is a bind mount. A daemon in a mount namespace of its own (`PrivateMounts=` or `PrivateTmp=` of systemd) takes its
//! names with it when it ends; the containers run on. The next one would make new namespaces and take their interfaces there.

use std::{fs, path::PathBuf};

use weft_dataplane::Driver;
use weft_driver_linux::LinuxDriver;
use weft_model::{Container, NetworkMode};
use weft_store::{StoreError, Table};
use weft_sys::netns;

/// Names them again, by their processes.
pub(crate) async fn name_again(
    containers: &Table<Container>,
    driver: &LinuxDriver,
) -> Result<(), StoreError> {
    for container in containers.list_shared().await?.iter() {
        let own = matches!(container.spec.network, NetworkMode::Attached | NetworkMode::None);
        let (id, pid) = (container.spec.id, container.status.pid);
        let path = driver.sandbox_path(id);
        if !own
            || !container.status.state.is_alive()
            || netns::is_alive(&path)
            || !is_of(pid, &id.to_string())
        {
            continue;
        }
        let source = PathBuf::from(format!("/proc/{pid}/ns/net"));
        let name = &container.spec.name;
        match netns::name_as(&source, &path) {
            Ok(()) => tracing::warn!(
                container = %name,
                "the name of its network namespace was lost, and is made again: the daemon should run in the host's mount namespace"
            ),
            Err(error) => {
                tracing::error!(container = %name, error = weft_base::chain(&error), "its network namespace cannot be named");
            }
        }
    }
    Ok(())
}

/// Whether a process is of the container: its number may be somebody else's by now.
fn is_of(pid: u32, id: &str) -> bool {
    pid > 0 && fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|cgroups| cgroups.contains(id))
}
