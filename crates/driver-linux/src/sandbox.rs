//! Inside a sandbox: its first setup, and its interfaces. All functions here run in the sandbox's namespace, on the namespace
//! worker, with a socket of their own.

use std::collections::BTreeSet;

use ipnet::IpNet;
use weft_dataplane::{Port, Sandbox};
use weft_sys::{
    netlink::{
        Channel, Family, Socket, address,
        link::{self, Change},
        route,
    },
    sysctl,
};

use crate::{LinuxError, host};

/// A new namespace: parameters, and the loopback interface up.
pub(crate) fn setup(sandbox: &Sandbox) -> Result<(), LinuxError> {
    if !sandbox.ipv6 && host::has_ipv6() {
        for scope in ["all", "default"] {
            sysctl::write(&format!("net.ipv6.conf.{scope}.disable_ipv6"), "1")?;
        }
    }
    for (name, value) in &sandbox.sysctls {
        sysctl::write(name, value)?;
    }
    let up = Change { up: Some(true), ..Change::default() };
    Socket::open(Family::Route)?.transact(&[link::change("lo", &up)])?;
    Ok(())
}

/// Brings an interface to its configuration. `fresh`: it was just made, and has nothing that might have to go.
pub(crate) fn configure(port: &Port, fresh: bool) -> Result<(), LinuxError> {
    let mut socket = Socket::open(Family::Route)?;
    let found = link::get(&mut socket, &port.ifname)?;
    let index = found.ok_or_else(|| LinuxError::NoLink { name: port.ifname.clone() })?.index;
    parameters(port)?;
    let gateways: BTreeSet<route::Default> =
        port.gateways.iter().map(|g| route::Default { via: g.via, index, metric: g.metric }).collect();
    let mut messages = Vec::new();
    if !fresh {
        let addresses: BTreeSet<IpNet> = address::list(&mut socket, index)?.into_iter().collect();
        messages.extend(address::replace(index, &addresses, &port.addresses));
        // What is on the link without a next hop may be the container's own doing.
        let stale = |r: &&route::Default| {
            !r.via.is_unspecified()
                && !gateways.iter().any(|g| g.via == r.via && (g.metric == 0 || g.metric == r.metric))
        };
        messages.extend(route::list(&mut socket, index)?.iter().filter(stale).map(route::remove));
    }
    if fresh {
        messages.extend(port.addresses.iter().map(|a| address::add(index, *a)));
    }
    let change =
        Change { up: Some(true), mtu: (!fresh && port.mtu > 0).then_some(port.mtu), ..Change::default() };
    messages.push(link::change(&port.ifname, &change));
    messages.extend(gateways.iter().map(route::add));
    socket.transact(&messages)?;
    Ok(())
}

fn parameters(port: &Port) -> Result<(), LinuxError> {
    let ifname = port.ifname.replace('.', "/");
    // Neighbours learn at once who has an address now, though they may remember its last holder.
    sysctl::write(&format!("net.ipv4.conf.{ifname}.arp_notify"), "1")?;
    if port.addresses.iter().any(|a| a.addr().is_ipv6()) {
        sysctl::write(&format!("net.ipv6.conf.{ifname}.disable_ipv6"), "0")?;
        // The way to one's own addresses leads over loopback, which a namespace without IPv6 began without.
        sysctl::write("net.ipv6.conf.lo.disable_ipv6", "0")?;
        sysctl::write(&format!("net.ipv6.conf.{ifname}.ndisc_notify"), "1")?;
    }
    for (name, value) in &port.sysctls {
        // In dockerd's words (libnetwork `setSysctls`): they are the words of whoever asked for it.
        let path = sysctl::find(&name.replace("IFNAME", &ifname))
            .map_err(|path| LinuxError::NoParameter { path })?;
        std::fs::write(&path, value).map_err(|source| LinuxError::Parameter { path, source })?;
    }
    Ok(())
}
