//! Expressions: a rule is a small program over registers. Sixteen registers of four bytes; [`Reg`] counts them from 0.

use crate::netlink::attr::Attrs;

/// A register: the first of as many four-byte registers as the value needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reg(pub u32);

impl Reg {
    /// `NFT_REG32_00` is 8.
    const fn number(self) -> u32 {
        8 + self.0
    }
}

/// Parts of a packet's context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Meta {
    /// The Ethernet type, network order, 16 bits.
    Protocol = 1,
    /// The packet's mark, 32 bits.
    Mark = 3,
    /// Index of the interface it came by, 32 bits.
    Iif = 4,
    /// Name of the interface it came by, 16 bytes.
    Iifname = 6,
    /// Name of the interface it leaves by, 16 bytes.
    Oifname = 7,
    /// 2 for IPv4, 10 for IPv6.
    Nfproto = 15,
    /// Transport protocol number.
    L4proto = 16,
    /// For whom the frame is (`PACKET_HOST` is 0), 8 bits.
    Pkttype = 19,
}

/// Parts of a connection's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Ct {
    /// A bit of [`ct_state`].
    State = 0,
    /// Whether the packet goes the first way (0) or answers (1): one byte.
    Direction = 1,
    /// Bits of [`ct_status`].
    Status = 2,
    /// Transport protocol number.
    Protocol = 10,
}

/// Parts of a connection's tuples: what one direction of it looks like, whichever way the packet at hand goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Tuple {
    /// Source port.
    SourcePort = 11,
    /// Destination port.
    DestinationPort = 12,
    /// IPv4 source; goes on only if the connection is IPv4.
    Source4 = 19,
    /// IPv4 destination; the same.
    Destination4 = 20,
    /// IPv6 source; goes on only if the connection is IPv6.
    Source6 = 21,
    /// IPv6 destination; the same.
    Destination6 = 22,
}

/// Bits of a connection's state, host order.
pub mod ct_state {
    /// Of no connection that is known.
    pub const INVALID: u32 = 1;
    /// The first packet of a connection.
    pub const NEW: u32 = 8;
    /// Answered.
    pub const ESTABLISHED: u32 = 2;
    /// An error message or a helper's connection.
    pub const RELATED: u32 = 4;
}

/// Bits of a connection's status, host order.
pub mod ct_status {
    /// An earlier packet of it has passed all chains.
    pub const CONFIRMED: u32 = 8;
    /// Its destination was translated.
    pub const DNAT: u32 = 32;
}

/// Where a payload's offset counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Base {
    /// Ethernet header.
    Link = 0,
    /// IP header.
    Network = 1,
    /// TCP, UDP or SCTP header.
    Transport = 2,
}

/// What becomes of the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No more chains of this hook and priority.
    Accept,
    /// The end.
    Drop,
    /// On in another chain, and back.
    Jump(String),
}

/// One expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Loads context.
    Meta(Meta, Reg),
    /// Sets context.
    SetMeta(Meta, Reg),
    /// Loads connection record.
    Ct(Ct, Reg),
    /// Loads a part of the connection's first (`false`) or answering (`true`) direction.
    Tuple(Tuple, bool, Reg),
    /// Loads bytes that are given.
    Load(Vec<u8>, Reg),
    /// Loads bytes of the packet: base, offset, length.
    Payload(Base, u32, u32, Reg),
    /// Writes bytes into the packet: base, offset, length. No checksum is mended: of the Ethernet header there is none.
    SetPayload(Base, u32, u32, Reg),
    /// Loads the type of the destination address (`RTN_*`, host order).
    FibDaddrType(Reg),
    /// Goes on if the register equals (`true`) or differs (`false`).
    Cmp(Reg, bool, Vec<u8>),
    /// Masks four-byte words: register, mask.
    And(Reg, Vec<u8>),
    /// Goes on if the register's value is in the set (`true`), or is not (`false`).
    In(&'static str, Reg, bool),
    /// Replaces the first register's value by what the map has for it; goes on if there is something.
    Map(&'static str, Reg, Reg),
    /// Runs the verdict the map has for the register's value; goes on if there is none.
    VerdictMap(&'static str, Reg),
    /// Ends.
    Verdict(Verdict),
    /// Counts packets and bytes.
    Counter,
    /// Translates the destination to address and port in registers; IPv6 if `true`.
    Dnat(bool, Reg, Reg),
    /// Translates the destination to the address in the register and leaves the port; IPv6 if `true`.
    DnatAddress(bool, Reg),
    /// Adds the register's value to the set, or begins its time anew; ends the rule when the set is full.
    Update(&'static str, Reg),
    /// Goes on if packets with the register's value come more often than so many a second, after so many at once; the set keeps
    /// a measure for each value. What the set has no room for is not measured: the rule ends.
    Over(&'static str, Reg, u32, u32),
    /// Translates the source to the address in the register; IPv6 if `true`.
    Snat(bool, Reg),
    /// Translates the source to the address of the interface it leaves by.
    Masquerade,
    /// Translates the destination to an address of the interface it came by, and leaves the port.
    Redirect,
    /// Translates the source to the address in the register and leaves the port; IPv6 if `true`.
    SnatAddress(bool, Reg),
    /// Sends it by the interface with the number in the register, as if it went out there; ends.
    Forward(Reg),
}

impl Expr {
    pub(super) fn encode(&self) -> Attrs {
        let (name, data) = self.parts();
        Attrs::new().text(1, name).nest(2, &data)
    }

    /// As a set's expression: name and data, without a list around them.
    pub(super) fn parts_of_set(&self) -> Attrs {
        self.encode()
    }

    fn parts(&self) -> (&'static str, Attrs) {
        let a = Attrs::new();
        match self {
            Self::Meta(key, reg) => ("meta", a.be32(1, reg.number()).be32(2, *key as u32)),
            Self::SetMeta(key, reg) => ("meta", a.be32(2, *key as u32).be32(3, reg.number())),
            Self::Ct(key, reg) => ("ct", a.be32(1, reg.number()).be32(2, *key as u32)),
            Self::Tuple(key, answer, reg) => {
                ("ct", a.be32(1, reg.number()).be32(2, *key as u32).u8(3, u8::from(*answer)))
            }
            Self::Load(value, reg) => {
                ("immediate", a.be32(1, reg.number()).nest(2, &Attrs::new().bytes(1, value)))
            }
            Self::Payload(base, offset, length, reg) => {
                ("payload", a.be32(1, reg.number()).be32(2, *base as u32).be32(3, *offset).be32(4, *length))
            }
            Self::SetPayload(base, offset, length, reg) => {
                ("payload", a.be32(2, *base as u32).be32(3, *offset).be32(4, *length).be32(5, reg.number()))
            }
            // Result 3 is the address type, flag 2 the destination.
            Self::FibDaddrType(reg) => ("fib", a.be32(1, reg.number()).be32(2, 3).be32(3, 2)),
            Self::Cmp(reg, equal, value) => (
                "cmp",
                a.be32(1, reg.number()).be32(2, u32::from(!equal)).nest(3, &Attrs::new().bytes(1, value)),
            ),
            Self::And(reg, mask) => {
                let length = u32::try_from(mask.len()).unwrap_or_default();
                let zero = vec![0; mask.len()];
                let data = a.be32(1, reg.number()).be32(2, reg.number()).be32(3, length);
                ("bitwise", data.nest(4, &Attrs::new().bytes(1, mask)).nest(5, &Attrs::new().bytes(1, &zero)))
            }
            Self::In(set, reg, inside) => {
                let data = a.text(1, set).be32(2, reg.number());
                ("lookup", if *inside { data } else { data.be32(5, 1) })
            }
            Self::Map(set, from, to) => {
                ("lookup", a.text(1, set).be32(2, from.number()).be32(3, to.number()))
            }
            // Register 0 takes verdicts.
            Self::VerdictMap(set, reg) => ("lookup", a.text(1, set).be32(2, reg.number()).be32(3, 0)),
            Self::Verdict(verdict) => ("immediate", a.be32(1, 0).nest(2, &verdict.data())),
            Self::Counter => ("counter", a.bytes(1, &[0; 8]).bytes(2, &[0; 8])),
            Self::Dnat(v6, address, port) => {
                let family = if *v6 { 10 } else { 2 };
                let data = a.be32(1, 1).be32(2, family).be32(3, address.number()).be32(5, port.number());
                ("nat", data)
            }
            Self::DnatAddress(v6, address) => {
                let family = if *v6 { 10 } else { 2 };
                ("nat", a.be32(1, 1).be32(2, family).be32(3, address.number()))
            }
            Self::Snat(v6, address) => {
                let family = if *v6 { 10 } else { 2 };
                ("nat", a.be32(1, 0).be32(2, family).be32(3, address.number()))
            }
            // Operation 1 is update.
            Self::Update(set, reg) => ("dynset", a.text(1, set).be32(3, 1).be32(4, reg.number())),
            Self::Over(set, reg, rate, burst) => {
                // Rate, a second, burst, packets; flag 1: what is over it.
                let limit = Attrs::new().bytes(1, &u64::from(*rate).to_be_bytes());
                let limit = limit.bytes(2, &1u64.to_be_bytes()).be32(3, *burst).be32(4, 0).be32(5, 1);
                let limit = Attrs::new().text(1, "limit").nest(2, &limit);
                ("dynset", a.text(1, set).be32(3, 1).be32(4, reg.number()).nest(7, &limit))
            }
            Self::Masquerade => ("masq", a),
            Self::Redirect => ("redir", a),
            Self::SnatAddress(v6, address) => {
                let family = if *v6 { 10 } else { 2 };
                ("nat", a.be32(1, 0).be32(2, family).be32(3, address.number()))
            }
            Self::Forward(reg) => ("fwd", a.be32(1, reg.number())),
        }
    }
}

impl Verdict {
    fn data(&self) -> Attrs {
        let code = |code: i32| Attrs::new().be32(1, code.cast_unsigned());
        let inner = match self {
            Self::Accept => code(1),
            Self::Drop => code(0),
            Self::Jump(chain) => code(-3).text(2, chain),
        };
        Attrs::new().nest(2, &inner)
    }
}

/// `NFT_RETURN`.
pub(super) const RETURN: i32 = -5;

/// Data of a map's element that lets a packet go on (`return`), or drops it.
pub(super) fn code_data(passes: bool) -> Attrs {
    let code: i32 = if passes { RETURN } else { 0 };
    Attrs::new().nest(2, &Attrs::new().be32(1, code.cast_unsigned()))
}

/// Data of a map's element that jumps.
pub(super) fn jump_data(chain: &str) -> Attrs {
    Verdict::Jump(chain.to_owned()).data()
}

/// An interface's name as 16 bytes, zeros after it.
#[must_use]
pub fn ifname(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}
