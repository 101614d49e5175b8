//! Packets that containers send, and files of resolvers.

use std::{str::FromStr, time::Instant};

use hickory_proto::{
    op::{Message, Query},
    rr::{Name, RecordType},
};
use weft_testkit::fuzz;

use crate::{
    answer::{Asker, Decision, Transport, decide},
    cache::{Cache, Key},
    edns,
    fixtures::{web, world},
    hostfile::parse_resolv_conf,
    quick, wire,
};

#[test]
fn fuzz_dns() {
    let names = world().names();
    let packet = |name: &str, kind| {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_str(name).unwrap(), kind));
        message.to_vec().unwrap()
    };
    let seeds = [
        packet("db.", RecordType::A),
        packet("3.0.1.10.in-addr.arpa.", RecordType::PTR),
        packet("a.example.com.", RecordType::ANY),
        packet("_http._tcp.web.", RecordType::SRV),
    ];
    fuzz::run("dns-packets", &seeds, &["\u{1}a", "\u{3}www", "\0\u{29}", "\0\u{1}"], |input| {
        let asker = Asker { names: &names, container: web(), dots: false, turn: 0 };
        let mut said = Vec::new();
        if quick::answer(input, &asker, &mut said) {
            assert_eq!(
                decide(input, Transport::Udp, &asker),
                Decision::Reply(said),
                "both ways say the same"
            );
        }
        for transport in [Transport::Udp, Transport::Tcp] {
            match decide(input, transport, &asker) {
                Decision::Reply(answer) => {
                    assert_eq!(answer[..2], input[..2], "the identifier comes back");
                    assert!(answer[2] & 0x80 != 0, "an answer is an answer");
                    Message::from_vec(&answer).expect("a well-formed answer");
                }
                Decision::Drop | Decision::Forward { .. } => {}
            }
        }
    });
}

/// Answers of servers, whose lifetimes are looked for and changed before they are kept and given on.
#[test]
fn fuzz_answers() {
    let mut answer = b"\xab\xcd\x81\x80\0\x01\0\x01\0\x01\0\x01\x01x\0\0\x01\0\x01".to_vec();
    answer.extend(b"\xc0\x0c\0\x01\0\x01\0\0\x01\0\0\x04\x0a\0\0\x01");
    answer.extend(b"\0\0\x06\0\x01\0\0\x02\x58\0\x16\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x3c");
    answer.extend(b"\0\0\x29\x04\xd0\0\0\0\0\0\0");
    assert!(wire::lifetimes(&answer).is_some());
    let query = b"\xab\xcd\x01\0\0\x01\0\0\0\0\0\0\x01X\0\0\x01\0\x01".to_vec();
    fuzz::run("dns-answers", &[answer], &["\u{c}", "\0\u{6}", "\0\u{29}"], |input| {
        let (cache, now) = (Cache::default(), Instant::now());
        let Some(key) = Key::new("", &query) else { return };
        cache.put(key.clone(), input, now);
        if let Some(kept) = cache.get(&key, &query, now) {
            assert_eq!(kept.len(), input.len());
            assert_eq!(kept[..2], query[..2]);
        }
        let mut long = input.to_vec();
        long.resize(long.len().max(12) + 512, 0);
        assert!(edns::fit(long, 512).len() <= 512);
        if let Some(found) = wire::lifetimes(input) {
            let mut old = input.to_vec();
            wire::grow_old(&mut old, &found.at, u32::MAX);
            assert_eq!(wire::lifetimes(&old).map(|f| f.at), Some(found.at), "only lifetimes change");
        }
    });
}

#[test]
fn fuzz_resolv_conf() {
    let seed = b"nameserver 10.0.0.1\nnameserver fe80::1%eth0\noptions ndots:5\n#x\n".to_vec();
    fuzz::run("dns-resolv-conf", &[seed], &["nameserver ", "\t", "%", "::"], |input| {
        let _ = parse_resolv_conf(&String::from_utf8_lossy(input));
    });
}
