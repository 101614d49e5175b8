//! Reading namespaces: links, addresses, parameters, rules, sockets. Each on a thread that is in the namespace.

use std::{fs, path::Path};

use weft_sys::{
    connections::{self, Connection},
    netlink::{Family, Socket, detail, lookup, route, rules},
    nft::seen,
    sockets, sysctl,
};

use super::{
    facts::{Place, Space},
    legacy,
    routing::Routing,
    trace,
};
use crate::{LinuxError, driver::LinuxDriver};

/// Parameters of a namespace that decide about packets.
const GLOBAL: &[&str] = &[
    "net.ipv4.ip_forward",
    "net.ipv4.icmp_echo_ignore_all",
    "net.ipv4.conf.all.rp_filter",
    "net.ipv6.conf.all.forwarding",
    "net.bridge.bridge-nf-call-iptables",
    "net.bridge.bridge-nf-call-ip6tables",
    "net.netfilter.nf_conntrack_count",
    "net.netfilter.nf_conntrack_max",
];
/// Of an interface.
const EACH: &[&str] = &["rp_filter", "forwarding", "route_localnet"];

/// The calling thread's namespace.
fn here(route: &mut Socket, netfilter: &mut Socket) -> Result<Space, LinuxError> {
    let links = detail::links(route)?;
    let mut space =
        Space { addresses: detail::addresses(route)?, rules: seen::ruleset(netfilter)?, ..Space::default() };
    let each = |name: &str| {
        EACH.iter().map(|p| format!("net.ipv4.conf.{}.{p}", name.replace('.', "/"))).collect::<Vec<_>>()
    };
    let names = GLOBAL.iter().map(|n| (*n).to_owned()).chain(links.iter().flat_map(|l| each(&l.name)));
    // Traces that run decide nothing.
    space.rules.chains.retain(|(table, _), _| !table.1.starts_with(trace::TABLE));
    // What a kernel does not have decides nothing.
    space.sysctls = names.filter_map(|name| sysctl::read(&name).ok().map(|value| (name, value))).collect();
    space.links = links;
    space.listeners = sockets::listeners().map_err(LinuxError::Sockets)?;
    for (v6, names, tool) in [
        (false, "ip_tables_names", "iptables-legacy-save"),
        (true, "ip6_tables_names", "ip6tables-legacy-save"),
    ] {
        old_tables(v6, names, tool, &mut space);
    }
    Ok(space)
}

/// Tables of iptables-legacy, where there are any. Without their tool they are there and nothing is known of them.
fn old_tables(v6: bool, names: &str, tool: &str, space: &mut Space) {
    let tables = fs::read_to_string(format!("/proc/thread-self/net/{names}")).unwrap_or_default();
    if tables.trim().is_empty() {
        return;
    }
    match std::process::Command::new(tool).output() {
        Ok(output) if output.status.success() => {
            legacy::parse(&String::from_utf8_lossy(&output.stdout), v6, &mut space.rules);
        }
        _ => legacy::unreadable(tables.split_whitespace(), v6, tool, &mut space.rules),
    }
}

/// A namespace; `None` when it is not there.
pub(crate) fn space(driver: &LinuxDriver, place: Place) -> Result<Option<Space>, LinuxError> {
    match place {
        Place::Host => here(&mut driver.route.lock(), &mut driver.netfilter.lock()).map(Some),
        Place::Sandbox(id) => {
            let path = driver.path(id);
            if !weft_sys::netns::is_alive(&path) {
                return Ok(None);
            }
            let read = || here(&mut Socket::open(Family::Route)?, &mut Socket::open(Family::Netfilter)?);
            driver.netns.run(&path, read)?.map(Some)
        }
    }
}

/// A decision of the kernel's routes.
pub(crate) fn way(
    driver: &LinuxDriver,
    place: Place,
    packet: lookup::Lookup,
) -> Result<lookup::Way, LinuxError> {
    match place {
        Place::Host => Ok(lookup::lookup(&mut *driver.route.lock(), &packet)?),
        Place::Sandbox(id) => {
            let path: &Path = &driver.path(id);
            let ask = move || lookup::lookup(&mut Socket::open(Family::Route)?, &packet);
            Ok(driver.netns.run(path, ask)??)
        }
    }
}

/// Rules and routes of one family.
pub(crate) fn routing(driver: &LinuxDriver, place: Place, v6: bool) -> Result<Routing, LinuxError> {
    let read = move |socket: &mut Socket| -> Result<Routing, LinuxError> {
        Ok(Routing { rules: rules::list(socket, v6)?, routes: route::entries(socket, v6)? })
    };
    match place {
        Place::Host => read(&mut driver.route.lock()),
        Place::Sandbox(id) => {
            let ask = move || read(&mut Socket::open(Family::Route)?);
            driver.netns.run(&driver.path(id), ask)?
        }
    }
}

/// Connections that asked for a port. A kernel that tracks nothing has none.
pub(crate) fn connections(
    driver: &LinuxDriver,
    place: Place,
    (v6, protocol, port): (bool, u8, u16),
) -> Result<Vec<Connection>, LinuxError> {
    let listed = match place {
        Place::Host => connections::list(&mut *driver.netfilter.lock(), v6, protocol, port),
        Place::Sandbox(id) => {
            let ask = move || connections::list(&mut Socket::open(Family::Netfilter)?, v6, protocol, port);
            driver.netns.run(&driver.path(id), ask)?
        }
    };
    match listed {
        Err(error) if matches!(error.errno(), Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ENOENT)) => {
            Ok(Vec::new())
        }
        other => Ok(other?),
    }
}
