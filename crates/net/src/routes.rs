//! Which of a host's routes say that addresses are in use, so that no network is put on top of them.

use std::net::IpAddr;

use ipnet::IpNet;

/// All destinations but default, multicast, link-local and loopback ones. What a VPN puts in the default route's place
/// (`0.0.0.0/1` and `128.0.0.0/1` by OpenVPN's `def1`; `2000::/3`, all of the Internet; `fc00::/7` and `fd00::/8`, all that is local)
/// says no more about single addresses than a default route does.
#[must_use]
pub fn in_use(routes: Vec<IpNet>) -> Vec<IpNet> {
    routes.into_iter().filter(counts).collect()
}

fn counts(net: &IpNet) -> bool {
    let ip = net.addr();
    let local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let least = if ip.is_ipv4() { 2 } else { 9 };
    net.prefix_len() >= least && !ip.is_loopback() && !ip.is_multicast() && !local
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_that_addresses_are_in_use() {
        let all = [
            "0.0.0.0/0",
            "192.168.0.0/24",
            "192.168.0.7/32",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "224.0.0.0/4",
            "::/0",
            "0.0.0.0/1",
            "128.0.0.0/1",
            "64.0.0.0/2",
            "10.0.0.0/8",
            "::/1",
            "8000::/1",
            "2000::/3",
            "fc00::/7",
            "fd00::/8",
            "fd00:1234::/64",
            "fe80::/64",
            "ff00::/8",
            "::1/128",
        ];
        let used = in_use(all.iter().map(|text| text.parse().unwrap()).collect());
        let used: Vec<String> = used.iter().map(ToString::to_string).collect();
        assert_eq!(used, ["192.168.0.0/24", "192.168.0.7/32", "64.0.0.0/2", "10.0.0.0/8", "fd00:1234::/64"]);
    }
}
