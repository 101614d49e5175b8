//! A container's wishes for one network (`EndpointSettings`), and what Docker hides in its driver options.

use std::{collections::BTreeMap, net::IpAddr};

use weft_cloud::DraftEndpoint;

use super::wire::EndpointSettings;
use crate::error::{ApiError, Result};

/// Sysctls of the endpoint's interface, separated by commas.
const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";
/// Name of the interface in the container.
const IFNAME: &str = "com.docker.network.endpoint.ifname";

/// `kind`: what the address is called in the refusal.
fn address(kind: &str, text: &str) -> Result<Option<IpAddr>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| ApiError::bad_request(format!("invalid {kind} address: {text}")))
}

/// Wishes for one network; also the body of `POST /networks/{id}/connect`.
pub(crate) fn endpoint(network: &str, wishes: &EndpointSettings) -> Result<DraftEndpoint> {
    let ipam = wishes.ipam_config.clone().unwrap_or_default();
    let ipv4 = address("IPv4", &ipam.ipv4_address)?;
    let ipv6 = address("IPv6", &ipam.ipv6_address)?;
    if ipv4.is_some_and(|ip| ip.is_ipv6()) {
        return Err(ApiError::bad_request(format!("invalid IPv4 address: {}", ipam.ipv4_address)));
    }
    if ipv6.is_some_and(|ip| ip.is_ipv4()) {
        return Err(ApiError::bad_request(format!("invalid IPv6 address: {}", ipam.ipv6_address)));
    }
    let options = wishes.driver_opts.clone().unwrap_or_default();
    Ok(DraftEndpoint {
        network: network.to_owned(),
        aliases: wishes.aliases.clone().unwrap_or_default(),
        links: wishes.links.clone().unwrap_or_default(),
        ipv4,
        ipv6,
        link_local: ipam
            .link_local_ips
            .iter()
            .filter(|ip| !ip.is_empty())
            .map(|ip| ip.parse())
            .collect::<std::result::Result<_, _>>()
            // As Go prints the whole list (moby `validateEndpointSettings`).
            .map_err(|_| {
                let all = ipam.link_local_ips.join(" ");
                ApiError::bad_request(format!("Invalid link-local IP address: [{all}]"))
            })?,
        mac: super::parse::parse_optional(&wishes.mac_address)?,
        gateway_priority: wishes.gw_priority.unwrap_or_default(),
        ifname: options.get(IFNAME).map(|name| ifname(name)).transpose()?,
        sysctls: options.get(SYSCTLS).map(|text| sysctls(text)).transpose()?.unwrap_or_default(),
        options,
    })
}

/// A name that the kernel takes for a link (`dev_valid_name`).
pub(crate) fn ifname(name: &str) -> Result<String> {
    let bad = name.is_empty()
        || name.len() > 15
        || matches!(name, "." | ".." | "lo")
        || name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control());
    if bad {
        Err(ApiError::bad_request(format!("invalid interface name: {name:?}")))
    } else {
        Ok(name.to_owned())
    }
}

/// `net.X.Y.IFNAME.Z=V,…` (moby `validateEndpointSettings`). The last part is one plain word: it names a file.
fn sysctls(text: &str) -> Result<BTreeMap<String, String>> {
    let one = |entry: &str| {
        let refused = || {
            ApiError::bad_request(format!(
                "invalid endpoint settings:\nunrecognised network interface sysctl '{entry}'; represent \
                 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
            ))
        };
        let (name, value) = entry.split_once('=').ok_or_else(refused)?;
        let parts: Vec<&str> = name.split('.').collect();
        let plain =
            |p: &str| !p.is_empty() && p.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        match parts.as_slice() {
            ["net", family @ ("ipv4" | "ipv6" | "mpls"), group, "IFNAME" | "ifname", leaf]
                if plain(group) && plain(leaf) =>
            {
                Ok((format!("net.{family}.{group}.IFNAME.{leaf}"), value.to_owned()))
            }
            _ => Err(refused()),
        }
    };
    text.split(',').map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctls_of_an_interface() {
        let read = |text: &str| sysctls(text).map_err(|e| e.message().to_owned());
        let good = read("net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.ifname.forwarding=0").unwrap();
        let names: Vec<_> = good.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(names, ["net.ipv4.conf.IFNAME.log_martians=1", "net.ipv6.conf.IFNAME.forwarding=0"]);
        for bad in [
            "",
            "net.ipv4.conf.IFNAME.x",
            "net.ipv4.conf.eth0.x=1",
            "net.core.conf.IFNAME.x=1",
            "kernel.ipv4.conf.IFNAME.x=1",
            "net.ipv4.conf.IFNAME.../../../kernel/x=1",
            "net.ipv4.conf.IFNAME.a/../../b=1",
        ] {
            assert!(read(bad).is_err_and(|e| e.contains("unrecognised network interface sysctl")), "{bad}");
        }
    }

    #[test]
    fn interface_names() {
        for (name, good) in [
            ("wan0", true),
            ("", false),
            ("a/b", false),
            ("sixteen-letters-", false),
            ("lo", false),
            ("a b", false),
        ] {
            assert_eq!(ifname(name).is_ok(), good, "{name:?}");
        }
    }
}
