//! From what is to be said to the bytes of an answer.

use hickory_proto::{
    op::{Edns, Message, ResponseCode},
    rr::{Name, RData, Record, rdata::SOA},
};

use crate::{
    answer::{Decision, MAX_UDP, Transport},
    edns,
    wire::{self, HEADER, question_end, u16_at},
};

/// Seconds that absence may be cached: a container that is waited for comes soon.
const ABSENT: u32 = 1;

/// An error answer to a packet that may be malformed behind its question, or in it. The question is repeated where there
/// is one that can be read: without it many resolvers (Go's, systemd's) take the answer for no answer of theirs and
/// wait. So is EDNS (RFC 6891 section 7). `None` when the packet is too short to be answered.
#[must_use]
pub fn failure(packet: &[u8], code: ResponseCode) -> Option<Vec<u8>> {
    let header = packet.get(..HEADER)?;
    let question = (u16_at(packet, 4) == Some(1)).then(|| question_end(packet)).flatten();
    let mut out = packet.get(..question.unwrap_or(HEADER))?.to_vec();
    // QR, the opcode and RD of the query; RA, CD of the query and the code.
    out[2] = 0x80 | (header[2] & 0x79);
    out[3] = 0x80 | (header[3] & 0x10) | code.low();
    out[4..HEADER].fill(0);
    out[5] = u8::from(question.is_some());
    if wire::opt(packet).is_some() {
        out[11] = 1;
        out.extend_from_slice(&edns::OURS);
    }
    Some(out)
}

/// What is to be said.
pub(crate) struct Found {
    pub(crate) code: ResponseCode,
    pub(crate) answers: Vec<Record>,
    /// The zone whose SOA record says how long this absence holds.
    pub(crate) absent: Option<Name>,
    pub(crate) additional: Vec<Record>,
}

impl Found {
    pub(crate) fn failed(code: ResponseCode) -> Self {
        Self { code, answers: Vec::new(), absent: None, additional: Vec::new() }
    }

    /// There is no such name.
    pub(crate) fn nothing(owner: &Name) -> Self {
        Self { absent: Some(owner.base_name()), ..Self::failed(ResponseCode::NXDomain) }
    }

    /// The name is there; where it has no such records, it is its own zone.
    pub(crate) fn records(owner: &Name, answers: Vec<Record>) -> Self {
        let absent = answers.is_empty().then(|| owner.clone());
        Self { answers, absent, ..Self::failed(ResponseCode::NoError) }
    }
}

/// A name of ours with its final dot; people may give one that no packet can carry.
pub(crate) fn absolute(name: &str) -> Option<Name> {
    let mut name = Name::from_labels(name.split('.').map(str::as_bytes)).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// How long absence in `zone` may be believed.
fn absence(zone: Name) -> Option<Record> {
    let (server, person) = (absolute("weft.internal")?, absolute("hostmaster.weft.internal")?);
    let data = SOA::new(server, person, 1, 3600, 600, 86400, ABSENT);
    Some(Record::from_rdata(zone, ABSENT, RData::SOA(data)))
}

/// The answer as bytes, cut where it has no room.
pub(crate) fn reply(query: &Message, found: Found, transport: Transport, limit: u16) -> Decision {
    let code = found.code;
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    answer.metadata.recursion_desired = query.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.metadata.checking_disabled = query.metadata.checking_disabled;
    answer.metadata.response_code = code;
    answer.add_queries(query.queries.iter().cloned());
    answer.add_answers(found.answers);
    answer.add_authorities(found.absent.and_then(absence));
    answer.add_additionals(found.additional);
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_UDP).set_version(0).set_rcode_high(code.high());
        answer.set_edns(edns);
    }
    // More than a message can have at all is cut to none.
    let whole = answer.to_vec().or_else(|_| answer.truncate().to_vec());
    match whole {
        Ok(bytes) if transport == Transport::Udp => Decision::Reply(edns::fit(bytes, limit)),
        Ok(bytes) => Decision::Reply(bytes),
        Err(_) => Decision::Drop,
    }
}
