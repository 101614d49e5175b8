//! The little of RFC 1035 that is needed without taking a whole message apart: where its question ends, and where
//! its records' lifetimes are. For packets on the way through, and for the plainest of queries.

/// Bytes of a message's head.
pub(crate) const HEADER: usize = 12;
/// The type of an EDNS record, whose "lifetime" holds flags (RFC 6891).
const OPT: u16 = 41;
/// The type of a zone's head, which says how long a negative answer lasts (RFC 2308).
const SOA: u16 = 6;

/// Two bytes at `at`.
pub(crate) fn u16_at(packet: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(packet: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(packet.get(at..at + 4)?.try_into().ok()?))
}

/// Where the first question of a packet ends. Names of questions are never compressed by honest senders, and have at
/// most 255 bytes (RFC 1035 section 2.3.4).
pub(crate) fn question_end(packet: &[u8]) -> Option<usize> {
    let end = name_end(packet, HEADER, false)? + 4;
    (end <= packet.len() && end - HEADER - 4 <= 255).then_some(end)
}

/// Behind the name that begins at `at`.
fn name_end(packet: &[u8], mut at: usize, pointers: bool) -> Option<usize> {
    loop {
        match *packet.get(at)? {
            0 => return Some(at + 1),
            length if length < 64 => at += usize::from(length) + 1,
            length if length >= 192 && pointers => return Some(at + 2),
            _ => return None,
        }
    }
}

/// A query of one question and nothing else but perhaps an EDNS record without options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plain {
    /// Behind the question.
    pub(crate) end: usize,
    /// Type asked for.
    pub(crate) kind: u16,
    /// Class asked for.
    pub(crate) class: u16,
    /// Largest UDP answer that the asker takes by EDNS.
    pub(crate) edns: Option<u16>,
}

/// Reads a plain query; `None` for all others, good or bad.
pub(crate) fn plain(packet: &[u8]) -> Option<Plain> {
    // A standard query, of the flags only RD, AD and CD; one question.
    let head = packet.get(..HEADER)?;
    if head[2] & 0xfe != 0 || head[3] & 0xcf != 0 || head[4..10] != [0, 1, 0, 0, 0, 0] || head[10] != 0 {
        return None;
    }
    let end = question_end(packet)?;
    let edns = match (head[11], packet.get(end..)?) {
        (0, []) => None,
        // Root name, type, size, extended code 0, version 0, flags, no options.
        (1, [0, 0, 41, high, low, 0, 0, _, _, 0, 0]) => Some(u16::from_be_bytes([*high, *low])),
        _ => return None,
    };
    Some(Plain { end, kind: u16_at(packet, end - 4)?, class: u16_at(packet, end - 2)?, edns })
}

/// The lifetimes in an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Lifetimes {
    /// Where they are, those of EDNS records left out.
    pub(crate) at: Vec<usize>,
    /// The shortest of the answer section.
    pub(crate) answers: Option<u32>,
    /// How long the answer holds if it is a negative one: of a SOA record in the authority section, the lesser of its
    /// lifetime and its last field.
    pub(crate) negative: Option<u32>,
}

/// One record of a message.
struct Record {
    /// 0 for answers, 1 for authorities, 2 for additional ones.
    section: usize,
    kind: u16,
    at: usize,
    /// Behind its name.
    head: usize,
    end: usize,
}

/// Goes over all records of a message with one question; where the last one ends, or `None` where it is malformed.
fn records(packet: &[u8], mut each: impl FnMut(&Record) -> Option<()>) -> Option<usize> {
    if u16_at(packet, 4)? != 1 {
        return None;
    }
    let mut at = question_end(packet)?;
    for (section, count) in [6, 8, 10].into_iter().enumerate() {
        for _ in 0..u16_at(packet, count)? {
            let head = name_end(packet, at, true)?;
            let end = head + 10 + usize::from(u16_at(packet, head + 8)?);
            if end > packet.len() {
                return None;
            }
            each(&Record { section, kind: u16_at(packet, head)?, at, head, end })?;
            at = end;
        }
    }
    Some(at)
}

/// Where the EDNS record of a message begins: root name, type, size, code, version, flags, options (RFC 6891).
pub(crate) fn opt(packet: &[u8]) -> Option<usize> {
    let mut found = None;
    records(packet, |record| {
        if record.kind == OPT && record.section == 2 && record.head == record.at + 1 {
            found.get_or_insert(record.at);
        }
        Some(())
    })?;
    found
}

/// The records of answer and authority at the front of a message that have room.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Front {
    /// Behind the last of them.
    pub(crate) end: usize,
    /// How many, by section.
    pub(crate) counts: [u16; 2],
}

/// Finds how much of a message may be kept in `room` bytes, by whole records; `None` for a malformed one.
pub(crate) fn front(packet: &[u8], room: usize) -> Option<Front> {
    let (mut front, mut full) = (Front { end: question_end(packet)?, counts: [0; 2] }, false);
    records(packet, |record| {
        full |= record.end > room;
        if let (false, Some(count)) = (full, front.counts.get_mut(record.section)) {
            *count += 1;
            front.end = record.end;
        }
        Some(())
    })?;
    Some(front)
}

/// Finds the lifetimes of all records; `None` for a malformed packet, or one with other than one question.
pub(crate) fn lifetimes(packet: &[u8]) -> Option<Lifetimes> {
    let mut found = Lifetimes::default();
    let end = records(packet, |record| {
        if record.kind == OPT {
            return Some(());
        }
        // RFC 2181 section 8: the highest bit makes it zero.
        let ttl = u32_at(packet, record.head + 4).map(|ttl| if ttl > u32::MAX / 2 { 0 } else { ttl })?;
        found.at.push(record.head + 4);
        match record.section {
            0 => found.answers = Some(found.answers.map_or(ttl, |least| least.min(ttl))),
            1 if record.kind == SOA => {
                found.negative = Some(ttl.min(u32_at(packet, record.end.checked_sub(4)?)?));
            }
            _ => {}
        }
        Some(())
    })?;
    (end == packet.len()).then_some(found)
}

/// Takes `age` seconds from the lifetimes at these places.
pub(crate) fn grow_old(packet: &mut [u8], places: &[usize], age: u32) {
    for at in places {
        if let Some(ttl) = u32_at(packet, *at)
            && let Some(bytes) = packet.get_mut(*at..*at + 4)
        {
            bytes.copy_from_slice(&ttl.saturating_sub(age).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A query for `x.` with the identifier 0xabcd.
    const QUERY: [u8; 19] = [0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'x', 0, 0, 1, 0, 1];

    #[test]
    fn questions_end_where_they_end() {
        assert_eq!(question_end(&QUERY), Some(19));
        for cut in 0..QUERY.len() {
            assert_eq!(question_end(&QUERY[..cut]), None);
            assert_eq!(plain(&QUERY[..cut]), None);
        }
        let mut pointer = QUERY;
        pointer[12] = 0xc0;
        assert_eq!(question_end(&pointer), None);
    }

    #[test]
    fn plain_queries() {
        let wanted = Plain { end: 19, kind: 1, class: 1, edns: None };
        assert_eq!(plain(&QUERY), Some(wanted));
        let mut edns = QUERY.to_vec();
        edns[11] = 1;
        edns.extend([0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0]);
        assert_eq!(plain(&edns), Some(Plain { edns: Some(1232), ..wanted }));
        for (at, byte) in [(2, 0x81), (2, 0x09), (3, 0x40), (5, 2), (7, 1), (11, 0)] {
            let mut other = edns.clone();
            other[at] = byte;
            assert_eq!(plain(&other), None, "byte {at} is {byte}");
        }
        // Version 1, and an option.
        edns[25] = 1;
        assert_eq!(plain(&edns), None);
    }

    #[test]
    fn lifetimes_of_answers() {
        let mut answer = QUERY.to_vec();
        (answer[2], answer[7], answer[9], answer[11]) = (0x81, 1, 1, 1);
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 0, 0, 4, 10, 0, 0, 1]);
        // A SOA record (its two names are roots) of 600 seconds, whose last field says 60.
        answer.extend([0, 0, 6, 0, 1, 0, 0, 2, 88, 0, 22]);
        answer.extend([0; 18]);
        answer.extend([0, 0, 0, 60]);
        answer.extend([0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0]);
        let found = lifetimes(&answer).unwrap();
        assert_eq!((found.at.len(), found.answers, found.negative), (2, Some(256), Some(60)));
        grow_old(&mut answer, &found.at, 57);
        let later = lifetimes(&answer).unwrap();
        assert_eq!((later.answers, later.negative), (Some(199), Some(60)));
        grow_old(&mut answer, &found.at, 1000);
        assert_eq!(lifetimes(&answer).unwrap().answers, Some(0));
        for cut in 0..answer.len() {
            assert_eq!(lifetimes(&answer[..cut]), None, "{cut}");
        }
    }
}
