//! Links that hang on another link: macvlan, ipvlan and VLAN sub-interfaces; and parents for them that lead nowhere.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
pub use netlink_packet_route::link::{IpVlanFlags, IpVlanMode, MacVlanMode};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoData, InfoIpVlan, InfoKind, InfoMacVlan, InfoVeth, InfoVlan, LinkAttribute, LinkInfo},
};

use super::{
    Channel, Message, NetlinkError,
    link::{Change, named},
};

/// What a sub-interface is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sub {
    /// With an Ethernet address of its own.
    Macvlan(MacVlanMode),
    /// With the parent's Ethernet address.
    Ipvlan(IpVlanMode, IpVlanFlags),
    /// Tagged frames of the parent with this identifier.
    Vlan(u16),
}

impl Sub {
    fn info(&self) -> (InfoKind, InfoData) {
        match self {
            Self::Macvlan(mode) => (InfoKind::MacVlan, InfoData::MacVlan(vec![InfoMacVlan::Mode(*mode)])),
            Self::Ipvlan(mode, flags) => {
                let info = vec![InfoIpVlan::Mode(*mode), InfoIpVlan::Flags(*flags)];
                (InfoKind::IpVlan, InfoData::IpVlan(info))
            }
            Self::Vlan(id) => (InfoKind::Vlan, InfoData::Vlan(vec![InfoVlan::Id(*id)])),
        }
    }
}

fn new_link(message: netlink_packet_route::link::LinkMessage, what: String) -> Message {
    Message::route(&RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL, what)
}

/// A new sub-interface of the link with index `parent`, here or born in another namespace. An `alias` in `change` is not
/// looked at by the kernel.
#[must_use]
pub fn create(name: &str, parent: u32, sub: &Sub, netns: Option<BorrowedFd<'_>>, change: &Change) -> Message {
    let mut message = named(name);
    change.apply(&mut message);
    message.attributes.push(LinkAttribute::Link(parent));
    message.attributes.extend(netns.map(|n| LinkAttribute::NetNsFd(n.as_raw_fd())));
    let (kind, data) = sub.info();
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind), LinkInfo::Data(data)]));
    new_link(message, format!("create link {name}"))
}

/// A link that swallows what it is given.
#[must_use]
pub fn create_dummy(name: &str, change: &Change) -> Message {
    let mut message = named(name);
    change.apply(&mut message);
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Dummy)]));
    new_link(message, format!("create link {name}"))
}

/// A veth pair with both ends here.
#[must_use]
pub fn create_pair(name: &str, peer: &str, change: &Change) -> Message {
    let mut message = named(name);
    change.apply(&mut message);
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(named(peer)))),
    ]));
    new_link(message, format!("create links {name} and {peer}"))
}

/// Whether the kernel has a kind of sub-interface. It is asked for one without a parent: a kernel that knows the kind
/// refuses that (`EINVAL`), one that does not, says so (`EOPNOTSUPP`); a module is loaded on the way.
///
/// # Errors
/// The socket failed.
pub fn is_known(channel: &mut dyn Channel, sub: &Sub) -> Result<bool, NetlinkError> {
    let mut message = named("wfprobe");
    let (kind, data) = sub.info();
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind), LinkInfo::Data(data)]));
    match channel.transact(&[new_link(message, "ask for a kind of link".to_owned())]) {
        Err(error) if error.errno() == Some(libc::EOPNOTSUPP) => Ok(false),
        Err(NetlinkError::Refused { .. }) => Ok(true),
        Err(error) => Err(error),
        Ok(()) => Ok(true),
    }
}
