//! How what a rule loads is called.

use weft_sys::nft::seen::Expr;

use super::value::Kind;

/// What a register holds: how it is called, how its bytes are read, how they were masked.
#[derive(Clone, Default)]
pub(super) struct Held {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) mask: Vec<u8>,
}

/// Bytes that a load fills.
pub(super) fn length(expr: &Expr) -> usize {
    match expr {
        Expr::Payload { length, .. } => *length,
        Expr::Meta { key: 6 | 7 | 17 | 18 | 26 | 27, .. } => 16,
        _ => 4,
    }
}

pub(super) fn load(expr: &Expr) -> Held {
    let (name, kind) = match expr {
        Expr::Meta { key, .. } => match key {
            1 => ("meta protocol", Kind::Bytes),
            3 => ("meta mark", Kind::Word),
            4 => ("iif", Kind::Word),
            5 => ("oif", Kind::Word),
            6 => ("iifname", Kind::Name),
            7 => ("oifname", Kind::Name),
            10 => ("meta skuid", Kind::Word),
            15 => ("meta nfproto", Kind::Family),
            16 => ("meta l4proto", Kind::Protocol),
            17 => ("meta ibrname", Kind::Name),
            18 => ("meta obrname", Kind::Name),
            19 => ("meta pkttype", Kind::Bytes),
            26 => ("meta iifkind", Kind::Name),
            27 => ("meta oifkind", Kind::Name),
            _ => ("meta …", Kind::Bytes),
        },
        Expr::Ct { key, direction, .. } => connection(*key, *direction == Some(1)),
        Expr::Fib { flags, result, .. } => match (flags & 1 != 0, result) {
            (false, 3) => ("fib daddr type", Kind::AddressType),
            (true, 3) => ("fib saddr type", Kind::AddressType),
            (true, _) => ("fib saddr . iif oif", Kind::Word),
            (false, _) => ("fib daddr oif", Kind::Word),
        },
        Expr::Payload { base, offset, length, .. } => payload(*base, *offset, *length),
        _ => ("", Kind::Bytes),
    };
    Held { name: name.to_owned(), kind, mask: Vec::new() }
}

/// Of the connection's record, in the direction that is asked for.
fn connection(key: u32, answers: bool) -> (&'static str, Kind) {
    let way = |original, reply| if answers { reply } else { original };
    match key {
        0 => ("ct state", Kind::State),
        1 => ("ct direction", Kind::Direction),
        2 => ("ct status", Kind::Status),
        3 => ("ct mark", Kind::Word),
        7 => (way("ct original l3proto", "ct reply l3proto"), Kind::Family),
        // NFT_CT_SRC and NFT_CT_DST are of the table's family, the others of one.
        8 => (way("ct original saddr", "ct reply saddr"), Kind::Address),
        9 => (way("ct original daddr", "ct reply daddr"), Kind::Address),
        19 => (way("ct original ip saddr", "ct reply ip saddr"), Kind::Address),
        20 => (way("ct original ip daddr", "ct reply ip daddr"), Kind::Address),
        21 => (way("ct original ip6 saddr", "ct reply ip6 saddr"), Kind::Address),
        22 => (way("ct original ip6 daddr", "ct reply ip6 daddr"), Kind::Address),
        10 => (way("ct original protocol", "ct reply protocol"), Kind::Protocol),
        11 => (way("ct original proto-src", "ct reply proto-src"), Kind::Number),
        12 => (way("ct original proto-dst", "ct reply proto-dst"), Kind::Number),
        _ => ("ct …", Kind::Bytes),
    }
}

fn payload(base: u32, offset: usize, length: usize) -> (&'static str, Kind) {
    match (base, offset, length) {
        (1, 9, 1) => ("ip protocol", Kind::Protocol),
        (1, 6, 1) => ("ip6 nexthdr", Kind::Protocol),
        (1, 12, 1..=4) => ("ip saddr", Kind::Address),
        (1, 16, 1..=4) => ("ip daddr", Kind::Address),
        (1, 8, 5..=16) => ("ip6 saddr", Kind::Address),
        (1, 24, 5..=16) => ("ip6 daddr", Kind::Address),
        (2, 0, 2) => ("th sport", Kind::Number),
        (2, 2, 2) => ("th dport", Kind::Number),
        (2, 0, 1) => ("icmp type", Kind::Number),
        (2, 13, 1) => ("tcp flags", Kind::Number),
        (0, 12, 2) => ("ether type", Kind::Bytes),
        (0, ..) => ("ether …", Kind::Bytes),
        (1, ..) => ("@nh …", Kind::Bytes),
        _ => ("@th …", Kind::Bytes),
    }
}
