//! Segments and ports on the host's side. Each function ends with the mark that says "complete", in the last message.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use weft_dataplane::{Port, Segment};
use weft_sys::{
    netlink::{
        Channel, Message, Socket, address,
        link::{self, Change, Kind, Link, Peer},
        onlink,
    },
    netns,
};

use crate::{LinuxError, branch, driver::LinuxDriver, host, left, mark, sandbox};

/// Makes a bridge, or brings it to its configuration with its ports untouched.
pub(crate) fn put_segment(socket: &mut Socket, segment: &Segment) -> Result<(), LinuxError> {
    let name = segment.link.as_str();
    let found = match link::get(socket, name)? {
        Some(link) if mark::as_segment(&link).is_none() => {
            return Err(LinuxError::Foreign { name: name.to_owned() });
        }
        Some(link) => link,
        None => {
            let change = Change { mac: Some(segment.mac.0), mtu: Some(segment.mtu), ..Change::default() };
            let marked = Change { alias: Some(mark::unfinished_segment()), ..Change::default() };
            // Both in one call: a bridge that people named themselves is ours by this mark alone.
            socket.transact(&[link::create_bridge(name, &change), link::change(name, &marked)])?;
            link::get(socket, name)?.ok_or_else(|| LinuxError::NoLink { name: name.to_owned() })?
        }
    };
    host::bridge(name, segment.is_isolated())?;
    let have: BTreeSet<IpNet> = address::list(socket, found.index)?.into_iter().collect();
    let mut want = segment.addresses.clone();
    if found.alias == mark::segment(segment) {
        // A repair: what people have added since stays.
        want.extend(&have);
    }
    let all = address::all_and_link_local(socket)?;
    let local = all.iter().any(|(of, net)| *of == found.index && net.addr().is_ipv6() && !have.contains(net));
    if want.iter().any(|a| a.addr().is_ipv6()) && !local {
        // The kernel makes it once, and not while the bridge is empty; without it nobody is asked for on this link.
        want.insert(address::link_local(segment.mac.0));
    }
    let mut messages = address::replace(found.index, &have, &want);
    let change =
        Change { up: Some(true), mac: Some(segment.mac.0), mtu: Some(segment.mtu), ..Change::default() };
    messages.push(link::change(name, &change));
    socket.transact(&messages)?;
    connect(socket, segment, &found)?;
    let complete = Change { alias: Some(mark::segment(segment)), ..Change::default() };
    socket.transact(&[link::change(name, &complete)])?;
    Ok(())
}

/// Makes the routes anew that came with the addresses, where somebody took one away.
fn connect(socket: &mut Socket, segment: &Segment, bridge: &Link) -> Result<(), LinuxError> {
    // In a VRF they are in another table.
    let Some(routes) = onlink::list(socket)?.filter(|_| bridge.master.is_none()) else { return Ok(()) };
    let have = left::of(&routes, bridge.index);
    let missing = segment.addresses.iter().filter(|a| {
        let local = matches!(a.addr(), IpAddr::V6(ip) if ip.is_unicast_link_local());
        !local && a.prefix_len() < a.max_prefix_len() && !have.contains(&a.trunc())
    });
    let messages: Vec<_> = missing.map(|a| onlink::connect(bridge.index, *a)).collect();
    Ok(socket.transact(&messages)?)
}

/// Looks whether a bridge of somebody else is as the segment says. It is only looked at; what the host needs for its packets
/// is set.
pub(crate) fn borrow_segment(socket: &mut Socket, segment: &Segment) -> Result<(), LinuxError> {
    let name = segment.link.as_str();
    let wrong = |why: &'static str| LinuxError::Borrowed { name: name.to_owned(), why };
    let found = link::get(socket, name)?.ok_or_else(|| wrong("is not there"))?;
    if found.kind != Kind::Bridge {
        return Err(wrong("is no bridge"));
    }
    let have = address::list(socket, found.index)?;
    if !segment.addresses.iter().all(|a| have.contains(a)) {
        return Err(wrong("has lost its address"));
    }
    Ok(host::borrowed_bridge(name)?)
}

/// The addresses of a bridge, as it is; `None` where there is no link of that name.
///
/// # Errors
/// The link is no bridge, or the kernel does not answer.
pub fn bridge_addresses(name: &str) -> Result<Option<Vec<IpNet>>, LinuxError> {
    let mut socket = Socket::open(weft_sys::netlink::Family::Route)?;
    match link::get(&mut socket, name)? {
        None => Ok(None),
        Some(found) if found.kind == Kind::Veth || branch::is_branch(&found.kind) => {
            Err(LinuxError::Borrowed { name: name.to_owned(), why: "is no bridge" })
        }
        Some(found) => Ok(Some(address::list(&mut socket, found.index)?)),
    }
}

/// The same, but `None` for what is ours, too.
pub(crate) fn foreign_bridge(socket: &mut Socket, name: &str) -> Result<Option<Vec<IpNet>>, LinuxError> {
    match link::get(socket, name)? {
        Some(found) if found.kind == Kind::Bridge && mark::as_segment(&found).is_none() => {
            Ok(Some(address::list(socket, found.index)?))
        }
        Some(found) if found.kind != Kind::Bridge => Err(LinuxError::NoBridge { name: name.to_owned() }),
        _ => Ok(None),
    }
}

/// Makes a veth pair with its far end in the sandbox, and configures both.
pub(crate) fn create_port(driver: &LinuxDriver, port: &Port, bridge: &str) -> Result<(), LinuxError> {
    let path = driver.path(port.sandbox);
    let target = netns::open(&path)?;
    let mut hairpin = host::bridged_packets_are_filtered();
    {
        let mut socket = driver.route.lock();
        let found = link::get(&mut *socket, bridge)?;
        let found = found.ok_or_else(|| LinuxError::NoLink { name: bridge.to_owned() })?;
        hairpin |= found.filtered;
        let master = found.index;
        let (near, far) = ends(port, &found);
        let near = Change { up: Some(true), master: Some(master), ..near };
        let peer = Peer { name: &port.ifname, netns: std::os::fd::AsFd::as_fd(&target), change: far };
        let mut messages = vec![link::create_veth(&port.link, &near, &peer)];
        messages.extend(keep_mtu(port, &found));
        if port.isolated && !host::is_guarded(&found) {
            messages.push(link::isolate(&port.link, true));
        }
        if hairpin {
            messages.push(link::hairpin(&port.link, true));
        }
        if let Err(error) = socket.transact(&messages) {
            if error.errno() != Some(libc::EEXIST) {
                return Err(error.into());
            }
            clear(&mut socket, port)?;
            clear_inside(driver, port, &path)?;
            socket.transact(&messages)?;
        }
    }
    configure_inside(driver, port, true)?;
    finish(&mut driver.route.lock(), port, hairpin)
}

/// What the ends of a pair have, the host's and the container's. A bridge whose address nobody set takes the lowest of its
/// ports' (`br_stp_recalculate_bridge_id`), and one whose MTU nobody set the lowest MTU (`br_mtu_auto_adjust`): a bridge of somebody
/// else must keep both. So the host's end has an address that is above all others, as libvirt's taps have (an `fe:` in front), and
/// the bridge's MTU where the network asks for none (0).
fn ends(port: &Port, bridge: &Link) -> (Change, Change) {
    let mtu = Some(if port.mtu > 0 { port.mtu } else { bridge.mtu });
    let [_, rest @ ..] = port.mac.0;
    let mut high = [0xfe; 6];
    high[1..].copy_from_slice(&rest);
    let near = Change { mac: Some(high), mtu, ..Change::default() };
    (near, Change { mac: Some(port.mac.0), mtu, ..Change::default() })
}

/// A port that is to have less than a bridge of somebody else leaves that one's MTU as it was.
fn keep_mtu(port: &Port, bridge: &Link) -> Option<Message> {
    let less = port.mtu > 0 && port.mtu < bridge.mtu && mark::as_segment(bridge).is_none();
    less.then(|| link::change(&bridge.name, &Change { mtu: Some(bridge.mtu), ..Change::default() }))
}

/// A half-made port of ours may hold the name.
fn clear(socket: &mut Socket, port: &Port) -> Result<(), LinuxError> {
    match link::get(socket, &port.link)? {
        Some(link) if mark::as_port(&link, false).is_none() => {
            Err(LinuxError::Foreign { name: port.link.clone() })
        }
        Some(_) => Ok(socket.transact(&[link::delete(&port.link).tolerating(&[libc::ENODEV])])?),
        None => Ok(()),
    }
}

/// Or the interface of an earlier port holds the name inside, on its way out.
pub(crate) fn clear_inside(
    driver: &LinuxDriver,
    port: &Port,
    path: &std::path::Path,
) -> Result<(), LinuxError> {
    let name = port.ifname.clone();
    driver.netns.run(path, move || {
        let mut socket = Socket::open(weft_sys::netlink::Family::Route)?;
        match link::get(&mut socket, &name)? {
            Some(found) if found.kind != Kind::Bridge => socket.transact(&[link::delete(&name)]),
            _ => Ok(()),
        }
    })??;
    Ok(())
}

/// Brings an existing port to its configuration.
pub(crate) fn configure_port(driver: &LinuxDriver, port: &Port, bridge: &str) -> Result<(), LinuxError> {
    let hairpin = put_in_place(&mut driver.route.lock(), port, bridge)?;
    configure_inside(driver, port, false)?;
    finish(&mut driver.route.lock(), port, hairpin)
}

/// Puts an existing port's end on the host back where it belongs; its sandbox is left alone.
pub(crate) fn attach_port(driver: &LinuxDriver, port: &Port, bridge: &str) -> Result<(), LinuxError> {
    let socket = &mut *driver.route.lock();
    let hairpin = put_in_place(socket, port, bridge)?;
    finish(socket, port, hairpin)
}

/// Whether it is in hairpin mode then.
fn put_in_place(socket: &mut Socket, port: &Port, bridge: &str) -> Result<bool, LinuxError> {
    let found = link::get(socket, bridge)?;
    let found = found.ok_or_else(|| LinuxError::NoLink { name: bridge.to_owned() })?;
    let hairpin = host::bridged_packets_are_filtered() || found.filtered;
    let master = Some(found.index);
    let near = Change { up: Some(true), master, ..ends(port, &found).0 };
    let isolated = port.isolated && !host::is_guarded(&found);
    let modes = [link::isolate(&port.link, isolated), link::hairpin(&port.link, hairpin)];
    let placed: Vec<_> =
        [link::change(&port.link, &near)].into_iter().chain(keep_mtu(port, &found)).collect();
    socket.transact(&placed)?;
    socket.transact(&modes)?;
    Ok(hairpin)
}

pub(crate) fn configure_inside(driver: &LinuxDriver, port: &Port, fresh: bool) -> Result<(), LinuxError> {
    let inside = port.clone();
    driver.netns.run(&driver.path(port.sandbox), move || sandbox::configure(&inside, fresh))?
}

fn finish(socket: &mut Socket, port: &Port, hairpin: bool) -> Result<(), LinuxError> {
    let complete = Change { alias: Some(mark::port(port, hairpin)), ..Change::default() };
    Ok(socket.transact(&[link::change(&port.link, &complete)])?)
}

/// Takes a port out of service at once, and deletes it later.
pub(crate) fn delete_port(driver: &LinuxDriver, name: &str) -> Result<(), LinuxError> {
    // A port that is no bridge port any more, or gone with its namespace, needs no blocking.
    let gone = &[libc::ENODEV, libc::EOPNOTSUPP, libc::EINVAL, libc::ENETDOWN];
    let socket = &mut *driver.route.lock();
    socket.transact(&[link::block(name).tolerating(gone)])?;
    if let Some(found) = link::get(socket, name)? {
        driver.reaper.bury(found.index);
    }
    Ok(())
}

/// Deletes a bridge.
pub(crate) fn delete_segment(socket: &mut Socket, name: &str) -> Result<(), LinuxError> {
    Ok(socket.transact(&[link::delete(name).tolerating(&[libc::ENODEV])])?)
}
