//! What there is: one dump of links, one of rules, one for each set, one directory.

use std::collections::BTreeMap;

use weft_dataplane::{Observed, PublishMap, SeenSegment};
use weft_sys::{
    netlink::{
        Socket,
        link::{self, Kind},
    },
    netns,
    nft::{self, Batch},
};

use crate::{LinuxError, TABLE, driver::LinuxDriver, host, mark, publish, rules};

pub(crate) fn observe(driver: &LinuxDriver) -> Result<Observed, LinuxError> {
    let mut observed = Observed::default();
    for found in netns::list(&driver.directory)? {
        match (found.name.parse(), found.alive) {
            (Ok(id), true) => {
                observed.sandboxes.insert(id);
            }
            (Ok(_), false) => {
                observed.broken_sandboxes.insert(found.name);
            }
            (Err(_), _) => {}
        }
    }
    let hairpin = host::bridged_packets_are_filtered();
    let borrowed = driver.borrowed.lock().clone();
    let buried = driver.reaper.names();
    for link in link::list(&mut *driver.route.lock())? {
        if buried.contains(&link.name) {
            continue;
        }
        if let (Some(tag), Kind::Bridge) = (borrowed.get(&link.name), &link.kind) {
            observed.segments.insert(link.name, SeenSegment { tag: tag.clone() });
        } else if let Some(segment) = mark::as_segment(&link) {
            observed.segments.insert(link.name, segment);
        } else if let Some(port) = mark::as_port(&link, hairpin) {
            observed.ports.insert(link.name, port);
        }
    }
    let mut netfilter = driver.netfilter.lock();
    if let Some(digest) = rules_digest(&mut netfilter)? {
        observed.publishes = publishes(&mut netfilter)?;
        observed.rules = Some(digest);
    }
    Ok(observed)
}

/// Digest of the table; `None` when there is none.
fn rules_digest(socket: &mut Socket) -> Result<Option<String>, LinuxError> {
    let mut seen = nft::rules(socket, TABLE)?.unwrap_or_default();
    seen.retain(|rule| !rules::is_users(&rule.chain));
    if seen.is_empty() {
        return Ok(None);
    }
    let mut elements = BTreeMap::new();
    for set in rules::STRUCTURAL {
        elements.insert(set.name, nft::elements(socket, TABLE, &set)?.unwrap_or_default());
    }
    let rules = seen.into_iter().map(|rule| (rule.chain, rule.tag)).collect();
    Ok(Some(rules::digest(rules, &elements)))
}

/// The published ports in the kernel.
pub(crate) fn publishes(socket: &mut Socket) -> Result<PublishMap, LinuxError> {
    let mut all = PublishMap::new();
    for (place, set) in publish::SETS.iter().enumerate() {
        let elements = nft::elements(socket, TABLE, set)?.unwrap_or_default();
        all.extend(elements.iter().filter_map(|e| publish::decode(place, e)));
    }
    Ok(all)
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
