//! Network interfaces: bridges and veth pairs (`rtnetlink(7)`, `RTM_*LINK`).

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{
        BridgePortState, InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind,
        InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
    },
};

use super::{Channel, Message, NetlinkError, decode_route};

/// What an interface is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A bridge.
    Bridge,
    /// One end of a veth pair.
    Veth,
    /// Anything else; hardware has no name here.
    Other(String),
}

/// An interface as seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Index in its namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Administratively up.
    pub up: bool,
    /// Index of the bridge it is a port of.
    pub master: Option<u32>,
    /// Index of the link below it, or of its peer.
    pub lower: Option<u32>,
    /// `ifalias`.
    pub alias: String,
    /// Ethernet address.
    pub mac: Vec<u8>,
    /// Bytes.
    pub mtu: u32,
    /// A bridge that shows what it forwards to the IP hooks, of both families.
    pub filtered: bool,
    /// A bridge port in hairpin mode.
    pub hairpin: bool,
    /// A bridge port that is isolated from other isolated ones.
    pub isolated: bool,
}

/// Changes of an interface; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Up or down.
    pub up: Option<bool>,
    /// Bytes.
    pub mtu: Option<u32>,
    /// Ethernet address.
    pub mac: Option<[u8; 6]>,
    /// `ifalias`, at most 255 bytes.
    pub alias: Option<String>,
    /// Index of the bridge to be a port of; 0 for none.
    pub master: Option<u32>,
}

impl Change {
    pub(super) fn apply(&self, message: &mut LinkMessage) {
        if let Some(up) = self.up {
            message.header.change_mask |= LinkFlags::Up;
            message.header.flags.set(LinkFlags::Up, up);
        }
        let attributes = &mut message.attributes;
        attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        attributes.extend(self.mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
        attributes.extend(self.alias.clone().map(LinkAttribute::IfAlias));
        attributes.extend(self.master.map(LinkAttribute::Controller));
    }
}

pub(super) fn named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message
}

/// A new bridge. Being there already is success.
#[must_use]
pub fn create_bridge(name: &str, change: &Change) -> Message {
    let mut message = named(name);
    change.apply(&mut message);
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    Message::route(&RouteNetlinkMessage::NewLink(message), flags, format!("create bridge {name}"))
}

/// Whether a bridge shows what it forwards to the IP hooks (`br_netfilter`), by itself, whatever holds for others.
#[must_use]
pub fn filter_bridged(name: &str, on: bool) -> Message {
    let mut message = named(name);
    let parts = vec![InfoBridge::NfCallIpTables(on), InfoBridge::NfCallIp6Tables(on)];
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Bridge),
        LinkInfo::Data(InfoData::Bridge(parts)),
    ]));
    Message::route(&RouteNetlinkMessage::NewLink(message), 0, format!("change bridge {name}"))
}

/// A new intermediate functional block: a link that sends what is redirected to it back where it came from, through its own
/// queue. Being there already is an error.
#[must_use]
pub fn create_ifb(name: &str, change: &Change) -> Message {
    let mut message = named(name);
    change.apply(&mut message);
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Ifb)]));
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    Message::route(&RouteNetlinkMessage::NewLink(message), flags, format!("create link {name}"))
}

/// The end of a new veth pair that appears in another namespace.
#[derive(Clone, Debug)]
pub struct Peer<'a> {
    /// Its name there.
    pub name: &'a str,
    /// The namespace.
    pub netns: BorrowedFd<'a>,
    /// Its configuration. It cannot be up yet: the kernel opens it before it knows its pair (`ENOTCONN`).
    pub change: Change,
}

/// A new veth pair, one end here, the other born in its namespace.
#[must_use]
pub fn create_veth(name: &str, change: &Change, peer: &Peer<'_>) -> Message {
    let mut far = named(peer.name);
    peer.change.apply(&mut far);
    far.attributes.push(LinkAttribute::NetNsFd(peer.netns.as_raw_fd()));
    let mut message = named(name);
    change.apply(&mut message);
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far))),
    ]));
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    Message::route(&RouteNetlinkMessage::NewLink(message), flags, format!("create link {name}"))
}

/// Changes an interface found by name.
#[must_use]
pub fn change(name: &str, change: &Change) -> Message {
    let mut message = named(name);
    change.apply(&mut message);
    Message::route(&RouteNetlinkMessage::SetLink(message), 0, format!("change link {name}"))
}

/// Changes a bridge port found by name.
fn bridge_port(name: &str, options: Vec<InfoBridgePort>) -> Message {
    let mut message = named(name);
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(options)),
    ]));
    Message::route(&RouteNetlinkMessage::NewLink(message), 0, format!("change bridge port {name}"))
}

/// Isolated ports of a bridge cannot talk to one another, only to the bridge itself and to ports that are not isolated.
#[must_use]
pub fn isolate(name: &str, isolated: bool) -> Message {
    bridge_port(name, vec![InfoBridgePort::Isolated(isolated)])
}

/// A port in hairpin mode also gets back what it sent, when that is where it must go.
#[must_use]
pub fn hairpin(name: &str, hairpin: bool) -> Message {
    bridge_port(name, vec![InfoBridgePort::HairpinMode(hairpin)])
}

/// Takes a bridge port out of forwarding at once: unlike deleting it, this waits for nothing.
#[must_use]
pub fn block(name: &str) -> Message {
    bridge_port(name, vec![InfoBridgePort::State(BridgePortState::Disabled)])
}

/// Removes an interface found by name.
#[must_use]
pub fn delete(name: &str) -> Message {
    Message::route(&RouteNetlinkMessage::DelLink(named(name)), 0, format!("delete link {name}"))
}

/// Removes an interface by its number, whatever it is called by then.
#[must_use]
pub fn delete_index(index: u32) -> Message {
    let mut message = LinkMessage::default();
    message.header.index = index;
    Message::route(&RouteNetlinkMessage::DelLink(message), 0, format!("delete link {index}"))
}

/// All interfaces of the channel's namespace.
///
/// # Errors
/// As the kernel answers.
pub fn list(channel: &mut dyn Channel) -> Result<Vec<Link>, NetlinkError> {
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let answers = channel.query(&Message::route(&request, NLM_F_DUMP, "list links"))?;
    Ok(answers.iter().filter_map(|(kind, body)| decode(*kind, body)).collect())
}

/// One interface by name; `None` when there is none.
///
/// # Errors
/// As the kernel answers.
pub fn get(channel: &mut dyn Channel, name: &str) -> Result<Option<Link>, NetlinkError> {
    let request = RouteNetlinkMessage::GetLink(named(name));
    match channel.query(&Message::route(&request, 0, format!("find link {name}"))) {
        Ok(answers) => Ok(answers.iter().find_map(|(kind, body)| decode(*kind, body))),
        Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

fn decode(kind: u16, body: &[u8]) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = decode_route(kind, body)? else { return None };
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: Kind::Other(String::new()),
        up: message.header.flags.contains(LinkFlags::Up),
        master: None,
        lower: None,
        alias: String::new(),
        mac: Vec::new(),
        mtu: 0,
        filtered: false,
        hairpin: false,
        isolated: false,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::IfAlias(alias) => link.alias = alias,
            LinkAttribute::Controller(index) => link.master = Some(index),
            LinkAttribute::Link(index) => link.lower = Some(index),
            LinkAttribute::Address(mac) => link.mac = mac,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(InfoKind::Bridge) => link.kind = Kind::Bridge,
                        LinkInfo::Kind(InfoKind::Veth) => link.kind = Kind::Veth,
                        LinkInfo::Kind(other) => link.kind = Kind::Other(other.to_string()),
                        LinkInfo::Data(InfoData::Bridge(parts)) => {
                            let shown = |part: &InfoBridge| {
                                matches!(
                                    part,
                                    InfoBridge::NfCallIpTables(true) | InfoBridge::NfCallIp6Tables(true)
                                )
                            };
                            link.filtered = parts.iter().filter(|part| shown(part)).count() == 2;
                        }
                        LinkInfo::PortData(InfoPortData::BridgePort(parts)) => {
                            link.hairpin = parts.contains(&InfoBridgePort::HairpinMode(true));
                            link.isolated = parts.contains(&InfoBridgePort::Isolated(true));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some(link)
}
