//! Packets in, decisions out; hickory's own client types make the packets and read the answers.

use std::str::FromStr;

use hickory_proto::op::{Edns, Query};
use proptest::prelude::*;

use super::*;
use crate::fixtures::{db, probe, web, world};

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_str(name).unwrap(), kind));
    message
}

/// `CODE data data…`, or the decision's name.
fn show(decision: &Decision) -> String {
    let Decision::Reply(bytes) = decision else { return format!("{decision:?}") };
    let answer = Message::from_vec(bytes).unwrap();
    assert_eq!(answer.metadata.message_type, MessageType::Response);
    let data: Vec<String> = answer.answers.iter().map(|r| format!(" {} {}", r.ttl, r.data)).collect();
    format!("{:?}{}", answer.metadata.response_code, data.concat())
}

fn asker(names: &Names, container: ContainerId, turn: u32) -> Asker<'_> {
    Asker { names, container, dots: false, turn }
}

fn ask(container: ContainerId, name: &str, kind: RecordType) -> String {
    let packet = query(name, kind).to_vec().unwrap();
    show(&decide(&packet, Transport::Udp, &asker(&world().names(), container, 0)))
}

#[test]
fn answers() {
    use RecordType as T;
    let forward = "Forward { limit: 512 }";
    let cases = [
        (web(), "db.", T::A, "NoError 600 10.1.0.3"),
        (web(), "DB", T::A, "NoError 600 10.1.0.3"),
        (web(), "web.", T::AAAA, "NoError 600 fd00:1::2"),
        (web(), "db.", T::AAAA, "NoError"),
        (web(), "db.", T::MX, "NoError"),
        (web(), "web.", T::ANY, "NoError 600 10.1.0.2 600 fd00:1::2"),
        (web(), "www.", T::A, "NoError 600 10.1.0.2 600 10.1.0.3"),
        (web(), "Web.aPP.", T::A, "NoError 600 10.1.0.2"),
        (web(), "store.", T::A, "NoError 600 10.1.0.3"),
        // Another network's container is not there, and nobody else is asked about it.
        (web(), "probe.", T::A, "NXDomain"),
        (web(), "probe.", T::MX, "NXDomain"),
        (web(), "Probe.LAB.", T::A, "NXDomain"),
        (web(), "nobody.lab.", T::A, forward),
        (web(), "x.probe.lab.", T::A, forward),
        (web(), "_http._tcp.probe.", T::SRV, "NXDomain"),
        (web(), "probe.example.com.", T::A, forward),
        (db(), "probe.", T::A, "NoError 600 10.2.0.4"),
        (web(), "example.com.", T::A, forward),
        (web(), "example.com.", T::TXT, forward),
        (probe(), "example.com.", T::A, "ServFail"),
        (web(), "localhost.", T::A, "NoError 600 127.0.0.1"),
        (web(), "x.localhost.", T::AAAA, "NoError 600 ::1"),
        (web(), "3.0.1.10.in-addr.arpa.", T::PTR, "NoError 600 db.App."),
        (web(), "9.9.1.10.in-addr.arpa.", T::PTR, "NXDomain"),
        (web(), "8.8.8.8.in-addr.arpa.", T::PTR, forward),
        (web(), "10.in-addr.arpa.", T::PTR, forward),
        (web(), "3.0.1.10.in-addr.arpa.", T::TXT, "NoError"),
        (web(), "0.1.10.in-addr.arpa.", T::SOA, "NoError"),
        (web(), "lb._dns-sd._udp.0.0.1.10.in-addr.arpa.", T::PTR, "NXDomain"),
        // An address of another network: neither its name nor the question is given away.
        (web(), "4.0.2.10.in-addr.arpa.", T::PTR, "NXDomain"),
        (web(), "1.0.0.127.in-addr.arpa.", T::PTR, "NoError 600 localhost."),
        (
            web(),
            "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa.",
            T::PTR,
            "NoError 600 web.App.",
        ),
        (
            web(),
            "9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa.",
            T::PTR,
            "NXDomain",
        ),
        // A container that is attached and does not run; a network whose name is no top-level domain.
        (web(), "sleeper.", T::A, "NXDomain"),
        (web(), "sleeper.app.", T::A, "NXDomain"),
        (web(), "nobody.app.", T::A, forward),
        (probe(), "nobody.my_lab.", T::A, "NXDomain"),
        (probe(), "a.probe.my_lab.", T::A, "NXDomain"),
        (web(), "nobody.my_lab.", T::A, "NXDomain"),
        // web exposes 80/tcp and 9000/udp, db publishes 5432.
        (web(), "_http._tcp.web.", T::SRV, "NoError 600 0 0 80 web.App."),
        (web(), "_HTTP._TCP.web.app.", T::SRV, "NoError 600 0 0 80 web.App."),
        (web(), "_9000._udp.web.", T::SRV, "NoError 600 0 0 9000 web.App."),
        (web(), "_postgresql._tcp.store.", T::SRV, "NoError 600 0 0 5432 db.App."),
        (web(), "_http._tcp.web.", T::A, "NoError"),
        (web(), "_http._udp.web.", T::SRV, "NXDomain"),
        (web(), "_https._tcp.web.", T::SRV, "NXDomain"),
        (web(), "_acme-challenge.web.", T::TXT, "NXDomain"),
        (web(), "_http._tcp.sleeper.", T::SRV, "NXDomain"),
        (web(), "_http._tcp.example.com.", T::SRV, forward),
    ];
    for (container, name, kind, wanted) in cases {
        assert_eq!(ask(container, name, kind), wanted, "{name} {kind}");
    }
}

#[test]
fn absence_says_how_long_it_holds() {
    let names = world().names();
    for (name, kind, zone) in [
        ("db.", RecordType::AAAA, "db."),
        ("sleeper.app.", RecordType::A, "app."),
        ("sleeper.", RecordType::A, "."),
        ("9.9.1.10.in-addr.arpa.", RecordType::PTR, "9.1.10.in-addr.arpa."),
    ] {
        let packet = query(name, kind).to_vec().unwrap();
        let decision = decide(&packet, Transport::Udp, &asker(&names, web(), 0));
        let Decision::Reply(bytes) = decision else { panic!("no reply") };
        let answer = Message::from_vec(&bytes).unwrap();
        let [record] = &answer.authorities[..] else { panic!("one SOA record: {answer:?}") };
        assert_eq!((record.name.to_string(), record.ttl), (zone.to_owned(), 1));
        assert!(matches!(&record.data, RData::SOA(soa) if soa.minimum == 1), "{record:?}");
    }
}

#[test]
fn services_bring_the_addresses_of_their_hosts() {
    let names = world().names();
    let mut message = query("_http._tcp.web.", RecordType::SRV);
    message.set_edns(Edns::new());
    let decision = decide(&message.to_vec().unwrap(), Transport::Udp, &asker(&names, web(), 0));
    let Decision::Reply(bytes) = decision else { panic!("no reply") };
    let answer = Message::from_vec(&bytes).unwrap();
    let extra: Vec<String> = answer.additionals.iter().map(|r| format!("{} {}", r.name, r.data)).collect();
    assert_eq!(extra, ["web.App. 10.1.0.2", "web.App. fd00:1::2"]);
}

#[test]
fn bare_names_stay_where_dots_are_wanted() {
    let names = world().names();
    let ask = |container, name, kind, dots| {
        let packet = query(name, kind).to_vec().unwrap();
        show(&decide(&packet, Transport::Udp, &Asker { names: &names, container, dots, turn: 0 }))
    };
    let forward = "Forward { limit: 512 }";
    assert_eq!(ask(web(), "nosuch.", RecordType::A, false), forward);
    assert_eq!(ask(web(), "nosuch.", RecordType::A, true), "NoError");
    assert_eq!(ask(web(), "nosuch.", RecordType::MX, true), forward);
    assert_eq!(ask(web(), "nosuch.example.", RecordType::AAAA, true), forward);
    // db has options of its own that name no number of dots: its file says ndots:0, which counts more than the host's.
    assert_eq!(ask(db(), "nosuch.", RecordType::A, true), forward);
}

#[test]
fn identifier_question_and_flags_come_back() {
    let sent = query("dB.", RecordType::A);
    let names = world().names();
    let decision = decide(&sent.to_vec().unwrap(), Transport::Udp, &asker(&names, web(), 0));
    let Decision::Reply(bytes) = decision else { panic!("no reply") };
    let answer = Message::from_vec(&bytes).unwrap();
    assert_eq!(answer.metadata.id, sent.metadata.id);
    assert!(answer.queries[0].name().eq_case(sent.queries[0].name()));
    assert!(answer.metadata.recursion_available && answer.metadata.recursion_desired);
    assert!(answer.edns.is_none());
}

#[test]
fn several_addresses_take_turns() {
    let packet = query("www.", RecordType::A).to_vec().unwrap();
    let names = world().names();
    let first = |turn| show(&decide(&packet, Transport::Udp, &asker(&names, web(), turn)));
    assert_eq!(first(1), "NoError 600 10.1.0.3 600 10.1.0.2");
    assert_eq!(first(2), "NoError 600 10.1.0.2 600 10.1.0.3");
}

#[test]
fn long_answers_are_cut_for_udp_unless_edns_says_more() {
    let mut world = world();
    let ips: Vec<String> = (0..100).map(|n| format!("10.1.3.{n}")).collect();
    let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
    world.ports.push(crate::fixtures::port(0x20, 0xa, 9, "eth0", &ips, &["many"]));
    let names = world.names();
    let mut message = query("many.", RecordType::A);
    let ask = |message: &Message, transport| {
        let decision = decide(&message.to_vec().unwrap(), transport, &asker(&names, web(), 0));
        let Decision::Reply(bytes) = decision else { panic!("no reply") };
        let answer = Message::from_vec(&bytes).unwrap();
        (answer.metadata.truncation, answer.answers.len(), answer.edns.map(|e| e.max_payload()))
    };
    assert_eq!(ask(&message, Transport::Udp), (true, 30, None), "as many as have room");
    assert_eq!(ask(&message, Transport::Tcp), (false, 100, None));
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    message.set_edns(edns);
    assert_eq!(ask(&message, Transport::Udp), (false, 100, Some(4096)));
}

#[test]
fn what_is_no_proper_query() {
    let names = world().names();
    let shown = |packet: &[u8]| show(&decide(packet, Transport::Udp, &asker(&names, web(), 0)));
    assert_eq!(shown(&[]), "Drop");
    assert_eq!(shown(&[0; 11]), "Drop");
    let mut response = query("db.", RecordType::A);
    response.metadata.message_type = MessageType::Response;
    assert_eq!(shown(&response.to_vec().unwrap()), "Drop", "never answer an answer");
    assert_eq!(shown(&[0; 12]), "FormErr", "no question");
    let mut two = query("db.", RecordType::A);
    two.add_query(Query::query(Name::from_str("web.").unwrap(), RecordType::A));
    assert_eq!(shown(&two.to_vec().unwrap()), "FormErr");
    let good = query("db.", RecordType::A).to_vec().unwrap();
    assert_eq!(shown(&good[..good.len() - 2]), "FormErr");
    let mut status = query("db.", RecordType::A);
    status.metadata.op_code = OpCode::Status;
    assert_eq!(shown(&status.to_vec().unwrap()), "NotImp");
    let mut chaos = query("version.bind.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(shown(&chaos.to_vec().unwrap()), "NotImp");
    let mut future = query("db.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    future.set_edns(edns);
    // 16 is BADVERS in an OPT record and BADSIG in a TSIG; hickory prints the latter.
    assert_eq!(shown(&future.to_vec().unwrap()), "BADSIG");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Any bytes: no panic, no reply to what says it is a reply, and every reply can be read, carries the
    /// identifier and is not larger than was allowed.
    #[test]
    fn any_packet_is_survived(mut packet in prop::collection::vec(any::<u8>(), 0..200), sane in any::<bool>()) {
        if sane && packet.len() >= 12 {
            packet[2] &= 0x01;
            packet[4..12].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
        }
        check(&packet)?;
    }

    /// A real query with some bytes changed.
    #[test]
    fn any_damaged_query_is_survived(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6), cut in any::<prop::sample::Index>()) {
        let mut message = query("www.app.", RecordType::A);
        message.set_edns(Edns::new());
        let mut packet = message.to_vec().unwrap();
        for (at, byte) in changes {
            let at = at.index(packet.len());
            packet[at] = byte;
        }
        check(&packet)?;
        packet.truncate(cut.index(packet.len()));
        check(&packet)?;
    }
}

fn check(packet: &[u8]) -> Result<(), TestCaseError> {
    for transport in [Transport::Udp, Transport::Tcp] {
        if let Decision::Reply(bytes) = decide(packet, transport, &asker(&world().names(), web(), 7)) {
            prop_assert!(packet[2] & 0x80 == 0);
            prop_assert_eq!(&bytes[..2], &packet[..2]);
            prop_assert!(Message::from_vec(&bytes).is_ok());
            prop_assert!(transport == Transport::Tcp || bytes.len() <= usize::from(MAX_UDP));
        }
    }
    Ok(())
}
