//! What there is: one dump of links, of addresses, of routes to what is on them, one of rules, one for each set, one directory.

use std::collections::{BTreeMap, BTreeSet};

use weft_dataplane::{BridgeState, Observed, PublishMap, SeenSegment};
use weft_model::MacAddr;
use weft_sys::{
    netlink::{
        Socket,
        link::{self, Kind, Link},
    },
    netns,
    nft::{self, Batch},
};

use crate::{
    LinuxError, TABLE, branch, direct, driver::LinuxDriver, frame, host, left, left::Nets, limits, loopback,
    mark, policy, publish, rules, runs, uplink,
};

pub(crate) fn observe(driver: &LinuxDriver) -> Result<Observed, LinuxError> {
    let mut observed =
        Observed { can_guard: host::can_guard(), can_loop: driver.can_loop(), ..Observed::default() };
    let (mut notes, mut runs) = (Vec::new(), Vec::new());
    for found in netns::list(&driver.directory)? {
        match (found.name.parse(), found.alive) {
            (Ok(id), true) => {
                observed.sandboxes.insert(id, 0);
            }
            (Ok(_), false) => {
                observed.broken_sandboxes.insert(found.name);
            }
            (Err(_), _) => match runs::of(&found.name) {
                Some(id) => runs.push((id, found.name)),
                None => notes.push(found.name),
            },
        }
    }
    for (id, name) in runs {
        match observed.sandboxes.get_mut(&id) {
            Some(run) => *run = runs::read(driver, id),
            None => drop(observed.broken_sandboxes.insert(name)),
        }
    }
    notes.retain(|name| mark::is_port(name));
    observed.ports = branch::observe(driver, &notes, &observed.sandboxes)?;
    let hairpin = host::bridged_packets_are_filtered();
    let borrowed = driver.borrowed.lock().clone();
    let buried = driver.reaper.links();
    let links = link::list(&mut *driver.route.lock())?;
    let standing: Vec<_> = links.iter().filter(|l| !buried.contains(&l.index)).cloned().collect();
    let (addresses, routes) = left::nets(&mut driver.route.lock())?;
    driver.left.seen(&standing, &addresses, routes.as_ref());
    driver.below.seen(&links);
    let names: BTreeMap<u32, String> = links.iter().map(|l| (l.index, l.name.clone())).collect();
    observed.limits = limits::observe(&mut driver.route.lock(), &standing)?;
    let filtered: Vec<u32> = links.iter().filter(|l| l.filtered).map(|l| l.index).collect();
    let guarded: Vec<u32> = links.iter().filter(|l| host::is_guarded(l)).map(|l| l.index).collect();
    // What is left of earlier ones, then those that are known.
    let strays = links.iter().filter_map(mark::of_uplink).map(|name| (name, SeenSegment::default()));
    observed.segments.extend(strays);
    let uplinks = driver.uplinks.lock();
    observed.segments.extend(uplinks.iter().map(|(name, s)| (name.clone(), uplink::seen(s, &links))));
    drop(uplinks);
    for link in links {
        if buried.contains(&link.index) {
            continue;
        }
        if let (Some(tag), Kind::Bridge) = (borrowed.get(&link.name), &link.kind) {
            let fits = host::parameters(&link.name, driver.forward).answers_loopback;
            let tag = if fits { tag.clone() } else { String::new() };
            observed.segments.insert(link.name, SeenSegment { tag, state: None });
        } else if let Some(mut segment) = mark::as_segment(&link) {
            segment.state = Some(state(&link, &addresses, routes.as_ref(), driver.forward));
            if link.filtered {
                observed.guarded.insert(link.name.clone());
            }
            observed.segments.insert(link.name, segment);
        } else if let Some(mut port) =
            mark::as_port(&link, hairpin || link.master.is_some_and(|m| filtered.contains(&m)))
        {
            if let Some(end) = &mut port.state {
                end.guarded = link.master.is_some_and(|m| guarded.contains(&m));
                end.bridge = link.master.and_then(|index| names.get(&index).cloned());
            }
            observed.ports.insert(link.name, port);
        }
    }
    let mut netfilter = driver.netfilter.lock();
    let (publishes, strange) = publishes_all(&mut netfilter)?;
    let (open, strange_too) = direct::observe_all(&mut netfilter)?;
    let held = driver.held.lock();
    if let Some(digest) = rules_digest(&mut netfilter, &held, strange + strange_too)? {
        (observed.publishes, observed.open, observed.rules) = (publishes, open, Some(digest));
    }
    drop(held);
    observed.policy = policy::observe(&mut netfilter)?;
    observed.loopbacks = loopback::observe(&mut netfilter)?;
    Ok(observed)
}

pub(crate) fn state(bridge: &Link, addresses: &Nets, routes: Option<&Nets>, forward: bool) -> BridgeState {
    BridgeState {
        parameters: host::parameters(&bridge.name, forward),
        up: bridge.up,
        mtu: bridge.mtu,
        mac: MacAddr(bridge.mac.as_slice().try_into().unwrap_or_default()),
        addresses: left::of(addresses, bridge.index),
        // In a VRF they are in another table.
        routes: routes.filter(|_| bridge.master.is_none()).map(|routes| left::of(routes, bridge.index)),
    }
}

/// Digest of the table; `None` when there is none. `held`: of others, and used by the user's rules; `strange`: how many elements of
/// published and open ports are nothing that we would write.
fn rules_digest(
    socket: &mut Socket,
    held: &BTreeSet<String>,
    strange: usize,
) -> Result<Option<String>, LinuxError> {
    let mut seen = nft::rules(socket, TABLE)?.unwrap_or_default();
    seen.retain(|rule| !rules::is_users(&rule.chain));
    if seen.is_empty() {
        return Ok(None);
    }
    let mut elements = BTreeMap::new();
    for set in rules::STRUCTURAL {
        elements.insert(set.name, nft::elements(socket, TABLE, &set)?.unwrap_or_default());
    }
    // A chain that is held has rules that are not ours to judge.
    let rules = seen.into_iter().filter(|rule| !held.contains(&rule.chain));
    let rules = rules.map(|rule| (rule.chain, rule.tag)).collect();
    let mut frame = frame::seen(socket, held)?;
    if strange > 0 {
        frame.insert(format!("{strange} strange elements"));
    }
    Ok(Some(rules::digest(rules, &elements, &frame)))
}

/// The published ports in the kernel.
pub(crate) fn publishes(socket: &mut Socket) -> Result<PublishMap, LinuxError> {
    Ok(publishes_all(socket)?.0)
}

/// The same, and how many elements we would not have written.
fn publishes_all(socket: &mut Socket) -> Result<(PublishMap, usize), LinuxError> {
    let (mut all, mut strange) = (PublishMap::new(), 0);
    for (place, set) in publish::SETS.iter().enumerate() {
        let elements = nft::elements(socket, TABLE, set)?.unwrap_or_default();
        let known: Vec<_> = elements.iter().filter_map(|e| publish::decode(place, e)).collect();
        strange += elements.len() - known.len();
        all.extend(known);
    }
    Ok((all, strange))
}

/// The batch that takes our part of the table away: all of it, unless something there is the user's.
pub(crate) fn clearing(socket: &mut Socket) -> Result<Batch, LinuxError> {
    let present = nft::names(socket, TABLE)?;
    let rules = nft::rules(socket, TABLE)?.unwrap_or_default();
    let users = rules.iter().any(|rule| rules::is_users(&rule.chain))
        || present.sets.iter().any(|set| rules::is_users(set));
    let mut batch = Batch::new(TABLE);
    batch.add_table();
    if users {
        batch.delete(&rules::ours(&present))
    } else {
        batch.delete_table()
    }
    Ok(batch)
}
