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
            a.iter().filter(|(k, v)| b.get(k) != Some(v)).map(|(k, v)| (k.clone(), v.clone())).collect()
        }
        Self {
            endpoints: rest(&self.endpoints, &other.endpoints),
            ranges: self.ranges.difference(&other.ranges).copied().collect(),
            verdicts: rest(&self.verdicts, &other.verdicts),
        }
    }

    fn remove(&mut self, gone: &Self) {
        self.endpoints.retain(|key, _| !gone.endpoints.contains_key(key));
        self.ranges.retain(|range| !gone.ranges.contains(range));
        self.verdicts.retain(|key, _| !gone.verdicts.contains_key(key));
    }

    fn add(&mut self, new: &Self) {
        self.endpoints.extend(&new.endpoints);
        self.ranges.extend(&new.ranges);
        self.verdicts.extend(&new.verdicts);
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
        let (link, on) = (&segment.link, desired.guarded.contains(&segment.link));
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
        desired.policy = PolicyTable::default();
        assert_eq!(follow(&desired), [Step::ClearPolicy]);
    }
}
