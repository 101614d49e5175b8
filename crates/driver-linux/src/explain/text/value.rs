//! Values as `nft` writes them.

use std::net::{Ipv4Addr, Ipv6Addr};

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Bytes,
    Address,
    Number,
    /// A word of the host's order.
    Word,
    Name,
    Protocol,
    Family,
    State,
    Status,
    AddressType,
    Direction,
}

pub(super) fn value(kind: Kind, bytes: &[u8]) -> String {
    let word = || bytes.get(..4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes);
    match kind {
        Kind::Address => address(bytes),
        Kind::Number => bytes.iter().fold(0u64, |n, b| n << 8 | u64::from(*b)).to_string(),
        Kind::Word => format!("{:#x}", word()),
        Kind::Name => {
            let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
            format!("\"{}\"", String::from_utf8_lossy(&bytes[..end]))
        }
        Kind::Protocol => match bytes.first() {
            Some(1) => "icmp".into(),
            Some(6) => "tcp".into(),
            Some(17) => "udp".into(),
            Some(58) => "ipv6-icmp".into(),
            Some(132) => "sctp".into(),
            Some(n) => n.to_string(),
            None => String::new(),
        },
        Kind::Family => match bytes.first() {
            Some(2) => "ipv4".into(),
            Some(10) => "ipv6".into(),
            _ => hex(bytes),
        },
        Kind::State => states(word()),
        Kind::Status => named(word(), &[(2, "seen-reply"), (8, "confirmed"), (16, "snat"), (32, "dnat")]),
        Kind::Direction => if bytes.first() == Some(&1) { "reply" } else { "original" }.into(),
        Kind::AddressType => match word() {
            1 => "unicast".into(),
            2 => "local".into(),
            3 => "broadcast".into(),
            5 => "multicast".into(),
            n => n.to_string(),
        },
        Kind::Bytes => hex(bytes),
    }
}

fn address(bytes: &[u8]) -> String {
    if bytes.len() <= 4 {
        let mut octets = [0; 4];
        octets[..bytes.len()].copy_from_slice(bytes);
        Ipv4Addr::from(octets).to_string()
    } else {
        let mut octets = [0; 16];
        let length = bytes.len().min(16);
        octets[..length].copy_from_slice(&bytes[..length]);
        Ipv6Addr::from(octets).to_string()
    }
}

pub(super) fn states(bits: u32) -> String {
    named(bits, &[(1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked")])
}

fn named(bits: u32, names: &[(u32, &str)]) -> String {
    let known: Vec<&str> = names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    if known.is_empty() { format!("{bits:#x}") } else { known.join(",") }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    format!("0x{digits}")
}
