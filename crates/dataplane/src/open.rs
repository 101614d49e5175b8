//! Ports that are reached at a container's own address, as one set for a host: what comes and goes with containers, while
//! the segments' rules stay as they are.

use std::{collections::BTreeSet, net::IpAddr};

use serde::{Deserialize, Serialize};
use weft_model::{GatewayMode, Protocol};

use crate::{Desired, Segment};

/// A listening port at a port's own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Open {
    /// Protocol.
    pub protocol: Protocol,
    /// Address.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
}

/// Who reaches such a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// What comes by a link that its segment trusts.
    Trusted,
    /// Who has a route to it, if the publish policy lets him.
    Routed,
}

/// All of a host.
pub type OpenSet = BTreeSet<(Reach, Open)>;

impl Segment {
    /// Whether its ports are reached at their own addresses in this family.
    #[must_use]
    pub fn is_routed(&self, v6: bool) -> bool {
        let mode = if v6 { self.gateways.v6 } else { self.gateways.v4 };
        !self.internal && mode == GatewayMode::Routed
    }

    fn reached(&self) -> impl Iterator<Item = (Reach, Open)> + '_ {
        let shows = !self.internal && self.uplink.is_none();
        self.open.iter().filter(move |_| shows).flat_map(|open| {
            let trusted = (!self.trusted.is_empty()).then_some(Reach::Trusted);
            let routed = self.is_routed(open.ip.is_ipv6()).then_some(Reach::Routed);
            trusted.into_iter().chain(routed).map(|reach| (reach, *open))
        })
    }
}

impl Desired {
    /// All ports that are reached at their own addresses.
    #[must_use]
    pub fn open_set(&self) -> OpenSet {
        self.segments.values().flat_map(Segment::reached).collect()
    }
}
