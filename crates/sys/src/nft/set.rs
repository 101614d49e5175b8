//! Sets and maps: their types and the encoding of their elements.
//!
//! Keys of several fields ("concatenations") pad each field to four bytes. The kernel wants lengths only; the type numbers
//! are for people's `nft list` (nftables' `datatype.h`: six bits a field).

use super::Element;
use crate::netlink::attr::Attrs;

/// A field of a key or of mapped data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// IPv4 address.
    Ipv4,
    /// IPv6 address.
    Ipv6,
    /// IP protocol number.
    Protocol,
    /// TCP, UDP or SCTP port.
    Service,
    /// Interface name.
    Ifname,
    /// Interface index.
    Interface,
    /// 32 bits with a meaning of our own.
    Mark,
}

impl Field {
    const fn number(self) -> u32 {
        match self {
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::Protocol => 12,
            Self::Service => 13,
            Self::Ifname => 41,
            Self::Interface => 20,
            Self::Mark => 19,
        }
    }

    const fn length(self) -> u32 {
        match self {
            Self::Ipv4 | Self::Mark | Self::Interface => 4,
            Self::Ipv6 | Self::Ifname => 16,
            Self::Protocol => 1,
            Self::Service => 2,
        }
    }
}

/// What a set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Keys.
    Plain,
    /// Ranges of keys.
    Interval,
    /// Keys mapped to data.
    Map(&'static [Field]),
    /// Ranges of keys mapped to data.
    IntervalMap(&'static [Field]),
    /// Keys of several fields, the last one a range, mapped to data (Linux 5.6).
    Ranges(&'static [Field]),
    /// Keys that packets add, each for so many seconds, and never more than so many of them.
    Passing {
        /// Seconds.
        seconds: u32,
        /// How many.
        most: u32,
    },
    /// Keys mapped to verdicts.
    Verdicts,
    /// The same; each element counts packets and bytes.
    CountedVerdicts,
}

/// A set or map of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set {
    /// Name.
    pub name: &'static str,
    /// Key.
    pub key: &'static [Field],
    /// What it holds.
    pub shape: Shape,
}

/// Byte order of a key, which only `nft list` asks for: names and numbers of interfaces are in the host's, all else in the network's
/// (libnftnl's `NFTNL_UDATA_SET_KEYBYTEORDER`: type, length, a word in host order).
fn byte_order(fields: &[Field]) -> Vec<u8> {
    let order: u32 = if matches!(fields, [Field::Ifname | Field::Interface]) { 1 } else { 2 };
    let mut udata = vec![0, 4];
    udata.extend_from_slice(&order.to_ne_bytes());
    udata
}

/// Type number and length in bytes.
fn describe(fields: &[Field]) -> (u32, u32) {
    match fields {
        [one] => (one.number(), one.length()),
        many => many.iter().fold((0, 0), |(number, length), field| {
            (number << 6 | field.number(), length + field.length().next_multiple_of(4))
        }),
    }
}

const MAP: u32 = 8;
const INTERVAL: u32 = 4;
const TIMEOUT: u32 = 0x10;
/// Packets may change it.
const EVAL: u32 = 0x20;
const CONCAT: u32 = 0x80;
const VERDICT_TYPE: u32 = 0xffff_ff00;
const INTERVAL_END: u32 = 1;
const CATCHALL: u32 = 2;

impl Set {
    pub(super) fn encode(&self, table: &str, id: u32) -> Attrs {
        let (key, key_length) = describe(self.key);
        let attrs = |flags: u32| {
            Attrs::new().text(1, table).text(2, self.name).be32(3, flags).be32(4, key).be32(5, key_length)
        };
        let attrs = match self.shape {
            Shape::Plain => attrs(0),
            Shape::Interval => attrs(INTERVAL),
            Shape::Verdicts => attrs(MAP).be32(6, VERDICT_TYPE),
            Shape::CountedVerdicts => {
                // `NFTA_SET_EXPR`: each new element gets a copy.
                let counter = super::expr::Expr::Counter.parts_of_set();
                attrs(MAP).be32(6, VERDICT_TYPE).nest(17, &counter)
            }
            Shape::IntervalMap(data) => {
                let (data, length) = describe(data);
                attrs(MAP | INTERVAL).be32(6, data).be32(7, length)
            }
            Shape::Map(data) => {
                let (data, length) = describe(data);
                attrs(MAP).be32(6, data).be32(7, length)
            }
            Shape::Ranges(data) => {
                let (data, length) = describe(data);
                let field = |list: Attrs, f: &Field| list.nest(1, &Attrs::new().be32(1, f.length()));
                let fields = self.key.iter().fold(Attrs::new(), field);
                let attrs = attrs(MAP | INTERVAL | CONCAT).be32(6, data).be32(7, length);
                attrs.nest(9, &Attrs::new().nest(2, &fields))
            }
            Shape::Passing { seconds, most } => {
                let milliseconds = u64::from(seconds) * 1000;
                let attrs = attrs(TIMEOUT | EVAL).bytes(11, &milliseconds.to_be_bytes());
                attrs.nest(9, &Attrs::new().be32(1, most))
            }
        };
        attrs.be32(10, id).bytes(13, &byte_order(self.key))
    }

    pub(super) fn encode_elements(&self, table: &str, elements: &[Element]) -> Attrs {
        let list = elements.iter().fold(Attrs::new(), |list, e| list.nest(1, &self.encode_element(e)));
        Attrs::new().text(1, table).text(2, self.name).nest(3, &list)
    }

    fn encode_element(&self, element: &Element) -> Attrs {
        if element.catchall {
            return Attrs::new().nest(2, &Attrs::new().bytes(1, &element.data)).be32(3, CATCHALL);
        }
        let attrs = Attrs::new().nest(1, &Attrs::new().bytes(1, &element.key));
        let attrs = match (self.shape, &element.jump) {
            (Shape::Verdicts, Some(chain)) => attrs.nest(2, &super::expr::jump_data(chain)),
            (Shape::CountedVerdicts, _) => attrs.nest(2, &super::expr::code_data(element.passes)),
            (Shape::Map(_), _) => attrs.nest(2, &Attrs::new().bytes(1, &element.data)),
            (Shape::IntervalMap(_), _) if !element.end => {
                attrs.nest(2, &Attrs::new().bytes(1, &element.data))
            }
            (Shape::Ranges(_), _) => {
                let attrs = attrs.nest(2, &Attrs::new().bytes(1, &element.data));
                attrs.nest(10, &Attrs::new().bytes(1, &element.key_end))
            }
            _ => attrs,
        };
        if element.end { attrs.be32(3, INTERVAL_END) } else { attrs }
    }
}
