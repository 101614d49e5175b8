//! A container shown whole (`ContainerInspectResponse`) and in a row (`ContainerSummary`).

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::{Map, Value, json};
use weft_base::Timestamp;
use weft_cloud::ContainerView;
use weft_model::{
    Attachment, ContainerStatus, HealthState, MountPoint, NetworkKind, NetworkMode, Port, PortAddress,
    PublishBinding, RunState,
};

use super::{
    render,
    wire::{EndpointIpamConfig, EndpointSettings},
};
use crate::{ApiVersion, error::Result};

/// Go's zero time, which dockerd shows for what never happened.
const NEVER: &str = "0001-01-01T00:00:00Z";

fn when(at: Option<Timestamp>) -> String {
    at.map_or_else(|| NEVER.to_owned(), Timestamp::rfc3339_nano)
}

fn port_of<'a>(view: &'a ContainerView, attachment: &Attachment) -> Option<&'a Port> {
    view.ports.iter().map(AsRef::as_ref).find(|p| p.spec.network == attachment.network)
}

/// One network of a container.
pub(crate) fn endpoint(
    view: &ContainerView,
    attachment: &Attachment,
    version: ApiVersion,
) -> EndpointSettings {
    let port = port_of(view, attachment);
    let addresses = port.map(Port::addresses).unwrap_or_default();
    let (v4, v6) = (addresses.iter().find(|a| a.ip.is_ipv4()), addresses.iter().find(|a| a.ip.is_ipv6()));
    let text = |ip: Option<IpAddr>| ip.map(|i| i.to_string()).unwrap_or_default();
    let asked = attachment.ipv4.is_some() || attachment.ipv6.is_some() || !attachment.link_local.is_empty();
    let default_bridge = view.networks.get(&attachment.network).is_some_and(|n| n.spec.is_default_bridge());
    // Interfaces that have their parent's Ethernet address have none to show.
    let own_mac = view.networks.get(&attachment.network).is_none_or(|n| n.spec.chooses_mac());
    // "All is on the link" is no gateway.
    let next_hop = |a: &PortAddress| a.gateway.filter(|g| !g.is_unspecified());
    let mut aliases = attachment.aliases.clone();
    // Before 1.45 the short id was shown among the aliases; since then names are in DNSNames.
    if version < ApiVersion::v1(45) && !default_bridge {
        let short = view.container.spec.id.short();
        if !aliases.contains(&short) {
            aliases.push(short);
        }
    }
    EndpointSettings {
        ipam_config: (asked || attachment.explicit).then(|| EndpointIpamConfig {
            ipv4_address: text(attachment.ipv4),
            ipv6_address: text(attachment.ipv6),
            link_local_ips: attachment.link_local.iter().map(ToString::to_string).collect(),
        }),
        links: (!attachment.links.is_empty()).then(|| attachment.links.clone()),
        aliases: (!aliases.is_empty()).then_some(aliases),
        mac_address: port
            .map(|p| p.spec.mac.to_string())
            .filter(|_| own_mac)
            .or_else(|| attachment.mac.map(|m| m.to_string()))
            .unwrap_or_default(),
        driver_opts: (!attachment.options.is_empty()).then(|| attachment.options.clone()),
        gw_priority: (version >= ApiVersion::v1(48)).then_some(attachment.gateway_priority),
        network_id: attachment.network.to_string(),
        endpoint_id: port.map(|p| p.spec.id.to_string()).unwrap_or_default(),
        gateway: text(v4.and_then(next_hop)),
        ip_address: text(v4.map(|a| a.ip)),
        ip_prefix_len: v4.map_or(0, |a| a.prefix),
        ipv6_gateway: text(v6.and_then(next_hop)),
        global_ipv6_address: text(v6.map(|a| a.ip)),
        global_ipv6_prefix_len: v6.map_or(0, |a| a.prefix),
        dns_names: (version >= ApiVersion::v1(44))
            .then(|| port.map(|p| p.spec.names.clone()).unwrap_or_default())
            .filter(|n| !n.is_empty()),
    }
}

/// `Networks`, keyed by network name; `host` and `none` appear as themselves.
fn networks(view: &ContainerView, version: ApiVersion) -> BTreeMap<String, EndpointSettings> {
    let spec = &view.container.spec;
    let mut all = BTreeMap::new();
    for attachment in &spec.attachments {
        let name = view
            .networks
            .get(&attachment.network)
            .map_or_else(|| attachment.written.clone(), |n| n.spec.name.to_string());
        all.insert(name, endpoint(view, attachment, version));
    }
    let plain = match spec.network {
        NetworkMode::Host => Some(NetworkKind::Host),
        NetworkMode::None => Some(NetworkKind::None),
        _ => None,
    };
    if let Some(kind) = plain
        && let Some(network) = view.networks.values().find(|n| n.spec.kind == kind)
    {
        // There is no port whose id it could be.
        let endpoint_id =
            if view.container.status.state.is_alive() { spec.id.to_string() } else { String::new() };
        let settings = EndpointSettings {
            network_id: network.spec.id.to_string(),
            endpoint_id,
            ..EndpointSettings::default()
        };
        all.insert(network.spec.name.to_string(), settings);
    }
    all
}

/// None where a routed network shows the port at the container's own address only.
fn host_port(binding: &PublishBinding) -> String {
    if binding.host_port == 0 { String::new() } else { binding.host_port.to_string() }
}

/// `NetworkSettings.Ports`: declared ports with null, published ones with their bindings.
fn port_map(view: &ContainerView) -> Value {
    let mut map: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    if !view.container.status.state.is_alive() {
        return json!({});
    }
    for declared in &view.container.spec.exposed {
        map.entry(declared.clone()).or_default();
    }
    for b in view.ports.iter().flat_map(|p| &p.spec.publish).flat_map(|b| b.each()) {
        let key = format!("{}/{}", b.container_port, b.protocol.as_str());
        map.entry(key).or_default().push(json!({"HostIp": b.host_ip.to_string(), "HostPort": host_port(&b)}));
    }
    Value::Object(
        map.into_iter().map(|(k, v)| (k, if v.is_empty() { Value::Null } else { Value::Array(v) })).collect(),
    )
}

fn network_settings(view: &ContainerView, version: ApiVersion) -> Value {
    let spec = &view.container.spec;
    let default = spec
        .attachments
        .iter()
        .find(|a| view.networks.get(&a.network).is_some_and(|n| n.spec.is_default_bridge()))
        .map(|a| endpoint(view, a, version))
        .unwrap_or_default();
    let id = spec.id.to_string();
    json!({
        "Bridge": "",
        "SandboxID": if view.container.status.state.is_alive() { id } else { String::new() },
        "SandboxKey": view.paths.netns,
        "Ports": port_map(view),
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null,
        "EndpointID": default.endpoint_id,
        "Gateway": default.gateway,
        "GlobalIPv6Address": default.global_ipv6_address,
        "GlobalIPv6PrefixLen": default.global_ipv6_prefix_len,
        "IPAddress": default.ip_address,
        "IPPrefixLen": default.ip_prefix_len,
        "IPv6Gateway": default.ipv6_gateway,
        "MacAddress": default.mac_address,
        "Networks": networks(view, version),
    })
}

fn state(view: &ContainerView) -> Value {
    let s = &view.container.status;
    let mut state = json!({
        "Status": s.state.as_str(),
        // A paused or restarting container counts as running, as in dockerd.
        "Running": matches!(s.state, RunState::Running | RunState::Paused | RunState::Restarting),
        "Paused": s.state == RunState::Paused,
        "Restarting": s.state == RunState::Restarting,
        "OOMKilled": s.exit.oom_killed,
        "Dead": s.state == RunState::Dead,
        "Pid": s.pid,
        "ExitCode": s.exit.code,
        "Error": s.error,
        "StartedAt": when(s.started_at),
        "FinishedAt": when(s.finished_at),
    });
    if let (Some(health), Some(map)) = (render::health_state(view), state.as_object_mut()) {
        map.insert("Health".into(), health);
    }
    state
}

/// `MountPoint`.
fn mount(point: &MountPoint) -> Value {
    let mut map = Map::new();
    map.insert("Type".into(), point.kind.clone().into());
    if !point.name.is_empty() {
        map.insert("Name".into(), point.name.clone().into());
    }
    map.insert("Source".into(), point.source.clone().into());
    map.insert("Destination".into(), point.target.clone().into());
    if !point.driver.is_empty() {
        map.insert("Driver".into(), point.driver.clone().into());
    }
    map.insert("Mode".into(), point.mode.clone().into());
    map.insert("RW".into(), point.rw.into());
    let propagation = if point.kind == "bind" { point.propagation.as_str() } else { "" };
    map.insert("Propagation".into(), propagation.into());
    Value::Object(map)
}

/// The whole container.
pub(super) fn inspect(view: &ContainerView, version: ApiVersion) -> Result<Value> {
    let (meta, spec, status) = (&view.container.meta, &view.container.spec, &view.container.status);
    let (path, args) = {
        let mut argv = spec.process.argv().into_iter();
        (argv.next().unwrap_or_default(), argv.collect::<Vec<_>>())
    };
    let lower = view.paths.lower.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(":");
    let execs: Vec<String> = view.execs.iter().map(ToString::to_string).collect();
    let mut all = json!({
        "Id": spec.id,
        "Created": meta.created.to_string(),
        "Path": path,
        "Args": args,
        "State": state(view),
        "Image": spec.image.id,
        "ResolvConfPath": view.paths.resolv_conf,
        "HostnamePath": view.paths.hostname,
        "HostsPath": view.paths.hosts,
        "LogPath": view.paths.log,
        "Name": format!("/{}", spec.name),
        "RestartCount": status.restart_count,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": if execs.is_empty() { Value::Null } else { json!(execs) },
        "HostConfig": to_value(&render::host_config(view))?,
        "GraphDriver": {"Name": "overlay2", "Data": {
            "ID": spec.id,
            "LowerDir": lower,
            "MergedDir": view.paths.rootfs,
            "UpperDir": view.paths.upper,
            "WorkDir": view.paths.work,
        }},
        "Mounts": status.mounts.iter().map(mount).collect::<Vec<_>>(),
        "Config": to_value(&render::config(view))?,
        "NetworkSettings": network_settings(view, version),
    });
    if let Some(map) = all.as_object_mut() {
        if let Some(size) = view.size {
            map.insert("SizeRw".into(), size.writable.into());
            map.insert("SizeRootFs".into(), size.root.into());
        }
        manifest(map, view, version);
    }
    Ok(all)
}

/// Which manifest the container runs, told since 1.48.
fn manifest(map: &mut Map<String, Value>, view: &ContainerView, version: ApiVersion) {
    if let Some(target) = view.image_manifest.as_ref().filter(|_| version >= ApiVersion::v1(48)) {
        map.insert("ImageManifestDescriptor".into(), crate::images::descriptor(target));
    }
}

fn to_value<T: serde::Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| {
        crate::ApiError::new(http::StatusCode::INTERNAL_SERVER_ERROR, format!("rendering a container: {e}"))
    })
}

/// One row of a list.
pub(crate) fn summary(view: &ContainerView, now: Timestamp, version: ApiVersion) -> Result<Value> {
    let (meta, spec, status) = (&view.container.meta, &view.container.spec, &view.container.status);
    let mut names = vec![format!("/{}", spec.name)];
    names.extend(view.link_names.iter().cloned());
    let mut row = json!({
        "Id": spec.id,
        "Names": names,
        "Image": view.image,
        "ImageID": spec.image.id,
        "Command": command(&spec.process.argv()),
        "Created": meta.created.unix_secs(),
        "Ports": summary_ports(view),
        "Labels": meta.labels,
        "State": status.state.as_str(),
        "Status": status_line(status, now),
        "HostConfig": {"NetworkMode": render::network_mode(view)},
        "NetworkSettings": {"Networks": networks(view, version)},
        "Mounts": status.mounts.iter().map(mount).collect::<Vec<_>>(),
    });
    if version >= ApiVersion::v1(46) && !spec.annotations.is_empty() {
        row["HostConfig"]["Annotations"] = json!(spec.annotations);
    }
    if let Some(map) = row.as_object_mut() {
        if let Some(size) = view.size {
            map.insert("SizeRw".into(), size.writable.into());
            map.insert("SizeRootFs".into(), size.root.into());
        }
        manifest(map, view, version);
    }
    Ok(row)
}

/// The argument vector as one line; words with blanks are quoted as dockerd does.
fn command(argv: &[String]) -> String {
    let quoted = argv.iter().enumerate().map(|(i, word)| {
        if i > 0 && word.contains(' ') { format!("'{}'", word.replace('\'', "\\'")) } else { word.clone() }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

fn summary_ports(view: &ContainerView) -> Vec<Value> {
    if !view.container.status.state.is_alive() {
        return Vec::new();
    }
    let mut rows = Vec::new();
    let mut published = std::collections::BTreeSet::new();
    for b in view.ports.iter().flat_map(|p| &p.spec.publish).flat_map(|b| b.each()) {
        published.insert(format!("{}/{}", b.container_port, b.protocol.as_str()));
        let mut row = json!({"IP": b.host_ip.to_string(), "PrivatePort": b.container_port, "Type": b.protocol.as_str()});
        if b.host_port > 0 {
            row["PublicPort"] = b.host_port.into();
        }
        rows.push(row);
    }
    for declared in view.container.spec.exposed.iter().filter(|d| !published.contains(*d)) {
        if let Some((port, protocol)) = declared.split_once('/')
            && let Ok(port) = port.parse::<u16>()
        {
            rows.push(json!({"PrivatePort": port, "Type": protocol}));
        }
    }
    rows
}

/// `Up 3 minutes (healthy)`, `Exited (0) 2 hours ago`, … (moby `container/state.go`).
pub(super) fn status_line(status: &ContainerStatus, now: Timestamp) -> String {
    let since = |at: Option<Timestamp>| at.map_or_else(String::new, |t| human(now.since(t).as_secs()));
    match status.state {
        RunState::Running => {
            let health = status.health.as_ref().map(|h| match h.state {
                HealthState::Starting => " (health: starting)",
                HealthState::Healthy => " (healthy)",
                HealthState::Unhealthy => " (unhealthy)",
            });
            format!("Up {}{}", since(status.started_at), health.unwrap_or_default())
        }
        RunState::Paused => format!("Up {} (Paused)", since(status.started_at)),
        RunState::Restarting => {
            format!("Restarting ({}) {} ago", status.exit.code, since(status.finished_at))
        }
        RunState::Removing => "Removal In Progress".into(),
        RunState::Dead => "Dead".into(),
        RunState::Created => "Created".into(),
        RunState::Exited => match status.finished_at {
            Some(_) => format!("Exited ({}) {} ago", status.exit.code, since(status.finished_at)),
            None => format!("Exited ({})", status.exit.code),
        },
    }
}

/// A duration in the words of go-units' `HumanDuration`.
fn human(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        0 => "Less than a second".into(),
        1 => "1 second".into(),
        2..=59 => format!("{seconds} seconds"),
        60..=119 => "About a minute".into(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".into(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_dockers() {
        for (seconds, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (180, "3 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (86400 * 3, "3 days"),
            (86400 * 21, "3 weeks"),
            (86400 * 365, "12 months"),
            (86400 * 800, "2 years"),
        ] {
            assert_eq!(human(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn command_lines_quote_blanks() {
        let argv = ["sh", "-c", "echo 'a b'"].map(String::from);
        assert_eq!(command(&argv), "sh -c 'echo \\'a b\\''");
    }
}
