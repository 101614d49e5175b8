//! Forgetting connections of ports that went or came: what was translated to a container that is gone must not outlive it,
//! and a UDP client that asked before a port was published must not be answered by the host for ever.
//!
//! A few ports are asked for one by one; the kernel looks through its whole table for each. For rows and crowds the table is
//! read once, and what concerns them is forgotten entry by entry.

use std::{collections::BTreeMap, net::IpAddr};

use weft_dataplane::{PublishKey, PublishMap, PublishTarget, Segment};
use weft_model::{NetworkId, PortRange, Protocol};
use weft_sys::{
    conntrack::{self, Entry, Families, Which},
    netlink::{Channel, Message, NetlinkError, Socket},
};

use crate::{LinuxError, publish};

/// More than so many ports: one look at the whole table is cheaper.
const FORGET_EACH: usize = 16;

/// Ends connections of ports that went, and lets clients of connectionless protocols find ports that came.
pub(crate) fn forget(socket: &mut Socket, gone: &PublishMap, new: &PublishMap) -> Result<(), LinuxError> {
    let new: PublishMap = udp(new);
    let rows = |map: &PublishMap| map.keys().any(|key| key.host_ports.end > key.host_ports.start);
    if gone.len() + new.len() > FORGET_EACH || rows(gone) || rows(&new) {
        return each(socket, Families::Both, |entry| ended(entry, gone) || missed(entry, &new));
    }
    let mut which: Vec<Which> = Vec::new();
    for (key, target) in gone {
        let protocol = publish::number(key.protocol);
        if let IpAddr::V4(ip) = target.ip {
            which.push(Which::Service { ip, protocol, port: target.port });
        }
    }
    if gone.values().any(|target| target.ip.is_ipv6()) {
        each(socket, Families::V6, |entry| ended(entry, gone))?;
    }
    for key in new.keys() {
        let protocol = publish::number(key.protocol);
        which.push(Which::Asked { v6: key.host_ip.is_ipv6(), protocol, port: key.host_ports.start });
    }
    which.dedup();
    for entry in which {
        tolerate(conntrack::forget_all(socket, &[entry]))?;
    }
    Ok(())
}

/// After a time without our rules: forgets what leads into a segment by a port that is not published (any more), what went
/// past a port that is, and what began to go out with the address of its container, to which nobody can answer.
pub(crate) fn sweep(
    socket: &mut Socket,
    segments: &BTreeMap<NetworkId, Segment>,
    publishes: &PublishMap,
) -> Result<(), LinuxError> {
    let subnets: Vec<_> = segments.values().flat_map(Segment::subnets).collect();
    let waiting = udp(publishes);
    let masqueraded: Vec<_> =
        segments.values().flat_map(|s| s.subnets().filter(|net| s.masquerades(net))).collect();
    let exposed = |entry: &Entry| {
        let (began, answered_to) = entry.source;
        !entry.answered
            && began == answered_to
            && masqueraded.iter().any(|net| net.contains(&began))
            && !subnets.iter().any(|net| net.contains(&entry.answers.0))
    };
    each(socket, Families::Both, |entry| {
        let into = entry.translated && subnets.iter().any(|net| net.contains(&entry.answers.0));
        (into && !publishes.iter().any(|(key, target)| leads(key, target, entry)))
            || missed(entry, &waiting)
            || exposed(entry)
    })
}

fn udp(map: &PublishMap) -> PublishMap {
    map.iter().filter(|(key, _)| key.protocol == Protocol::Udp).map(|(k, t)| (*k, *t)).collect()
}

/// A kernel that tracks nothing has nothing to forget; one before 5.8 cannot be asked like this.
fn tolerate(result: Result<(), NetlinkError>) -> Result<(), LinuxError> {
    match result {
        Err(error) if matches!(error.errno(), Some(libc::EOPNOTSUPP | libc::EINVAL)) => {
            tracing::warn!(%error, "old connections may linger");
            Ok(())
        }
        other => Ok(other?),
    }
}

fn each(socket: &mut Socket, families: Families, stale: impl Fn(&Entry) -> bool) -> Result<(), LinuxError> {
    let all = match conntrack::list(socket, families) {
        Ok(all) => all,
        Err(error) => return tolerate(Err(error)),
    };
    let forget: Vec<Message> = all.iter().filter(|e| stale(e)).map(conntrack::forget_entry).collect();
    // Bounded, so that the answers fit the socket's buffer.
    forget.chunks(100).try_for_each(|some| tolerate(socket.transact(some)))
}

/// The connection is one of the services that went.
fn ended(entry: &Entry, gone: &PublishMap) -> bool {
    gone.iter().any(|(key, target)| leads(key, target, entry))
}

fn leads(key: &PublishKey, target: &PublishTarget, entry: &Entry) -> bool {
    let PortRange { start, end } = key.host_ports;
    let targets = PortRange { start: target.port, end: target.port.saturating_add(end - start) };
    entry.translated
        && entry.protocol == publish::number(key.protocol)
        && entry.answers.0 == target.ip
        && targets.contains(entry.answers.1)
}

/// The client asked for the port while nothing translated it.
fn missed(entry: &Entry, new: &PublishMap) -> bool {
    let at =
        |ip: IpAddr| ip == entry.asked.0 || (ip.is_unspecified() && ip.is_ipv4() == entry.asked.0.is_ipv4());
    let asked = |key: &PublishKey| {
        entry.protocol == publish::number(key.protocol)
            && key.host_ports.contains(entry.asked.1)
            && at(key.host_ip)
    };
    !entry.translated && new.keys().any(asked)
}
