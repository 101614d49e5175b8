//! What is kept, for how long, and what comes back. Packets are made and read by hickory's own types.

use std::str::FromStr;

use hickory_proto::{
    op::{Edns, Message, Query, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, CNAME, SOA},
    },
};

use super::*;

fn query(name: &str) -> Vec<u8> {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_str(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

fn answer(query: &[u8], code: ResponseCode, ttl: u32, change: impl FnOnce(&mut Message)) -> Vec<u8> {
    let query = Message::from_vec(query).unwrap();
    let mut message = Message::response(query.metadata.id, query.metadata.op_code);
    message.metadata.response_code = code;
    message.add_queries(query.queries.iter().cloned());
    let name = query.queries[0].name().clone();
    if code == ResponseCode::NoError {
        message.add_answer(Record::from_rdata(name, ttl, RData::A(A::new(192, 0, 2, 1))));
    }
    change(&mut message);
    message.to_vec().unwrap()
}

fn soa(ttl: u32, minimum: u32) -> Record {
    let root = Name::root();
    let data = SOA::new(root.clone(), root.clone(), 1, 1, 1, 1, minimum);
    Record::from_rdata(root, ttl, RData::SOA(data))
}

fn with(authority: Record) -> impl FnOnce(&mut Message) {
    move |message| {
        message.add_authority(authority);
    }
}

/// Seconds that an answer is given again.
fn lives(make: impl FnOnce(&[u8]) -> Vec<u8>) -> u64 {
    let (cache, now, query) = (Cache::default(), Instant::now(), query("a.example."));
    let key = Key::new("x", &query).unwrap();
    cache.put(key.clone(), &make(&query), now);
    let there = |after: u64| cache.get(&key, &query, now + Duration::from_secs(after)).is_some();
    (0..20_000).find(|after| !there(*after)).unwrap()
}

#[test]
fn answers_live_as_long_as_they_say() {
    use ResponseCode as R;
    assert_eq!(lives(|q| answer(q, R::NoError, 300, |_| {})), 300);
    assert_eq!(lives(|q| answer(q, R::NoError, 0, |_| {})), 0);
    assert_eq!(lives(|q| answer(q, R::NoError, 90_000, |_| {})), u64::from(LONGEST));
    assert_eq!(lives(|q| answer(q, R::NXDomain, 0, with(soa(700, 60)))), 60);
    assert_eq!(lives(|q| answer(q, R::NXDomain, 0, with(soa(40, 60)))), 40);
    assert_eq!(lives(|q| answer(q, R::NXDomain, 0, with(soa(9000, 9000)))), u64::from(LONGEST_NEGATIVE));
    // Without a SOA record nobody may keep it (RFC 2308 section 5).
    assert_eq!(lives(|q| answer(q, R::NXDomain, 0, |_| {})), 0);
    let empty = |m: &mut Message| {
        m.answers.clear();
        m.add_authority(soa(50, 50));
    };
    assert_eq!(lives(|q| answer(q, R::NoError, 1, empty)), 50);
    assert_eq!(lives(|q| answer(q, R::ServFail, 0, with(soa(50, 50)))), 0);
    assert_eq!(lives(|q| answer(q, R::NoError, 300, |m| m.metadata.truncation = true)), 0);
    // An alias that leads to nothing.
    let alias = |m: &mut Message| {
        let (name, to) = (m.queries[0].name().clone(), Name::from_str("b.example.").unwrap());
        m.add_answer(Record::from_rdata(name, 20, RData::CNAME(CNAME(to))));
        m.add_authority(soa(50, 50));
    };
    assert_eq!(lives(|q| answer(q, R::NXDomain, 0, alias)), 20);
}

#[test]
fn what_comes_back_is_the_askers_own() {
    let (cache, now, first) = (Cache::default(), Instant::now(), query("A.example."));
    cache.put(Key::new("x", &first).unwrap(), &answer(&first, ResponseCode::NoError, 300, |_| {}), now);
    let second = query("a.eXample.");
    let key = Key::new("x", &second).unwrap();
    let got = cache.get(&key, &second, now + Duration::from_millis(10_900)).unwrap();
    let (got, asked) = (Message::from_vec(&got).unwrap(), Message::from_vec(&second).unwrap());
    assert_eq!(got.metadata.id, asked.metadata.id);
    assert!(got.queries[0].name().eq_case(asked.queries[0].name()));
    assert_eq!(got.answers[0].ttl, 290);
    for other in [query("b.example."), query("a.example.x.")] {
        assert!(cache.get(&Key::new("x", &other).unwrap(), &other, now).is_none());
    }
    assert!(cache.get(&Key::new("y", &second).unwrap(), &second, now).is_none(), "another server");
    let mut edns = Message::from_vec(&second).unwrap();
    edns.set_edns(Edns::new());
    let edns = edns.to_vec().unwrap();
    assert!(cache.get(&Key::new("x", &edns).unwrap(), &edns, now).is_none(), "it may take more");
}

#[test]
fn the_oldest_gives_way() {
    let (cache, now) = (Cache::default(), Instant::now());
    let keep = |n: usize| {
        let query = query(&format!("h{n}.example."));
        let key = Key::new("x", &query).unwrap();
        cache.put(key.clone(), &answer(&query, ResponseCode::NoError, 300, |_| {}), now);
        (key, query)
    };
    let (first, query) = keep(0);
    let (last, _) = (1..=MOST).map(keep).last().unwrap();
    assert_eq!(cache.len(), MOST);
    assert!(cache.get(&first, &query, now).is_none());
    assert!(cache.0.lock().entries.contains_key(&last));
}
