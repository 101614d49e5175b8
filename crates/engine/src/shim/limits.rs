//! Limits and device rules on cgroup version 2, set by us between the creation of a container and its start.
//!
//! libcontainer (0.7) joins the cgroup there but knows no device rules without a C library, and fails on weights where
//! the kernel has another scheduler than it expects; so it sees no limits on version 2 at all. On version 1 and hybrid
//! hosts they stay its business.
//!
//! Device rules become one program (`devices`): the last rule that fits decides, as version 1 has it.

use std::{fs::File, os::fd::AsFd, path::Path};

use oci_spec::runtime::LinuxResources;

use super::{devices, types::Fault};
use crate::cgroup::Hierarchies;

/// The host has version 2 alone.
pub(super) fn ours() -> bool {
    Hierarchies::detect().is_ok_and(|hierarchies| hierarchies.unified())
}

/// Sets the limits of a container that was created and not started, or of a running one; rules for devices come only with
/// the first.
pub(super) fn apply(cgroup: &str, resources: &LinuxResources) -> Result<(), Fault> {
    let hierarchies =
        Hierarchies::detect().map_err(|e| Fault::because("finding the cgroup hierarchies", &e))?;
    let own = hierarchies.cgroup(cgroup).map_err(|e| Fault::because("finding the cgroup", &e))?;
    own.update(resources).map_err(|e| Fault::because("setting the limits", &e))?;
    let (Some(rules), Some(dir)) = (resources.devices(), own.v2()) else { return Ok(()) };
    attach(&dir, &devices::program(rules)).map_err(|e| Fault::because("setting the device rules", &e))
}

fn attach(dir: &Path, program: &[weft_sys::bpf::Instruction]) -> std::io::Result<()> {
    weft_sys::bpf::attach_device_program(File::open(dir)?.as_fd(), program)
}
