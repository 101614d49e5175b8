//! One change of a machine. Each is idempotent: run twice, or after having failed half-way, it ends the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use weft_model::{NetworkId, PublishPolicy};

use crate::{
    Loopbacks, OpenSet, PolicyTable, Port, PortLimit, PublishMap, Queue, Sandbox, SandboxId, Segment,
};

/// A change. A step carries all it needs; applying it looks nothing up in a desired value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make a network namespace.
    CreateSandbox {
        /// Whose.
        id: SandboxId,
        /// How.
        sandbox: Sandbox,
    },
    /// Take a network namespace's name away; it ends with its last process.
    DeleteSandbox {
        /// Whose.
        id: SandboxId,
    },
    /// Remove what is left of a namespace (a file without a namespace on it).
    DeleteBrokenSandbox {
        /// File name in the sandboxes' directory.
        name: String,
    },
    /// Make a segment or bring it to its configuration, ports untouched.
    PutSegment {
        /// Which.
        id: NetworkId,
        /// How.
        segment: Segment,
    },
    /// Remove a segment.
    DeleteSegment {
        /// Its link.
        link: String,
    },
    /// Make a port and configure it.
    CreatePort {
        /// How.
        port: Port,
        /// Its segment's link.
        bridge: String,
    },
    /// Bring a port to its configuration, connections through it untouched.
    ConfigurePort {
        /// How.
        port: Port,
        /// Its segment's link.
        bridge: String,
    },
    /// Put a port's end on the host back into its place; what is inside its sandbox is as it was.
    AttachPort {
        /// How.
        port: Port,
        /// Its segment's link.
        bridge: String,
    },
    /// Remove a port.
    DeletePort {
        /// Its link.
        link: String,
    },
    /// Put all rules in place of all rules, at once.
    ReplaceRules {
        /// What they are for.
        segments: BTreeMap<NetworkId, Segment>,
        /// Listening ports.
        publishes: PublishMap,
        /// Ports that are reached at their own addresses.
        open: OpenSet,
        /// Who from outside may use them.
        policy: PublishPolicy,
        /// What [`crate::Observed::rules`] says afterwards.
        digest: String,
    },
    /// Remove all rules.
    ClearRules,
    /// Put all policy in place of all policy, at once.
    ReplacePolicy {
        /// It.
        table: PolicyTable,
    },
    /// Remove all policy.
    ClearPolicy,
    /// Change policy, at once.
    ChangePolicy {
        /// This goes.
        remove: PolicyTable,
        /// This comes.
        add: PolicyTable,
    },
    /// Subject a segment's own traffic to policy, or not any more.
    GuardSegment {
        /// Its link.
        link: String,
        /// Whether.
        on: bool,
    },
    /// Make a shared queue, or bring it to its rates with what waits in it untouched.
    PutQueue {
        /// Its link.
        link: String,
        /// How.
        queue: Queue,
    },
    /// Remove a shared queue that no port uses any more.
    DeleteQueue {
        /// Its link.
        link: String,
    },
    /// Bring a port to its limits; the empty limit takes them away.
    LimitPort {
        /// Its link.
        link: String,
        /// How.
        limit: PortLimit,
    },
    /// Change which ports are reached at their own addresses, at once.
    ChangeOpen {
        /// These are not any more.
        remove: OpenSet,
        /// These are.
        add: OpenSet,
    },
    /// Lead answers for `::1` from these ports to `lo`, at once.
    ChangeLoopbacks {
        /// From these no more, by their links.
        remove: BTreeSet<String>,
        /// From these, that may have led others.
        add: Loopbacks,
    },
    /// Change listening ports, at once.
    ChangePublishes {
        /// These go; connections through them end.
        remove: PublishMap,
        /// These come.
        add: PublishMap,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateSandbox { id, .. } => write!(f, "create sandbox {}", id.short()),
            Self::DeleteSandbox { id } => write!(f, "delete sandbox {}", id.short()),
            Self::DeleteBrokenSandbox { name } => write!(f, "delete broken sandbox {name}"),
            Self::PutSegment { segment, .. } => write!(f, "put segment {}", segment.link),
            Self::DeleteSegment { link } => write!(f, "delete segment {link}"),
            Self::CreatePort { port, bridge } => write!(f, "create port {} on {bridge}", port.link),
            Self::ConfigurePort { port, .. } => write!(f, "configure port {}", port.link),
            Self::AttachPort { port, bridge } => write!(f, "attach port {} to {bridge}", port.link),
            Self::DeletePort { link } => write!(f, "delete port {link}"),
            Self::ReplaceRules { segments, publishes, .. } => {
                write!(f, "replace rules for {} segments, {} publishes", segments.len(), publishes.len())
            }
            Self::ClearRules => write!(f, "clear rules"),
            Self::ReplacePolicy { table } => write!(f, "replace policy of {} flows", table.verdicts.len()),
            Self::ClearPolicy => write!(f, "clear policy"),
            Self::ChangePolicy { remove, add } => {
                let count = |t: &PolicyTable| t.verdicts.len() + t.endpoints.len() + t.ranges.len();
                write!(f, "take {} entries from policy and add {}", count(remove), count(add))
            }
            Self::GuardSegment { link, on: true } => write!(f, "guard segment {link}"),
            Self::GuardSegment { link, on: false } => write!(f, "no longer guard segment {link}"),
            Self::PutQueue { link, .. } => write!(f, "put queue {link}"),
            Self::DeleteQueue { link } => write!(f, "delete queue {link}"),
            Self::LimitPort { link, .. } => write!(f, "limit port {link}"),
            Self::ChangeOpen { remove, add } => {
                write!(f, "close {} and open {} ports at their own addresses", remove.len(), add.len())
            }
            Self::ChangeLoopbacks { remove, add } => {
                write!(f, "lead answers for ::1 from {} ports, from {} no more", add.len(), remove.len())
            }
            Self::ChangePublishes { remove, add } => {
                write!(f, "unpublish {} and publish {} ports", remove.len(), add.len())
            }
        }
    }
}
