//! From the bytes of a query to what is to be done about it. Pure: no socket, no clock.
//!
//! Standards: RFC 1035 (messages), RFC 6891 (EDNS sizes, one OPT at most, version 0), RFC 2308 section 2.2
//! (a name without records of the asked type is an empty success; both it and a name that does not exist carry a
//! SOA record, of one second, since names come and go), RFC 2782 (SRV), RFC 6761 section 6.3 (`localhost`).
//! The plainest queries are answered by [`crate::quick`], with the same words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::{
    op::{Message, MessageType, OpCode, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, PTR, SRV},
    },
};
use weft_model::ContainerId;

use crate::{
    Answer, Names,
    arpa::Subject,
    reply::{Found, absolute, failure, reply},
    services::{Service, host_of},
    wire::HEADER,
};

/// Seconds that answers may be cached; Docker's.
pub(crate) const TTL: u32 = 600;
/// Largest UDP answer we say that we take and give (DNS flag day 2020 for the wire; loopback carries more).
pub(crate) const MAX_UDP: u16 = 4096;

/// What carried the query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One datagram; long answers are cut.
    Udp,
    /// A stream.
    Tcp,
}

/// What to do about a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing: it is no query.
    Drop,
    /// Send this back.
    Reply(Vec<u8>),
    /// Ask an upstream server with the same bytes; up to this many bytes may come back over UDP.
    Forward {
        /// Bytes.
        limit: u16,
    },
}

/// Who asks, and what it may see.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The names of this host.
    pub names: &'a Names,
    /// The container.
    pub container: ContainerId,
    /// The host's own options want dots in names that go out.
    pub dots: bool,
    /// Rotates answers with several addresses.
    pub turn: u32,
}

/// Decides about `packet`.
#[must_use]
pub fn decide(packet: &[u8], transport: Transport, asker: &Asker<'_>) -> Decision {
    if packet.len() < HEADER || packet[2] & 0x80 != 0 {
        return Decision::Drop;
    }
    let Ok(query) = Message::from_vec(packet) else {
        return failure(packet, ResponseCode::FormErr).map_or(Decision::Drop, Decision::Reply);
    };
    if query.metadata.message_type != MessageType::Query {
        return Decision::Drop;
    }
    let limit = query.edns.as_ref().map_or(512, |e| e.max_payload().clamp(512, MAX_UDP));
    let code = match (query.metadata.op_code, query.queries.first()) {
        (OpCode::Query, Some(_)) if query.queries.len() == 1 => ResponseCode::NoError,
        (OpCode::Query, _) => ResponseCode::FormErr,
        _ => ResponseCode::NotImp,
    };
    if code != ResponseCode::NoError {
        return reply(&query, Found::failed(code), transport, limit);
    }
    if query.edns.as_ref().is_some_and(|e| e.version() > 0) {
        return reply(&query, Found::failed(ResponseCode::BADVERS), transport, limit);
    }
    match resolve(&query, asker) {
        Some(found) => reply(&query, found, transport, limit),
        None if asker.names.upstream(asker.container).is_none() => {
            reply(&query, Found::failed(ResponseCode::ServFail), transport, limit)
        }
        None => Decision::Forward { limit },
    }
}

/// What this host knows; `None` where others must.
fn resolve(query: &Message, asker: &Asker<'_>) -> Option<Found> {
    let question = query.queries.first()?;
    let (owner, kind) = (question.name(), question.query_type());
    if !matches!(question.query_class(), DNSClass::IN | DNSClass::ANY) {
        return Some(Found::failed(ResponseCode::NotImp));
    }
    let text = lower(owner);
    if let Some(subject) = Subject::parse(&text) {
        return about(owner, kind, subject, asker);
    }
    if let Some(host) = host_of(&text) {
        return service(owner, kind, &text, host, asker);
    }
    let ips = match asker.names.lookup(asker.container, &text) {
        Answer::Addresses(ips) => ips,
        // Whatever others call themselves.
        _ if text == "localhost" || text.ends_with(".localhost") => LOOPBACK.as_slice(),
        Answer::Nothing => return Some(Found::nothing(owner)),
        // As Docker: where dots are wanted, a bare name is not for the world, and the client goes on with its
        // search domains.
        Answer::Elsewhere
            if matches!(kind, RecordType::A | RecordType::AAAA)
                && !text.contains('.')
                && asker.names.options(asker.container).dots.unwrap_or(asker.dots) =>
        {
            return Some(Found::records(owner, Vec::new()));
        }
        _ => return None,
    };
    Some(Found::records(owner, addresses(owner, kind, ips, asker.turn)))
}

/// Names that stand for addresses. Those of the host's own networks are known here or not at all.
fn about(owner: &Name, kind: RecordType, subject: Subject, asker: &Asker<'_>) -> Option<Found> {
    let Some(ip) = subject.address() else {
        let known = || if subject.below { Found::nothing(owner) } else { Found::records(owner, Vec::new()) };
        return asker.names.owns(&subject.net).then(known);
    };
    let name = match asker.names.reverse(asker.container, ip) {
        Answer::Pointer(name) => name,
        Answer::Nothing => return Some(Found::nothing(owner)),
        _ if ip.is_loopback() => "localhost",
        _ => return None,
    };
    if !matches!(kind, RecordType::PTR | RecordType::ANY) {
        return Some(Found::records(owner, Vec::new()));
    }
    let record = Record::from_rdata(owner.clone(), TTL, RData::PTR(PTR(absolute(name)?)));
    Some(Found::records(owner, vec![record]))
}

/// Names such as `_http._tcp.web`: what they say of a container is known here, or is not there.
fn service(owner: &Name, kind: RecordType, text: &str, host: &str, asker: &Asker<'_>) -> Option<Found> {
    let (names, container) = (asker.names, asker.container);
    let ours = || match names.lookup(container, host) {
        Answer::Elsewhere => None,
        _ => Some(Found::nothing(owner)),
    };
    let Some(service) = Service::parse(text) else { return ours() };
    let places = match names.places(container, &service) {
        Ok(places) if !places.is_empty() => places,
        _ => return ours(),
    };
    if !matches!(kind, RecordType::SRV | RecordType::ANY) {
        return Some(Found::records(owner, Vec::new()));
    }
    let (mut answers, mut additional) = (Vec::new(), Vec::new());
    for place in places {
        let target = absolute(place.target)?;
        additional.extend(addresses(&target, RecordType::ANY, place.ips, 0));
        let data = RData::SRV(SRV::new(0, 0, place.port, target));
        answers.push(Record::from_rdata(owner.clone(), TTL, data));
    }
    rotate(&mut answers, asker.turn);
    Some(Found { additional, ..Found::records(owner, answers) })
}

const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

fn addresses(owner: &Name, kind: RecordType, ips: &[IpAddr], turn: u32) -> Vec<Record> {
    let wanted = |ip: &&IpAddr| match kind {
        RecordType::A => ip.is_ipv4(),
        RecordType::AAAA => ip.is_ipv6(),
        RecordType::ANY => true,
        _ => false,
    };
    let mut records: Vec<Record> = ips
        .iter()
        .filter(wanted)
        .map(|ip| {
            let data = match ip {
                IpAddr::V4(ip) => RData::A(A(*ip)),
                IpAddr::V6(ip) => RData::AAAA(AAAA(*ip)),
            };
            Record::from_rdata(owner.clone(), TTL, data)
        })
        .collect();
    rotate(&mut records, turn);
    records
}

fn rotate(records: &mut [Record], turn: u32) {
    let count = u32::try_from(records.len()).unwrap_or(1).max(1);
    records.rotate_left(usize::try_from(turn % count).unwrap_or(0));
}

/// The name in lower case without its final dot.
fn lower(name: &Name) -> String {
    let mut text = String::with_capacity(name.len());
    for label in name.iter() {
        if !text.is_empty() {
            text.push('.');
        }
        text.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
    }
    text
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
