//! Looking into a data plane: what becomes of a packet and why, live traces, counters. Everything here reads; the one
//! thing that is made (a trace) ends with who asked for it.
//!
//! A question names ends that were resolved already; what the asker knows of names goes along ([`Known`]), so that answers
//! speak of containers and networks. A driver answers from what is really there, never from what should be.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weft_model::PolicyId;

use crate::{DriverError, Flow, SandboxId};

/// What carries the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP: the first packet of a connection.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP: the first packet of an association.
    Sctp,
    /// An echo request, of ICMP or ICMPv6.
    Icmp,
}

impl Transport {
    /// The lower-case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
            Self::Icmp => "icmp",
        }
    }
}

/// Where a packet starts or is to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// A sandbox, by one of its addresses.
    Sandbox {
        /// Which.
        id: SandboxId,
        /// Its address; the driver's choice when absent.
        address: Option<IpAddr>,
    },
    /// The host itself.
    Host {
        /// Its address; the driver's choice when absent.
        address: Option<IpAddr>,
    },
    /// Beyond the host.
    Outside {
        /// The host's interface it lies behind; as routes say when absent.
        link: Option<String>,
        /// Its address; some neighbour's when absent.
        address: Option<IpAddr>,
    },
}

/// Names for people, and whose addresses are whose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Names of sandboxes.
    pub sandboxes: BTreeMap<SandboxId, String>,
    /// Who has an address.
    pub addresses: BTreeMap<IpAddr, SandboxId>,
    /// Names of networks by their link.
    pub networks: BTreeMap<String, String>,
    /// Names of the networks that addresses of sandboxes are on.
    pub homes: BTreeMap<IpAddr, String>,
    /// Sandboxes that do not run as they should.
    pub idle: BTreeMap<SandboxId, Idle>,
    /// Policies in words: `deny name=web -> name=db, tcp 5432`.
    pub policies: BTreeMap<PolicyId, String>,
    /// Which policy decides a flow.
    pub decides: BTreeMap<Flow, PolicyId>,
}

/// Why nobody in a sandbox sends or answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Idle {
    /// It does not run.
    Stopped,
    /// Its processes are frozen; the kernel goes on for them.
    Paused,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who sends.
    pub from: End,
    /// To whom.
    pub to: End,
    /// By what.
    pub transport: Transport,
    /// To which port.
    pub port: Option<u16>,
    /// Names.
    pub known: Known,
}

/// How it ends, or what one hop does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It goes on.
    Passes,
    /// It ends.
    Dropped,
    /// It depends on what cannot be told from here.
    Unclear,
}

/// What a hop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HopKind {
    /// An end of the way.
    End,
    /// An interface.
    Link,
    /// A bridge, or its port.
    Bridge,
    /// A decision of the routes.
    Route,
    /// A kernel parameter.
    Sysctl,
    /// A chain of a firewall.
    Chain,
    /// A translation of addresses.
    Nat,
    /// The table of connections.
    Conntrack,
    /// A socket that waits.
    Socket,
}

/// A rule, as `nft` finds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleAt {
    /// `inet`, `ip`, …
    pub family: String,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// The rule's handle; `None` for a chain's policy.
    pub handle: Option<u64>,
    /// What it says.
    pub text: String,
    /// Its comment.
    pub comment: String,
}

/// One step of the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// Where: `host`, `container web`.
    pub place: String,
    /// What.
    pub kind: HopKind,
    /// What it does to the packet.
    pub verdict: Verdict,
    /// In words.
    pub text: String,
    /// The rule that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleAt>,
    /// On the way back.
    pub answer: bool,
}

/// The whole way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// How it ends.
    pub verdict: Verdict,
    /// The packet: `tcp 10.1.0.2 -> 10.1.0.3:80`.
    pub packet: String,
    /// The same by names, where there are any: `web.front -> db.front`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ends: String,
    /// Why it ends so, in one line.
    pub reason: String,
    /// What to do about it; empty when there is nothing to do.
    pub remedy: String,
    /// Each step.
    pub hops: Vec<Hop>,
}

/// One decision about one packet, seen as it happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceEvent {
    /// The packet's number.
    pub packet: u32,
    /// What it is, with the first event of a hook: `tcp 10.1.0.2:40000 -> 10.1.0.3:80`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub what: String,
    /// Interface it came in by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Interface it leaves by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// The rule, or the chain whose policy it is.
    pub rule: RuleAt,
    /// `accept`, `drop`, `jump NAME`, …
    pub verdict: String,
}

/// What passed a link, from its own point of view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the words of ip -s link")]
pub struct LinkCounters {
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

impl LinkCounters {
    /// The same from the other end of the wire.
    #[must_use]
    pub const fn swapped(self) -> Self {
        Self {
            rx_packets: self.tx_packets,
            rx_bytes: self.tx_bytes,
            rx_errors: self.tx_errors,
            rx_dropped: self.tx_dropped,
            tx_packets: self.rx_packets,
            tx_bytes: self.rx_bytes,
            tx_errors: self.rx_errors,
            tx_dropped: self.rx_dropped,
        }
    }
}

/// A link of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenLink {
    /// `bridge`, `veth`, …; empty for hardware.
    pub kind: String,
    /// Up, with a carrier.
    pub up: bool,
    /// Bytes.
    pub mtu: u32,
    /// Name of what it is a port of.
    pub master: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// Its counters.
    pub counters: LinkCounters,
}

/// What one of our rules has dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropCounter {
    /// The segment's link it concerns; `None` for the host's own.
    pub link: Option<String>,
    /// Why, in the rule's own words.
    pub reason: String,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Counters of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Links by name.
    pub links: BTreeMap<String, SeenLink>,
    /// What was dropped since the rules were last replaced.
    pub drops: Vec<DropCounter>,
}

/// A driver that can be looked into. Calls block.
pub trait Insight: Send + Sync {
    /// What becomes of a packet.
    ///
    /// # Errors
    /// The machine cannot be read.
    fn explain(&self, question: &Question) -> Result<Explanation, DriverError>;

    /// Tells what is decided about matching packets, until `tell` answers false. It is called with `None` every now and then,
    /// so that who has left is noticed.
    ///
    /// # Errors
    /// The machine cannot trace.
    fn watch(
        &self,
        question: &Question,
        tell: &mut dyn FnMut(Option<TraceEvent>) -> bool,
    ) -> Result<(), DriverError>;

    /// Counters.
    ///
    /// # Errors
    /// The machine cannot be read.
    fn figures(&self) -> Result<Figures, DriverError>;
}
