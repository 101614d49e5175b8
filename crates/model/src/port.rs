//! Ports: one attachment each of something to a network.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use weft_base::Timestamp;

use crate::{ContainerId, NetworkId, Port, PortId, Resource, Scope};

/// An Ethernet address, written `02:42:ac:11:00:02`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

/// The text is no unicast Ethernet address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid MAC address: {text}")]
pub struct MacError {
    text: String,
}

impl MacAddr {
    /// Docker's derivation: `02:42` and the four bytes of the IPv4 address.
    #[must_use]
    pub fn from_ipv4(ip: Ipv4Addr) -> Self {
        let [a, b, c, d] = ip.octets();
        Self([0x02, 0x42, a, b, c, d])
    }
}

impl FromStr for MacAddr {
    type Err = MacError;
    fn from_str(text: &str) -> Result<Self, MacError> {
        let bad = || MacError { text: text.to_owned() };
        let mut bytes = [0u8; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(bad)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() || bytes[0] & 1 == 1 || bytes == [0; 6] {
            return Err(bad());
        }
        Ok(Self(bytes))
    }
}
impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl Serialize for MacAddr {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A transport protocol that can be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The lower-case name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}
impl FromStr for Protocol {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(format!("invalid proto: {text}")),
        }
    }
}

/// An inclusive range of transport ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortRange {
    /// First port.
    pub start: u16,
    /// Last port, at least `start`.
    pub end: u16,
}

impl PortRange {
    /// One port.
    #[must_use]
    pub const fn one(port: u16) -> Self {
        Self { start: port, end: port }
    }

    /// Whether a port is in it.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.start <= port && port <= self.end
    }

    /// Whether some port is in both.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.start)?;
        if self.end > self.start { write!(f, "-{}", self.end) } else { Ok(()) }
    }
}

/// Who from outside reaches published ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PublishPolicy {
    /// Everybody, as with Docker, but for whom another's rules drop.
    #[default]
    Open,
    /// Whom the host's own rules for incoming packets let in.
    HostFirewall,
    /// Nobody; the host itself and its containers do.
    Deny,
}

impl PublishPolicy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Open, Self::HostFirewall, Self::Deny];

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::HostFirewall => "host-firewall",
            Self::Deny => "deny",
        }
    }
}

impl FromStr for PublishPolicy {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|policy| policy.as_str() == text);
        known.ok_or_else(|| format!("{text:?} is none of open, host-firewall, deny"))
    }
}

/// Who plugs in by this port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortOwner {
    /// A container's network namespace.
    Container(ContainerId),
}

/// One address of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortAddress {
    /// The address.
    pub ip: IpAddr,
    /// Prefix length of its subnet.
    pub prefix: u8,
    /// The subnet's gateway, where the network has a way out.
    pub gateway: Option<IpAddr>,
}

/// A published port or a row of them, resolved: nothing is left to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PublishBinding {
    /// Protocol.
    pub protocol: Protocol,
    /// Listening address; `0.0.0.0` or `::` for all of that family.
    pub host_ip: IpAddr,
    /// Listening port.
    pub host_port: u16,
    /// Port in the container.
    pub container_port: u16,
    /// How many ports after these lead to one another, one by one, too.
    #[serde(default, skip_serializing_if = "none_more")]
    pub more: u16,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn none_more(more: &u16) -> bool {
    *more == 0
}

impl PublishBinding {
    /// The listening ports.
    #[must_use]
    pub fn host_ports(&self) -> PortRange {
        PortRange { start: self.host_port, end: self.host_port.saturating_add(self.more) }
    }

    /// Port by port.
    pub fn each(self) -> impl Iterator<Item = Self> {
        (0..=self.more).map(move |step| Self {
            host_port: self.host_port.saturating_add(step),
            container_port: self.container_port.saturating_add(step),
            more: 0,
            ..self
        })
    }

    /// Rows of what stands in a row, in order of protocol, address and listening port.
    #[must_use]
    pub fn rows(mut all: Vec<Self>) -> Vec<Self> {
        all.sort_by_key(|b| (b.protocol, b.host_ip, b.host_port, b.container_port));
        let mut rows: Vec<Self> = Vec::new();
        for b in all {
            let after = |last: &&mut Self| {
                let step = u32::from(last.more) + 1;
                last.protocol == b.protocol
                    && last.host_port != 0
                    && last.host_ip == b.host_ip
                    && u32::from(last.host_port) + step == u32::from(b.host_port)
                    && u32::from(last.container_port) + step == u32::from(b.container_port)
            };
            match rows.last_mut().filter(after) {
                Some(last) => last.more += b.more + 1,
                None => rows.push(b),
            }
        }
        rows
    }
}

/// A port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSpec {
    /// Identity.
    pub id: PortId,
    /// Its network.
    pub network: NetworkId,
    /// Who plugs in.
    pub owner: PortOwner,
    /// Ethernet address.
    pub mac: MacAddr,
    /// Addresses.
    pub addresses: Vec<PortAddress>,
    /// Interface name inside the owner's namespace, such as `eth0`.
    pub ifname: String,
    /// This port's IPv4 gateway is the owner's default route.
    pub default_route: bool,
    /// This port's IPv6 gateway is.
    #[serde(default)]
    pub default_route_v6: bool,
    /// Names that resolve to it on its network: container name, aliases, short id, hostname.
    #[serde(default)]
    pub names: Vec<String>,
    /// Names that only the owner itself resolves (links): the alias, and the target's name or id as written. Whom it
    /// means is looked up when it is asked for: the target may come later.
    #[serde(default)]
    pub links: Vec<(String, String)>,
    /// Published ports.
    #[serde(default)]
    pub publish: Vec<PublishBinding>,
    /// Sysctls set in the owner's namespace for this interface.
    #[serde(default)]
    pub sysctls: std::collections::BTreeMap<String, String>,
    /// Its IPv4 address comes from the LAN's DHCP server: what is said there.
    #[serde(default)]
    pub dhcp: Option<DhcpWish>,
}

/// What a DHCP server is told of a port, beside its Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpWish {
    /// Host name.
    pub hostname: String,
}

/// An address for some time (RFC 2131).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Prefix length of its subnet.
    pub prefix: u8,
    /// The way out.
    pub gateway: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Who gave it.
    pub server: Ipv4Addr,
    /// Where the server's packets come from: itself, or the router before it.
    pub server_mac: MacAddr,
    /// When it was given.
    pub obtained: Timestamp,
    /// Seconds after that: more time is asked of the server.
    pub renew: u32,
    /// Of any server.
    pub rebind: u32,
    /// It ends.
    pub seconds: u32,
}

impl Port {
    /// Its addresses, with the one that is leased.
    #[must_use]
    pub fn addresses(&self) -> Vec<PortAddress> {
        let mut all = self.spec.addresses.clone();
        all.extend(self.status.lease.as_ref().map(|lease| PortAddress {
            ip: lease.address.into(),
            prefix: lease.prefix,
            gateway: lease.gateway.map(IpAddr::from),
        }));
        all
    }
}

/// What the data plane said of a port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStatus {
    /// The generation that was last made real; the port is ready when it equals the spec's generation.
    pub observed: u64,
    /// The last failure, empty when none.
    #[serde(default)]
    pub error: String,
    /// The address it has by DHCP.
    #[serde(default)]
    pub lease: Option<Lease>,
}

impl Resource for Port {
    const KIND: &'static str = "port";
    const SCOPE: Scope = Scope::Host;
    fn key(&self) -> String {
        self.spec.id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_in_a_row_are_one_record_and_old_records_are_read() {
        let one = |host_ip: &str, host_port, container_port| PublishBinding {
            protocol: Protocol::Tcp,
            host_ip: host_ip.parse().unwrap(),
            host_port,
            container_port,
            more: 0,
        };
        let all = vec![
            one("::", 8001, 81),
            one("0.0.0.0", 8002, 82),
            one("0.0.0.0", 8000, 80),
            one("0.0.0.0", 8001, 81),
            one("0.0.0.0", 8003, 90),
            one("0.0.0.0", 65535, 65535),
        ];
        let rows = PublishBinding::rows(all.clone());
        let shown: Vec<_> = rows.iter().map(|b| format!("{} {}", b.host_ports(), b.container_port)).collect();
        assert_eq!(shown, ["8000-8002 80", "8003 90", "65535 65535", "8001 81"]);
        let mut each: Vec<_> = rows.iter().flat_map(|b| b.each()).map(|b| (b.host_ip, b.host_port)).collect();
        each.sort();
        let mut wanted: Vec<_> = all.iter().map(|b| (b.host_ip, b.host_port)).collect();
        wanted.sort();
        assert_eq!(each, wanted);
        let old = r#"{"protocol":"tcp","host_ip":"0.0.0.0","host_port":80,"container_port":8080}"#;
        let read: PublishBinding = serde_json::from_str(old).unwrap();
        assert_eq!(read, one("0.0.0.0", 80, 8080));
        assert_eq!(serde_json::to_string(&read).unwrap(), old);
    }

    #[test]
    fn multicast_and_malformed_macs_are_refused() {
        assert_eq!("02:42:ac:11:00:02".parse::<MacAddr>().unwrap().to_string(), "02:42:ac:11:00:02");
        for bad in
            ["00:00:00:00:00:00", "", "02:42", "01:00:00:00:00:00", "02:42:ac:11:00:02:03", "0242ac110002"]
        {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }
}
