//! Links that segments without a bridge hang on, as they were when last looked at: parents, which are others' and bear no
//! mark, and what of ours stands between ([`crate::uplink`]). A parent that comes back, or a shim that is gone, is news.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use parking_lot::Mutex;
use weft_dataplane::{Origin, Segment};
use weft_sys::netlink::{
    NetlinkError, Socket,
    link::{self, Link},
    watch::Names,
};

/// What of a link matters: which one it is, and of ours whether it is up and what it hangs on.
type State = Option<(u32, Option<(bool, Option<u32>)>)>;

fn state(found: Option<&Link>) -> State {
    let ours = |l: &Link| l.name.starts_with("wf").then_some((l.up, l.lower));
    found.map(|l| (l.index, ours(l)))
}

/// All of them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Below(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// By segment.
    names: BTreeMap<String, BTreeSet<String>>,
    states: BTreeMap<String, State>,
    filter: Option<Names>,
}

impl Known {
    fn listen(&mut self) {
        let all: BTreeSet<String> = self.names.values().flatten().cloned().collect();
        self.states.retain(|name, _| all.contains(name));
        if let Some(Err(error)) = self.filter.as_ref().map(|filter| filter.listen(&all)) {
            tracing::warn!(%error, "changes of parents by others are only found by the timer");
        }
    }
}

impl Below {
    /// Listens by this from now on.
    pub(crate) fn by(&self, filter: Names) {
        let mut known = self.0.lock();
        known.filter = Some(filter);
        known.listen();
    }

    /// A segment is wanted, whether or not it can be made now.
    pub(crate) fn hang(&self, segment: &Segment) {
        let Some(uplink) = &segment.uplink else { return };
        let mut names = BTreeSet::from([uplink.parent.link.clone()]);
        if let Origin::Vlan { of, .. } = &uplink.origin {
            names.insert(of.clone());
        }
        if !uplink.shim.is_empty() {
            names.insert(segment.link.clone());
        }
        let mut known = self.0.lock();
        if known.names.insert(segment.link.clone(), names.clone()) != Some(names) {
            known.listen();
        }
    }

    /// It is not wanted any more.
    pub(crate) fn unhang(&self, segment: &str) {
        let mut known = self.0.lock();
        if known.names.remove(segment).is_some() {
            known.listen();
        }
    }

    /// All links were looked at.
    pub(crate) fn seen(&self, links: &[Link]) {
        let mut known = self.0.lock();
        let names: BTreeSet<String> = known.names.values().flatten().cloned().collect();
        known.states = names
            .into_iter()
            .map(|name| (links.iter().find(|l| l.name == name), name))
            .map(|(found, name)| (name, state(found)))
            .collect();
    }

    /// Looks at all links, if any matter.
    pub(crate) fn look(&self, socket: &mut Socket) -> Result<(), NetlinkError> {
        if !self.0.lock().names.is_empty() {
            self.seen(&link::list(socket)?);
        }
        Ok(())
    }

    /// Whether a link of that name is not as it was.
    pub(crate) fn differs(&self, socket: &mut Socket, name: &str) -> bool {
        let Some(was) = self.0.lock().states.get(name).copied() else { return false };
        state(link::get(socket, name).unwrap_or_default().as_ref()) != was
    }
}
