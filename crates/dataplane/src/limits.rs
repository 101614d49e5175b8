//! Bandwidth limits, keyed by kernel link: what each port's link does, and the queues that ports share.
//!
//! ```text
//!  sandbox ── port ──(via `out`)──▶ queue wfe… ──▶ segment      what containers send
//!  sandbox ◀─ port ◀─(`ingress`)◀─(via `into`) queue wfi… ◀──   what they receive
//! ```
//!
//! A queue belongs to one direction of one segment. All that is sent through it together keeps to `total`; of that, what
//! has a member's Ethernet address as its source keeps to the member's own rate. A port's own `ingress` stands on the port itself,
//! behind the queue, so that both hold. Rates are bytes a second: what kernels count in.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weft_model::MacAddr;

use crate::{Desired, Observed, Step};

/// A queue that ports share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Bytes a second of all together; `None` where only members have limits.
    pub total: Option<u64>,
    /// Bytes a second of single ports, by their Ethernet address.
    #[serde(default)]
    pub members: BTreeMap<MacAddr, u64>,
}

impl Queue {
    /// The rate of what has no member's address: the total, else (only a forged address comes here) the slowest member's.
    #[must_use]
    pub fn rest(&self) -> u64 {
        self.total.or_else(|| self.members.values().min().copied()).unwrap_or(u64::MAX)
    }
}

/// What a port's link does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortLimit {
    /// Bytes a second that the sandbox receives by it.
    pub ingress: Option<u64>,
    /// The queue that what goes into the sandbox passes first.
    pub into: Option<String>,
    /// The queue that what comes out of the sandbox passes first.
    pub out: Option<String>,
}

/// All limits of a host, by link name. Links without any are not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Queues.
    #[serde(default)]
    pub queues: BTreeMap<String, Queue>,
    /// Ports.
    #[serde(default)]
    pub ports: BTreeMap<String, PortLimit>,
}

impl Limits {
    pub(crate) fn note(&mut self, step: &Step) {
        match step {
            Step::PutQueue { link, queue } => {
                self.queues.insert(link.clone(), queue.clone());
            }
            Step::DeleteQueue { link } => {
                self.queues.remove(link);
            }
            Step::LimitPort { link, limit } if *limit == PortLimit::default() => {
                self.ports.remove(link);
            }
            Step::LimitPort { link, limit } => {
                self.ports.insert(link.clone(), limit.clone());
            }
            _ => {}
        }
    }
}

/// Queues that come or change: before the ports that use them.
pub(crate) fn queues(desired: &Limits, observed: &Limits, steps: &mut Vec<Step>) {
    for (link, queue) in &desired.queues {
        if observed.queues.get(link) != Some(queue) {
            steps.push(Step::PutQueue { link: link.clone(), queue: queue.clone() });
        }
    }
}

/// Ports' limits, once the ports are there; then the queues that nothing uses any more.
pub(crate) fn ports(desired: &Desired, observed: &Observed, steps: &mut Vec<Step>) {
    for port in desired.ports.values() {
        let link = &port.link;
        // A port that is made anew has no limits, whatever its predecessor of that name had.
        let made =
            steps.iter().any(|step| matches!(step, Step::CreatePort { port, .. } if port.link == *link));
        let seen = observed.limits.ports.get(link).filter(|_| !made);
        let wanted = desired.limits.ports.get(link);
        if seen != wanted {
            let limit = wanted.cloned().unwrap_or_default();
            steps.push(Step::LimitPort { link: link.clone(), limit });
        }
    }
    for link in observed.limits.queues.keys() {
        if !desired.limits.queues.contains_key(link) {
            steps.push(Step::DeleteQueue { link: link.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Port, Sandbox, Segment, plan};
    use weft_model::{ContainerId, NetworkId, PortId};

    fn one_port() -> Desired {
        let (segment, sandbox) = (NetworkId::from_bytes([1; 32]), ContainerId::from_bytes([1; 32]));
        let mut desired = Desired::default();
        desired.sandboxes.insert(sandbox, Sandbox::default());
        let link = "wfb010101010101".to_owned();
        let json = serde_json::json!({
            "link": link, "mac": "02:00:00:00:00:01", "addresses": [], "mtu": 1500, "internal": false,
            "inter_container": true, "masquerade": true,
        });
        desired.segments.insert(segment, serde_json::from_value::<Segment>(json).unwrap());
        let json = serde_json::json!({
            "link": "wfp1", "segment": segment, "sandbox": sandbox, "ifname": "eth0", "mac": "02:00:00:00:00:02",
            "addresses": [], "mtu": 1500,
        });
        let port = serde_json::from_value::<Port>(json).unwrap();
        desired.ports.insert(PortId::from_bytes([1; 32]), port);
        desired
    }

    fn limited(mut desired: Desired, rate: u64) -> Desired {
        let queue = Queue { total: Some(rate), ..Queue::default() };
        desired.limits.queues.insert("wfe1".into(), queue);
        let limit = PortLimit { ingress: Some(rate), out: Some("wfe1".into()), into: None };
        desired.limits.ports.insert("wfp1".into(), limit);
        desired
    }

    /// Plans, notes, and checks that planning again gives nothing.
    fn follow(desired: &Desired, seen: &mut Observed) -> Vec<String> {
        let steps = plan(desired, seen, "r");
        steps.iter().for_each(|step| seen.note(step));
        assert_eq!(plan(desired, seen, "r"), []);
        let about = |s: &&Step| {
            matches!(
                s,
                Step::PutQueue { .. }
                    | Step::DeleteQueue { .. }
                    | Step::LimitPort { .. }
                    | Step::CreatePort { .. }
            )
        };
        steps.iter().filter(about).map(ToString::to_string).collect()
    }

    #[test]
    fn limits_come_change_and_go_in_place() {
        let mut seen = Observed::default();
        let steps = follow(&limited(one_port(), 1000), &mut seen);
        assert_eq!(steps, ["put queue wfe1", "create port wfp1 on wfb010101010101", "limit port wfp1"]);
        assert_eq!(follow(&limited(one_port(), 2000), &mut seen), ["put queue wfe1", "limit port wfp1"]);
        assert_eq!(follow(&one_port(), &mut seen), ["limit port wfp1", "delete queue wfe1"]);
    }

    #[test]
    fn a_port_made_anew_is_limited_anew() {
        let mut seen = Observed::default();
        follow(&limited(one_port(), 1000), &mut seen);
        let mut other = limited(one_port(), 1000);
        other.ports.values_mut().for_each(|p| p.mac = MacAddr([2, 0, 0, 0, 0, 9]));
        assert_eq!(follow(&other, &mut seen), ["create port wfp1 on wfb010101010101", "limit port wfp1"]);
    }

    #[test]
    fn forged_addresses_win_nothing() {
        let member = |n: u8| MacAddr([2, 0, 0, 0, 0, n]);
        let queue = |total| Queue { total, members: [(member(1), 500), (member(2), 300)].into() };
        assert_eq!(queue(Some(1000)).rest(), 1000);
        assert_eq!(queue(None).rest(), 300);
    }
}
