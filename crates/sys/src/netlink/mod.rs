//! Netlink, synchronously: requests are built as plain [`Message`]s, several of them go to the kernel in one
//! `sendmsg`, and all acknowledgements are read back at once.
//!
//! Why not an async connection: the kernel executes rtnetlink and nfnetlink requests *inside* `sendmsg`. When it
//! returns, every acknowledgement is already in the socket's queue; there is nothing to await. An async client costs
//! a task and a registration for every namespace it talks to, and a round trip for every message. Here a container's whole
//! interface is two system calls.
//!
//! A socket belongs for life to the network namespace it was opened in; see [`crate::netns`] for opening one elsewhere.
//! The messages of links, addresses and routes are encoded by `netlink-packet-route`; nftables and conntrack, which it
//! does not know, by the attribute writer in [`attr`].

pub mod address;
pub mod attr;
pub mod branch;
mod channel;
pub mod detail;
#[cfg(test)]
mod fuzz_tests;
pub mod host_route;
pub mod link;
pub mod lookup;
mod marks;
pub mod onlink;
pub mod route;
pub mod rules;
pub mod tc;
pub mod watch;

pub use channel::{Answers, Channel, FakeChannel, Family, NetlinkError, Socket};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;

/// One request, without the header's length and sequence number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`; `NLM_F_REQUEST | NLM_F_ACK` are added on the way out.
    pub flags: u16,
    /// What follows the header.
    pub body: Vec<u8>,
    /// Error numbers (positive) that mean the machine is already as asked.
    pub tolerate: &'static [i32],
    /// What this does, for people.
    pub what: String,
}

impl Message {
    /// A request of rtnetlink.
    #[must_use]
    pub fn route(message: &RouteNetlinkMessage, flags: u16, what: impl Into<String>) -> Self {
        let mut body = vec![0; message.buffer_len()];
        message.serialize(&mut body);
        Self { kind: message.message_type(), flags, body, tolerate: &[], what: what.into() }
    }

    /// The same, with error numbers that count as success.
    #[must_use]
    pub fn tolerating(mut self, errors: &'static [i32]) -> Self {
        self.tolerate = errors;
        self
    }

    /// Appends header and body, padded to four bytes.
    fn write(&self, sequence: u32, out: &mut Vec<u8>) {
        let length = u32::try_from(HEADER + self.body.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_ne_bytes());
        out.extend_from_slice(&self.kind.to_ne_bytes());
        out.extend_from_slice(&(self.flags | NLM_F_REQUEST).to_ne_bytes());
        out.extend_from_slice(&sequence.to_ne_bytes());
        out.extend_from_slice(&0u32.to_ne_bytes());
        out.extend_from_slice(&self.body);
        out.resize(out.len().next_multiple_of(4), 0);
    }

    fn acknowledged(&self) -> Self {
        let mut copy = self.clone();
        copy.flags |= NLM_F_ACK;
        copy
    }
}

/// Bytes of a netlink header.
const HEADER: usize = 16;

/// Of each kind of message that is decoded (new and deleted): its number, the bytes of its fixed part, and the attributes that are
/// read, which are few: the codec knows all the others, too, and panics on some that are cut short (`IFLA_WIRELESS`, `RTA_FLOW`).
const READ: [(u16, usize, &[u16]); 3] = [
    // Links (`struct ifinfomsg`, `IFLA_*`): address, name, MTU, link, master, kind, alias.
    (16, 16, &[1, 3, 4, 5, 10, 18, 20]),
    // Addresses (`struct ifaddrmsg`, `IFA_*`): of the peer, its own.
    (20, 8, &[1, 2]),
    // Routes (`struct rtmsg`, `RTA_*`): destination, link, gateway, metric, table.
    (24, 12, &[1, 4, 5, 6, 15]),
];

/// A message with no other attributes than those that are read; `None` when it is of another kind, or cut short.
fn plain(kind: u16, body: &[u8]) -> Option<Vec<u8>> {
    let (_, fixed, read) = READ.iter().find(|(new, ..)| [*new, *new + 1].contains(&kind))?;
    let (fixed, attributes) = body.split_at_checked(*fixed)?;
    let wanted = attr::read(attributes).filter(|(kind, _)| read.contains(kind));
    let kept = wanted.fold(attr::Attrs::new(), |kept, (kind, payload)| kept.bytes(kind, payload));
    Some([fixed, kept.as_bytes()].concat())
}

/// Decodes one answer of rtnetlink; an answer this version of the codec cannot read is `None` and logged.
#[must_use]
pub fn decode_route(kind: u16, body: &[u8]) -> Option<RouteNetlinkMessage> {
    let body = plain(kind, body)?;
    let mut header = NetlinkHeader::default();
    header.message_type = kind;
    header.length = u32::try_from(HEADER + body.len()).ok()?;
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(&header.length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&[0; 10]);
    bytes.extend_from_slice(&body);
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes) {
        Ok(NetlinkMessage { payload: NetlinkPayload::InnerMessage(inner), .. }) => Some(inner),
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(kind, %error, "unreadable rtnetlink answer");
            None
        }
    }
}
