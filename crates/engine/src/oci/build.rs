//! The configuration as a whole.

use std::collections::HashMap;

use oci_spec::runtime::{Linux, Root, Spec};
use weft_model::{ContainerSpec, Namespace, NetworkMode};

use super::{
    devices,
    error::OciError,
    mounts, namespaces, process, resources, seccomp,
    types::{Built, BundleFacts},
};

/// Version of the runtime specification the configuration keeps to.
const VERSION: &str = "1.1.0";

const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Makes the runtime configuration of a container: Docker's, from values alone.
pub fn bundle(spec: &ContainerSpec, facts: &BundleFacts) -> Result<Built, OciError> {
    refuse_requests(spec)?;
    let mut warnings = Vec::new();
    let process = process::process(spec, facts, &mut warnings)?;
    let (mounts, root_propagation) = mounts::mounts(spec, facts)?;
    let linux = linux(spec, facts, root_propagation, &mut warnings)?;
    let mut root = Root::default();
    root.set_path(facts.rootfs.clone()).set_readonly(Some(spec.confine.read_only_root));
    let own_names = spec.confine.uts != Namespace::Host;
    let named = |name: &str| (own_names && !name.is_empty()).then(|| name.to_owned());
    let annotations: HashMap<_, _> =
        spec.annotations.iter().chain(&facts.annotations).map(|(k, v)| (k.clone(), v.clone())).collect();
    let mut made = Spec::default();
    made.set_version(VERSION.to_owned())
        .set_root(Some(root))
        .set_process(Some(process))
        .set_mounts(Some(mounts))
        .set_linux(Some(linux))
        .set_hostname(named(&spec.hostname))
        .set_domainname(named(&spec.domainname))
        .set_annotations((!annotations.is_empty()).then_some(annotations));
    Ok(Built { spec: made, warnings })
}

fn linux(
    spec: &ContainerSpec,
    facts: &BundleFacts,
    root_propagation: Option<&str>,
    warnings: &mut Vec<String>,
) -> Result<Linux, OciError> {
    let confine = &spec.confine;
    let mut limits = resources::limits(&spec.resources, &facts.devices.blocks, &facts.host)?;
    warnings.append(&mut limits.warnings);
    limits.resources.set_devices(Some(devices::rules(spec, &facts.devices)?));
    let filter = if confine.privileged {
        None
    } else {
        let granted = process::granted(spec, facts, &mut Vec::new())?;
        seccomp::profile(&confine.seccomp, &granted, facts.host.kernel)?
    };
    let masked = || MASKED.iter().map(|p| (*p).to_owned()).chain(facts.host.masked.iter().cloned()).collect();
    let read_only = || READ_ONLY.iter().map(|p| (*p).to_owned()).collect();
    let hidden = |own: &Option<Vec<String>>, default: &dyn Fn() -> Vec<String>| match own {
        Some(own) => own.clone(),
        None if confine.privileged => Vec::new(),
        None => default(),
    };
    let sysctls = sysctls(spec, facts);
    let mut made = Linux::default();
    made.set_resources(Some(limits.resources))
        .set_cgroups_path(Some(facts.cgroup.clone().into()))
        .set_namespaces(Some(namespaces::namespaces(spec, facts)?))
        .set_devices(Some(facts.devices.nodes.clone()))
        .set_seccomp(filter)
        .set_rootfs_propagation(root_propagation.map(str::to_owned))
        .set_masked_paths(Some(hidden(&confine.masked_paths, &masked)))
        .set_readonly_paths(Some(hidden(&confine.readonly_paths, &read_only)))
        .set_sysctl((!sysctls.is_empty()).then_some(sysctls));
    if let Some(own) = &facts.userns {
        made.set_uid_mappings(Some(namespaces::id_maps(&own.uids)?))
            .set_gid_mappings(Some(namespaces::id_maps(&own.gids)?));
    }
    Ok(made)
}

/// Docker's defaults for an own network, and the container's over them.
fn sysctls(spec: &ContainerSpec, facts: &BundleFacts) -> HashMap<String, String> {
    let own_network = matches!(spec.network, NetworkMode::Attached | NetworkMode::None);
    let defaults =
        facts.host.default_sysctls.iter().filter(|(name, _)| {
            own_network && !(facts.userns.is_some() && name == "net.ipv4.ping_group_range")
        });
    let mut all: HashMap<_, _> = defaults.cloned().collect();
    all.extend(spec.confine.sysctls.iter().map(|(k, v)| (k.clone(), v.clone())));
    all
}

fn refuse_requests(spec: &ContainerSpec) -> Result<(), OciError> {
    match spec.resources.device_requests.first() {
        Some(r) => {
            Err(OciError::DeviceRequest { driver: r.driver.clone(), capabilities: r.capabilities.clone() })
        }
        None => Ok(()),
    }
}
