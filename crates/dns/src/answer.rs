//! From the bytes of a query to what is to be done about it. Pure: no socket, no clock.
//!
//! Standards: RFC 1035 (messages), RFC 6891 (EDNS sizes, one OPT at most, version 0), RFC 2308 section 2.2
//! (a name without records of the asked type is an empty success; without SOA nobody caches it, which suits
//! names that come and go), RFC 6761 section 6.3 (`localhost`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, PTR},
    },
};
use weft_model::ContainerId;

use crate::{Answer, Names};

/// Seconds that answers may be cached; Docker's.
const TTL: u32 = 600;
/// Largest UDP answer we say that we take and give (DNS flag day 2020 for the wire; loopback carries more).
const MAX_UDP: u16 = 4096;
const HEADER: usize = 12;

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

/// Decides about `packet` from `container`. `turn` rotates answers with several addresses.
#[must_use]
pub fn decide(
    packet: &[u8],
    transport: Transport,
    names: &Names,
    container: ContainerId,
    turn: u32,
) -> Decision {
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
        return reply(&query, code, Vec::new(), transport, limit);
    }
    if query.edns.as_ref().is_some_and(|e| e.version() > 0) {
        return reply(&query, ResponseCode::BADVERS, Vec::new(), transport, limit);
    }
    match resolve(&query, names, container, turn) {
        Some((code, records)) => reply(&query, code, records, transport, limit),
        None if names.upstream(container).is_none() => {
            reply(&query, ResponseCode::ServFail, Vec::new(), transport, limit)
        }
        None => Decision::Forward { limit },
    }
}

/// An error answer to a packet that may be malformed behind its header: the question is not repeated. `None`
/// when it is too short to be answered.
#[must_use]
pub fn failure(packet: &[u8], code: ResponseCode) -> Option<Vec<u8>> {
    let header = packet.get(..HEADER)?;
    let mut out = vec![0u8; HEADER];
    out[..2].copy_from_slice(&header[..2]);
    // QR, the opcode and RD of the query; RA and the code.
    out[2] = 0x80 | (header[2] & 0x79);
    out[3] = 0x80 | code.low();
    Some(out)
}

/// Response code and records where this host knows; `None` where others must.
fn resolve(
    query: &Message,
    names: &Names,
    container: ContainerId,
    turn: u32,
) -> Option<(ResponseCode, Vec<Record>)> {
    let question = query.queries.first()?;
    let kind = question.query_type();
    if !matches!(question.query_class(), DNSClass::IN | DNSClass::ANY) {
        return Some((ResponseCode::NotImp, Vec::new()));
    }
    let owner = question.name();
    if kind == RecordType::PTR
        && let Some(ip) = pointer_address(owner)
    {
        return match names.reverse(container, ip) {
            Answer::Pointer(name) => {
                let target = Name::from_ascii(format!("{name}.")).ok()?;
                let record = Record::from_rdata(owner.clone(), TTL, RData::PTR(PTR(target)));
                Some((ResponseCode::NoError, vec![record]))
            }
            Answer::Nothing => Some((ResponseCode::NXDomain, Vec::new())),
            _ => None,
        };
    }
    let text = lower(owner);
    let found = match names.lookup(container, &text) {
        Answer::Elsewhere if text == "localhost" || text.ends_with(".localhost") => LOOPBACK.as_slice(),
        Answer::Addresses(ips) => ips,
        Answer::Nothing => return Some((ResponseCode::NXDomain, Vec::new())),
        _ => return None,
    };
    Some((ResponseCode::NoError, addresses(owner, kind, found, turn)))
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
    let count = u32::try_from(records.len()).unwrap_or(1).max(1);
    records.rotate_left(usize::try_from(turn % count).unwrap_or(0));
    records
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

/// The whole address that a name under `in-addr.arpa` or `ip6.arpa` stands for.
fn pointer_address(name: &Name) -> Option<IpAddr> {
    let net = name.parse_arpa_name().ok()?;
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}

fn reply(
    query: &Message,
    code: ResponseCode,
    records: Vec<Record>,
    transport: Transport,
    limit: u16,
) -> Decision {
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    answer.metadata.recursion_desired = query.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.metadata.checking_disabled = query.metadata.checking_disabled;
    answer.metadata.response_code = code;
    answer.add_queries(query.queries.iter().cloned());
    answer.add_answers(records);
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_UDP).set_version(0).set_rcode_high(code.high());
        answer.set_edns(edns);
    }
    let whole = answer.to_vec();
    let bytes = match (whole, transport) {
        (Ok(bytes), Transport::Udp) if bytes.len() > usize::from(limit) => answer.truncate().to_vec(),
        (whole, _) => whole,
    };
    bytes.map_or(Decision::Drop, Decision::Reply)
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
