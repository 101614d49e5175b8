//! Bandwidth limits on the host's side of things: containers cannot touch them, whatever their capabilities.
//!
//! A port's ingress is a token bucket at the root of its veth. What is shared goes through a queue on a link of its own (an
//! `ifb`): filters at the hooks of each veth redirect packets to it, and it sends them back to where they were. Rates change in
//! place; nothing that waits is lost.

use std::collections::{BTreeMap, BTreeSet};

use weft_dataplane::{Limits, PortLimit, Queue};
use weft_model::MacAddr;
use weft_sys::netlink::{
    Channel, Message, NetlinkError, Socket,
    link::{self, Change, Kind, Link},
    tc::{self, Hook, UNLIMITED},
};

use crate::{LinuxError, mark};

/// Priority of our filters on ports; others' filters on the same hooks are left alone.
const PRIORITY: u16 = 0x7765;
/// The class that lends, and the one for what has no class of its own.
const TOP: u16 = 1;
const REST: u16 = 2;
/// Classes of members are counted from here.
const FIRST: u16 = 0x10;

/// The kernel says `ENOENT` or `EOPNOTSUPP` of kinds it does not know.
fn lacking(error: NetlinkError, what: &'static str) -> LinuxError {
    match error.errno() {
        Some(libc::ENOENT | libc::EOPNOTSUPP) => LinuxError::Lacking { what, source: error },
        _ => error.into(),
    }
}

/// Whether a link is one of our queues.
pub(crate) fn is_queue(link: &Link) -> bool {
    link.kind == Kind::Other("ifb".to_owned())
        && (mark::marked(&link.name, 'i') || mark::marked(&link.name, 'e'))
}

/// Makes a queue, or brings it to its rates.
pub(crate) fn put_queue(socket: &mut Socket, name: &str, queue: &Queue) -> Result<(), LinuxError> {
    let found = match link::get(socket, name)? {
        Some(found) if !is_queue(&found) => return Err(LinuxError::Foreign { name: name.to_owned() }),
        Some(found) => found,
        None => {
            let made = socket.transact(&[link::create_ifb(name, &Change::default())]);
            made.map_err(|error| lacking(error, "ifb links (CONFIG_IFB)"))?;
            link::get(socket, name)?.ok_or_else(|| LinuxError::NoLink { name: name.to_owned() })?
        }
    };
    let up = Change { up: Some(true), ..Change::default() };
    socket.transact(&[link::change(name, &up)])?;
    let index = found.index;
    let strange = tc::qdiscs(socket)?.iter().any(|q| q.index == index && q.root && q.kind == "tbf");
    if strange {
        socket.transact(&[tc::clear_root(index)])?;
    }
    socket.transact(&[tc::tree(index, REST)]).map_err(|e| lacking(e, "the queueing discipline htb"))?;
    let rest = queue.rest().min(UNLIMITED);
    let mut messages = vec![
        tc::class(index, true, TOP, queue.total.unwrap_or(UNLIMITED)),
        tc::class(index, false, REST, rest),
        tc::class_queue(index, REST, rest),
    ];
    messages.extend(members(socket, name, index, queue)?);
    Ok(socket.transact(&messages)?)
}

/// What brings the members' classes and filters to their rates; those that are there keep their numbers.
fn members(socket: &mut Socket, name: &str, index: u32, queue: &Queue) -> Result<Vec<Message>, LinuxError> {
    let mut messages = Vec::new();
    let mut present: BTreeMap<MacAddr, u16> = BTreeMap::new();
    for filter in tc::filters(socket, index, Hook::Tree)? {
        let known = filter.source.map(MacAddr).filter(|mac| queue.members.contains_key(mac));
        match known {
            Some(mac) if !present.contains_key(&mac) => drop(present.insert(mac, filter.priority)),
            _ => messages.push(tc::clear_filter(index, Hook::Tree, filter.priority)),
        }
    }
    let mut taken: BTreeSet<u16> = present.values().copied().collect();
    for (minor, _) in tc::classes(socket, index)? {
        if minor >= FIRST && !taken.contains(&minor) {
            messages.push(tc::remove_class(index, minor));
        }
    }
    for (mac, rate) in &queue.members {
        let old = present.get(mac).copied();
        let free = || (FIRST..u16::MAX).find(|minor| !taken.contains(minor));
        let minor = old.or_else(free).ok_or_else(|| LinuxError::Full { name: name.to_owned() })?;
        taken.insert(minor);
        messages.extend([tc::class(index, false, minor, *rate), tc::class_queue(index, minor, *rate)]);
        if old.is_none() {
            messages.push(tc::sort(index, mac.0, minor));
        }
    }
    Ok(messages)
}

/// Removes a queue.
pub(crate) fn delete_queue(socket: &mut Socket, name: &str) -> Result<(), LinuxError> {
    Ok(socket.transact(&[link::delete(name).tolerating(&[libc::ENODEV])])?)
}

/// Brings a port to its limits.
pub(crate) fn limit_port(socket: &mut Socket, name: &str, limit: &PortLimit) -> Result<(), LinuxError> {
    let found = link::get(socket, name)?.ok_or_else(|| LinuxError::NoLink { name: name.to_owned() })?;
    let index = found.index;
    let shape = limit.ingress.map_or_else(|| tc::clear_root(index), |rate| tc::shape(index, rate));
    socket.transact(&[shape]).map_err(|e| lacking(e, "the queueing discipline tbf"))?;
    let ways = [(Hook::Out, &limit.into), (Hook::In, &limit.out)];
    if ways.iter().any(|(_, queue)| queue.is_some()) {
        socket.transact(&[tc::hooks(index)]).map_err(|e| lacking(e, "the queueing discipline clsact"))?;
    }
    for (hook, queue) in ways {
        let target = match queue {
            Some(queue) => {
                let found = link::get(socket, queue)?;
                Some(found.ok_or_else(|| LinuxError::NoLink { name: queue.clone() })?.index)
            }
            None => None,
        };
        let have = redirections(socket, index, hook)?;
        if have == target.into_iter().collect::<Vec<_>>() {
            continue;
        }
        let mut messages = vec![tc::clear_filter(index, hook, PRIORITY)];
        messages.extend(target.map(|to| tc::redirect(index, hook, PRIORITY, to)));
        socket.transact(&messages).map_err(|e| lacking(e, "the filter u32 or the action mirred"))?;
    }
    let mut left = 0;
    for hook in [Hook::In, Hook::Out] {
        left += tc::filters(socket, index, hook)?.len();
    }
    if left == 0 {
        socket.transact(&[tc::clear_hooks(index)])?;
    }
    Ok(())
}

/// The links that our filters at a hook lead to.
fn redirections(socket: &mut Socket, index: u32, hook: Hook) -> Result<Vec<u32>, NetlinkError> {
    let filters = tc::filters(socket, index, hook)?;
    Ok(filters.iter().filter(|f| f.priority == PRIORITY).map(|f| f.redirect.unwrap_or_default()).collect())
}

/// The limits that are there.
pub(crate) fn observe(socket: &mut Socket, links: &[Link]) -> Result<Limits, LinuxError> {
    let mut limits = Limits::default();
    let qdiscs = tc::qdiscs(socket)?;
    let name_of = |index: u32| links.iter().find(|l| l.index == index).map(|l| l.name.clone());
    for found in links.iter().filter(|l| is_queue(l)) {
        let tree = qdiscs.iter().any(|q| q.index == found.index && q.root && q.kind == "htb");
        let queue = if tree && found.up { seen_queue(socket, found.index)? } else { None };
        // What is not as we make it equals no queue that is wanted.
        let queue = queue.unwrap_or(Queue { total: Some(0), members: BTreeMap::new() });
        limits.queues.insert(found.name.clone(), queue);
    }
    for found in links.iter().filter(|l| l.kind == Kind::Veth && mark::marked(&l.name, 'p')) {
        let own: Vec<_> = qdiscs.iter().filter(|q| q.index == found.index).collect();
        let mut limit =
            PortLimit { ingress: own.iter().find_map(|q| q.rate.filter(|_| q.root)), ..Default::default() };
        if own.iter().any(|q| q.kind == "clsact") {
            for (hook, way) in [(Hook::Out, &mut limit.into), (Hook::In, &mut limit.out)] {
                let to = redirections(socket, found.index, hook)?;
                *way = to.first().map(|index| name_of(*index).unwrap_or_default());
            }
        }
        if limit != PortLimit::default() {
            limits.ports.insert(found.name.clone(), limit);
        }
    }
    Ok(limits)
}

/// A queue as its classes and filters say; `None` when they are not as we make them.
fn seen_queue(socket: &mut Socket, index: u32) -> Result<Option<Queue>, LinuxError> {
    let mut classes: BTreeMap<u16, u64> = tc::classes(socket, index)?.into_iter().collect();
    let (Some(total), Some(rest)) = (classes.remove(&TOP), classes.remove(&REST)) else { return Ok(None) };
    let mut queue = Queue { total: (total < UNLIMITED).then_some(total), ..Queue::default() };
    for filter in tc::filters(socket, index, Hook::Tree)? {
        let (Some(mac), Some(rate)) = (filter.source, classes.remove(&filter.priority)) else {
            return Ok(None);
        };
        queue.members.insert(MacAddr(mac), rate);
    }
    Ok((classes.is_empty() && rest == queue.rest().min(UNLIMITED)).then_some(queue))
}
