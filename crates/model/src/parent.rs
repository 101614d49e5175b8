//! Networks without a bridge: their ports are sub-interfaces of a link of the host.
//!
//! A macvlan sub-interface has an Ethernet address of its own, an ipvlan one shares its parent's. What either does with a packet
//! for a sibling is its mode (kernel: `Documentation/networking/ipvlan.rst`, `ip-link(8)`).

use std::{collections::BTreeSet, net::IpAddr};

use serde::{Deserialize, Serialize};

/// How sub-interfaces are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Branch {
    /// Each with an Ethernet address of its own.
    Macvlan(MacvlanMode),
    /// All with the parent's Ethernet address.
    Ipvlan(IpvlanMode, IpvlanFlag),
}

/// What macvlan siblings may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MacvlanMode {
    /// Talk to one another directly.
    #[default]
    Bridge,
    /// Never talk to one another.
    Private,
    /// Talk to one another by the switch outside, if it sends frames back where they came from.
    Vepa,
    /// There is only one, and it is all of the parent.
    Passthru,
}

/// Where ipvlan takes part in the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpvlanMode {
    /// Layer 2: the sub-interface resolves neighbours itself.
    #[default]
    L2,
    /// Layer 3: the parent's namespace routes; no broadcast, no neighbours.
    L3,
    /// Layer 3 with the parent's connection tracking.
    L3s,
}

/// What ipvlan siblings may do; as the modes of macvlan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpvlanFlag {
    /// Talk to one another directly.
    #[default]
    Bridge,
    /// Never talk to one another.
    Private,
    /// By the switch outside.
    Vepa,
}

impl Branch {
    /// The kernel's word for the kind of link.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Macvlan(_) => "macvlan",
            Self::Ipvlan(..) => "ipvlan",
        }
    }

    /// There can be only one sub-interface.
    #[must_use]
    pub fn is_exclusive(self) -> bool {
        self == Self::Macvlan(MacvlanMode::Passthru)
    }

    /// Sub-interfaces have Ethernet addresses that we choose. (Setting that of a passthru one would set the parent's.)
    #[must_use]
    pub fn chooses_mac(self) -> bool {
        matches!(self, Self::Macvlan(mode) if mode != MacvlanMode::Passthru)
    }

    /// Neighbours are resolved on the link, so that a default route needs a next hop.
    #[must_use]
    pub fn has_neighbours(self) -> bool {
        !matches!(self, Self::Ipvlan(IpvlanMode::L3 | IpvlanMode::L3s, _))
    }

    /// Siblings reach one another directly.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Macvlan(MacvlanMode::Bridge) | Self::Ipvlan(_, IpvlanFlag::Bridge))
    }
}

/// What the ports of a network hang on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentSpec {
    /// The link of the host, `NAME` or `NAME.VLAN`; `None` for one of ours that leads nowhere.
    pub link: Option<String>,
    /// How its sub-interfaces are made.
    pub branch: Branch,
    /// Addresses of the host's own sub-interface, by which it reaches the ports; none for no such link.
    #[serde(default)]
    pub shim: BTreeSet<IpAddr>,
}
