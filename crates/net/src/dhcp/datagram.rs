//! IPv4 and UDP around a DHCP message (RFC 791, RFC 768). Foreign bytes are read here: nothing panics.
//!
//! A received UDP checksum is not looked at: between interfaces of one host it is often left to hardware that is not there.

use std::net::Ipv4Addr;

const CLIENT: u16 = 68;
const SERVER: u16 = 67;
const IP: usize = 20;
const UDP: usize = 8;

/// A packet from client to server.
pub(super) fn wrap(from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(1472)];
    let udp_length = u16::try_from(UDP + payload.len()).unwrap_or(u16::MAX);
    let total = udp_length.saturating_add(20);
    let mut packet = vec![0x45, 0x10];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    let sum = checksum(packet.iter().copied());
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut udp = Vec::with_capacity(usize::from(udp_length));
    udp.extend(CLIENT.to_be_bytes());
    udp.extend(SERVER.to_be_bytes());
    udp.extend(udp_length.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    let pseudo = from.octets().into_iter().chain(to.octets()).chain([0, 17]).chain(udp_length.to_be_bytes());
    // 0 would mean "none".
    let sum = match checksum(pseudo.chain(udp.iter().copied())) {
        0 => u16::MAX,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    packet.extend(udp);
    packet
}

/// What a server sent to a client; `None` for anything else.
pub(super) fn unwrap(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    let header = usize::from(first & 15) * 4;
    let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    let fits = first >> 4 == 4 && header >= IP && *packet.get(9)? == 17;
    let udp = packet.get(header..total).filter(|_| fits)?;
    let word = |at: usize| Some(u16::from_be_bytes([*udp.get(at)?, *udp.get(at + 1)?]));
    let ports = (word(0)?, word(2)?) == (SERVER, CLIENT);
    udp.get(UDP..usize::from(word(4)?)).filter(|_| ports)
}

/// Where options begin: behind the fixed part and the magic cookie (RFC 2131 figure 1).
const OPTIONS: usize = 240;
/// The options that are read: subnet mask, routers, name servers, lease time, message type, server, T1 and T2 (RFC 2132).
const READ: [u8; 8] = [1, 3, 6, 51, 53, 54, 58, 59];

/// The longest hardware address that the fixed part has room for (`chaddr`), and where the length of it stands (`hlen`).
const LONGEST_ADDRESS: u8 = 16;
const ADDRESS_LENGTH: usize = 2;

/// The message with no other options than those that are read. The decoder panics on wrong lengths of some that nobody needs, and
/// on a hardware address longer than there is room for.
pub(super) fn plain(message: &[u8]) -> Option<Vec<u8>> {
    let (fixed, mut options) = message.split_at_checked(OPTIONS)?;
    if *fixed.get(ADDRESS_LENGTH)? > LONGEST_ADDRESS {
        return None;
    }
    let mut plain = fixed.to_vec();
    while let Some((code, rest)) = options.split_first() {
        match code {
            // Padding.
            0 => options = rest,
            255 => break,
            code => {
                let (length, rest) = rest.split_first()?;
                let (data, rest) = rest.split_at_checked(usize::from(*length))?;
                if READ.contains(code) {
                    plain.extend([*code, *length]);
                    plain.extend(data);
                }
                options = rest;
            }
        }
    }
    plain.push(255);
    Some(plain)
}

/// RFC 1071.
fn checksum(bytes: impl Iterator<Item = u8>) -> u16 {
    let mut sum = 0u32;
    for (at, byte) in bytes.enumerate() {
        sum += u32::from(byte) << if at % 2 == 0 { 8 } else { 0 };
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn headers_sum_to_zero() {
        for payload in [&b"abc"[..], b"", b"abcd"] {
            let packet = wrap([10, 0, 0, 5].into(), [10, 0, 0, 1].into(), payload);
            assert_eq!(checksum(packet[..20].iter().copied()), 0);
            let length = u16::try_from(packet.len() - 20).unwrap();
            let pseudo = packet[12..20].iter().copied().chain([0, 17]).chain(length.to_be_bytes());
            assert_eq!(checksum(pseudo.chain(packet[20..].iter().copied())), 0);
        }
    }

    #[test]
    fn only_what_servers_send_is_taken() {
        let mut packet = wrap([10, 0, 0, 1].into(), [255; 4].into(), b"abc");
        assert_eq!(unwrap(&packet), None, "a client's");
        packet[20..24].copy_from_slice(&[0, 67, 0, 68]);
        assert_eq!(unwrap(&packet), Some(&b"abc"[..]));
        packet.extend([0; 9]);
        assert_eq!(unwrap(&packet), Some(&b"abc"[..]), "Ethernet's padding");
        packet[9] = 6;
        assert_eq!(unwrap(&packet), None);
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = unwrap(&bytes);
        }
    }
}
