//! Which addresses the host already routes somewhere, so that no network is put on top of them.
//!
//! Read from `/proc/thread-self/net/{route,ipv6_route}` (main table; formats in the kernel's
//! `fib_trie.c` and `net/ipv6/route.c`), of the namespace the calling thread is in. Routes over our own
//! links do not count: those subnets are known from the networks themselves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Beginning of the names of our links.
const MARK: &str = "wf";

/// All destinations but default, multicast, link-local and loopback.
#[must_use]
pub fn host_routes() -> Vec<IpNet> {
    let read =
        |name: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
    let (four, six) = (read("route"), read("ipv6_route"));
    four.lines().filter_map(parse_v4).chain(six.lines().filter_map(parse_v6)).filter(counts).collect()
}

fn counts(net: &IpNet) -> bool {
    let ip = net.addr();
    let local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    net.prefix_len() > 0 && !ip.is_loopback() && !ip.is_multicast() && !local
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask …`, numbers in hexadecimal host order.
fn parse_v4(line: &str) -> Option<IpNet> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let number = |i: usize| u32::from_str_radix(fields.get(i)?, 16).ok().map(address);
    let ours = fields.first()?.starts_with(MARK);
    let (to, mask) = (number(1)?, number(7)?);
    (!ours).then(|| IpNet::with_netmask(to.into(), mask.into()).ok())?
}

/// `destination length source length next-hop metric refcnt use flags iface`.
fn parse_v6(line: &str) -> Option<IpNet> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let to = Ipv6Addr::from(u128::from_str_radix(fields.first()?, 16).ok()?);
    let length = u8::from_str_radix(fields.get(1)?, 16).ok()?;
    let ours = fields.last()?.starts_with(MARK);
    (!ours).then(|| IpNet::new(to.into(), length).ok())?
}

/// The kernel prints the big-endian number as if it were of the host's order.
fn address(printed: u32) -> Ipv4Addr {
    Ipv4Addr::from(printed.to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables() {
        let four = |line: &str| parse_v4(line).filter(counts).map(|n| n.to_string());
        assert_eq!(
            four("eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0").as_deref(),
            Some("192.168.0.0/24")
        );
        assert_eq!(four("eth0 00000000 0100A8C0 0003 0 0 0 00000000 0 0 0"), None);
        assert_eq!(four("wf0 000011AC 00000000 0001 0 0 0 0000FFFF 0 0 0"), None);
        assert_eq!(four("Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT"), None);
        let tail = "00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001";
        let six = |to: &str, link: &str| {
            parse_v6(&format!("{to} 40 {tail} {link}")).filter(counts).map(|n| n.to_string())
        };
        assert_eq!(six("fd001234000000000000000000000000", "eth0").as_deref(), Some("fd00:1234::/64"));
        assert_eq!(six("fe800000000000000000000000000000", "eth0"), None);
        assert_eq!(six("fd001234000000000000000000000000", "wfb1"), None);
        let _ = host_routes();
    }
}
