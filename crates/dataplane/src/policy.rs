//! Policy between endpoints, as what a driver looks up: which class an address is of, and what becomes of a connection
//! between two classes.
//!
//! A connection is looked up by who began it, whom it reaches (after translation) and the port reached there, and the first
//! of these that is found decides, so that a table of 10,000 costs what one of ten does:
//!
//! ```text
//!   from . to . protocol . port       from . to . protocol . range       from . to . protocol       from . to
//! ```
//!
//! The host itself is a class of its own ([`HOST`]), of which connections from and to this machine are; they come by other
//! hooks than those that it forwards, and none of them is closed.
//!
//! What no lookup decides passes, unless one of the two classes is closed. Whoever compiles the value has seen to it that
//! the more specific entry is right where a wider one says otherwise. Passing here opens nothing that isolation closes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use serde::{Deserialize, Serialize};
use weft_model::{PortRange, Protocol};

use crate::{Desired, Observed, Step};

/// What is not an endpoint of ours.
pub const OUTSIDE: u32 = 0;
/// The host itself: its own connections, not those it forwards.
pub const HOST: u32 = CLOSED - 1;
/// Set in classes whose connections need to be allowed.
pub const CLOSED: u32 = 1 << 31;

/// Which connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Flow {
    /// Class of who begins.
    pub from: u32,
    /// Class of who is reached.
    pub to: u32,
    /// IP protocol number, 0 for all.
    pub protocol: u8,
    /// Ports reached; more than one only as one of [`PolicyTable::ranges`], and `None` for all.
    pub ports: Option<PortRange>,
}

/// All policy of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyTable {
    /// The class of each endpoint's address.
    pub endpoints: BTreeMap<IpAddr, u32>,
    /// Ranges of ports that flows name; those of one protocol do not overlap.
    pub ranges: BTreeSet<(Protocol, PortRange)>,
    /// Whether a flow passes.
    pub verdicts: BTreeMap<Flow, bool>,
    /// Links of closed segments: what is dropped because nothing allows it is counted for each.
    pub closed: BTreeSet<String>,
    /// Flows from or to [`HOST`] are among them; without, the machine's own traffic is not looked at.
    pub host: bool,
}

/// Packets and bytes.
pub type Count = (u64, u64);

/// What policy has decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyCounters {
    /// By flow, since its entry is there.
    pub flows: BTreeMap<Flow, Count>,
    /// What was dropped on closed segments because nothing allows it, by link.
    pub closed: BTreeMap<String, Count>,
}

impl PolicyTable {
    /// Nothing to look up.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What this has and `other` does not have just so.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        fn rest<K: Ord + Clone, V: PartialEq + Clone>(
            a: &BTreeMap<K, V>,
            b: &BTreeMap<K, V>,
        ) -> BTreeMap<K, V> {
            // Side by side, as both are in order and most of it is the same.
            let mut others = b.iter().peekable();
            let missing = |(k, v): &(&K, &V)| {
                while others.next_if(|(other, _)| other < k).is_some() {}
                others.next_if(|(other, _)| other == k).is_none_or(|(_, other)| other != *v)
            };
            a.iter().filter(missing).map(|(k, v)| (k.clone(), v.clone())).collect()
        }
        Self {
            endpoints: rest(&self.endpoints, &other.endpoints),
            ranges: self.ranges.difference(&other.ranges).copied().collect(),
            verdicts: rest(&self.verdicts, &other.verdicts),
            closed: self.closed.difference(&other.closed).cloned().collect(),
            host: self.host && !other.host,
        }
    }

    fn remove(&mut self, gone: &Self) {
        // One by one: little goes from much.
        for key in gone.endpoints.keys() {
            self.endpoints.remove(key);
        }
        for range in &gone.ranges {
            self.ranges.remove(range);
        }
        for key in gone.verdicts.keys() {
            self.verdicts.remove(key);
        }
        for link in &gone.closed {
            self.closed.remove(link);
        }
        self.host &= !gone.host;
    }

    /// Takes in what another has; of two verdicts of a flow, the other's.
    pub fn add(&mut self, new: &Self) {
        self.endpoints.extend(&new.endpoints);
        self.ranges.extend(&new.ranges);
        self.verdicts.extend(&new.verdicts);
        self.closed.extend(new.closed.iter().cloned());
        self.host |= new.host;
    }
}

/// Policy stands before a new port can use it: this goes before ports that come.
pub(crate) fn plan(desired: &Desired, observed: &Observed, steps: &mut Vec<Step>) {
    match &observed.policy {
        Some(_) if desired.policy.is_empty() => steps.push(Step::ClearPolicy),
        Some(seen) if *seen == desired.policy => {}
        // Rules without entries are rules that somebody meddled with.
        Some(seen) if seen.is_empty() => steps.push(Step::ReplacePolicy { table: desired.policy.clone() }),
        Some(seen) => {
            let (remove, add) = (seen.without(&desired.policy), desired.policy.without(seen));
            steps.push(Step::ChangePolicy { remove, add });
        }
        None if desired.policy.is_empty() => {}
        None => steps.push(Step::ReplacePolicy { table: desired.policy.clone() }),
    }
    for segment in desired.segments.values().filter(|s| !s.borrowed) {
        let link = &segment.link;
        // Without `inter_container` its own traffic passes no rule, or nothing but what is translated.
        let closed = !segment.inter_container && observed.can_guard;
        let on = closed || desired.guarded.contains(link);
        if observed.guarded.contains(link) != on {
            steps.push(Step::GuardSegment { link: link.clone(), on });
        }
    }
}

pub(crate) fn note(observed: &mut Observed, step: &Step) {
    match step {
        Step::ReplacePolicy { table } => observed.policy = Some(table.clone()),
        Step::ClearPolicy => observed.policy = None,
        Step::ChangePolicy { remove, add } => {
            let policy = observed.policy.get_or_insert_default();
            policy.remove(remove);
            policy.add(add);
        }
        Step::GuardSegment { link, on: true } => drop(observed.guarded.insert(link.clone())),
        Step::GuardSegment { link, on: false } => drop(observed.guarded.remove(link)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan as whole;

    fn table(verdicts: &[(u32, bool)]) -> PolicyTable {
        let flow = |to| Flow { from: 1, to, protocol: 6, ports: Some(PortRange { start: 80, end: 80 }) };
        PolicyTable {
            endpoints: [("10.0.0.2".parse().unwrap(), 1)].into(),
            ranges: BTreeSet::new(),
            verdicts: verdicts.iter().map(|(to, pass)| (flow(*to), *pass)).collect(),
            ..PolicyTable::default()
        }
    }

    #[test]
    fn one_policy_more_is_one_element_more() {
        let mut desired = Desired { policy: table(&[(2, true), (3, false)]), ..Desired::default() };
        let mut seen = Observed::default();
        let mut follow = |desired: &Desired| {
            let steps = whole(desired, &seen, "r");
            steps.iter().for_each(|step| seen.note(step));
            assert_eq!(whole(desired, &seen, "r"), []);
            steps
        };
        assert!(matches!(&follow(&desired)[..], [Step::ReplacePolicy { .. }]));
        desired.policy = table(&[(2, true), (3, true), (4, false)]);
        let steps = follow(&desired);
        let [Step::ChangePolicy { remove, add }] = &steps[..] else { panic!("{steps:?}") };
        assert_eq!((remove.verdicts.len(), add.verdicts.len(), add.endpoints.len()), (1, 2, 0));
        (desired.policy.host, desired.policy.closed) = (true, ["wfb1".to_owned()].into());
        let steps = follow(&desired);
        let [Step::ChangePolicy { remove, add }] = &steps[..] else { panic!("{steps:?}") };
        assert!(remove.is_empty() && add.host && add.closed.len() == 1 && add.verdicts.is_empty(), "{add:?}");
        desired.policy.host = false;
        let steps = follow(&desired);
        let [Step::ChangePolicy { remove, add }] = &steps[..] else { panic!("{steps:?}") };
        assert!(remove.host && remove.closed.is_empty() && add.is_empty(), "{remove:?}");
        desired.policy = PolicyTable::default();
        assert_eq!(follow(&desired), [Step::ClearPolicy]);
    }

    #[test]
    fn a_segment_that_keeps_its_ports_apart_is_guarded_where_that_can_be() {
        let id = weft_model::NetworkId::from_bytes([1; 32]);
        let mut segment = crate::state::tests::segment();
        segment.inter_container = false;
        let mut desired = Desired { segments: [(id, segment)].into(), ..Desired::default() };
        let guards = |desired: &Desired, can_guard| {
            let seen = Observed { can_guard, ..Observed::default() };
            let steps = whole(desired, &seen, "r");
            let at = steps.iter().position(|step| matches!(step, Step::GuardSegment { on: true, .. }));
            let rules = steps.iter().position(|step| matches!(step, Step::ReplaceRules { .. }));
            assert!(at.is_none_or(|at| rules.is_some_and(|rules| rules < at)), "the rules stand first");
            at.is_some()
        };
        assert!(guards(&desired, true));
        assert!(!guards(&desired, false), "its bridge does it");
        for segment in desired.segments.values_mut() {
            segment.borrowed = true;
        }
        assert!(!guards(&desired, true), "the bridge is somebody else's");
    }
}
