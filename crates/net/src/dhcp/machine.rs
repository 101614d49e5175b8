//! The client's side of RFC 2131 (its figure 5) without sockets or clock: bytes and time come in, bytes and a decision go out.
//!
//! ```text
//!  Discover ──OFFER──▶ Request ──ACK──▶ (bound) ──T1──▶ Renew ──T2──▶ Rebind ──end of lease──▶ Discover
//!      ▲                  │NAK                           │NAK, ACK       │NAK, ACK
//!      └──────────────────┴──────────────────────────────┴───────────────┘
//! ```
//!
//! The messages are `dhcproto`'s. Not here: ARP probes of an offered address (the server's own ping is relied upon), DECLINE.

use std::net::Ipv4Addr;

use dhcproto::{
    Decodable, Encodable,
    v4::{DhcpOption, Flags, Message, MessageType, OptionCode},
};
use weft_base::Timestamp;
use weft_model::{Lease, MacAddr};

use super::datagram;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Client {
    /// Its interface's Ethernet address; also its client identifier (RFC 2132, 9.14).
    pub mac: MacAddr,
    /// Told to the server (option 12).
    pub hostname: String,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Any address.
    Discover,
    /// The address that a server offered.
    Request {
        /// The address.
        address: Ipv4Addr,
        /// The server.
        server: Ipv4Addr,
    },
    /// More time, of the server that gave the address.
    Renew(Lease),
    /// More time, of any server.
    Rebind(Lease),
}

/// One conversation.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    client: Client,
    phase: Phase,
    xid: u32,
}

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Not for us, or not now.
    Nothing,
    /// The next message is due.
    Next,
    /// The address is ours until the lease ends.
    Bound(Lease),
    /// The server says no: begin anew.
    Refused,
}

/// A packet and where it goes.
pub(super) type Outgoing = (Vec<u8>, [u8; 6]);

const EVERYBODY: [u8; 6] = [0xff; 6];
/// Lease of a server that names no time: an hour.
const UNNAMED: u32 = 3600;

impl Machine {
    pub(super) fn new(client: Client, phase: Phase, xid: u32) -> Self {
        Self { client, phase, xid }
    }

    /// The message that is due now.
    pub(super) fn message(&self) -> Option<Outgoing> {
        let mut message = self.blank();
        let options = message.opts_mut();
        let kind = if self.phase == Phase::Discover { MessageType::Discover } else { MessageType::Request };
        options.insert(DhcpOption::MessageType(kind));
        options.insert(DhcpOption::Hostname(self.client.hostname.clone()));
        options.insert(DhcpOption::ParameterRequestList(vec![
            OptionCode::SubnetMask,
            OptionCode::Router,
            OptionCode::DomainNameServer,
        ]));
        match &self.phase {
            Phase::Discover => {}
            Phase::Request { address, server } => {
                options.insert(DhcpOption::RequestedIpAddress(*address));
                options.insert(DhcpOption::ServerIdentifier(*server));
            }
            Phase::Renew(lease) | Phase::Rebind(lease) => {
                message.set_ciaddr(lease.address);
            }
        }
        let broadcast = Ipv4Addr::BROADCAST;
        match &self.phase {
            Phase::Renew(lease) => packet(&message, lease.address, lease.server, lease.server_mac.0),
            Phase::Rebind(lease) => packet(&message, lease.address, broadcast, EVERYBODY),
            Phase::Discover | Phase::Request { .. } => {
                // Without an address, an answer to it alone would be lost.
                message.set_flags(Flags::default().set_broadcast());
                packet(&message, Ipv4Addr::UNSPECIFIED, broadcast, EVERYBODY)
            }
        }
    }

    /// Gives a lease back; there is no answer to it.
    pub(super) fn release(client: &Client, lease: &Lease, xid: u32) -> Option<Outgoing> {
        let machine = Self::new(client.clone(), Phase::Discover, xid);
        let mut message = machine.blank();
        message.set_ciaddr(lease.address);
        message.opts_mut().insert(DhcpOption::MessageType(MessageType::Release));
        message.opts_mut().insert(DhcpOption::ServerIdentifier(lease.server));
        packet(&message, lease.address, lease.server, lease.server_mac.0)
    }

    fn blank(&self) -> Message {
        let mut message = Message::default();
        message.set_xid(self.xid).set_chaddr(&self.client.mac.0);
        let mut id = vec![1];
        id.extend(self.client.mac.0);
        message.opts_mut().insert(DhcpOption::ClientIdentifier(id));
        message
    }

    /// A packet that came at `now`, from this Ethernet address.
    pub(super) fn hear(&mut self, packet: &[u8], from: MacAddr, now: Timestamp) -> Heard {
        let message = datagram::unwrap(packet).and_then(datagram::plain);
        let message = message.and_then(|bytes| Message::from_bytes(&bytes).ok());
        let ours = |m: &Message| m.xid() == self.xid && m.chaddr().get(..6) == Some(&self.client.mac.0[..]);
        let Some(message) = message.filter(ours) else { return Heard::Nothing };
        let server = match message.opts().get(OptionCode::ServerIdentifier) {
            Some(DhcpOption::ServerIdentifier(ip)) => *ip,
            _ => return Heard::Nothing,
        };
        match (message.opts().msg_type(), &self.phase) {
            (Some(MessageType::Offer), Phase::Discover) if !message.yiaddr().is_unspecified() => {
                self.phase = Phase::Request { address: message.yiaddr(), server };
                Heard::Next
            }
            // Another server's opinion counts only where anybody was asked.
            (Some(MessageType::Nak), Phase::Request { server: asked, .. }) if *asked == server => {
                Heard::Refused
            }
            (Some(MessageType::Nak), Phase::Renew(_) | Phase::Rebind(_)) => Heard::Refused,
            (Some(MessageType::Ack), phase) if *phase != Phase::Discover => {
                lease(&message, server, from, now).map_or(Heard::Nothing, Heard::Bound)
            }
            _ => Heard::Nothing,
        }
    }
}

fn packet(message: &Message, from: Ipv4Addr, to: Ipv4Addr, mac: [u8; 6]) -> Option<Outgoing> {
    Some((datagram::wrap(from, to, &message.to_vec().ok()?), mac))
}

/// What an acknowledgement grants; `None` where it makes no sense.
fn lease(message: &Message, server: Ipv4Addr, from: MacAddr, now: Timestamp) -> Option<Lease> {
    let get = |code| message.opts().get(code);
    let address = message.yiaddr();
    // No station sends from a group's address.
    if from.0[0] & 1 == 1 {
        return None;
    }
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() || address.is_broadcast() {
        return None;
    }
    let seconds = match get(OptionCode::AddressLeaseTime) {
        Some(DhcpOption::AddressLeaseTime(seconds)) => (*seconds).max(1),
        _ => UNNAMED,
    };
    let mask = match get(OptionCode::SubnetMask) {
        Some(DhcpOption::SubnetMask(mask)) => u32::from(*mask),
        _ => u32::MAX << 8,
    };
    let prefix = u8::try_from(mask.leading_ones()).ok().filter(|p| mask.count_ones() == u32::from(*p))?;
    let gateway = match get(OptionCode::Router) {
        Some(DhcpOption::Router(all)) => all.first().copied().filter(|ip| !ip.is_unspecified()),
        _ => None,
    };
    let dns = match get(OptionCode::DomainNameServer) {
        Some(DhcpOption::DomainNameServer(all)) => all.clone(),
        _ => Vec::new(),
    };
    // RFC 2131, 4.4.5: half, and seven eighths.
    let renew = match get(OptionCode::Renewal) {
        Some(DhcpOption::Renewal(t1)) if *t1 < seconds => *t1,
        _ => seconds / 2,
    };
    let rebind = match get(OptionCode::Rebinding) {
        Some(DhcpOption::Rebinding(t2)) if *t2 < seconds && *t2 >= renew => *t2,
        // A T1 later than that leaves T2 no earlier moment (T1 is never later than T2).
        _ => (seconds - seconds / 8).max(renew),
    };
    Some(Lease {
        address,
        prefix,
        gateway,
        dns,
        server,
        server_mac: from,
        obtained: now,
        renew,
        rebind,
        seconds,
    })
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
