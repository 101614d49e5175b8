//! What a machine was seen to have, in the same words as what it must have.
//!
//! Only marked things appear here, so that a plan cannot touch a foreign one: it does not know of it. A
//! thing's configuration is seen as a *tag*, a short digest that the driver stores beside the thing when it
//! is completely configured (and not before), so that half-made things never look finished.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    BridgeState, Desired, EndState, Limits, Loopbacks, OpenSet, PolicyTable, Port, PublishMap, SandboxId,
    Segment, Step,
};

/// A marked segment in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenSegment {
    /// [`Segment::tag`] of the last complete configuration.
    pub tag: String,
    /// How it is, where that is known.
    pub state: Option<BridgeState>,
}

/// A marked port in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenPort {
    /// [`Port::identity`] it was made with.
    pub identity: String,
    /// [`Port::tag`] of the last complete configuration.
    pub tag: String,
    /// How its end on the host is, where that is known.
    pub state: Option<EndState>,
}

/// All marked things of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Network namespaces that are there, and the run each was made for.
    pub sandboxes: BTreeMap<SandboxId, u64>,
    /// Names in the sandboxes' directory that are ours and no usable namespace.
    pub broken_sandboxes: BTreeSet<String>,
    /// Segments by link name.
    pub segments: BTreeMap<String, SeenSegment>,
    /// Ports by link name.
    pub ports: BTreeMap<String, SeenPort>,
    /// Digest of the rules that are there; `None` when there are none or they were tampered with.
    pub rules: Option<String>,
    /// Listening ports that are there.
    pub publishes: PublishMap,
    /// Ports that are reached at their own addresses.
    pub open: OpenSet,
    /// Bandwidth limits that are there, strays included.
    pub limits: Limits,
    /// Policy that is there; `None` when there is none, without entries when its rules were tampered with.
    pub policy: Option<PolicyTable>,
    /// Segments whose own traffic is subject to it, by link.
    pub guarded: BTreeSet<String>,
    /// Ports from which answers for `::1` are led to `lo`.
    pub loopbacks: Loopbacks,
    /// This machine can do that at all.
    pub can_loop: bool,
    /// This machine can subject a segment's own traffic to rules at all.
    pub can_guard: bool,
}

impl Segment {
    /// Digest of everything that a driver configures on the segment itself.
    #[must_use]
    pub fn tag(&self) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let borrowed = if self.borrowed { "|borrowed" } else { "" };
        let uplink = self.uplink.as_ref().map(|u| format!("|{u:?}")).unwrap_or_default();
        let addresses = addresses.join(",");
        digest(&format!("{}|{}|{}|{addresses}{borrowed}{uplink}", self.link, self.mac, self.mtu))
    }
}

impl Port {
    /// Digest of what cannot change in place: another identity is another port.
    #[must_use]
    pub fn identity(&self) -> String {
        let parent = self.parent.as_ref().map(|p| format!("|{}|{:?}", p.link, p.branch)).unwrap_or_default();
        digest(&format!("{}|{}|{}|{}{parent}", self.segment, self.sandbox, self.ifname, self.mac))
    }

    /// Digest of everything that can change in place.
    #[must_use]
    pub fn tag(&self) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let gateways: Vec<String> = self.gateways.iter().map(|g| format!("{}@{}", g.via, g.metric)).collect();
        let sysctls: Vec<String> = self.sysctls.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let lists = [addresses, gateways, sysctls].map(|l| l.join(",")).join("|");
        digest(&format!("{}|{}|{lists}", self.mtu, self.isolated))
    }
}

/// FNV-1a, 64 bits, as 16 hex digits. Stable over versions and machines: a digest that changed with an
/// upgrade would replace every running container's interface.
pub(crate) fn digest(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

impl Observed {
    /// Whether a sandbox is there as it must be.
    #[must_use]
    pub(crate) fn holds(&self, desired: &Desired, id: &SandboxId) -> bool {
        let (seen, wanted) = (self.sandboxes.get(id), desired.sandboxes.get(id));
        seen.zip(wanted).is_some_and(|(run, sandbox)| sandbox.is_for(*run))
    }

    /// What is there once `step` has succeeded: lets a [`crate::Converger`] follow without looking again.
    pub fn note(&mut self, step: &Step) {
        match step {
            Step::CreateSandbox { id, sandbox } => {
                self.sandboxes.insert(*id, sandbox.run.unwrap_or_default());
            }
            Step::DeleteSandbox { id } => {
                self.sandboxes.remove(id);
            }
            Step::DeleteBrokenSandbox { name } => {
                self.broken_sandboxes.remove(name);
            }
            Step::PutSegment { segment, .. } => {
                self.segments.insert(segment.link.clone(), SeenSegment { tag: segment.tag(), state: None });
            }
            Step::DeleteSegment { link } => {
                self.guarded.remove(link);
                self.segments.remove(link);
            }
            Step::CreatePort { port, .. } | Step::ConfigurePort { port, .. } => {
                let seen = SeenPort { identity: port.identity(), tag: port.tag(), state: None };
                self.ports.insert(port.link.clone(), seen);
            }
            Step::AttachPort { port, .. } => {
                if let Some(seen) = self.ports.get_mut(&port.link) {
                    seen.state = None;
                }
            }
            Step::DeletePort { link } => {
                self.ports.remove(link);
                self.limits.ports.remove(link);
                self.loopbacks.remove(link);
            }
            Step::ReplacePolicy { .. }
            | Step::ClearPolicy
            | Step::ChangePolicy { .. }
            | Step::GuardSegment { .. } => crate::policy::note(self, step),
            Step::ChangeLoopbacks { remove, add } => crate::loopback::note(self, remove, add),
            Step::PutQueue { .. } | Step::DeleteQueue { .. } | Step::LimitPort { .. } => {
                self.limits.note(step)
            }
            Step::ReplaceRules { digest, publishes, open, .. } => {
                self.rules = Some(digest.clone());
                self.open.clone_from(open);
                self.publishes.clone_from(publishes);
            }
            Step::ClearRules => {
                self.rules = None;
                self.open.clear();
                self.publishes.clear();
            }
            Step::ChangeOpen { remove, add } => {
                self.open.retain(|entry| !remove.contains(entry));
                self.open.extend(add);
            }
            Step::ChangePublishes { remove, add } => {
                self.publishes.retain(|key, _| !remove.contains_key(key));
                self.publishes.extend(add.iter().map(|(k, v)| (*k, *v)));
            }
        }
    }
}
