//! The cgroup of a running container, as the daemon needs it: what it uses, who is in it, freezing, new limits.
//!
//! One [`Hierarchies`] knows where the controllers are mounted (version 1, hybrid, or version 2) and is found
//! once; a [`Cgroup`] is a path in it. Weft's cgroups lie below `/weft`, each container's at `/weft/<id>`, made
//! and removed by the runtime and the shim. Files and units: the kernel's `admin-guide/cgroup-v1` and
//! `admin-guide/cgroup-v2.rst`.

mod freeze;
mod hierarchy;
mod lock;
mod system;
mod update;
mod usage;

pub(crate) use hierarchy::place_in;
pub use hierarchy::{Cgroup, CgroupError, Hierarchies};
pub(crate) use lock::expect_move;
pub use system::{machine_memory, online_cpus, system_cpu_time};
pub use usage::{BlockIo, CpuUsage, MemoryUsage, PidsUsage, Usage};

/// Weft's own cgroup, in which those of its containers lie.
pub const PARENT: &str = "/weft";

/// The cgroup of a container below the parent that was chosen for it. Cleaned, so that `..` leads nowhere else, and here
/// alone, so that all who make, read and remove it mean the same one.
#[must_use]
pub fn path_of(parent: &str, id: weft_model::ContainerId) -> String {
    crate::oci::clean(&format!("/{parent}/{id}"))
}

#[cfg(test)]
mod tests;
