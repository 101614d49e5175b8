//! How our links were when we last left them or looked at them. News of a link that is still so is news of our own doing, or
//! of nothing: only what differs is worth a look at the whole machine.
//!
//! ```text
//! a step on a link ─▶ forgotten ─▶ (news are ignored) ─▶ done ─▶ as the kernel has it now; not as meant? once more
//! an observation   ─▶ all links of ours, as they were seen
//! news             ─▶ asks the kernel for that link; differs? ─▶ an observation
//! ```
//!
//! What is kept is what the kernel has, not what we want: a repair that does not help is not tried again for its own news.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ipnet::IpNet;
use parking_lot::Mutex;
use weft_dataplane::{SeenSegment, Step};
use weft_sys::netlink::{
    NetlinkError, Socket, address,
    link::{self, Kind, Link},
    onlink,
    watch::Event,
};

use crate::{LinuxError, driver::LinuxDriver, host, links, mark, observe};

/// What belongs to a link beside itself.
pub(crate) type Nets = BTreeSet<(u32, IpNet)>;

/// How often a link is looked at until there is no news while it is, and how often a step is repeated on a link that
/// somebody works against. What is wrong then is found by the watcher's second look ([`crate::watch`]).
const NOTE_TRIES: usize = 8;
const REPAIRS: usize = 3;

/// A link as it was found.
struct Seen {
    link: Link,
    addresses: Nets,
    routes: Option<Nets>,
}

/// A link, by its index.
#[derive(Debug)]
struct One {
    link: Link,
    addresses: BTreeSet<IpNet>,
    /// None are known where the kernel cannot pick them out.
    routes: BTreeSet<IpNet>,
}

/// All of them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Left(Arc<Mutex<Links>>);

#[derive(Debug, Default)]
struct Links {
    known: BTreeMap<u32, One>,
    /// There was news of a link that is not known: perhaps of the one that a step is at work on.
    heard: bool,
}

/// All addresses there are, and all the routes that came with them (`None` where the kernel cannot pick them out).
pub(crate) fn nets(socket: &mut Socket) -> Result<(Nets, Option<Nets>), NetlinkError> {
    Ok((address::all_and_link_local(socket)?.into_iter().collect(), onlink::list(socket)?))
}

/// Those of one link.
pub(crate) fn of(nets: &Nets, index: u32) -> BTreeSet<IpNet> {
    nets.iter().filter(|(of, _)| *of == index).map(|(_, net)| *net).collect()
}

fn is_ours(link: &Link) -> bool {
    mark::as_segment(link).is_some() || mark::as_port(link, false).is_some()
}

/// What of a link is ours to set. That it has a carrier, or another alias, is no news.
fn same(left: &Link, now: &Link) -> bool {
    let parts = |l: &Link| (l.up, l.mtu, l.master, l.hairpin, l.isolated, l.filtered);
    left.index == now.index && left.name == now.name && left.mac == now.mac && parts(left) == parts(now)
}

impl Left {
    /// A step is about to change it.
    pub(crate) fn forget(&self, name: &str) {
        self.0.lock().known.retain(|_, one| one.link.name != name);
    }

    /// A step is done with it: how it is now. What was heard of it while it was looked at may not be in what was seen.
    fn note(&self, socket: &mut Socket, name: &str) -> Result<Option<Seen>, NetlinkError> {
        let mut tries = 0;
        loop {
            self.0.lock().heard = false;
            let Some(found) = link::get(socket, name)?.filter(is_ours) else { return Ok(None) };
            let (addresses, routes) =
                if found.kind == Kind::Bridge { nets(socket)? } else { (Nets::new(), None) };
            let mut links = self.0.lock();
            tries += 1;
            if !links.heard || tries == NOTE_TRIES {
                links.put(&found, &addresses, routes.as_ref());
                return Ok(Some(Seen { link: found, addresses, routes }));
            }
        }
    }

    /// All links were looked at.
    pub(crate) fn seen(&self, links: &[Link], addresses: &Nets, routes: Option<&Nets>) {
        let there: BTreeSet<u32> = links.iter().map(|link| link.index).collect();
        let mut left = self.0.lock();
        left.known.retain(|index, _| there.contains(index));
        for link in links.iter().filter(|link| is_ours(link)) {
            left.put(link, addresses, routes);
        }
    }

    /// Whether a link is not as it was left. Where the kernel does not answer, it is not.
    pub(crate) fn differs(&self, socket: &mut Socket, event: &Event) -> bool {
        self.hear(event);
        match event {
            Event::Address(index, net) => self.has(*index, |one| one.addresses.contains(net)),
            Event::Route(index, net) => self.has(*index, |one| one.routes.contains(net)),
            Event::Link { index, .. } => {
                let Some(name) = self.0.lock().known.get(index).map(|one| one.link.name.clone()) else {
                    return false;
                };
                let now = link::get(socket, &name).unwrap_or_default();
                // Meanwhile a step may have begun with it.
                self.has(*index, |one| now.as_ref().is_none_or(|now| !same(&one.link, now)))
            }
            _ => false,
        }
    }

    fn has(&self, index: u32, question: impl Fn(&One) -> bool) -> bool {
        self.0.lock().known.get(&index).is_some_and(question)
    }

    fn hear(&self, event: &Event) {
        let (Event::Address(index, _) | Event::Route(index, _) | Event::Link { index, .. }) = event else {
            return;
        };
        let mut links = self.0.lock();
        links.heard |= !links.known.contains_key(index);
    }
}

impl Links {
    fn put(&mut self, link: &Link, addresses: &Nets, routes: Option<&Nets>) {
        let one = One {
            link: link.clone(),
            addresses: of(addresses, link.index),
            routes: routes.map(|routes| of(routes, link.index)).unwrap_or_default(),
        };
        self.known.insert(link.index, one);
    }
}

/// A step, with its links forgotten while it works.
pub(crate) fn around(
    driver: &LinuxDriver,
    step: &Step,
    work: impl FnOnce() -> Result<(), LinuxError>,
) -> Result<(), LinuxError> {
    let left = &driver.left;
    let after = match step {
        Step::PutSegment { segment, .. } => Some(segment.link.as_str()),
        Step::CreatePort { port, .. } | Step::ConfigurePort { port, .. } | Step::AttachPort { port, .. } => {
            Some(port.link.as_str())
        }
        Step::DeleteSegment { link } | Step::DeletePort { link } => {
            left.forget(link);
            None
        }
        Step::GuardSegment { .. } => {
            // It and all its ports.
            left.0.lock().known.clear();
            work()?;
            let socket = &mut *driver.route.lock();
            let (addresses, routes) = nets(socket)?;
            let buried = driver.reaper.links();
            let links: Vec<_> =
                link::list(socket)?.into_iter().filter(|link| !buried.contains(&link.index)).collect();
            left.seen(&links, &addresses, routes.as_ref());
            return Ok(());
        }
        _ => None,
    };
    let Some(name) = after else { return work() };
    left.forget(name);
    work()?;
    for _ in 0..REPAIRS {
        let seen = left.note(&mut driver.route.lock(), name)?;
        if !is_a_link_of_ours(step) || seen.is_some_and(|seen| is_as_meant(driver, step, &seen)) {
            return Ok(());
        }
        // Somebody was at it while the step was, and his news were taken for ours.
        left.forget(name);
        again(driver, step)?;
    }
    left.note(&mut driver.route.lock(), name).map(drop)?;
    Ok(())
}

/// Whether what a step works on is a bridge of ours or a port's end on the host.
fn is_a_link_of_ours(step: &Step) -> bool {
    match step {
        Step::PutSegment { segment, .. } => segment.uplink.is_none() && !segment.borrowed,
        Step::CreatePort { port, .. } | Step::ConfigurePort { port, .. } | Step::AttachPort { port, .. } => {
            port.parent.is_none()
        }
        _ => false,
    }
}

/// Whether a step has left its link as it means to.
fn is_as_meant(driver: &LinuxDriver, step: &Step, seen: &Seen) -> bool {
    match step {
        Step::PutSegment { segment, .. } => {
            let state = observe::state(&seen.link, &seen.addresses, seen.routes.as_ref(), driver.forward);
            SeenSegment { tag: segment.tag(), state: Some(state) }.is(segment)
        }
        Step::CreatePort { port, bridge }
        | Step::ConfigurePort { port, bridge }
        | Step::AttachPort { port, bridge } => {
            let master = link::get(&mut *driver.route.lock(), bridge).ok().flatten();
            let hairpin = host::bridged_packets_are_filtered() || master.as_ref().is_some_and(|m| m.filtered);
            let inside = master.is_some_and(|m| seen.link.master == Some(m.index));
            mark::as_port(&seen.link, hairpin).is_none_or(|mut found| {
                if let Some(end) = &mut found.state {
                    end.bridge = inside.then(|| bridge.clone());
                }
                found.is_attached(port, bridge)
            })
        }
        _ => true,
    }
}

/// The part of a step that is at the host's side.
fn again(driver: &LinuxDriver, step: &Step) -> Result<(), LinuxError> {
    match step {
        Step::PutSegment { segment, .. } => links::put_segment(&mut driver.route.lock(), segment),
        Step::CreatePort { port, bridge }
        | Step::ConfigurePort { port, bridge }
        | Step::AttachPort { port, bridge } => links::attach_port(driver, port, bridge),
        _ => Ok(()),
    }
}
