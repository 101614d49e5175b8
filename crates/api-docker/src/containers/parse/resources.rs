//! Limits, devices and weights.

use weft_model::{BlkioDevice, BlkioRate, DeviceRequest, DeviceSpec, Resources, Ulimit};

use crate::{
    containers::wire::{HostConfig, ResourcesWire, ThrottleDevice},
    error::{ApiError, Result},
};

fn rates(devices: Option<&Vec<ThrottleDevice>>) -> Vec<BlkioRate> {
    devices.into_iter().flatten().map(|d| BlkioRate { path: d.path.clone(), rate: d.rate }).collect()
}

pub(super) fn resources(host: &HostConfig) -> Result<Resources> {
    let mut resources = limits(&host.resources)?;
    resources.oom_score_adj = host.oom_score_adj;
    resources.shm_size = host.shm_size;
    if host.shm_size < 0 {
        return Err(ApiError::bad_request("SHM size can not be less than 0".into()));
    }
    Ok(resources)
}

/// Limits alone; also the body of an update.
pub(in crate::containers) fn limits(r: &ResourcesWire) -> Result<Resources> {
    let devices = r.devices.iter().flatten().map(|d| DeviceSpec {
        host: d.path_on_host.clone(),
        target: if d.path_in_container.is_empty() {
            d.path_on_host.clone()
        } else {
            d.path_in_container.clone()
        },
        access: if d.cgroup_permissions.is_empty() { "rwm".into() } else { d.cgroup_permissions.clone() },
    });
    let requests = r.device_requests.iter().flatten().map(|d| DeviceRequest {
        driver: d.driver.clone(),
        count: d.count,
        ids: d.device_ids.clone().unwrap_or_default(),
        capabilities: d.capabilities.clone().unwrap_or_default(),
    });
    let weights = r.blkio_weight_device.iter().flatten();
    Ok(Resources {
        memory: r.memory,
        memory_swap: r.memory_swap,
        memory_reservation: r.memory_reservation,
        kernel_memory: r.kernel_memory,
        kernel_memory_tcp: r.kernel_memory_tcp,
        swappiness: r.memory_swappiness.filter(|s| *s != -1),
        oom_kill_disable: r.oom_kill_disable,
        nano_cpus: r.nano_cpus,
        cpu_shares: r.cpu_shares,
        cpu_period: r.cpu_period,
        cpu_quota: r.cpu_quota,
        cpu_rt_period: r.cpu_realtime_period,
        cpu_rt_runtime: r.cpu_realtime_runtime,
        cpuset_cpus: r.cpuset_cpus.clone(),
        cpuset_mems: r.cpuset_mems.clone(),
        pids: r.pids_limit,
        blkio_weight: r.blkio_weight,
        blkio_weight_device: weights
            .map(|w| BlkioDevice { path: w.path.clone(), weight: w.weight })
            .collect(),
        blkio_read_bps: rates(r.blkio_device_read_bps.as_ref()),
        blkio_write_bps: rates(r.blkio_device_write_bps.as_ref()),
        blkio_read_iops: rates(r.blkio_device_read_iops.as_ref()),
        blkio_write_iops: rates(r.blkio_device_write_iops.as_ref()),
        devices: devices.collect(),
        device_cgroup_rules: r.device_cgroup_rules.clone().unwrap_or_default(),
        device_requests: requests.collect(),
        ulimits: r
            .ulimits
            .iter()
            .flatten()
            .map(|u| Ulimit { name: u.name.clone(), soft: u.soft, hard: u.hard })
            .collect(),
        cgroup_parent: r.cgroup_parent.clone(),
        ..Resources::default()
    })
}
