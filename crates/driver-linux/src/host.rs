//! Kernel parameters of the host that containers cannot do without. Each is changed only where it differs, and said in the log.
//!
//! - `ip_forward`, and `ipv6.conf.all.forwarding` once a segment has IPv6: packets pass between segments and the world. A
//!   host that forwards IPv6 ignores router advertisements, and with them loses its own default route, unless
//!   `accept_ra` is 2: links that listened before are told to go on.
//! - on our bridges alone: `route_localnet`, so that answers find their way back to a client on 127.0.0.1 (the chain `raw` keeps
//!   others out of 127/8), and `accept_ra` 0, so that no container is taken for a router.

use std::{collections::BTreeSet, fs};

use ipnet::IpNet;
use weft_dataplane::{Parameters, Segment};
use weft_sys::{
    netlink::{
        Socket,
        link::{self, Link},
        route,
    },
    sysctl::{self, SysctlError},
};

use crate::{LinuxError, mark};

/// Whether the kernel has IPv6 at all.
pub(crate) fn has_ipv6() -> bool {
    fs::exists("/proc/sys/net/ipv6").unwrap_or_default()
}

fn ensure(name: &str, value: &str) -> Result<bool, SysctlError> {
    let changed = sysctl::ensure(name, value)?;
    if changed {
        tracing::info!(name, value, "kernel parameter changed for containers");
    }
    Ok(changed)
}

/// Lets packets pass between a segment and the rest.
pub(crate) fn forwarding(segment: &Segment) -> Result<(), SysctlError> {
    if segment.internal {
        return Ok(());
    }
    if segment.addresses.iter().any(|a| a.addr().is_ipv4()) {
        ensure("net.ipv4.ip_forward", "1")?;
    }
    let v6 = segment.addresses.iter().any(|a| a.addr().is_ipv6());
    if v6 && sysctl::read("net.ipv6.conf.all.forwarding")? != "1" {
        keep_listening();
        ensure("net.ipv6.conf.all.forwarding", "1")?;
    }
    Ok(())
}

/// Links that accept router advertisements now do so when forwarding, too.
fn keep_listening() {
    let Ok(links) = fs::read_dir("/proc/sys/net/ipv6/conf") else { return };
    for link in links.flatten() {
        let name = link.file_name().to_string_lossy().replace('.', "/");
        let parameter = format!("net.ipv6.conf.{name}.accept_ra");
        if sysctl::read(&parameter).is_ok_and(|value| value == "1")
            && let Err(error) = ensure(&parameter, "2")
        {
            tracing::warn!(%error, "this link may lose its IPv6 routes");
        }
    }
}

/// Destinations of the host's routes, but those by our own links: what is in use there, networks say themselves.
pub(crate) fn routes(socket: &mut Socket) -> Result<Vec<IpNet>, LinuxError> {
    let ours: BTreeSet<u32> = link::list(socket)?
        .iter()
        .filter(|l| l.name.starts_with("wf") || mark::as_segment(l).is_some())
        .map(|l| l.index)
        .collect();
    let all = route::destinations(socket)?;
    Ok(all.into_iter().filter(|(_, by)| by.is_none_or(|i| !ours.contains(&i))).map(|(net, _)| net).collect())
}

/// Whether `br_netfilter` shows bridged packets to the IP hooks (`net.bridge.bridge-nf-call-*`, on wherever dockerd or
/// Kubernetes has been). A packet that a container sends to its own published port is then translated while it is still in the
/// bridge, and must leave by the port it came by: ports need hairpin mode. Without it, the packet is routed, and they do not.
pub(crate) fn bridged_packets_are_filtered() -> bool {
    ["iptables", "ip6tables"]
        .iter()
        .any(|family| sysctl::read(&format!("net.bridge.bridge-nf-call-{family}")).is_ok_and(|v| v == "1"))
}

/// How the parameters of a bridge are; `forward`: the host's are to be seen to.
pub(crate) fn parameters(name: &str, forward: bool) -> Parameters {
    let name = name.replace('.', "/");
    let is = |parameter: &str, value: &str| sysctl::read(parameter).is_ok_and(|found| found == value);
    let ipv6 = is(&format!("net.ipv6.conf.{name}.disable_ipv6"), "0");
    Parameters {
        answers_loopback: is(&format!("net.ipv4.conf.{name}.route_localnet"), "1"),
        ignores_routers: is(&format!("net.ipv6.conf.{name}.accept_ra"), "0"),
        ipv6,
        forwards4: !forward || is("net.ipv4.ip_forward", "1"),
        forwards6: !forward || is("net.ipv6.conf.all.forwarding", "1"),
    }
}

/// Whether this machine can show single bridges' packets to the IP hooks: it has `br_netfilter`. Nobody loads it for that: it
/// begins with all bridges of the machine.
pub(crate) fn can_guard() -> bool {
    fs::exists("/proc/sys/net/bridge").unwrap_or_default()
}

/// Whether this is a bridge of ours whose packets are shown to the IP hooks whatever the machine's parameters say. Its ports
/// need not be isolated by the bridge then, and must not: what one of them sends to a published port of another is translated
/// in the bridge, and would be stopped there.
pub(crate) fn is_guarded(bridge: &Link) -> bool {
    bridge.filtered && mark::as_segment(bridge).is_some() && can_guard()
}

/// What a bridge needs that is somebody else's. Whether it listens to routers is its owner's business.
pub(crate) fn borrowed_bridge(name: &str) -> Result<(), SysctlError> {
    let name = name.replace('.', "/");
    sysctl::ensure(&format!("net.ipv4.conf.{name}.route_localnet"), "1").map(drop)
}

/// What our bridge needs. `isolated`: the kernel is to give it no address of its own making either.
pub(crate) fn bridge(name: &str, isolated: bool) -> Result<(), SysctlError> {
    borrowed_bridge(name)?;
    let name = name.replace('.', "/");
    // A link whose MTU is below 1280 bytes has no IPv6 at all (RFC 8200, section 5), and no parameters of it.
    let ipv6 = fs::exists(format!("/proc/sys/net/ipv6/conf/{}", name.replace('/', "."))).unwrap_or_default();
    if ipv6 {
        sysctl::ensure(&format!("net.ipv6.conf.{name}.accept_ra"), "0")?;
        if isolated {
            sysctl::ensure(&format!("net.ipv6.conf.{name}.disable_ipv6"), "1")?;
        }
    }
    Ok(())
}
