//! Packets that containers send, and files of resolvers.

use std::str::FromStr;

use hickory_proto::{
    op::{Message, Query},
    rr::{Name, RecordType},
};
use weft_testkit::fuzz;

use crate::{
    answer::{Decision, Transport, decide},
    fixtures::{web, world},
    upstream::parse_resolv_conf,
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
    ];
    fuzz::run("dns-packets", &seeds, &["\u{1}a", "\u{3}www", "\0\u{29}", "\0\u{1}"], |input| {
        for transport in [Transport::Udp, Transport::Tcp] {
            match decide(input, transport, &names, web(), 0) {
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

#[test]
fn fuzz_resolv_conf() {
    let seed = b"nameserver 10.0.0.1\nnameserver fe80::1%eth0\noptions ndots:5\n#x\n".to_vec();
    fuzz::run("dns-resolv-conf", &[seed], &["nameserver ", "\t", "%", "::"], |input| {
        let _ = parse_resolv_conf(&String::from_utf8_lossy(input));
    });
}
