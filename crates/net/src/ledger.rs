//! What each policy has decided, over the comings and goings of the entries that count for it. Pure.
//!
//! A policy counts by entries of the kernel, one for each pair of classes. Classes are named by what chooses them, so a new
//! policy or the last container of a kind can end an entry whose policy stays. What such an entry has counted is credited to its
//! policy just before; what passes between that look and the change is lost. An entry that another policy comes to decide
//! goes on counting from where it is, for the other.
//!
//! Nothing of this is kept over a restart of the daemon; then the entries in the kernel are all that is known.

use std::collections::{BTreeMap, BTreeSet};

use weft_dataplane::{Count, Flow};
use weft_model::PolicyId;

use crate::policy::Decided;

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    decided: Decided,
    /// What an entry had counted when its policy came to decide it.
    before: BTreeMap<Flow, Count>,
    /// What policies have counted by entries that are gone.
    credit: BTreeMap<PolicyId, Count>,
    /// The part of it that was dropped, by the links it concerned.
    dropped: BTreeMap<(String, PolicyId), Count>,
}

fn add(sum: &mut Count, (packets, bytes): Count) {
    *sum = (sum.0.saturating_add(packets), sum.1.saturating_add(bytes));
}

impl Ledger {
    /// Whether something will have to be credited: an entry ends, or another policy decides it, and its policy stays.
    pub(crate) fn loses(&self, next: &Decided, alive: &BTreeSet<PolicyId>) -> bool {
        self.lost(next).any(|(_, policy)| alive.contains(&policy))
    }

    fn lost<'a>(&'a self, next: &'a Decided) -> impl Iterator<Item = (Flow, PolicyId)> + 'a {
        // Side by side, as both are in order.
        let mut others = next.owners.iter().peekable();
        let goes = move |(flow, by): &(&Flow, &(PolicyId, bool))| {
            while others.next_if(|(other, _)| other < flow).is_some() {}
            others.next_if(|(other, _)| other == flow).is_none_or(|(_, other)| other != *by)
        };
        self.decided.owners.iter().filter(goes).map(|(flow, by)| (*flow, by.0))
    }

    /// Goes on with what is decided from now on; `seen`: what the entries have counted.
    pub(crate) fn turn(&mut self, next: Decided, alive: &BTreeSet<PolicyId>, seen: &BTreeMap<Flow, Count>) {
        let lost: Vec<Flow> = self.lost(&next).map(|(flow, _)| flow).collect();
        for flow in lost {
            let Some((policy, passes)) = self.decided.owners.get(&flow).copied() else { continue };
            let count = self.since(&flow, seen);
            add(self.credit.entry(policy).or_default(), count);
            if !passes {
                for link in self.links(&flow) {
                    add(self.dropped.entry((link, policy)).or_default(), count);
                }
            }
            // With another verdict it is another entry.
            let same = next.owners.get(&flow).is_some_and(|by| by.1 == passes);
            match seen.get(&flow).filter(|_| same) {
                Some(count) => self.before.insert(flow, *count),
                None => self.before.remove(&flow),
            };
        }
        self.decided = next;
        self.credit.retain(|policy, _| alive.contains(policy));
        self.dropped.retain(|(_, policy), _| alive.contains(policy));
    }

    /// What an entry has counted for the policy that decides it. Where it counts less than it did before, it was made anew.
    fn since(&self, flow: &Flow, seen: &BTreeMap<Flow, Count>) -> Count {
        let (packets, bytes) = seen.get(flow).copied().unwrap_or_default();
        match self.before.get(flow) {
            Some((p, b)) if *p <= packets && *b <= bytes => (packets - p, bytes - b),
            _ => (packets, bytes),
        }
    }

    fn links(&self, flow: &Flow) -> BTreeSet<String> {
        let of = |class| self.decided.links.get(&class).into_iter().flatten().cloned();
        of(flow.from).chain(of(flow.to)).collect()
    }

    /// Which policy decides which flow.
    pub(crate) fn deciding(&self) -> BTreeMap<Flow, PolicyId> {
        self.decided.owners.iter().map(|(flow, by)| (*flow, by.0)).collect()
    }

    /// Packets and bytes that each policy has decided.
    pub(crate) fn counts(&self, seen: &BTreeMap<Flow, Count>) -> BTreeMap<PolicyId, Count> {
        let mut sums = self.credit.clone();
        for (flow, (policy, _)) in &self.decided.owners {
            add(sums.entry(*policy).or_default(), self.since(flow, seen));
        }
        sums
    }

    /// What policies have dropped, by the links it concerned: those of who began and of who was to be reached.
    pub(crate) fn drops(&self, seen: &BTreeMap<Flow, Count>) -> BTreeMap<(String, PolicyId), Count> {
        let mut sums = self.dropped.clone();
        for (flow, (policy, _)) in self.decided.owners.iter().filter(|(_, by)| !by.1) {
            let count = self.since(flow, seen);
            for link in self.links(flow) {
                add(sums.entry((link, *policy)).or_default(), count);
            }
        }
        sums.retain(|_, count| count.0 > 0);
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(to: u32) -> Flow {
        Flow { from: 0, to, protocol: 6, ports: None }
    }

    fn decided(owners: &[(u32, PolicyId, bool)]) -> Decided {
        Decided {
            owners: owners.iter().map(|(to, id, passes)| (flow(*to), (*id, *passes))).collect(),
            links: [(1, ["wfb1".to_owned()].into()), (2, ["wfb2".to_owned()].into())].into(),
        }
    }

    fn seen(counts: &[(u32, u64)]) -> BTreeMap<Flow, Count> {
        counts.iter().map(|(to, packets)| (flow(*to), (*packets, packets * 100))).collect()
    }

    #[test]
    fn a_policy_keeps_what_it_counted_when_its_entry_gets_another_name() {
        let (a, mut ledger) = (PolicyId::new(), Ledger::default());
        let alive = BTreeSet::from([a]);
        ledger.turn(decided(&[(1, a, false)]), &alive, &seen(&[]));
        let next = decided(&[(2, a, false)]);
        assert!(ledger.loses(&next, &alive));
        assert!(!ledger.loses(&next, &BTreeSet::new()), "a policy that is removed needs no counters");
        ledger.turn(next.clone(), &alive, &seen(&[(1, 5)]));
        assert!(!ledger.loses(&next, &alive));
        let now = seen(&[(2, 2)]);
        assert_eq!(ledger.counts(&now), [(a, (7, 700))].into());
        let links = |link: &str, packets: u64| ((link.to_owned(), a), (packets, packets * 100));
        assert_eq!(ledger.drops(&now), [links("wfb1", 5), links("wfb2", 2)].into());
        ledger.turn(decided(&[]), &alive, &now);
        assert_eq!(ledger.counts(&seen(&[])), [(a, (7, 700))].into(), "nobody it speaks of is there");
        ledger.turn(decided(&[]), &BTreeSet::new(), &seen(&[]));
        assert!(ledger.counts(&seen(&[])).is_empty() && ledger.drops(&seen(&[])).is_empty(), "removed");
    }

    #[test]
    fn an_entry_that_changes_hands_counts_for_each_its_own() {
        let (a, b, mut ledger) = (PolicyId::new(), PolicyId::new(), Ledger::default());
        let alive = BTreeSet::from([a, b]);
        ledger.turn(decided(&[(1, a, false)]), &alive, &seen(&[]));
        ledger.turn(decided(&[(1, b, false)]), &alive, &seen(&[(1, 5)]));
        assert_eq!(ledger.counts(&seen(&[(1, 8)])), [(a, (5, 500)), (b, (3, 300))].into());
        // With another verdict the entry begins anew.
        ledger.turn(decided(&[(1, b, true)]), &alive, &seen(&[(1, 8)]));
        assert_eq!(ledger.counts(&seen(&[(1, 9)])), [(a, (5, 500)), (b, (12, 1200))].into());
    }

    #[test]
    fn a_table_that_others_replaced_counts_from_zero() {
        let (a, b, mut ledger) = (PolicyId::new(), PolicyId::new(), Ledger::default());
        let alive = BTreeSet::from([b]);
        ledger.turn(decided(&[(1, a, false)]), &alive, &seen(&[]));
        ledger.turn(decided(&[(1, b, false)]), &alive, &seen(&[(1, 5)]));
        assert_eq!(ledger.counts(&seen(&[(1, 2)])), [(b, (2, 200))].into());
    }
}
