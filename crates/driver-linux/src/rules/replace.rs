//! How a table's rules are put in the place of those that it holds: what is the same stays where it is.

use std::collections::{BTreeMap, BTreeSet};

use weft_dataplane::{OpenSet, PublishMap};
use weft_sys::{
    netlink::Socket,
    nft::{self, Batch, Element, Names, Shape},
};

use super::{Ruleset, USER, ours};
use crate::{LinuxError, TABLE, direct, publish};

/// Elements of sets, by name.
pub(crate) type Elements = BTreeMap<&'static str, BTreeSet<Element>>;

/// What the table holds before it is replaced.
#[derive(Debug, Default)]
pub(crate) struct Old {
    /// Chains and sets.
    pub(crate) present: Names,
    /// Rules of ours are there: packets did not pass by them so far.
    pub(crate) ruled: bool,
    /// Elements of our sets.
    pub(crate) elements: Elements,
    /// What cannot go, since something of the user's refers to it.
    pub(crate) referred: Vec<String>,
    /// Nothing stays that can be made anew: what is there is of another make.
    pub(crate) anew: bool,
}

impl Old {
    /// What there is of elements.
    pub(crate) fn read(&mut self, socket: &mut Socket, rules: &Ruleset) -> Result<(), LinuxError> {
        self.present = nft::names(socket, TABLE)?;
        let seen = nft::rules(socket, TABLE)?.unwrap_or_default();
        self.ruled = seen.iter().any(|rule| rule.chain == "postrouting");
        self.elements.clear();
        for set in rules.sets() {
            let elements = nft::elements(socket, TABLE, &set)?.unwrap_or_default();
            self.elements.insert(set.name, elements.into_iter().collect());
        }
        Ok(())
    }
}

impl Ruleset {
    /// The batch that puts this in place of whatever of ours the table holds; `old` is what it holds. What is the user's
    /// stays: the table itself is never deleted. `last_table`: of all tables, by which its chains are dated.
    ///
    /// Chains, sets and elements that are the same stay in place. The kernel changes the rules of a chain at one stroke, but
    /// a packet that is under way through the old rules when a set goes finds that set's elements gone: it would be taken
    /// for one that nobody published.
    pub(crate) fn replace(
        &self,
        publishes: &PublishMap,
        open: &OpenSet,
        old: &Old,
        last_table: u64,
    ) -> Batch {
        let mut batch = Batch::new(TABLE);
        batch.stamp(last_table);
        batch.add_table();
        let present = ours(&old.present);
        let stays = |name: &String| (!old.anew && self.has(name)) || old.referred.contains(name);
        let wanted = self.all_elements(publishes, open);
        let others = |name: &&String| old.referred.contains(*name) && !self.has(name);
        batch.flush_chains(present.chains.iter().filter(|name| !others(name)));
        let mut there = BTreeMap::new();
        let kept: Vec<&String> = present.sets.iter().filter(|name| stays(name)).collect();
        for set in self.sets().filter(|set| kept.iter().any(|name| *name == set.name)) {
            let (have, want) = (old.elements.get(set.name), wanted.get(set.name));
            let goes: Vec<Element> = have
                .into_iter()
                .flatten()
                .filter(|e| !want.is_some_and(|want| want.contains(e)))
                .cloned()
                .collect();
            // What packets put there is theirs.
            if !matches!(set.shape, Shape::Passing { .. }) {
                batch.delete_elements(&set, &goes);
            }
            there.insert(set.name, have);
        }
        let gone = |names: &[String]| names.iter().filter(|name| !stays(name)).cloned().collect();
        batch.delete(&Names { chains: gone(&present.chains), sets: gone(&present.sets) });
        for chain in USER {
            batch.add_chain(chain, None);
        }
        for (name, hook) in self.bases() {
            batch.add_chain(name, Some(hook));
        }
        for chain in &self.chains {
            batch.add_chain(chain, None);
        }
        for set in self.sets() {
            batch.add_set(&set);
            let have = there.get(set.name).copied().flatten();
            let comes = wanted
                .get(set.name)
                .into_iter()
                .flatten()
                .filter(|e| !have.is_some_and(|have| have.contains(*e)));
            batch.add_elements(&set, &comes.cloned().collect::<Vec<_>>());
        }
        for (chain, comment, exprs) in &self.rules {
            batch.add_rule(chain, comment, exprs);
        }
        batch
    }

    /// All elements that should be, by set.
    fn all_elements(&self, publishes: &PublishMap, open: &OpenSet) -> Elements {
        let mut all = Elements::new();
        let own = self.elements.iter().map(|(set, elements)| (*set, elements.clone()));
        let ports = publish::encode(publishes).into_iter().chain(direct::encode(open));
        for (set, elements) in own.chain(ports.map(|(set, elements)| (set.name, elements))) {
            all.entry(set).or_default().extend(elements);
        }
        all
    }
}
