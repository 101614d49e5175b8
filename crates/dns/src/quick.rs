//! Nearly all queries that are answered here ask for the addresses of a container and nothing else. These are
//! answered from the bytes of the query itself, without a message being taken apart and put together again: a
//! few hundred nanoseconds. Everything unusual (other types, no such name, an answer too long) is left to
//! [`crate::answer`], whose answers are byte for byte the same; a property test holds both against each other.

use std::net::IpAddr;

use crate::{
    Answer,
    answer::{Asker, MAX_UDP, TTL},
    edns,
    wire::{self, HEADER},
};

const A: u16 = 1;
const AAAA: u16 = 28;
const IN: u16 = 1;
/// Longest name as text.
const LONGEST: usize = 255;

/// Appends the answer to a plain UDP query for a name that is known here; `false` when it is none, and then nothing
/// is appended.
pub(crate) fn answer(packet: &[u8], asker: &Asker<'_>, out: &mut Vec<u8>) -> bool {
    let Some(query) = wire::plain(packet) else { return false };
    if query.class != IN || !matches!(query.kind, A | AAAA) {
        return false;
    }
    let mut buffer = [0u8; LONGEST];
    let Some(name) = text(&packet[HEADER..query.end - 4], &mut buffer) else { return false };
    let Answer::Addresses(ips) = asker.names.lookup(asker.container, name) else { return false };
    let wanted = |ip: &&IpAddr| ip.is_ipv4() == (query.kind == A);
    let count = ips.iter().filter(wanted).count();
    let each = if query.kind == A { 12 + 4 } else { 12 + 16 };
    let ours = if query.edns.is_some() { edns::OURS.as_slice() } else { &[] };
    let size = query.end + count * each + ours.len();
    let limit = query.edns.map_or(512, |size| size.clamp(512, MAX_UDP));
    let (Ok(number), true) = (u16::try_from(count), count > 0 && size <= usize::from(limit)) else {
        return false;
    };
    out.extend_from_slice(&packet[..2]);
    // An answer, RD as asked; RA, CD as asked, no error; one question.
    out.extend_from_slice(&[0x80 | packet[2], 0x80 | (packet[3] & 0x10), 0, 1]);
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(&packet[8..query.end]);
    let skip = usize::try_from(asker.turn).unwrap_or(0) % count;
    let turned = ips.iter().filter(wanted).skip(skip).chain(ips.iter().filter(wanted).take(skip));
    for ip in turned {
        // The question's name, by a pointer to it.
        out.extend_from_slice(&[0xc0, 12]);
        out.extend_from_slice(&query.kind.to_be_bytes());
        out.extend_from_slice(&IN.to_be_bytes());
        out.extend_from_slice(&TTL.to_be_bytes());
        match ip {
            IpAddr::V4(ip) => {
                out.extend_from_slice(&[0, 4]);
                out.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                out.extend_from_slice(&[0, 16]);
                out.extend_from_slice(&ip.octets());
            }
        }
    }
    out.extend_from_slice(ours);
    true
}

/// A name of the wire as lower-case text with dots, when it is of plain characters.
fn text<'a>(mut name: &[u8], buffer: &'a mut [u8; LONGEST]) -> Option<&'a str> {
    let mut length = 0;
    while let [size @ 1..=63, rest @ ..] = name {
        let (label, rest) = rest.split_at_checked(usize::from(*size))?;
        if length > 0 {
            *buffer.get_mut(length)? = b'.';
            length += 1;
        }
        let place = buffer.get_mut(length..length + label.len())?;
        for (to, byte) in place.iter_mut().zip(label) {
            if !byte.is_ascii_graphic() || *byte == b'.' {
                return None;
            }
            *to = byte.to_ascii_lowercase();
        }
        length += label.len();
        name = rest;
    }
    // Labels that begin with `_` may be those of services.
    let text = buffer.get(..length).filter(|text| !text.is_empty() && text[0] != b'_')?;
    std::str::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use hickory_proto::{
        op::{Edns, Message, Query},
        rr::{Name, RecordType},
    };
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Decision, Transport, decide,
        fixtures::{port, web, world},
    };

    /// Both ways say the same of it; whether the quick one had a word to say.
    fn compare(packet: &[u8]) -> bool {
        let mut world = world();
        let ips: Vec<String> = (0..60).map(|n| format!("10.1.3.{n}")).collect();
        let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
        world.ports.push(port(0x20, 0xa, 9, "eth0", &ips, &["many"]));
        let names = world.names();
        let mut quick = Vec::new();
        let said = (0..3).map(|turn| {
            let asker = Asker { names: &names, container: web(), dots: false, turn };
            quick.clear();
            let said = answer(packet, &asker, &mut quick);
            if said {
                assert_eq!(decide(packet, Transport::Udp, &asker), Decision::Reply(quick.clone()));
            }
            said
        });
        said.filter(|said| *said).count() > 0
    }

    fn packet(name: &str, kind: RecordType, edns: Option<u16>) -> Vec<u8> {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_str(name).unwrap(), kind));
        if let Some(size) = edns {
            let mut edns = Edns::new();
            edns.set_max_payload(size);
            message.set_edns(edns);
        }
        message.to_vec().unwrap()
    }

    #[test]
    fn the_usual_is_quick_and_the_same() {
        for (name, kind, edns, quick) in [
            ("db.", RecordType::A, None, true),
            ("dB.ApP.", RecordType::A, Some(1232), true),
            ("www.", RecordType::A, None, true),
            ("store.", RecordType::A, Some(0), true),
            ("web.", RecordType::AAAA, Some(65535), true),
            ("many.", RecordType::A, Some(1232), true),
            ("many.", RecordType::A, None, false),
            ("db.", RecordType::AAAA, None, false),
            ("db.", RecordType::MX, None, false),
            ("nothing.", RecordType::A, None, false),
            (".", RecordType::A, None, false),
        ] {
            assert_eq!(compare(&packet(name, kind, edns)), quick, "{name} {kind} {edns:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// A usual query with some bytes changed, and any flags.
        #[test]
        fn both_ways_agree(
            name in prop::sample::select(vec!["db.", "www.APP.", "web.", "many.", "x.db."]),
            aaaa in any::<bool>(),
            edns in proptest::option::of(any::<u16>()),
            flags in any::<[u8; 2]>(),
            flagged in any::<bool>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        ) {
            let kind = if aaaa { RecordType::AAAA } else { RecordType::A };
            let mut packet = packet(name, kind, edns);
            if flagged {
                packet[2..4].copy_from_slice(&flags);
            }
            for (at, byte) in changes {
                let at = at.index(packet.len());
                packet[at] = byte;
            }
            compare(&packet);
        }
    }
}
