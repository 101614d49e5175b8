//! The body of a creation turned into a draft; every string that has a grammar is parsed here.
//!
//! The body as a whole is this file's; the parts of it that are an idea of their own have a file each.

mod confine;
mod ports;
mod resources;
mod run;

use weft_cloud::{ContainerDraft, DraftNetwork, ImageDefaults};
use weft_model::{DnsConfig, MountSpec, ProcessSpec};

use super::{
    endpoint::endpoint,
    mounts,
    wire::{ContainerConfig, CreateBody, HostConfig, Words},
};
use crate::error::{ApiError, Result};

use confine::confinement;
use ports::{extra_hosts, publish};
pub(super) use resources::limits;
use resources::resources;
pub(super) use run::restart_policy;
use run::{health, log_config};

/// The draft that `body` asks for.
pub(super) fn draft(
    body: CreateBody,
    name: Option<String>,
    platform: Option<String>,
) -> Result<ContainerDraft> {
    let CreateBody { config, runtime, host_config: host, networking_config: networking } = body;
    if config == ContainerConfig::default() {
        return Err(ApiError::bad_request("Config cannot be empty in order to create a container".into()));
    }
    if config.image.is_empty() {
        return Err(ApiError::bad_request("no image specified".into()));
    }
    refuse_foreign(&host)?;
    variables(config.env.as_deref().unwrap_or_default())?;
    let (confine, pid_of, ipc_of) = confinement(&host)?;
    let endpoints = networking
        .endpoints_config
        .iter()
        .map(|(network, wishes)| endpoint(network, wishes))
        .collect::<Result<Vec<_>>>()?;
    Ok(ContainerDraft {
        name,
        platform,
        image: config.image.clone(),
        process: process(&config, &host),
        hostname: Some(config.hostname.clone()).filter(|h| !h.is_empty()),
        domainname: config.domainname.clone(),
        confine,
        pid_of,
        ipc_unsaid: host.ipc_mode.is_empty(),
        ipc_of,
        resources: resources(&host)?,
        mounts: all_mounts(&config, &host)?,
        volumes_from: host.volumes_from.clone().unwrap_or_default(),
        network: if config.network_disabled { DraftNetwork::None } else { network_mode(&host.network_mode)? },
        endpoints,
        mac: parse_optional(&config.mac_address)?,
        exposed: config.exposed_ports.keys().map(|p| ports::exposed(p)).collect::<Result<_>>()?,
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
        runtime: if host.runtime.is_empty() { runtime } else { host.runtime.clone() },
        init: host.init,
        annotations: host.annotations.clone(),
        labels: config.labels.clone(),
        echo: echo(&config, &host),
    })
}

/// Variables have names (moby `opts.ValidateEnv`).
fn variables(env: &[String]) -> Result<()> {
    match env.iter().find(|pair| pair.is_empty() || pair.starts_with('=')) {
        Some(pair) => Err(ApiError::bad_request(format!("invalid environment variable: {pair}"))),
        None => Ok(()),
    }
}

/// Options that have no meaning on Linux, or that Weft has no driver for, are refused by name.
fn refuse_foreign(host: &HostConfig) -> Result<()> {
    if !matches!(host.isolation.as_str(), "" | "default") {
        return Err(ApiError::bad_request(format!(
            "invalid isolation: \"{}\" - linux only supports 'default'",
            host.isolation
        )));
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
    if !host.storage_opt.is_empty() {
        return Err(ApiError::bad_request(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option".into(),
        ));
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
    if !host.isolation.is_empty() {
        keep("Isolation", host.isolation.clone().into());
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

fn network_mode(mode: &str) -> Result<DraftNetwork> {
    Ok(match mode {
        "" | "default" => DraftNetwork::Default,
        "none" => DraftNetwork::None,
        "host" => DraftNetwork::Host,
        "container" | "container:" => {
            let text = "invalid network mode: invalid container format container:<name|id>";
            return Err(ApiError::bad_request(text.into()));
        }
        other => match other.strip_prefix("container:") {
            Some(target) => DraftNetwork::Container(target.to_owned()),
            None => DraftNetwork::Named(other.to_owned()),
        },
    })
}

pub(super) fn parse_optional<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<Option<T>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|e: T::Err| ApiError::bad_request(e.to_string()))
}

/// A configuration as an image carries it; the body of a commit.
pub(crate) fn defaults(config: &ContainerConfig) -> Result<ImageDefaults> {
    Ok(ImageDefaults {
        entrypoint: words(config.entrypoint.clone()),
        command: words(config.cmd.clone()),
        env: config.env.clone().unwrap_or_default(),
        working_dir: config.working_dir.clone(),
        user: config.user.clone(),
        exposed: config.exposed_ports.keys().map(|p| ports::exposed(p)).collect::<Result<_>>()?,
        volumes: config.volumes.iter().flat_map(|v| v.keys().cloned()).collect(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone(),
        shell: words(config.shell.clone()),
        health: config.healthcheck.as_ref().map(health).transpose()?.flatten(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: serde_json::Value) -> Result<ContainerDraft> {
        let body: CreateBody = crate::respond::parse(value.to_string().as_bytes()).unwrap();
        draft(body, None, None)
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
            (json!({"PortBindings": {"0/tcp": []}}), "invalid container port: 0/tcp"),
            (json!({"StorageOpt": {"size": "1"}}), "--storage-opt is supported only"),
            (json!({"Tmpfs": {"a": ""}}), "mount path must be absolute"),
            (json!({"Binds": ["/a:/x", "/b:/x"]}), "Duplicate mount point: /x"),
        ] {
            let error = parse(json!({"Image": "a", "HostConfig": host})).unwrap_err();
            assert!(error.message().contains(text), "{}", error.message());
        }
    }
}
