//! Ports, declared and published, and further lines of `/etc/hosts`.

use std::net::IpAddr;

use weft_model::{PortRange, Protocol, PublishSpec};

use crate::{
    containers::wire::PortMap,
    error::{ApiError, Result},
};

/// `80`, `80/tcp`, `80-82/udp` as declared by images and people.
pub(super) fn exposed(text: &str) -> Result<String> {
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

pub(super) fn publish(map: &PortMap) -> Result<Vec<PublishSpec>> {
    let mut all = Vec::new();
    for (key, bindings) in map {
        let (range, protocol) = split_port(key)?;
        if range.start == 0 {
            return Err(ApiError::bad_request(format!(
                "invalid container port: {key}: a port is 1 to 65535"
            )));
        }
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

pub(super) fn extra_hosts(hosts: &[String]) -> Result<Vec<String>> {
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
