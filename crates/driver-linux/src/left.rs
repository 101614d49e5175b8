//! How our links were when we last left them or looked at them. News of a link that is still so is news of our own doing, or
//! of nothing: only what differs is worth a look at the whole machine.
//!
//! ```text
//! a step on a link ─▶ forgotten ─▶ (news are ignored) ─▶ done ─▶ as the kernel has it now
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
use weft_dataplane::Step;
use weft_sys::netlink::{
    NetlinkError, Socket, address,
    link::{self, Kind, Link},
    onlink,
    watch::Event,
};

use crate::{LinuxError, driver::LinuxDriver, mark};

/// What belongs to a link beside itself.
pub(crate) type Nets = BTreeSet<(u32, IpNet)>;

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
pub(crate) struct Left(Arc<Mutex<BTreeMap<u32, One>>>);

/// All addresses there are, and all the routes that came with them (`None` where the kernel cannot pick them out).
pub(crate) fn nets(socket: &mut Socket) -> Result<(Nets, Option<Nets>), NetlinkError> {
    Ok((address::all(socket)?.into_iter().collect(), onlink::list(socket)?))
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
        self.0.lock().retain(|_, one| one.link.name != name);
    }

    /// A step is done with it.
    pub(crate) fn note(&self, socket: &mut Socket, name: &str) -> Result<(), NetlinkError> {
        let Some(found) = link::get(socket, name)?.filter(is_ours) else { return Ok(()) };
        let (addresses, routes) =
            if found.kind == Kind::Bridge { nets(socket)? } else { (Nets::new(), None) };
        self.put(&found, &addresses, routes.as_ref());
        Ok(())
    }

    /// All links were looked at.
    pub(crate) fn seen(&self, links: &[Link], addresses: &Nets, routes: Option<&Nets>) {
        let there: BTreeSet<u32> = links.iter().map(|link| link.index).collect();
        self.0.lock().retain(|index, _| there.contains(index));
        for link in links.iter().filter(|link| is_ours(link)) {
            self.put(link, addresses, routes);
        }
    }

    fn put(&self, link: &Link, addresses: &Nets, routes: Option<&Nets>) {
        let one = One {
            link: link.clone(),
            addresses: of(addresses, link.index),
            routes: routes.map(|routes| of(routes, link.index)).unwrap_or_default(),
        };
        self.0.lock().insert(link.index, one);
    }

    /// Whether a link is not as it was left. Where the kernel does not answer, it is not.
    pub(crate) fn differs(&self, socket: &mut Socket, event: &Event) -> bool {
        match event {
            Event::Address(index, net) => self.has(*index, |one| one.addresses.contains(net)),
            Event::Route(index, net) => self.has(*index, |one| one.routes.contains(net)),
            Event::Link { index, .. } => {
                let Some(name) = self.0.lock().get(index).map(|one| one.link.name.clone()) else {
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
        self.0.lock().get(&index).is_some_and(question)
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
            left.0.lock().clear();
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
    after.iter().for_each(|name| left.forget(name));
    work()?;
    after.map_or(Ok(()), |name| Ok(left.note(&mut driver.route.lock(), name)?))
}
