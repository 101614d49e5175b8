//! Segments without a bridge: their parent, which is used as it is (or made here, and then marked), and the host's own
//! sub-interface.
//!
//! ```text
//! wfd…   a parent of ours that leads nowhere; a dummy, or where the kernel has none one end of a veth pair (the other: wfe…)
//! wfh…   the host's own sub-interface, with its addresses and a route to each port's address
//! NAME.VLAN   a VLAN of another link; ours only by its alias, `weft vlan wfh…`
//! ```
//!
//! The segment is known by the name `wfh…`, whether or not there is such a link. What of it bears no mark (somebody else's
//! parent) is remembered from when it was last looked at: a driver that starts anew looks at each segment once.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use weft_dataplane::{Origin, Parent, ParentFault, SeenSegment, Segment, Uplink};
use weft_model::{Branch, IpvlanFlag, IpvlanMode, MacvlanMode};
use weft_sys::netlink::{
    Channel, NetlinkError, Socket, address,
    branch::{self, IpVlanFlags, IpVlanMode, MacVlanMode, Sub},
    host_route,
    link::{self, Change, Kind, Link},
};

use crate::{LinuxError, driver::LinuxDriver, mark};

/// What the kernel calls it.
pub(crate) fn sub(branch: Branch) -> Sub {
    match branch {
        Branch::Macvlan(mode) => Sub::Macvlan(match mode {
            MacvlanMode::Bridge => MacVlanMode::Bridge,
            MacvlanMode::Private => MacVlanMode::Private,
            MacvlanMode::Vepa => MacVlanMode::Vepa,
            MacvlanMode::Passthru => MacVlanMode::Passthrough,
        }),
        Branch::Ipvlan(mode, flag) => {
            let mode = match mode {
                IpvlanMode::L2 => IpVlanMode::L2,
                IpvlanMode::L3 => IpVlanMode::L3,
                IpvlanMode::L3s => IpVlanMode::L3S,
            };
            let flags = match flag {
                IpvlanFlag::Bridge => IpVlanFlags::empty(),
                IpvlanFlag::Private => IpVlanFlags::Private,
                IpvlanFlag::Vepa => IpVlanFlags::Vepa,
            };
            Sub::Ipvlan(mode, flags)
        }
    }
}

fn up() -> Change {
    Change { up: Some(true), ..Change::default() }
}

/// Whether ports can hang on it; nothing is changed.
pub(crate) fn refuses(socket: &mut Socket, uplink: &Uplink) -> Result<Option<ParentFault>, LinuxError> {
    let Parent { link: name, branch } = &uplink.parent;
    let kind = branch.kind();
    let lacks = |module| Some(ParentFault::Kernel { link: name.clone(), kind: module, module });
    if name == "lo" {
        return Ok(Some(ParentFault::Loopback { kind }));
    }
    if !branch::is_known(socket, &sub(*branch))? {
        return Ok(lacks(kind));
    }
    let found = link::get(socket, name)?;
    if let (Some(found), false) = (&found, uplink.origin == Origin::Alone)
        && let Some(by) = occupied(socket, found, *branch)?
    {
        return Ok(Some(ParentFault::Busy { link: name.clone(), by }));
    }
    Ok(match (&uplink.origin, found) {
        (Origin::Alone, _) | (_, Some(_)) => None,
        (Origin::Foreign, None) => Some(ParentFault::Missing { link: name.clone() }),
        (Origin::Vlan { of, id }, None) => {
            if link::get(socket, of)?.is_none() {
                Some(ParentFault::Missing { link: of.clone() })
            } else if branch::is_known(socket, &Sub::Vlan(*id))? {
                None
            } else {
                Some(ParentFault::Kernel { link: name.clone(), kind: "vlan", module: "8021q" })
            }
        }
    })
}

/// What else receives the parent's packets: the kernel has one such taker for each link.
fn occupied(socket: &mut Socket, parent: &Link, branch: Branch) -> Result<Option<String>, LinuxError> {
    if parent.master.is_some() {
        return Ok(Some("a port of a bridge or bond".to_owned()));
    }
    let other = if branch.kind() == "macvlan" { "ipvlan" } else { "macvlan" };
    let is = |l: &Link| l.lower == Some(parent.index) && l.kind == Kind::Other(other.to_owned());
    Ok(link::list(socket)?.iter().any(is).then(|| format!("a parent of {other} links")))
}

/// Makes what of the segment is ours, or brings it to its configuration; remembers it.
pub(crate) fn put(driver: &LinuxDriver, segment: &Segment, uplink: &Uplink) -> Result<(), LinuxError> {
    let socket = &mut *driver.route.lock();
    driver.below.hang(segment);
    let done = make(driver, socket, segment, uplink);
    driver.below.look(socket)?;
    done
}

fn make(
    driver: &LinuxDriver,
    socket: &mut Socket,
    segment: &Segment,
    uplink: &Uplink,
) -> Result<(), LinuxError> {
    if let Some(fault) = refuses(socket, uplink)? {
        return Err(LinuxError::Parent(fault));
    }
    let parent = parent(socket, segment, uplink)?;
    if uplink.shim.is_empty() {
        socket.transact(&[link::delete(&segment.link).tolerating(&[libc::ENODEV])])?;
    } else {
        shim(socket, segment, uplink, &parent)?;
    }
    driver.uplinks.lock().insert(segment.link.clone(), segment.clone());
    Ok(())
}

fn parent(socket: &mut Socket, segment: &Segment, uplink: &Uplink) -> Result<Link, LinuxError> {
    let name = uplink.parent.link.as_str();
    match (link::get(socket, name)?, &uplink.origin) {
        (Some(found), Origin::Alone) if mark::of_uplink(&found).is_none() => {
            return Err(LinuxError::Foreign { name: name.to_owned() });
        }
        (Some(found), Origin::Alone) => {
            socket.transact(&lonely_up(name, &found))?;
        }
        (Some(found), Origin::Vlan { .. }) if mark::of_uplink(&found).is_some() => {
            socket.transact(&[link::change(name, &up())])?;
        }
        (Some(_), _) => {}
        (None, Origin::Alone) => lonely(socket, name)?,
        (None, Origin::Vlan { of, id }) => {
            let of = link::get(socket, of)?.ok_or_else(|| LinuxError::NoLink { name: of.clone() })?;
            let marked = Change { alias: Some(mark::vlan(&segment.link)), ..Change::default() };
            let make = branch::create(name, of.index, &Sub::Vlan(*id), None, &Change::default());
            // Both in one call: it is ours by this mark alone.
            socket.transact(&[make, link::change(name, &marked)])?;
            socket.transact(&[link::change(name, &up())])?;
        }
        (None, Origin::Foreign) => {}
    }
    link::get(socket, name)?.ok_or_else(|| LinuxError::NoLink { name: name.to_owned() })
}

/// The other end of a pair that stands for a dummy.
fn other_end(name: &str) -> String {
    name.replacen("wfd", "wfe", 1)
}

fn lonely(socket: &mut Socket, name: &str) -> Result<(), LinuxError> {
    match socket.transact(&[branch::create_dummy(name, &up())]) {
        Err(error) if error.errno() == Some(libc::EOPNOTSUPP) => {
            let peer = other_end(name);
            // Both ends up, or sub-interfaces would have no carrier.
            let make = branch::create_pair(name, &peer, &Change::default());
            Ok(socket.transact(&[make, link::change(name, &up()), link::change(&peer, &up())])?)
        }
        done => Ok(done?),
    }
}

fn lonely_up(name: &str, found: &Link) -> Vec<weft_sys::netlink::Message> {
    let mut messages = vec![link::change(name, &up())];
    if found.kind == Kind::Veth {
        messages.push(link::change(&other_end(name), &up()));
    }
    messages
}

fn shim(socket: &mut Socket, segment: &Segment, uplink: &Uplink, parent: &Link) -> Result<(), LinuxError> {
    let name = segment.link.as_str();
    let kind = Kind::Other(uplink.parent.branch.kind().to_owned());
    let mut found = link::get(socket, name)?;
    if let Some(old) = found.take_if(|l| l.lower != Some(parent.index) || l.kind != kind) {
        if mark::of_uplink(&old).is_none() {
            return Err(LinuxError::Foreign { name: name.to_owned() });
        }
        socket.transact(&[link::delete(name)])?;
    }
    let branch = uplink.parent.branch;
    if found.is_none() {
        let mac = branch.chooses_mac().then_some(segment.mac.0);
        let mtu = Some(segment.mtu).filter(|mtu| *mtu > 0);
        let change = Change { mac, mtu, ..Change::default() };
        socket.transact(&[branch::create(name, parent.index, &sub(branch), None, &change)])?;
        found = link::get(socket, name)?;
    }
    let index = found.ok_or_else(|| LinuxError::NoLink { name: name.to_owned() })?.index;
    let have: BTreeSet<IpNet> = address::list(socket, index)?.into_iter().collect();
    // Single addresses: the network's subnet may be routed by the parent already.
    let want: BTreeSet<IpNet> = uplink.shim.iter().map(|ip| IpNet::from(*ip)).collect();
    let mut messages: Vec<_> = have.difference(&want).map(|a| address::remove(index, *a)).collect();
    messages.extend(want.difference(&have).map(|a| address::add(index, *a)));
    messages.push(link::change(name, &up()));
    socket.transact(&messages)?;
    let routed = host_route::list(socket, index)?;
    let source = |to: &IpAddr| uplink.shim.iter().find(|ip| ip.is_ipv4() == to.is_ipv4()).copied();
    let mut messages: Vec<_> =
        routed.difference(&uplink.reached).map(|to| host_route::remove(*to, index)).collect();
    let reached = uplink.reached.iter().filter(|to| source(to).is_some());
    messages.extend(reached.map(|to| host_route::add(*to, index, source(to))));
    let complete = Change { alias: Some(mark::segment(segment)), ..Change::default() };
    messages.push(link::change(name, &complete));
    Ok(socket.transact(&messages)?)
}

/// What is seen of a segment, given all links: its tag while all that it was made of is there.
pub(crate) fn seen(segment: &Segment, links: &[Link]) -> SeenSegment {
    let whole = segment.uplink.as_ref().is_some_and(|uplink| {
        let parent = links.iter().find(|l| l.name == uplink.parent.link);
        let ours = uplink.origin == Origin::Alone || parent.is_some_and(|p| mark::of_uplink(p).is_some());
        let shim = links.iter().find(|l| l.name == segment.link);
        let stands = |shim: &Link, parent: &Link| {
            shim.up && shim.lower == Some(parent.index) && shim.alias == mark::segment(segment)
        };
        parent.is_some_and(|parent| {
            (parent.up || !ours)
                && (uplink.shim.is_empty() && shim.is_none() || shim.is_some_and(|s| stands(s, parent)))
        })
    });
    SeenSegment { tag: if whole { segment.tag() } else { String::new() }, state: None }
}

/// Removes what of a segment is ours. A VLAN that another segment hangs on, too, is left to that one.
pub(crate) fn delete(driver: &LinuxDriver, name: &str) -> Result<(), LinuxError> {
    driver.below.unhang(name);
    let gone = driver.uplinks.lock().remove(name);
    let socket = &mut *driver.route.lock();
    let mut messages = vec![link::delete(name).tolerating(&[libc::ENODEV])];
    if let Some(rest) = name.strip_prefix("wfh") {
        messages.push(link::delete(&format!("wfd{rest}")).tolerating(&[libc::ENODEV]));
    }
    for vlan in link::list(socket)?.iter().filter(|l| l.alias == mark::vlan(name)) {
        let heir = driver.uplinks.lock().values().find(|s| hangs_on(s, &vlan.name)).map(|s| s.link.clone());
        messages.push(match heir {
            Some(heir) => {
                link::change(&vlan.name, &Change { alias: Some(mark::vlan(&heir)), ..Change::default() })
            }
            None => link::delete(&vlan.name).tolerating(&[libc::ENODEV]),
        });
    }
    let done: Result<(), NetlinkError> = socket.transact(&messages);
    if done.is_err() {
        // Still ours to remove.
        driver.uplinks.lock().extend(gone.map(|segment| (name.to_owned(), segment)));
    }
    Ok(done?)
}

fn hangs_on(segment: &Segment, parent: &str) -> bool {
    segment.uplink.as_ref().is_some_and(|u| u.parent.link == parent)
}
