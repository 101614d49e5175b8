//! One change of a machine. Each is idempotent: run twice, or after having failed half-way, it ends the same.

use std::{collections::BTreeMap, fmt};

use weft_model::{NetworkId, PublishPolicy};

use crate::{Port, PublishMap, Sandbox, SandboxId, Segment};

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
        /// Who from outside may use them.
        policy: PublishPolicy,
        /// What [`crate::Observed::rules`] says afterwards.
        digest: String,
    },
    /// Remove all rules.
    ClearRules,
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
            Self::DeletePort { link } => write!(f, "delete port {link}"),
            Self::ReplaceRules { segments, publishes, .. } => {
                write!(f, "replace rules for {} segments, {} publishes", segments.len(), publishes.len())
            }
            Self::ClearRules => write!(f, "clear rules"),
            Self::ChangePublishes { remove, add } => {
                write!(f, "unpublish {} and publish {} ports", remove.len(), add.len())
            }
        }
    }
}
