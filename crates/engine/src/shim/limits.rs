//! Limits and device rules on cgroup version 2, set by us between the creation of a container and its start.
//!
//! libcontainer (0.7) joins the cgroup there but knows no device rules without a C library, and fails on weights where
//! the kernel has another scheduler than it expects; so it sees no limits on version 2 at all. On version 1 and hybrid
//! hosts they stay its business, but for those it leaves out.
//!
//! Device rules become one program (`devices`): the last rule that fits decides, as version 1 has it.

use std::{fs::File, os::fd::AsFd, path::Path};

use oci_spec::runtime::{Linux, LinuxBlockIo, LinuxMemory, LinuxResources};

use super::{devices, types::Fault};
use crate::cgroup::Hierarchies;

/// The host has version 2 alone.
pub(super) fn ours() -> bool {
    Hierarchies::detect().is_ok_and(|hierarchies| hierarchies.unified())
}

/// What libcontainer (0.7) does not set on version 1: that the kernel must not kill, and weights of devices under BFQ.
pub(super) fn missed(linux: Option<&Linux>) -> Option<LinuxResources> {
    let all = linux?.resources().as_ref()?;
    let mut missed = LinuxResources::default();
    if all.memory().as_ref().and_then(LinuxMemory::disable_oom_killer) == Some(true) {
        let mut memory = LinuxMemory::default();
        memory.set_disable_oom_killer(Some(true));
        missed.set_memory(Some(memory));
    }
    if let Some(weights) = all.block_io().as_ref().and_then(|io| io.weight_device().clone()) {
        let mut io = LinuxBlockIo::default();
        io.set_weight_device(Some(weights));
        missed.set_block_io(Some(io));
    }
    // The default denies every device.
    missed.set_devices(None);
    (missed.memory().is_some() || missed.block_io().is_some()).then_some(missed)
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
