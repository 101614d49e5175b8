//! The body of a creation turned into a draft; every string that has a grammar is parsed here.

use std::net::IpAddr;

use weft_cloud::{ContainerDraft, DraftEndpoint, DraftNetwork, ImageDefaults};
use weft_model::{
    BlkioDevice, BlkioRate, CgroupNs, Confinement, DeviceRequest, DeviceSpec, DnsConfig, HealthCheck,
    HealthTest, IpcMode, LogConfig, MountSpec, Namespace, PortRange, ProcessSpec, Protocol, PublishSpec,
    Resources, RestartMode, RestartPolicy, SeccompChoice, Ulimit, UserNs,
};

use super::{
    mounts,
    wire::{
        ContainerConfig, CreateBody, EndpointSettings, HealthConfig, HostConfig, PortMap, ResourcesWire,
        RestartPolicyWire, ThrottleDevice, Words,
    },
};
use crate::{
    ApiVersion,
    error::{ApiError, Result},
};

/// The draft that `body` asks for.
pub(super) fn draft(
    body: CreateBody,
    name: Option<String>,
    platform: Option<String>,
    version: ApiVersion,
) -> Result<ContainerDraft> {
    let CreateBody { config, host_config: host, networking_config: networking } = body;
    if config.image.is_empty() {
        return Err(ApiError::bad_request("no image specified".into()));
    }
    refuse_foreign(&host)?;
    let (confine, pid_of, ipc_of) = confinement(&host)?;
    let endpoints = networking
        .endpoints_config
        .iter()
        .map(|(network, wishes)| endpoint(network, wishes))
        .collect::<Result<Vec<_>>>()?;
    let mut draft = ContainerDraft {
        name,
        platform,
        image: config.image.clone(),
        process: process(&config, &host),
        hostname: Some(config.hostname.clone()).filter(|h| !h.is_empty()),
        domainname: config.domainname.clone(),
        confine,
        pid_of,
        ipc_of,
        resources: resources(&host)?,
        mounts: all_mounts(&config, &host)?,
        volumes_from: host.volumes_from.clone().unwrap_or_default(),
        network: if config.network_disabled { DraftNetwork::None } else { network_mode(&host.network_mode) },
        endpoints,
        mac: parse_optional(&config.mac_address)?,
        exposed: config.exposed_ports.keys().map(|p| exposed(p)).collect::<Result<_>>()?,
        publish: publish(&host.port_bindings)?,
        publish_all: host.publish_all_ports,
        dns: DnsConfig {
            servers: host.dns.clone(),
            search: host.dns_search.clone(),
            options: host.dns_options.clone(),
        },
        extra_hosts: extra_hosts(host.extra_hosts.as_deref().unwrap_or_default())?,
        links: host.links.clone().unwrap_or_default(),
        log: log_config(&host),
        restart: restart_policy(&host.restart_policy, host.auto_remove)?,
        auto_remove: host.auto_remove,
        health: config.healthcheck.as_ref().map(health).transpose()?.flatten(),
        stop_signal: config.stop_signal.clone(),
        stop_timeout: config.stop_timeout,
        runtime: host.runtime.clone(),
        init: host.init,
        annotations: host.annotations.clone(),
        labels: config.labels.clone(),
        echo: echo(&config, &host),
    };
    if version < ApiVersion::v1(44) {
        // Older clients create the source of `Mounts` binds by other means; nothing to gate here but the
        // health check's start interval, which they do not know.
        if let Some(check) = &mut draft.health {
            check.start_interval = 0;
        }
    }
    Ok(draft)
}

/// Options that have no meaning on Linux, or that Weft has no driver for, are refused by name.
fn refuse_foreign(host: &HostConfig) -> Result<()> {
    if !matches!(host.isolation.as_str(), "" | "default") {
        return Err(ApiError::bad_request(format!("invalid isolation '{}' on linux", host.isolation)));
    }
    let r = &host.resources;
    let windows_only = [
        ("CPU count", r.cpu_count != 0),
        ("CPU percent", r.cpu_percent != 0),
        ("IOMaximumIOps", r.io_maximum_iops != 0),
        ("IOMaximumBandwidth", r.io_maximum_bandwidth != 0),
    ];
    if let Some((what, _)) = windows_only.iter().find(|(_, given)| *given) {
        return Err(ApiError::bad_request(format!("{what} is not supported on linux")));
    }
    if let Some(option) = host.storage_opt.keys().next() {
        return Err(ApiError::bad_request(format!(
            "--storage-opt {option} is supported only for overlay over xfs with 'pquota' mount option; Weft does \
             not offer it"
        )));
    }
    if !host.cgroup.is_empty() {
        return Err(ApiError::bad_request(format!("invalid cgroup mode: {}", host.cgroup)));
    }
    Ok(())
}

/// Fields that are only shown again.
fn echo(
    config: &ContainerConfig,
    host: &HostConfig,
) -> std::collections::BTreeMap<String, serde_json::Value> {
    let mut echo = std::collections::BTreeMap::new();
    let mut keep = |key: &str, value: serde_json::Value| echo.insert(key.to_owned(), value);
    if !host.container_id_file.is_empty() {
        keep("ContainerIDFile", host.container_id_file.clone().into());
    }
    if !host.volume_driver.is_empty() {
        keep("VolumeDriver", host.volume_driver.clone().into());
    }
    if let Some(volumes) = &config.volumes {
        keep("Volumes", volumes.keys().cloned().collect::<Vec<_>>().into());
    }
    if !config.mac_address.is_empty() {
        keep("MacAddress", config.mac_address.clone().into());
    }
    if config.network_disabled {
        keep("NetworkDisabled", true.into());
    }
    if let Some(on_build) = &config.on_build {
        keep("OnBuild", on_build.clone().into());
    }
    if !host.network_mode.is_empty() {
        keep("NetworkMode", host.network_mode.clone().into());
    }
    echo
}

fn words(words: Option<Words>) -> Option<Vec<String>> {
    words.map(Words::into_vec)
}

fn process(config: &ContainerConfig, host: &HostConfig) -> ProcessSpec {
    ProcessSpec {
        entrypoint: words(config.entrypoint.clone()),
        command: words(config.cmd.clone()),
        env: config.env.clone().unwrap_or_default(),
        working_dir: config.working_dir.clone(),
        user: config.user.clone(),
        groups: host.group_add.clone().unwrap_or_default(),
        tty: config.tty,
        open_stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        attach: (config.attach_stdin, config.attach_stdout, config.attach_stderr),
        console_size: Some((host.console_size[0], host.console_size[1])).filter(|s| s.0 > 0 && s.1 > 0),
        shell: words(config.shell.clone()),
    }
}

fn all_mounts(config: &ContainerConfig, host: &HostConfig) -> Result<Vec<MountSpec>> {
    let mut all = Vec::new();
    for bind in host.binds.iter().flatten() {
        all.push(mounts::from_bind(bind, &host.volume_driver)?);
    }
    for mount in &host.mounts {
        all.push(mounts::from_mount(mount)?);
    }
    for (target, options) in &host.tmpfs {
        all.push(mounts::from_tmpfs(target, options)?);
    }
    mounts::refuse_duplicates(&all)?;
    for target in config.volumes.iter().flat_map(|v| v.keys()) {
        let mount = mounts::anonymous(target)?;
        if all.iter().all(|m| m.target != mount.target) {
            all.push(mount);
        }
    }
    Ok(all)
}

fn network_mode(mode: &str) -> DraftNetwork {
    match mode {
        "" | "default" => DraftNetwork::Default,
        "none" => DraftNetwork::None,
        "host" => DraftNetwork::Host,
        other => match other.strip_prefix("container:") {
            Some(target) => DraftNetwork::Container(target.to_owned()),
            None => DraftNetwork::Named(other.to_owned()),
        },
    }
}

fn address(text: &str) -> Result<Option<IpAddr>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| ApiError::bad_request(format!("invalid IP address: {text}")))
}

fn parse_optional<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<Option<T>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|e: T::Err| ApiError::bad_request(e.to_string()))
}

/// Wishes for one network; also the body of `POST /networks/{id}/connect`.
pub(crate) fn endpoint(network: &str, wishes: &EndpointSettings) -> Result<DraftEndpoint> {
    let ipam = wishes.ipam_config.clone().unwrap_or_default();
    let ipv4 = address(&ipam.ipv4_address)?;
    let ipv6 = address(&ipam.ipv6_address)?;
    if ipv4.is_some_and(|ip| ip.is_ipv6()) {
        return Err(ApiError::bad_request(format!("invalid IPv4 address: {}", ipam.ipv4_address)));
    }
    if ipv6.is_some_and(|ip| ip.is_ipv4()) {
        return Err(ApiError::bad_request(format!("invalid IPv6 address: {}", ipam.ipv6_address)));
    }
    Ok(DraftEndpoint {
        network: network.to_owned(),
        aliases: wishes.aliases.clone().unwrap_or_default(),
        links: wishes.links.clone().unwrap_or_default(),
        ipv4,
        ipv6,
        link_local: ipam
            .link_local_ips
            .iter()
            .filter_map(|ip| address(ip).transpose())
            .collect::<Result<_>>()?,
        mac: parse_optional(&wishes.mac_address)?,
        gateway_priority: wishes.gw_priority.unwrap_or_default(),
        options: wishes.driver_opts.clone().unwrap_or_default(),
    })
}

fn namespace(mode: &str, kind: &str) -> Result<(Namespace, Option<String>)> {
    match mode {
        "" | "private" => Ok((Namespace::Private, None)),
        "host" => Ok((Namespace::Host, None)),
        other => match other.strip_prefix("container:") {
            Some(target) if !target.is_empty() && kind != "UTS" => {
                Ok((Namespace::Private, Some(target.to_owned())))
            }
            _ => Err(ApiError::bad_request(format!("invalid {kind} mode: {other}"))),
        },
    }
}

fn confinement(host: &HostConfig) -> Result<(Confinement, Option<String>, Option<String>)> {
    let (pid, pid_of) = namespace(&host.pid_mode, "PID")?;
    let (uts, _) = namespace(&host.uts_mode, "UTS")?;
    let (ipc, ipc_of) = match host.ipc_mode.as_str() {
        "" | "private" => (IpcMode::Private, None),
        "shareable" => (IpcMode::Shareable, None),
        "none" => (IpcMode::None, None),
        "host" => (IpcMode::Host, None),
        other => match other.strip_prefix("container:") {
            Some(target) if !target.is_empty() => (IpcMode::Private, Some(target.to_owned())),
            _ => return Err(ApiError::bad_request(format!("invalid IPC mode: {other}"))),
        },
    };
    let cgroup = match host.cgroupns_mode.as_str() {
        "" => CgroupNs::Default,
        "private" => CgroupNs::Private,
        "host" => CgroupNs::Host,
        other => return Err(ApiError::bad_request(format!("invalid cgroup namespace mode: {other}"))),
    };
    let user = match host.userns_mode.as_str() {
        "" => UserNs::Default,
        "host" => UserNs::Host,
        other => return Err(ApiError::bad_request(format!("invalid USER mode: {other}"))),
    };
    let mut confine = Confinement {
        privileged: host.privileged,
        cap_add: host.cap_add.clone().unwrap_or_default(),
        cap_drop: host.cap_drop.clone().unwrap_or_default(),
        read_only_root: host.readonly_rootfs,
        security_opt: host.security_opt.clone().unwrap_or_default(),
        masked_paths: host.masked_paths.clone(),
        readonly_paths: host.readonly_paths.clone(),
        pid,
        uts,
        ipc,
        cgroup,
        user,
        sysctls: host.sysctls.clone(),
        ..Confinement::default()
    };
    for option in host.security_opt.iter().flatten() {
        security_option(option, &mut confine)?;
    }
    Ok((confine, pid_of, ipc_of))
}

fn security_option(option: &str, confine: &mut Confinement) -> Result<()> {
    let invalid = || ApiError::bad_request(format!("invalid --security-opt 2: {option:?}"));
    if option == "no-new-privileges" {
        confine.no_new_privileges = true;
        return Ok(());
    }
    // Older clients wrote a colon.
    let (key, value) = option.split_once('=').or_else(|| option.split_once(':')).ok_or_else(invalid)?;
    match key {
        "no-new-privileges" => confine.no_new_privileges = value.parse().map_err(|_| invalid())?,
        "seccomp" if value == "unconfined" => confine.seccomp = SeccompChoice::Unconfined,
        "seccomp" if value == "builtin" => confine.seccomp = SeccompChoice::Default,
        "seccomp" => {
            serde_json::from_str::<serde_json::Value>(value)
                .map_err(|e| ApiError::bad_request(format!("Decoding seccomp profile failed: {e}")))?;
            confine.seccomp = SeccompChoice::Profile(value.to_owned());
        }
        "systempaths" if value == "unconfined" => {
            confine.masked_paths = Some(Vec::new());
            confine.readonly_paths = Some(Vec::new());
        }
        // Without the module in the kernel these change nothing, as on a dockerd without it.
        "label" | "apparmor" => {}
        _ => return Err(invalid()),
    }
    Ok(())
}

fn rates(devices: Option<&Vec<ThrottleDevice>>) -> Vec<BlkioRate> {
    devices.into_iter().flatten().map(|d| BlkioRate { path: d.path.clone(), rate: d.rate }).collect()
}

fn resources(host: &HostConfig) -> Result<Resources> {
    let mut resources = limits(&host.resources)?;
    resources.oom_score_adj = host.oom_score_adj;
    resources.shm_size = host.shm_size;
    if host.shm_size < 0 {
        return Err(ApiError::bad_request("SHM size can not be less than 0".into()));
    }
    Ok(resources)
}

/// Limits alone; also the body of an update.
pub(super) fn limits(r: &ResourcesWire) -> Result<Resources> {
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

/// `80`, `80/tcp`, `80-82/udp` as declared by images and people.
fn exposed(text: &str) -> Result<String> {
    let (range, protocol) = split_port(text)?;
    Ok(if range.start == range.end {
        format!("{}/{}", range.start, protocol.as_str())
    } else {
        format!("{}-{}/{}", range.start, range.end, protocol.as_str())
    })
}

fn split_port(text: &str) -> Result<(PortRange, Protocol)> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol
        .parse()
        .map_err(|e: String| ApiError::bad_request(format!("invalid port specification: {text:?}: {e}")))?;
    Ok((port_range(ports)?, protocol))
}

fn port_range(text: &str) -> Result<PortRange> {
    let invalid = || ApiError::bad_request(format!("invalid port specification: \"{text}\""));
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    let range =
        PortRange { start: start.parse().map_err(|_| invalid())?, end: end.parse().map_err(|_| invalid())? };
    if range.end < range.start { Err(invalid()) } else { Ok(range) }
}

fn publish(map: &PortMap) -> Result<Vec<PublishSpec>> {
    let mut all = Vec::new();
    for (key, bindings) in map {
        let (range, protocol) = split_port(key)?;
        for binding in bindings.iter().flatten() {
            if !binding.host_ip.is_empty() && binding.host_ip.parse::<IpAddr>().is_err() {
                return Err(ApiError::bad_request(format!("invalid IP address: {}", binding.host_ip)));
            }
            let host_port = Some(binding.host_port.as_str()).filter(|p| !p.is_empty() && *p != "0");
            let host_port = host_port.map(port_range).transpose()?;
            for container_port in range.start..=range.end {
                all.push(PublishSpec {
                    protocol,
                    container_port,
                    host_ip: binding.host_ip.clone(),
                    host_port,
                });
            }
        }
    }
    Ok(all)
}

fn extra_hosts(hosts: &[String]) -> Result<Vec<String>> {
    for host in hosts {
        let valid = host.split_once([':', '=']).is_some_and(|(name, ip)| {
            !name.is_empty()
                && (ip == "host-gateway" || ip.trim_matches(['[', ']']).parse::<IpAddr>().is_ok())
        });
        if !valid {
            return Err(ApiError::bad_request(format!("bad format for add-host: \"{host}\"")));
        }
    }
    Ok(hosts.to_vec())
}

fn log_config(host: &HostConfig) -> Option<LogConfig> {
    let log = &host.log_config;
    (!log.kind.is_empty() || !log.config.is_empty())
        .then(|| LogConfig { driver: log.kind.clone(), options: log.config.clone() })
}

/// A restart policy; also part of an update.
pub(super) fn restart_policy(policy: &RestartPolicyWire, auto_remove: bool) -> Result<RestartPolicy> {
    let mode = match policy.name.as_str() {
        "" | "no" => RestartMode::No,
        "always" => RestartMode::Always,
        "unless-stopped" => RestartMode::UnlessStopped,
        "on-failure" => RestartMode::OnFailure,
        other => {
            return Err(ApiError::bad_request(format!(
                "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or \
                 'unless-stopped'"
            )));
        }
    };
    let retries = policy.maximum_retry_count;
    if retries < 0 {
        return Err(ApiError::bad_request(
            "invalid restart policy: maximum retry count cannot be negative".into(),
        ));
    }
    if retries > 0 && mode != RestartMode::OnFailure {
        return Err(ApiError::bad_request(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'".into(),
        ));
    }
    if auto_remove && mode != RestartMode::No {
        return Err(ApiError::bad_request("can't create 'AutoRemove' container with restart policy".into()));
    }
    Ok(RestartPolicy { mode, max_retries: u32::try_from(retries).unwrap_or(u32::MAX) })
}

/// A configuration as an image carries it; the body of a commit.
pub(crate) fn defaults(config: &ContainerConfig) -> Result<ImageDefaults> {
    Ok(ImageDefaults {
        entrypoint: words(config.entrypoint.clone()),
        command: words(config.cmd.clone()),
        env: config.env.clone().unwrap_or_default(),
        working_dir: config.working_dir.clone(),
        user: config.user.clone(),
        exposed: config.exposed_ports.keys().map(|p| exposed(p)).collect::<Result<_>>()?,
        volumes: config.volumes.iter().flat_map(|v| v.keys().cloned()).collect(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone(),
        shell: words(config.shell.clone()),
        health: config.healthcheck.as_ref().map(health).transpose()?.flatten(),
    })
}

/// `None` means: the image's.
fn health(config: &HealthConfig) -> Result<Option<HealthCheck>> {
    const SHORTEST: i64 = 1_000_000;
    for (name, value) in [
        ("Interval", config.interval),
        ("Timeout", config.timeout),
        ("StartPeriod", config.start_period),
        ("StartInterval", config.start_interval),
    ] {
        if value != 0 && value < SHORTEST {
            return Err(ApiError::bad_request(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
    }
    if config.retries < 0 {
        return Err(ApiError::bad_request("Retries in Healthcheck cannot be negative".into()));
    }
    let test = match config.test.split_first() {
        None => None,
        Some((kind, rest)) => Some(match kind.as_str() {
            "NONE" => HealthTest::Disabled,
            "CMD" => HealthTest::Exec(rest.to_vec()),
            "CMD-SHELL" => HealthTest::Shell(rest.first().cloned().unwrap_or_default()),
            other => return Err(ApiError::bad_request(format!("unknown type '{other}' in Healthcheck"))),
        }),
    };
    let any_time =
        config.interval | config.timeout | config.start_period | config.start_interval | config.retries;
    if test.is_none() && any_time == 0 {
        return Ok(None);
    }
    Ok(Some(HealthCheck {
        // An empty exec form asks for the image's test with these times.
        test: test.unwrap_or(HealthTest::Exec(Vec::new())),
        interval: config.interval,
        timeout: config.timeout,
        retries: config.retries,
        start_period: config.start_period,
        start_interval: config.start_interval,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: serde_json::Value) -> Result<ContainerDraft> {
        let body: CreateBody = crate::respond::parse(value.to_string().as_bytes()).unwrap();
        draft(body, None, None, crate::MAXIMUM)
    }

    #[test]
    fn nulls_and_absent_fields_are_the_same() {
        let bare = parse(json!({"Image": "a"})).unwrap();
        let nulls = json!({"Image": "a", "Cmd": null, "Env": null, "Labels": null, "Volumes": null,
            "HostConfig": {"Binds": null, "PortBindings": null, "Dns": null, "LogConfig": {"Type": "", "Config": null},
            "Ulimits": null, "Devices": null}, "NetworkingConfig": {"EndpointsConfig": null}});
        assert_eq!(parse(nulls).unwrap(), bare);
    }

    #[test]
    fn published_ports() {
        let draft = parse(json!({"Image": "a", "HostConfig": {"PortBindings": {
            "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}, {"HostPort": ""}], "53/udp": null}}}))
        .unwrap();
        let seen: Vec<_> = draft
            .publish
            .iter()
            .map(|p| (p.container_port, p.host_ip.as_str(), p.host_port.map(|r| r.start)))
            .collect();
        assert_eq!(seen, [(80, "127.0.0.1", Some(8080)), (80, "", None)]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (host, text) in [
            (json!({"RestartPolicy": {"Name": "sometimes"}}), "unknown policy 'sometimes'"),
            (json!({"RestartPolicy": {"Name": "always"}, "AutoRemove": true}), "can't create 'AutoRemove'"),
            (json!({"SecurityOpt": ["nonsense"]}), "invalid --security-opt"),
            (json!({"PidMode": "x"}), "invalid PID mode: x"),
            (json!({"ExtraHosts": ["a"]}), "bad format for add-host"),
            (json!({"PortBindings": {"x/tcp": []}}), "invalid port specification"),
            (json!({"StorageOpt": {"size": "1"}}), "--storage-opt size"),
            (json!({"Tmpfs": {"a": ""}}), "mount path must be absolute"),
            (json!({"Binds": ["/a:/x", "/b:/x"]}), "Duplicate mount point: /x"),
        ] {
            let error = parse(json!({"Image": "a", "HostConfig": host})).unwrap_err();
            assert!(error.message().contains(text), "{}", error.message());
        }
    }
}
