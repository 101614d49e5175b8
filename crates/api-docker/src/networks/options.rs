//! Options of Docker's bridge driver (`com.docker.network.*`), as neutral fields.
//! Words and faults are those of moby's `parseNetworkOptions`.

use std::{collections::BTreeMap, net::IpAddr};

use weft_model::{GatewayMode, Gateways, HostSource};

use crate::{
    containers::ifname,
    error::{ApiError, Result},
};

/// What a network's options say.
#[derive(Debug)]
pub(super) struct BridgeOptions {
    pub name: Option<String>,
    pub mtu: Option<u32>,
    pub inter_container: bool,
    pub masquerade: bool,
    pub host_binding: Option<IpAddr>,
    pub host_binding_v6: Option<IpAddr>,
    pub host_source: HostSource,
    pub ifname_prefix: String,
    pub gateways: Gateways,
    pub trusted: Vec<String>,
    pub ipv4: Option<bool>,
    pub ipv6: Option<bool>,
}

impl Default for BridgeOptions {
    fn default() -> Self {
        Self {
            name: None,
            mtu: None,
            inter_container: true,
            masquerade: true,
            host_binding: None,
            host_binding_v6: None,
            host_source: HostSource::default(),
            ifname_prefix: String::new(),
            gateways: Gateways::default(),
            trusted: Vec::new(),
            ipv4: None,
            ipv6: None,
        }
    }
}

/// Options that do not change what the data plane does.
const PASSIVE: &[&str] = &["com.docker.network.bridge.default_bridge"];

fn unreadable(key: &str, value: &str, why: &str) -> ApiError {
    ApiError::bad_request(format!("failed to parse {key} value: {value} ({why})"))
}

/// As Go's `strconv.ParseBool`.
fn boolean(key: &str, value: &str) -> Result<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => {
            let why = format!("strconv.ParseBool: parsing {value:?}: invalid syntax");
            Err(unreadable(key, value, &why))
        }
    }
}

fn address(key: &str, value: &str) -> Result<Option<IpAddr>> {
    if value.is_empty() {
        return Ok(None);
    }
    value.parse().map(Some).map_err(|_| unreadable(key, value, "nil ip"))
}

fn mode(key: &str, value: &str) -> Result<GatewayMode> {
    match value {
        "" | "nat" => Ok(GatewayMode::Nat),
        "nat-unprotected" => Ok(GatewayMode::NatUnprotected),
        "routed" => Ok(GatewayMode::Routed),
        "isolated" => Ok(GatewayMode::Isolated),
        _ => Err(unreadable(key, value, "unknown gateway mode")),
    }
}

/// Reads them.
pub(super) fn bridge_options(options: &BTreeMap<String, String>) -> Result<BridgeOptions> {
    let mut read = BridgeOptions::default();
    for (key, value) in options {
        let Some(name) = key.strip_prefix("com.docker.network.") else { continue };
        match name {
            "bridge.name" => read.name = Some(value.clone()).filter(|n| !n.is_empty()),
            "bridge.enable_icc" => read.inter_container = boolean(key, value)?,
            "bridge.enable_ip_masquerade" => read.masquerade = boolean(key, value)?,
            "bridge.inhibit_ipv4" => read.gateways.inhibit_v4 = boolean(key, value)?,
            "bridge.host_binding_ipv4" => read.host_binding = address(key, value)?,
            "bridge.host_binding_ipv6" => {
                read.host_binding_v6 = address(key, value)?;
                if read.host_binding_v6.is_some_and(|ip| ip.is_ipv4()) {
                    return Err(unreadable(key, value, "not an IPv6 address"));
                }
            }
            "bridge.gateway_mode_ipv4" => read.gateways.v4 = mode(key, value)?,
            "bridge.gateway_mode_ipv6" => read.gateways.v6 = mode(key, value)?,
            "bridge.trusted_host_interfaces" => {
                read.trusted =
                    value.split(':').filter(|n| !n.is_empty()).map(ifname).collect::<Result<_>>()?;
            }
            "host_ipv4" => match address(key, value)? {
                Some(IpAddr::V6(_)) => return Err(unreadable(key, value, "not an IPv4 address")),
                Some(IpAddr::V4(ip)) => read.host_source.v4 = Some(ip),
                None => {}
            },
            "host_ipv6" => match address(key, value)? {
                Some(IpAddr::V4(_)) => return Err(unreadable(key, value, "not an IPv6 address")),
                Some(IpAddr::V6(ip)) => read.host_source.v6 = Some(ip),
                None => {}
            },
            // A number follows it.
            "container_iface_prefix" => {
                ifname(&format!("{value}0"))?;
                read.ifname_prefix.clone_from(value);
            }
            "driver.mtu" if value.is_empty() => {}
            "driver.mtu" => {
                if value.parse::<i64>().is_ok_and(|mtu| mtu < 0) {
                    // libnetwork's `ErrInvalidMtu`.
                    return Err(ApiError::bad_request(format!("invalid MTU number: {value}")));
                }
                let mtu = value.parse::<u32>();
                let why = format!("strconv.Atoi: parsing {value:?}: invalid syntax");
                read.mtu = Some(mtu.map_err(|_| unreadable(key, value, &why))?).filter(|m| *m > 0);
            }
            "enable_ipv4" => read.ipv4 = Some(boolean(key, value)?),
            "enable_ipv6" => read.ipv6 = Some(boolean(key, value)?),
            _ if PASSIVE.contains(&key.as_str()) => {}
            _ => return Err(ApiError::unsupported(format!("network option {key}"))),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> Result<BridgeOptions, String> {
        let options = [(format!("com.docker.network.{name}"), value.to_owned())].into();
        bridge_options(&options).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn what_options_say_and_how_they_are_refused() {
        assert!(!read("bridge.enable_icc", "0").unwrap().inter_container);
        assert_eq!(read("bridge.gateway_mode_ipv6", "routed").unwrap().gateways.v6, GatewayMode::Routed);
        assert!(read("bridge.inhibit_ipv4", "true").unwrap().gateways.inhibit_v4);
        assert_eq!(
            read("bridge.trusted_host_interfaces", "vxlan.1:eth3").unwrap().trusted,
            ["vxlan.1", "eth3"]
        );
        let check = |name: &str, value: &str, wanted: &str| {
            let text = read(name, value).unwrap_err();
            assert!(text.ends_with(wanted), "{text}");
        };
        check(
            "bridge.enable_icc",
            "maybe",
            "enable_icc value: maybe (strconv.ParseBool: parsing \"maybe\": invalid syntax)",
        );
        check("bridge.host_binding_ipv4", "nonsense", "host_binding_ipv4 value: nonsense (nil ip)");
        check("bridge.host_binding_ipv6", "127.0.0.1", "(not an IPv6 address)");
        check("bridge.gateway_mode_ipv4", "magic", "value: magic (unknown gateway mode)");
        check("bridge.trusted_host_interfaces", "a/b", "invalid interface name: \"a/b\"");
        check("driver.mtu", "-1", "invalid MTU number: -1");
        check("driver.mtu", "big", "value: big (strconv.Atoi: parsing \"big\": invalid syntax)");
        assert_eq!(read("host_ipv4", "192.0.2.1").unwrap().host_source.v4, Some([192, 0, 2, 1].into()));
        assert_eq!(read("host_ipv6", "").unwrap().host_source, HostSource::default());
        check("host_ipv4", "nonsense", "com.docker.network.host_ipv4 value: nonsense (nil ip)");
        check("host_ipv4", "2001:db8::1", "(not an IPv4 address)");
        check("host_ipv6", "192.0.2.1", "(not an IPv6 address)");
        check("bridge.unheard_of", "1", "is not supported by Weft");
        assert!(bridge_options(&[("mine".to_owned(), "x".to_owned())].into()).is_ok());
    }
}
