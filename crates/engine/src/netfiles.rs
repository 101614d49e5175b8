//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a container, as Docker writes them (libnetwork
//! `etchosts`, `resolvconf`). Pure functions of text; the engine gathers and writes.

use std::{fmt::Write, net::IpAddr};

const HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
                     ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";
/// Where names are asked when the host has no server that a container can reach.
const PUBLIC: [&str; 2] = ["8.8.8.8", "8.8.4.4"];
/// Weft's resolver inside a container.
const EMBEDDED: &str = "127.0.0.11";

/// `/etc/hosts`: the usual lines, extra ones as `address, names`, and the container's own addresses.
#[must_use]
pub fn hosts(extra: &[(String, String)], own: &[IpAddr], hostname: &str, domain: &str) -> String {
    let mut text = HOSTS.to_owned();
    for (address, names) in extra {
        let _ = writeln!(text, "{address}\t{names}");
    }
    let names =
        if domain.is_empty() { hostname.to_owned() } else { format!("{hostname}.{domain} {hostname}") };
    for address in own {
        let _ = writeln!(text, "{address}\t{names}");
    }
    text
}

/// `name:address` or `name=address`, the name first; the address may be IPv6.
#[must_use]
pub fn split_extra(written: &str) -> Option<(&str, &str)> {
    let at = written.find(['=', ':'])?;
    let (name, address) = (&written[..at], &written[at + 1..]);
    Some((name, address.trim_start_matches('[').trim_end_matches(']')))
}

/// What decides a container's `resolv.conf`.
#[derive(Clone, Debug, Default)]
pub struct Resolver<'a> {
    /// The host's file.
    pub host: &'a str,
    /// Name servers asked for.
    pub servers: &'a [String],
    /// Search domains asked for (`.` alone: none).
    pub search: &'a [String],
    /// Options asked for.
    pub options: &'a [String],
    /// The container is on a network with names.
    pub embedded: bool,
    /// The container uses the host's network: what the host reaches, it reaches.
    pub host_network: bool,
}

/// `/etc/resolv.conf`.
#[must_use]
pub fn resolv_conf(r: &Resolver<'_>) -> String {
    let plain = r.servers.is_empty() && r.search.is_empty() && r.options.is_empty();
    if r.host_network && plain {
        return r.host.to_owned();
    }
    let words = |key: &str| {
        let lines = r.host.lines().map(str::trim).filter_map(|l| {
            let (first, rest) = l.split_once(char::is_whitespace)?;
            (first == key).then(|| rest.split_whitespace())
        });
        lines.flatten().map(str::to_owned).collect::<Vec<_>>()
    };
    let mut servers = if r.servers.is_empty() { words("nameserver") } else { r.servers.to_vec() };
    if !r.host_network && r.servers.is_empty() {
        servers.retain(|s| !is_loopback(s));
        if servers.is_empty() {
            servers = PUBLIC.map(str::to_owned).to_vec();
        }
    }
    let mut search = if r.search.is_empty() { words("search") } else { r.search.to_vec() };
    if search.len() == 1 && search[0] == "." {
        search.clear();
    }
    let mut options = if r.options.is_empty() { words("options") } else { r.options.to_vec() };
    if r.embedded {
        servers = vec![EMBEDDED.to_owned()];
        if !options.iter().any(|o| o.starts_with("ndots:")) {
            options.push("ndots:0".to_owned());
        }
    }
    let mut text = String::new();
    if !search.is_empty() {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    for server in &servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !options.is_empty() {
        let _ = writeln!(text, "options {}", options.join(" "));
    }
    text
}

fn is_loopback(server: &str) -> bool {
    let bare = server.split('%').next().unwrap_or(server);
    bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The host's file that containers start from: systemd's own where `/etc/resolv.conf` names only its stub.
#[must_use]
pub fn host_file() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let main = read("/etc/resolv.conf");
    let mut servers = main.lines().filter_map(|l| l.trim().strip_prefix("nameserver")).map(str::trim);
    let stub_only = servers.next() == Some("127.0.0.53") && servers.next().is_none();
    let real = if stub_only { read("/run/systemd/resolve/resolv.conf") } else { String::new() };
    if real.is_empty() { main } else { real }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn hosts_as_docker_writes_them() {
        let extra = [("10.0.0.1".to_owned(), "db".to_owned())];
        let text = hosts(&extra, &["172.17.0.2".parse().unwrap()], "web", "example.org");
        assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"));
        assert!(text.ends_with("10.0.0.1\tdb\n172.17.0.2\tweb.example.org web\n"), "{text}");
        assert_eq!(split_extra("a:1.2.3.4"), Some(("a", "1.2.3.4")));
        assert_eq!(split_extra("a:::1"), Some(("a", "::1")));
        assert_eq!(split_extra("a=[::1]"), Some(("a", "::1")));
        assert_eq!(split_extra("a"), None);
    }

    #[test]
    fn resolv_conf_by_network_and_wish() {
        let host = "# x\nsearch lan\nnameserver 127.0.0.1\nnameserver 10.0.0.2\noptions edns0\n";
        let (servers, search, options) = (own(&["1.1.1.1"]), own(&["a", "b"]), own(&["ndots:3"]));
        let base = Resolver { host, ..Resolver::default() };
        for (given, expected) in [
            (base.clone(), "search lan\nnameserver 10.0.0.2\noptions edns0\n"),
            (
                Resolver { host: "nameserver ::1\n", ..base.clone() },
                "nameserver 8.8.8.8\nnameserver 8.8.4.4\n",
            ),
            (Resolver { host_network: true, ..base.clone() }, host),
            (
                Resolver { embedded: true, ..base.clone() },
                "search lan\nnameserver 127.0.0.11\noptions edns0 ndots:0\n",
            ),
            (
                Resolver { servers: &servers, search: &search, options: &options, ..base.clone() },
                "search a b\nnameserver 1.1.1.1\noptions ndots:3\n",
            ),
            (
                Resolver { embedded: true, options: &options, search: &own(&["."]), ..base.clone() },
                "nameserver 127.0.0.11\noptions ndots:3\n",
            ),
        ] {
            assert_eq!(resolv_conf(&given), expected, "{given:?}");
        }
    }
}
