//! From what must be and what is to what to do. Pure: no clock, no kernel, no hint of what changed.
//!
//! Order: ways in that end go first (a dead container's address may be another's next), then ports, segments and
//! sandboxes that end; then what comes, from the ground up: sandboxes, segments, rules, ports, ways in. Rules
//! stand before the first packet of a new port can flow.

use std::collections::BTreeSet;

use crate::{Desired, Observed, OpenSet, PublishMap, Sandbox, Step, Users};

/// The steps from `observed` to `desired`. `rules` is the digest the driver gives to the desired rules; with no
/// segment there are none.
#[must_use]
pub fn plan(desired: &Desired, observed: &Observed, rules: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let (publishes, open) = (desired.publish_map(), desired.open_set());
    let same_rules = observed.rules.as_deref() == Some(rules) && !desired.segments.is_empty();
    if same_rules {
        let remove = difference(&observed.publishes, &publishes);
        if !remove.is_empty() {
            steps.push(Step::ChangePublishes { remove, add: PublishMap::new() });
        }
        let remove: OpenSet = &observed.open - &open;
        if !remove.is_empty() {
            steps.push(Step::ChangeOpen { remove, add: OpenSet::new() });
        }
    }
    removals(desired, observed, &mut steps);
    // Those that belong to another's user namespace come after it.
    let later = |sandbox: &Sandbox| matches!(sandbox.users, Some(Users::Of(_)));
    for now in [false, true] {
        let missing =
            desired.sandboxes.iter().filter(|(id, s)| later(s) == now && !observed.holds(desired, id));
        steps.extend(missing.map(|(id, s)| Step::CreateSandbox { id: *id, sandbox: s.clone() }));
    }
    for (id, segment) in &desired.segments {
        if observed.segments.get(&segment.link).is_none_or(|seen| !seen.is(segment)) {
            steps.push(Step::PutSegment { id: *id, segment: segment.clone() });
        }
    }
    if desired.segments.is_empty() {
        if observed.rules.is_some() {
            steps.push(Step::ClearRules);
        }
    } else if !same_rules {
        let segments = desired.segments.clone();
        let (publishes, open) = (publishes.clone(), open.clone());
        let (policy, digest) = (desired.publish_policy, rules.to_owned());
        steps.push(Step::ReplaceRules { segments, publishes, open, policy, digest });
    }
    crate::policy::plan(desired, observed, &mut steps);
    crate::limits::queues(&desired.limits, &observed.limits, &mut steps);
    ports(desired, observed, &mut steps);
    crate::limits::ports(desired, observed, &mut steps);
    crate::loopback::plan(desired, observed, &mut steps);
    if same_rules {
        let add = difference(&publishes, &observed.publishes);
        if !add.is_empty() {
            steps.push(Step::ChangePublishes { remove: PublishMap::new(), add });
        }
        let add: OpenSet = &open - &observed.open;
        if !add.is_empty() {
            steps.push(Step::ChangeOpen { remove: OpenSet::new(), add });
        }
    }
    steps
}

/// Entries of `left` that `right` does not have just so.
fn difference(left: &PublishMap, right: &PublishMap) -> PublishMap {
    left.iter().filter(|(key, target)| right.get(key) != Some(*target)).map(|(k, t)| (*k, *t)).collect()
}

fn removals(desired: &Desired, observed: &Observed, steps: &mut Vec<Step>) {
    let wanted: std::collections::BTreeMap<_, _> =
        desired.ports.values().map(|p| (p.link.as_str(), p)).collect();
    for (link, seen) in &observed.ports {
        // A port whose sandbox must be made anew is inside a namespace that lost its name, or is about to.
        let stays = wanted
            .get(link.as_str())
            .is_some_and(|p| p.identity() == seen.identity && observed.holds(desired, &p.sandbox));
        if !stays {
            steps.push(Step::DeletePort { link: link.clone() });
        }
    }
    for id in observed.sandboxes.keys() {
        if !observed.holds(desired, id) {
            steps.push(Step::DeleteSandbox { id: *id });
        }
    }
    for name in &observed.broken_sandboxes {
        steps.push(Step::DeleteBrokenSandbox { name: name.clone() });
    }
    let links: BTreeSet<&str> = desired.segments.values().map(|s| s.link.as_str()).collect();
    for link in observed.segments.keys() {
        if !links.contains(link.as_str()) {
            steps.push(Step::DeleteSegment { link: link.clone() });
        }
    }
}

fn ports(desired: &Desired, observed: &Observed, steps: &mut Vec<Step>) {
    for port in desired.ports.values() {
        let Some(segment) = desired.segments.get(&port.segment) else { continue };
        let bridge = segment.link.clone();
        let seen = observed
            .ports
            .get(&port.link)
            .filter(|seen| seen.identity == port.identity() && observed.holds(desired, &port.sandbox));
        match seen {
            None => steps.push(Step::CreatePort { port: port.clone(), bridge }),
            Some(seen) if seen.tag != port.tag() => {
                steps.push(Step::ConfigurePort { port: port.clone(), bridge })
            }
            Some(seen) if !seen.is_attached(port, &bridge) => {
                steps.push(Step::AttachPort { port: port.clone(), bridge })
            }
            Some(_) => {}
        }
    }
}
