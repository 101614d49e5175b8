//! The desired state of one host's network: plain, ordered, serialisable values with nothing left to choose.
//!
//! Collections are keyed maps, so that two equal hosts compare equal whatever order they were compiled in.
//! Kernel link names are part of the value: they are derived once ([`link_name`]) and checked for collisions
//! here, and a driver never invents one.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weft_model::{
    Branch, ContainerId, GatewayMode, Gateways, HostSource, MacAddr, NetworkId, PortId, PortRange, Protocol,
    PublishPolicy,
};

use crate::{Invalid, Limits, Open, PolicyTable};

/// A sandbox is known by the container whose network namespace it is.
pub type SandboxId = ContainerId;

/// A network namespace that ports are plugged into. It lives at `RUN/netns/<id>` ([`crate::Driver::sandbox_path`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// IPv6 is switched on in it. Off, `net.ipv6.conf.{all,default}.disable_ipv6` are 1 (as Docker does).
    #[serde(default)]
    pub ipv6: bool,
    /// Further sysctls, dotted names below `net.` (such as `net.ipv4.ip_unprivileged_port_start`), set at creation.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// Which of its container's runs it is for: one that was made for another run is made anew, with all that is plugged into
    /// it. `None`: what is there stays.
    #[serde(default)]
    pub run: Option<u64>,
    /// The user namespace it belongs to, so that who is root there is root over it; `None` for the host's.
    #[serde(default)]
    pub users: Option<Users>,
}

impl Sandbox {
    /// Whether one that was made for that run will do.
    #[must_use]
    pub fn is_for(&self, run: u64) -> bool {
        self.run.is_none_or(|wanted| wanted == run)
    }
}

/// A user namespace that a sandbox belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Users {
    /// Its own.
    Own(IdMaps),
    /// That of another sandbox.
    Of(SandboxId),
}

/// Ids of a user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    /// Users.
    pub uids: Vec<IdRange>,
    /// Groups.
    pub gids: Vec<IdRange>,
}

/// `inside..inside+count` is `outside..outside+count` on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// First id inside.
    pub inside: u32,
    /// First id on the host.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// A layer-2 segment with the host's own legs in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The kernel's name of its bridge, at most 15 bytes: [`link_name`]`("b", id)` or the user's choice.
    pub link: String,
    /// The bridge's Ethernet address; chosen by us, so that it never changes as ports come and go.
    pub mac: MacAddr,
    /// The gateway's own addresses with their prefix; each also declares that subnet to be this segment's.
    /// Internal networks have them too: the host is reachable, nothing beyond it is.
    pub addresses: BTreeSet<IpNet>,
    /// Bytes.
    pub mtu: u32,
    /// No way out, none in.
    pub internal: bool,
    /// Ports may talk to one another.
    pub inter_container: bool,
    /// What leaves by a link that is no segment takes that link's address.
    pub masquerade: bool,
    /// The bridge is somebody else's: used as it is, never changed or removed.
    #[serde(default)]
    pub borrowed: bool,
    /// Further subnets, in which the bridge has no address.
    #[serde(default)]
    pub further: BTreeSet<IpNet>,
    /// How its ports meet the world.
    #[serde(default)]
    pub gateways: Gateways,
    /// Links of the host from which `open` is reached whatever the mode.
    #[serde(default)]
    pub trusted: BTreeSet<String>,
    /// What of its ports is reached at their own addresses, in families that are routed and from `trusted`.
    #[serde(default)]
    pub open: BTreeSet<Open>,
    /// The host's address that what leaves takes where it is masqueraded, instead of its link's.
    #[serde(default)]
    pub source: HostSource,
    /// There is no bridge: ports are sub-interfaces of a link of the host, and `link` is the name of the host's own one
    /// ([`link_name`]`("h", id)`), made where the uplink has addresses for it.
    #[serde(default)]
    pub uplink: Option<Uplink>,
}

/// What a segment without a bridge hangs on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uplink {
    /// The parent, and how its sub-interfaces are made.
    pub parent: Parent,
    /// Whose the parent is.
    pub origin: Origin,
    /// Addresses of the host's own sub-interface; none for no such link.
    #[serde(default)]
    pub shim: BTreeSet<IpAddr>,
    /// What the host reaches by it: the ports' addresses.
    #[serde(default)]
    pub reached: BTreeSet<IpAddr>,
}

/// A link of the host with sub-interfaces. It is never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The kernel's name.
    pub link: String,
    /// How sub-interfaces are made.
    pub branch: Branch,
}

/// Where a parent comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// It is somebody else's, and there.
    Foreign,
    /// Somebody else's where it is there; else ours: a VLAN of another link.
    Vlan {
        /// The other link.
        of: String,
        /// IEEE 802.1Q identifier, 1 to 4094.
        id: u16,
    },
    /// Ours; it leads nowhere.
    Alone,
}

impl Segment {
    /// The subnets of this segment.
    pub fn subnets(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.addresses.iter().map(IpNet::trunc).chain(self.further.iter().copied())
    }

    /// Whether what leaves by this family's gateway takes the host's address.
    #[must_use]
    pub fn masquerades(&self, subnet: &IpNet) -> bool {
        let natted = !matches!(self.gateways.of(subnet.addr()), GatewayMode::Routed | GatewayMode::Isolated);
        self.masquerade && !self.internal && natted
    }

    /// The address that what leaves from a subnet takes, where it is given.
    #[must_use]
    pub fn source(&self, subnet: &IpNet) -> Option<IpAddr> {
        let given = match subnet {
            IpNet::V4(_) => self.source.v4.map(IpAddr::from),
            IpNet::V6(_) => self.source.v6.map(IpAddr::from),
        };
        given.filter(|_| self.masquerades(subnet))
    }

    /// Whether the host is to have no address at all on it, not even one of the kernel's own making.
    #[must_use]
    pub fn is_isolated(&self) -> bool {
        self.internal && self.addresses.is_empty() && !self.borrowed
    }
}

/// A default route of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gateway {
    /// The next hop; its family is the route's. Unspecified: none, all is on the link.
    pub via: IpAddr,
    /// The kernel's route metric; 0 leaves the kernel's default.
    #[serde(default)]
    pub metric: u32,
}

/// One attachment of a sandbox to a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The kernel's name of the host's end, at most 15 bytes: [`link_name`]`("p", id)`.
    pub link: String,
    /// The segment it is on.
    pub segment: NetworkId,
    /// The sandbox it is plugged into.
    pub sandbox: SandboxId,
    /// Interface name inside the sandbox, such as `eth0`.
    pub ifname: String,
    /// Ethernet address inside.
    pub mac: MacAddr,
    /// Addresses inside, with the subnet's prefix.
    pub addresses: BTreeSet<IpNet>,
    /// Bytes; the segment's. 0 of a sub-interface: its parent's.
    pub mtu: u32,
    /// Default routes of the sandbox by this port.
    #[serde(default)]
    pub gateways: BTreeSet<Gateway>,
    /// Sysctls of this interface, dotted names with `IFNAME` for the interface
    /// (`net.ipv4.conf.IFNAME.forwarding`).
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// May not talk to other isolated ports of its segment but by what they publish (a segment without `inter_container`).
    #[serde(default)]
    pub isolated: bool,
    /// It is a sub-interface of this link (a segment with an uplink) and has no end on the host: `link` only names it.
    #[serde(default)]
    pub parent: Option<Parent>,
}

/// A way in from outside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Publish {
    /// Protocol.
    pub protocol: Protocol,
    /// Listening address; `0.0.0.0` or `::` for all of that family. Its family is the target's.
    pub host_ip: IpAddr,
    /// Listening ports.
    pub host_ports: PortRange,
    /// The port's address.
    pub target_ip: IpAddr,
    /// The target's port for the first host port; the others follow one by one.
    pub target_port: u16,
}

/// Listening ports that lead somewhere together: one, or a row of them whose numbers stay the same inside. No port of
/// it may be in another's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublishKey {
    /// Protocol.
    pub protocol: Protocol,
    /// Listening address, unspecified for all of that family.
    pub host_ip: IpAddr,
    /// Listening ports.
    pub host_ports: PortRange,
}

/// Where listening ports lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublishTarget {
    /// Address.
    pub ip: IpAddr,
    /// Port of the first one; the others follow one by one.
    pub port: u16,
}

/// Listening ports, as few entries as can be.
pub type PublishMap = BTreeMap<PublishKey, PublishTarget>;

/// Listening ports that are taken.
#[derive(Clone, Debug, Default)]
pub struct Listeners(BTreeMap<(Protocol, IpAddr, u16), u16>);

impl Listeners {
    /// Takes ports; `false`, and nothing is taken, when one of them is taken already.
    pub fn take(&mut self, publish: &Publish) -> bool {
        let PortRange { start, end } = publish.host_ports;
        let place = |port| (publish.protocol, publish.host_ip, port);
        // Rows do not overlap: the last that begins before our end is the only one that could reach us.
        let before = self.0.range(place(0)..=place(end)).next_back();
        if before.is_some_and(|(_, last)| *last >= start) {
            return false;
        }
        self.0.insert(place(start), end);
        true
    }
}

/// All one host's network must be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Grows with each compilation; a [`crate::Converger`] refuses to go back.
    pub generation: u64,
    /// Network namespaces.
    pub sandboxes: BTreeMap<SandboxId, Sandbox>,
    /// Segments.
    pub segments: BTreeMap<NetworkId, Segment>,
    /// Attachments.
    pub ports: BTreeMap<PortId, Port>,
    /// Ways in.
    pub publishes: BTreeSet<Publish>,
    /// Bandwidth limits.
    #[serde(default)]
    pub limits: Limits,
    /// Policy between endpoints.
    #[serde(skip)]
    pub policy: PolicyTable,
    /// Links of segments whose own traffic is subject to it.
    #[serde(default)]
    pub guarded: BTreeSet<String>,
    /// Who from outside may use them.
    #[serde(default)]
    pub publish_policy: PublishPolicy,
}

/// The longest name of a link the kernel takes (`IFNAMSIZ` - 1).
const LINK_NAME_MAX: usize = 15;

/// The marked kernel name of something: `wf`, a letter for its kind, 12 hex digits of its id. 48 random bits
/// collide on one host once in some million million; [`Desired::check`] refuses when they do.
#[must_use]
pub fn link_name(kind: char, id: &impl std::fmt::Display) -> String {
    let mut name = format!("wf{kind}");
    name.extend(id.to_string().chars().take(12));
    name
}

impl Desired {
    /// All listening ports; what [`Desired::check`] has accepted holds none twice.
    #[must_use]
    pub fn publish_map(&self) -> PublishMap {
        self.publishes.iter().flat_map(Publish::entries).collect()
    }

    /// Whether the value is consistent in itself.
    ///
    /// # Errors
    /// The first thing that refers to nothing, or that two things claim.
    pub fn check(&self) -> Result<(), Invalid> {
        let mut names = BTreeSet::new();
        let links = self.segments.values().map(|s| &s.link).chain(self.ports.values().map(|p| &p.link));
        for link in links {
            if !valid_link_name(link) {
                return Err(Invalid::LinkName { name: link.clone() });
            }
            if !names.insert(link) {
                return Err(Invalid::LinkTwice { name: link.clone() });
            }
        }
        let mut inside = BTreeSet::new();
        for (id, port) in &self.ports {
            self.check_port(*id, port)?;
            if !inside.insert((port.sandbox, &port.ifname)) {
                return Err(Invalid::InterfaceTwice { sandbox: port.sandbox, name: port.ifname.clone() });
            }
        }
        let mut listeners = Listeners::default();
        for publish in &self.publishes {
            publish.check()?;
            if !listeners.take(publish) {
                return Err(Invalid::PublishTwice { publish: publish.clone() });
            }
        }
        Ok(())
    }

    fn check_port(&self, id: PortId, port: &Port) -> Result<(), Invalid> {
        if !self.segments.contains_key(&port.segment) {
            return Err(Invalid::NoSegment { port: id, segment: port.segment });
        }
        if !self.sandboxes.contains_key(&port.sandbox) {
            return Err(Invalid::NoSandbox { port: id, sandbox: port.sandbox });
        }
        if !valid_link_name(&port.ifname) {
            return Err(Invalid::LinkName { name: port.ifname.clone() });
        }
        Ok(())
    }
}

impl Publish {
    fn check(&self) -> Result<(), Invalid> {
        let PortRange { start, end } = self.host_ports;
        let fits =
            start > 0 && start <= end && self.target_port > 0 && u16::MAX - self.target_port >= end - start;
        let bad = !fits || self.host_ip.is_ipv4() != self.target_ip.is_ipv4();
        if bad { Err(Invalid::Publish { publish: self.clone() }) } else { Ok(()) }
    }

    /// Its listening ports: together where the numbers stay the same, else one by one. Packet filters match rows of
    /// ports, but none reckons: the kernel's own shift (`NF_NAT_RANGE_PROTO_OFFSET`) answers a clash of two connections with
    /// the *next* port, which is another service.
    pub fn entries(&self) -> impl Iterator<Item = (PublishKey, PublishTarget)> + '_ {
        let PortRange { start, end } = self.host_ports;
        let together = start == self.target_port;
        let firsts = if together { start..=start } else { start..=end };
        firsts.zip(self.target_port..=u16::MAX).map(move |(first, port)| {
            let host_ports = if together { self.host_ports } else { PortRange::one(first) };
            let key = PublishKey { protocol: self.protocol, host_ip: self.host_ip, host_ports };
            (key, PublishTarget { ip: self.target_ip, port })
        })
    }
}

/// What `dev_valid_name` of the kernel takes.
fn valid_link_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= LINK_NAME_MAX
        && name != "."
        && name != ".."
        && !name.chars().any(|c| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
}
