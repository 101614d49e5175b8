//! How large a message may be (RFC 6891): the asker's limit, in questions that go on to others and in their answers.
//!
//! A server is asked for no more than the asker takes, but some give more than they were asked for, and a message that
//! ends in the middle is none. Such an answer is made short as the standards have it: of its records, whole ones are kept
//! that have room, and TC says that some are missing, so that the asker comes back over TCP (RFC 2181 section 9). What is
//! kept serves those that do not (musl before 1.2.4 has no TCP). Additional records are a courtesy: where only these
//! are left out, nothing is missing.

use crate::{
    answer::MAX_UDP,
    wire::{self, HEADER, question_end, u16_at},
};

/// Root name, type OPT, our size, no code, version 0, no flags, no options.
pub(crate) const OURS: [u8; 11] =
    [0, 0, 41, MAX_UDP.to_be_bytes()[0], MAX_UDP.to_be_bytes()[1], 0, 0, 0, 0, 0, 0];

/// The bit of a message's third byte that says that it was cut.
const TC: u8 = 0x02;

/// Says in a query with EDNS that answers may have `size` bytes.
pub(crate) fn allow(query: &mut [u8], size: u16) {
    if let Some(at) = wire::opt(query)
        && let Some(bytes) = query.get_mut(at + 3..at + 5)
    {
        bytes.copy_from_slice(&size.to_be_bytes());
    }
}

/// The answer, truncated where it is longer than `limit` bytes (512 at least, so that any question has room).
pub(crate) fn fit(answer: Vec<u8>, limit: u16) -> Vec<u8> {
    if answer.len() <= usize::from(limit) {
        return answer;
    }
    // Its options are left out: code, version and flags are what is needed.
    let opt = wire::opt(&answer).and_then(|at| answer.get(at..at + OURS.len() - 2));
    let room = usize::from(limit) - opt.map_or(0, |_| OURS.len());
    let had = [6, 8].map(|at| u16_at(&answer, at).unwrap_or_default());
    let (end, counts, whole) = match wire::front(&answer, room) {
        // Those of the authority section belong to an answer only where it says that there is none.
        Some(front) => {
            let whole = if had[0] > 0 { front.counts[0] == had[0] } else { front.counts == had };
            (front.end, front.counts, whole)
        }
        None => (question_end(&answer).unwrap_or(HEADER), [0; 2], false),
    };
    let mut short = answer[..end].to_vec();
    if !whole {
        short[2] |= TC;
    }
    short[4..HEADER].fill(0);
    short[5] = u8::from(end > HEADER);
    short[6..8].copy_from_slice(&counts[0].to_be_bytes());
    short[8..10].copy_from_slice(&counts[1].to_be_bytes());
    if let Some(opt) = opt {
        short[11] = 1;
        short.extend_from_slice(opt);
        short.extend_from_slice(&[0, 0]);
    }
    short
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::{
        op::{Edns, Message, Query},
        rr::{Name, RData, Record, RecordType, rdata::A},
    };
    use proptest::prelude::*;

    use super::*;

    fn answer(records: u16, edns: bool) -> Vec<u8> {
        let name: Name = "many.example.".parse().unwrap();
        let mut message = Message::query();
        message.add_query(Query::query(name.clone(), RecordType::A));
        for _ in 0..records {
            message.add_answer(Record::from_rdata(name.clone(), 60, RData::A(A(Ipv4Addr::LOCALHOST))));
        }
        if edns {
            let mut edns = Edns::new();
            edns.set_max_payload(1232).set_dnssec_ok(true);
            message.set_edns(edns);
        }
        message.to_vec().unwrap()
    }

    #[test]
    fn what_fits_is_left_alone_and_what_does_not_says_so() {
        let fits = answer(3, true);
        assert_eq!(fit(fits.clone(), 512), fits);
        for edns in [false, true] {
            let long = answer(60, edns);
            assert!(long.len() > 512);
            let short = Message::from_vec(&fit(long.clone(), 512)).unwrap();
            assert!(short.metadata.truncation);
            // 12 bytes of head, 18 of question, 16 for each record, 11 for EDNS.
            assert_eq!(short.answers.len(), if edns { 29 } else { 30 });
            assert_eq!(short.queries, Message::from_vec(&long).unwrap().queries);
            assert_eq!(
                short.edns.map(|e| (e.max_payload(), e.flags().dnssec_ok)),
                edns.then_some((1232, true))
            );
        }
        // Nothing can be made out in it: a head that says that it was cut.
        let mut noise = vec![0xff; 600];
        noise[2] = 0x80;
        assert_eq!(fit(noise, 512), [0xff, 0xff, 0x82, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn courtesies_are_left_out_without_a_word() {
        let record =
            |name: &str| Record::from_rdata(name.parse().unwrap(), 60, RData::A(A(Ipv4Addr::LOCALHOST)));
        let check = |answers, authorities, additionals, left: [usize; 3], cut| {
            let mut message = Message::from_vec(&answer(answers, true)).unwrap();
            message.add_authorities((0..authorities).map(|_| record("many.example.")));
            message.add_additionals((0..additionals).map(|_| record("many.example.")));
            let short = Message::from_vec(&fit(message.to_vec().unwrap(), 512)).unwrap();
            let counts = [short.answers.len(), short.authorities.len(), short.additionals.len()];
            assert_eq!(
                (counts, short.metadata.truncation),
                (left, cut),
                "{answers} {authorities} {additionals}"
            );
            assert!(short.edns.is_some());
        };
        check(3, 2, 40, [3, 2, 0], false);
        check(3, 40, 0, [3, 26, 0], false);
        check(0, 40, 0, [0, 29, 0], true);
        check(40, 2, 3, [29, 0, 0], true);
    }

    #[test]
    fn a_query_says_what_is_taken() {
        let mut query = answer(0, true);
        allow(&mut query, 4096);
        assert_eq!(Message::from_vec(&query).unwrap().edns.unwrap().max_payload(), 4096);
        let plain = answer(0, false);
        let mut same = plain.clone();
        allow(&mut same, 4096);
        assert_eq!(same, plain);
    }

    proptest! {
        /// Whatever a server says: what is left has its identifier, fits, and is whole records.
        #[test]
        fn any_answer_is_made_to_fit(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            cut in any::<prop::sample::Index>(),
            limit in 512u16..590,
        ) {
            let mut long = answer(60, true);
            for (at, byte) in changes {
                let at = at.index(long.len());
                long[at] = byte;
            }
            long.truncate(600 + cut.index(long.len() - 600));
            let short = fit(long.clone(), limit);
            prop_assert!(short.len() <= usize::from(limit));
            prop_assert_eq!(&short[..2], &long[..2]);
            let whole = wire::front(&short, short.len());
            prop_assert!(short.len() == HEADER || whole.is_some_and(|w| w.end == short.len() || w.end + 11 == short.len()));
        }
    }
}
