//! The packet on its way: addresses, ports, marks, and its headers as far as they are known. A byte that is not known is
//! `None`, and what depends on it cannot be told.

use std::net::IpAddr;

use weft_dataplane::insight::Transport;

/// Bits of `ct status`.
pub(crate) const SRC_NAT: u32 = 16;
pub(crate) const DST_NAT: u32 = 32;
const SEEN_REPLY: u32 = 2;
const CONFIRMED: u32 = 8;

/// The port (of ICMP the identifier) that a sender is taken to choose for itself: one of `ip_local_port_range`. Rules that ask
/// for just this one are not worth a doubt about all those that ask for a range of ports.
pub(crate) const EPHEMERAL: u16 = 40_000;

/// A byte, if it is known.
pub(crate) type Byte = Option<u8>;

/// An interface, for rules that ask for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Via {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) kind: String,
}

/// A connection in one direction: as packets of that direction look when they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tuple {
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    pub(crate) source: Option<u16>,
    pub(crate) port: Option<u16>,
}

impl Tuple {
    /// The other direction, where nothing is translated.
    pub(crate) fn turned(self) -> Self {
        Self { from: self.to, to: self.from, source: self.port, port: self.source }
    }
}

/// A packet.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) transport: Transport,
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    pub(crate) source: Option<u16>,
    pub(crate) port: Option<u16>,
    pub(crate) mark: u32,
    pub(crate) input: Option<Via>,
    pub(crate) output: Option<Via>,
    /// Bits of translations that were made.
    pub(crate) translated: u32,
    /// No connection is kept of it.
    pub(crate) untracked: bool,
    /// The host's own rules have let its client in (the policy `host-firewall`), and it asks again.
    pub(crate) let_in: bool,
    /// It answers.
    pub(crate) answer: bool,
    /// It follows the answer, in a connection that is known by then.
    pub(crate) further: bool,
    /// How the connection began.
    pub(crate) original: Tuple,
    /// How it is answered, in a connection that is known.
    pub(crate) answered: Option<Tuple>,
}

impl Packet {
    pub(crate) fn new(transport: Transport, from: IpAddr, to: IpAddr, port: Option<u16>) -> Self {
        let source = (transport != Transport::Icmp).then_some(EPHEMERAL);
        Self {
            transport,
            from,
            to,
            source,
            port,
            mark: 0,
            input: None,
            output: None,
            translated: 0,
            untracked: false,
            let_in: false,
            answer: false,
            further: false,
            original: Tuple { from, to, source, port },
            answered: None,
        }
    }

    /// Its own addresses and ports, as they are now.
    pub(crate) fn own(&self) -> Tuple {
        Tuple { from: self.from, to: self.to, source: self.source, port: self.port }
    }

    /// The connection as its record has it, of what began it or of what answers. Translations that the first packet has met
    /// so far are in the record already.
    pub(crate) fn tuple(&self, answers: bool) -> Tuple {
        if answers { self.answered.unwrap_or_else(|| self.own().turned()) } else { self.original }
    }

    pub(crate) fn v6(&self) -> bool {
        self.to.is_ipv6()
    }

    /// IP protocol number.
    pub(crate) fn protocol(&self) -> u8 {
        match self.transport {
            Transport::Tcp => 6,
            Transport::Udp => 17,
            Transport::Sctp => 132,
            Transport::Icmp if self.v6() => 58,
            Transport::Icmp => 1,
        }
    }

    /// What a policy rule may ask for.
    pub(crate) fn service(&self) -> Option<(u8, u16)> {
        self.port.filter(|_| self.transport != Transport::Icmp).map(|port| (self.protocol(), port))
    }

    /// Whether it has ports.
    pub(crate) fn service_protocol(&self) -> bool {
        self.transport != Transport::Icmp
    }

    /// `ct state`.
    pub(crate) fn state(&self) -> u32 {
        match (self.untracked, self.known()) {
            (true, _) => 64,
            (false, true) => 2,
            (false, false) => 8,
        }
    }

    /// It belongs to a connection that began earlier.
    pub(crate) fn known(&self) -> bool {
        self.answer || self.further
    }

    /// `ct status`.
    pub(crate) fn status(&self) -> u32 {
        self.translated | if self.known() { SEEN_REPLY | CONFIRMED } else { 0 }
    }

    /// The answer to this one.
    pub(crate) fn reply(&self) -> Self {
        Self {
            from: self.to,
            to: self.from,
            source: self.port,
            port: self.source,
            input: None,
            output: None,
            mark: 0,
            answer: true,
            ..self.clone()
        }
    }

    /// `tcp 10.1.0.2 -> 10.1.0.3:80`.
    pub(crate) fn text(&self) -> String {
        let shown = |ip: IpAddr, port: Option<u16>| match (ip, port) {
            (ip, None) => ip.to_string(),
            (IpAddr::V4(ip), Some(port)) => format!("{ip}:{port}"),
            (IpAddr::V6(ip), Some(port)) => format!("[{ip}]:{port}"),
        };
        let name = self.transport.as_str();
        // The sender's own port is one of many.
        let (source, port) = if self.answer { (self.source, None) } else { (None, self.port) };
        format!("{name} {} -> {}", shown(self.from, source), shown(self.to, port))
    }

    /// Network header.
    pub(crate) fn network(&self) -> Vec<Byte> {
        match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut bytes: Vec<Byte> = vec![None; 20];
                // No fragment.
                (bytes[0], bytes[6], bytes[7]) = (Some(0x45), Some(0x40), Some(0));
                bytes[9] = Some(self.protocol());
                put(&mut bytes, 12, &from.octets());
                put(&mut bytes, 16, &to.octets());
                bytes
            }
            (from, to) => {
                let octets = |ip| match ip {
                    IpAddr::V6(ip) => std::net::Ipv6Addr::octets(&ip),
                    IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                };
                let mut bytes: Vec<Byte> = vec![None; 40];
                bytes[6] = Some(self.protocol());
                put(&mut bytes, 8, &octets(from));
                put(&mut bytes, 24, &octets(to));
                bytes
            }
        }
    }

    /// Transport header.
    pub(crate) fn transport_header(&self) -> Vec<Byte> {
        let mut bytes: Vec<Byte> = vec![None; 20];
        if self.transport == Transport::Icmp {
            bytes[0] = Some(echo(self.v6(), self.answer));
            bytes[1] = Some(0);
            return bytes;
        }
        for (at, port) in [(0, self.source), (2, self.port)] {
            if let Some(port) = port {
                put(&mut bytes, at, &port.to_be_bytes());
            }
        }
        if self.transport == Transport::Tcp {
            // SYN, SYN with ACK, and ACK.
            bytes[13] = Some(match (self.answer, self.further) {
                (true, _) => 0x12,
                (false, true) => 0x10,
                (false, false) => 0x02,
            });
        }
        bytes
    }
}

/// Type of an echo request, or of its reply.
pub(crate) fn echo(v6: bool, answer: bool) -> u8 {
    match (v6, answer) {
        (false, false) => 8,
        (false, true) => 0,
        (true, false) => 128,
        (true, true) => 129,
    }
}

fn put(bytes: &mut [Byte], at: usize, value: &[u8]) {
    for (slot, byte) in bytes.iter_mut().skip(at).zip(value) {
        *slot = Some(*byte);
    }
}
