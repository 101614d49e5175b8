//! A container's spec written back as `ContainerConfig` and `HostConfig`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weft_cloud::ContainerView;
use weft_model::{
    CgroupNs, ContainerSpec, HealthCheck, HealthTest, IpcMode, Link, MountKind, MountSpec, Namespace,
    NetworkMode, Notation, PublishSpec, Resources, UserNs,
};

use super::wire::{
    ContainerConfig, DeviceMapping, DeviceRequestWire, HealthConfig, HostConfig, LogConfigWire, PortBinding,
    PortMap, ResourcesWire, RestartPolicyWire, ThrottleDevice, UlimitWire, WeightDevice, Words,
};

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn text(spec: &ContainerSpec, key: &str) -> String {
    spec.echo.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn list(spec: &ContainerSpec, key: &str) -> Option<Vec<String>> {
    let values = spec.echo.get(key)?.as_array()?;
    Some(values.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect())
}

/// The portable part.
pub(super) fn config(view: &ContainerView) -> ContainerConfig {
    let (meta, spec) = (&view.container.meta, &view.container.spec);
    let p = &spec.process;
    let empty = || Value::Object(serde_json::Map::new());
    let volumes: BTreeMap<String, Value> = list(spec, "Volumes")
        .into_iter()
        .flatten()
        .chain(spec.mounts.iter().filter(|m| m.notation == Notation::Implied).map(|m| m.target.clone()))
        .map(|v| (v, empty()))
        .collect();
    ContainerConfig {
        hostname: spec.hostname.clone(),
        domainname: spec.domainname.clone(),
        user: p.user.clone(),
        attach_stdin: p.attach.0,
        attach_stdout: p.attach.1,
        attach_stderr: p.attach.2,
        exposed_ports: spec.exposed.iter().map(|e| (e.clone(), empty())).collect(),
        tty: p.tty,
        open_stdin: p.open_stdin,
        stdin_once: p.stdin_once,
        env: Some(p.env.clone()),
        cmd: p.command.clone().map(Words::Many),
        healthcheck: spec.health.as_ref().map(health),
        image: spec.image.reference.clone(),
        volumes: (!volumes.is_empty()).then_some(volumes),
        working_dir: p.working_dir.clone(),
        entrypoint: p.entrypoint.clone().map(Words::Many),
        network_disabled: spec.echo.contains_key("NetworkDisabled"),
        mac_address: text(spec, "MacAddress"),
        on_build: list(spec, "OnBuild"),
        labels: meta.labels.clone(),
        stop_signal: spec.stop_signal.clone(),
        stop_timeout: spec.stop_timeout,
        shell: p.shell.clone().map(Words::Many),
        args_escaped: false,
    }
}

/// A health check as it is written.
pub(crate) fn health(check: &HealthCheck) -> HealthConfig {
    let test = match &check.test {
        HealthTest::Disabled => vec!["NONE".to_owned()],
        HealthTest::Exec(args) => std::iter::once("CMD".to_owned()).chain(args.iter().cloned()).collect(),
        HealthTest::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
    };
    HealthConfig {
        test,
        interval: check.interval,
        timeout: check.timeout,
        start_period: check.start_period,
        start_interval: check.start_interval,
        retries: check.retries,
    }
}

fn namespace(namespace: Namespace) -> String {
    match namespace {
        Namespace::Private => String::new(),
        Namespace::Host => "host".into(),
        Namespace::Container(id) => format!("container:{id}"),
    }
}

fn ipc(mode: IpcMode) -> String {
    match mode {
        IpcMode::Private => "private".into(),
        IpcMode::Shareable => "shareable".into(),
        IpcMode::None => "none".into(),
        IpcMode::Host => "host".into(),
        IpcMode::Container(id) => format!("container:{id}"),
    }
}

/// The network mode as it was written, or as the first network's name.
pub(crate) fn network_mode(view: &ContainerView) -> String {
    let spec = &view.container.spec;
    match spec.network {
        NetworkMode::Host => "host".into(),
        NetworkMode::None => "none".into(),
        NetworkMode::Container(id) => format!("container:{id}"),
        NetworkMode::Attached => {
            let written = text(spec, "NetworkMode");
            if !written.is_empty() {
                return written;
            }
            let first = spec.attachments.first().and_then(|a| view.networks.get(&a.network));
            match first {
                Some(network) if !network.spec.is_default_bridge() => network.spec.name.to_string(),
                _ => "bridge".into(),
            }
        }
    }
}

fn bindings(publish: &[PublishSpec]) -> PortMap {
    let mut map = PortMap::new();
    for p in publish {
        let host_port = match p.host_port {
            None => String::new(),
            Some(r) if r.start == r.end => r.start.to_string(),
            Some(r) => format!("{}-{}", r.start, r.end),
        };
        let key = format!("{}/{}", p.container_port, p.protocol.as_str());
        let entry = map.entry(key).or_default().get_or_insert_default();
        entry.push(PortBinding { host_ip: p.host_ip.clone(), host_port });
    }
    map
}

fn mounts(specs: &[MountSpec]) -> (Vec<String>, Vec<super::wire::Mount>, BTreeMap<String, String>) {
    let (mut short, mut long, mut tmpfs) = (Vec::new(), Vec::new(), BTreeMap::new());
    for mount in specs {
        match &mount.notation {
            Notation::Short(written) => {
                // A short volume mount without a name got one; dockerd shows it so.
                let shown = match &mount.kind {
                    MountKind::Volume { name, anonymous: true, .. } => format!("{name}:{}", mount.target),
                    _ => written.clone(),
                };
                short.push(shown);
            }
            Notation::Long(value) => {
                if let Ok(wire) = serde_json::from_value(value.clone()) {
                    long.push(wire);
                }
            }
            Notation::TmpfsMap(options) => {
                tmpfs.insert(mount.target.clone(), options.clone());
            }
            Notation::Implied => {}
        }
    }
    (short, long, tmpfs)
}

/// The host's part.
pub(super) fn host_config(view: &ContainerView) -> HostConfig {
    let spec = &view.container.spec;
    let c = &spec.confine;
    let (binds, long, tmpfs) = mounts(&spec.mounts);
    let size = spec.process.console_size.unwrap_or_default();
    HostConfig {
        binds: some(binds),
        container_id_file: text(spec, "ContainerIDFile"),
        log_config: LogConfigWire { kind: spec.log.driver.clone(), config: spec.log.options.clone() },
        network_mode: network_mode(view),
        port_bindings: bindings(&spec.publish),
        restart_policy: RestartPolicyWire {
            name: spec.restart.mode.as_str().into(),
            maximum_retry_count: i64::from(spec.restart.max_retries),
        },
        auto_remove: spec.auto_remove,
        volume_driver: text(spec, "VolumeDriver"),
        volumes_from: some(spec.volumes_from.clone()),
        console_size: [size.0, size.1],
        annotations: spec.annotations.clone(),
        cap_add: some(c.cap_add.clone()),
        cap_drop: some(c.cap_drop.clone()),
        cgroupns_mode: match c.cgroup {
            CgroupNs::Private => "private".into(),
            CgroupNs::Host | CgroupNs::Default => "host".into(),
        },
        dns: spec.dns.servers.clone(),
        dns_options: spec.dns.options.clone(),
        dns_search: spec.dns.search.clone(),
        extra_hosts: some(spec.extra_hosts.clone()),
        group_add: some(spec.process.groups.clone()),
        ipc_mode: ipc(c.ipc),
        cgroup: String::new(),
        links: some(spec.links.iter().map(|l| link(view, l)).collect()),
        oom_score_adj: spec.resources.oom_score_adj,
        pid_mode: namespace(c.pid),
        privileged: c.privileged,
        publish_all_ports: spec.publish_all,
        readonly_rootfs: c.read_only_root,
        security_opt: some(c.security_opt.clone()),
        storage_opt: BTreeMap::new(),
        tmpfs,
        uts_mode: namespace(c.uts),
        userns_mode: if c.user == UserNs::Host { "host".into() } else { String::new() },
        shm_size: if spec.resources.shm_size == 0 { 64 << 20 } else { spec.resources.shm_size },
        sysctls: c.sysctls.clone(),
        runtime: if spec.runtime.is_empty() { "weft".into() } else { spec.runtime.clone() },
        isolation: text(spec, "Isolation"),
        resources: resources(&spec.resources),
        mounts: long,
        masked_paths: Some(paths(c.privileged, c.masked_paths.as_ref(), MASKED)),
        readonly_paths: Some(paths(c.privileged, c.readonly_paths.as_ref(), READONLY)),
        init: spec.init,
    }
}

/// `container:alias` shown as `/container:/me/alias`.
fn link(view: &ContainerView, written: &str) -> String {
    let Link { target, alias } = Link::parse(written);
    format!("/{target}:/{}/{alias}", view.container.spec.name)
}

/// Docker's default lists (moby `oci/defaults.go`).
const MASKED: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn paths(privileged: bool, given: Option<&Vec<String>>, default: &[&str]) -> Vec<String> {
    match given {
        Some(list) => list.clone(),
        None if privileged => Vec::new(),
        None => default.iter().map(|p| (*p).to_owned()).collect(),
    }
}

fn rates(list: &[weft_model::BlkioRate]) -> Option<Vec<ThrottleDevice>> {
    some(list.iter().map(|d| ThrottleDevice { path: d.path.clone(), rate: d.rate }).collect())
}

fn resources(r: &Resources) -> ResourcesWire {
    ResourcesWire {
        cpu_shares: r.cpu_shares,
        memory: r.memory,
        nano_cpus: r.nano_cpus,
        cgroup_parent: r.cgroup_parent.clone(),
        blkio_weight: r.blkio_weight,
        blkio_weight_device: some(
            r.blkio_weight_device
                .iter()
                .map(|w| WeightDevice { path: w.path.clone(), weight: w.weight })
                .collect(),
        ),
        blkio_device_read_bps: rates(&r.blkio_read_bps),
        blkio_device_write_bps: rates(&r.blkio_write_bps),
        blkio_device_read_iops: rates(&r.blkio_read_iops),
        blkio_device_write_iops: rates(&r.blkio_write_iops),
        cpu_period: r.cpu_period,
        cpu_quota: r.cpu_quota,
        cpu_realtime_period: r.cpu_rt_period,
        cpu_realtime_runtime: r.cpu_rt_runtime,
        cpuset_cpus: r.cpuset_cpus.clone(),
        cpuset_mems: r.cpuset_mems.clone(),
        devices: Some(
            r.devices
                .iter()
                .map(|d| DeviceMapping {
                    path_on_host: d.host.clone(),
                    path_in_container: d.target.clone(),
                    cgroup_permissions: d.access.clone(),
                })
                .collect(),
        ),
        device_cgroup_rules: some(r.device_cgroup_rules.clone()),
        device_requests: some(
            r.device_requests
                .iter()
                .map(|d| DeviceRequestWire {
                    driver: d.driver.clone(),
                    count: d.count,
                    device_ids: some(d.ids.clone()),
                    capabilities: Some(d.capabilities.clone()),
                    options: None,
                })
                .collect(),
        ),
        kernel_memory: r.kernel_memory,
        kernel_memory_tcp: r.kernel_memory_tcp,
        memory_reservation: r.memory_reservation,
        memory_swap: r.memory_swap,
        memory_swappiness: r.swappiness,
        oom_kill_disable: r.oom_kill_disable,
        pids_limit: r.pids,
        ulimits: some(
            r.ulimits
                .iter()
                .map(|u| UlimitWire { name: u.name.clone(), hard: u.hard, soft: u.soft })
                .collect(),
        ),
        ..ResourcesWire::default()
    }
}

/// `State.Health`.
pub(super) fn health_state(view: &ContainerView) -> Option<Value> {
    let report = view.container.status.health.as_ref()?;
    let log: Vec<Value> = report
        .log
        .iter()
        .map(|p| json!({"Start": p.start.to_string(), "End": p.end.to_string(), "ExitCode": p.exit_code, "Output": p.output}))
        .collect();
    Some(json!({"Status": report.state.as_str(), "FailingStreak": report.failing_streak, "Log": log}))
}
