//! Tables of iptables-legacy.

use super::*;
use weft_dataplane::insight::RuleAt;

use crate::explain::{legacy, packet::Packet, why};

const LEGACY: &str = "# Generated\n*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:MINE - [0:0]\n\
    -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
    -A FORWARD -s 10.1.0.0/24 -o blue -p tcp -m tcp --dport 80 -m comment --comment \"let it pass\" -j ACCEPT\n\
    -A FORWARD -i eth+ -j MINE\n-A MINE -p tcp -m tcp --dport 8000:9000 -j REJECT --reject-with icmp-port-unreachable\n\
    -A MINE -m owner --uid-owner 0 -j DROP\nCOMMIT\n";

#[test]
fn the_old_iptables_is_understood() {
    let case = |from: End, port: u16| {
        world()
            .with(|w| {
                legacy::parse(LEGACY, false, &mut w.host().rules);
                w.question.port = Some(port);
            })
            .between(from, container(C))
    };
    case(container(A), 80).check(Passes, "");
    case(container(A), 81).check(Dropped, "policy drop of chain ip iptables-legacy filter FORWARD");
    case(outside(), 8080).check(Dropped, "--dport 8000:9000 -j REJECT");
    let seen = case(outside(), 80).explained();
    assert_eq!(seen.verdict, Dropped, "the policy drops it, whatever the owner: {seen:#?}");
    assert!(
        seen.hops
            .iter()
            .any(|h| h.verdict == Unclear && h.rule.as_ref().is_some_and(|r| r.text.contains("--uid-owner")))
    );
}

/// Matches that firewalls are made of, by the rules that drop by them.
#[test]
fn matches_of_the_old_iptables() {
    let check = |rule: &str, verdict: Verdict| {
        let table = format!("*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD {rule} -j DROP\nCOMMIT\n");
        let case = world().with(|w| {
            legacy::parse(&table, false, &mut w.host().rules);
            w.question.port = Some(80);
        });
        let seen = case.between(container(A), container(C)).explained();
        assert_eq!(seen.verdict, verdict, "{rule}: {seen:#?}");
    };
    for (fits, other) in [
        ("-p tcp -m multiport --dports 22,79:81", "-p tcp -m multiport --dports 22,443"),
        ("-p tcp -m multiport ! --dports 22,443", "-p tcp -m multiport ! --dports 22,79:81,1024:65535"),
        ("-p tcp -m multiport --ports 80", "-p tcp -m multiport --ports 81,82"),
        ("-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN", "-p tcp -m tcp --tcp-flags ALL FIN,PSH,URG"),
        ("-m iprange --dst-range 10.2.0.1-10.2.0.9", "-m iprange --src-range 10.3.0.1-10.3.0.9"),
        ("-m mark ! --mark 0x1/0xff", "-m mark --mark 0x1/0xff"),
        ("-m conntrack --ctorigdstport 80", "-m conntrack --ctorigdstport 8080"),
    ] {
        check(fits, Dropped);
        check(other, Passes);
    }
    check("-p tcp -m length --length 40", Unclear);
}

#[test]
fn each_of_the_old_tools_is_named_for_its_own_tables() {
    let table = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n";
    let case = |v6: bool| {
        let seen = world().with(|w| legacy::parse(table, v6, &mut w.host().rules));
        let family = if v6 { "ip6" } else { "ip" };
        let chain = (family.to_owned(), "iptables-legacy filter".to_owned(), "FORWARD".to_owned());
        let rule = RuleAt { family: chain.0, table: chain.1, chain: chain.2, ..RuleAt::default() };
        let packet =
            Packet::new(Transport::Tcp, "fd01::2".parse().unwrap(), "fd01::3".parse().unwrap(), None);
        assert_eq!(seen.facts.space(Place::Host).unwrap().unwrap().rules.chains.len(), 3);
        why::dropped(&rule, &packet).1
    };
    assert!(case(true).contains("ip6tables-legacy -t filter -I FORWARD 1"), "{}", case(true));
    assert!(case(false).contains(": iptables-legacy -t filter -I FORWARD 1"), "{}", case(false));
}

#[test]
fn fuzz_legacy_tables() {
    weft_testkit::fuzz::run(
        "iptables-save",
        &[LEGACY.as_bytes().to_vec()],
        &["--dport", "-s", "!", "-j", "DNAT", "--to-destination", "*nat\n", ":A - [0:0]\n", "-A A "],
        |bytes| legacy::parse(&String::from_utf8_lossy(bytes), bytes.len() % 2 == 0, &mut Ruleset::default()),
    );
}

#[test]
fn rules_that_call_themselves_end() {
    let mut rules = Ruleset::default();
    let text = "*filter\n:FORWARD ACCEPT [0:0]\n:X - [0:0]\n-A FORWARD -j X\n-A X -j X\nCOMMIT\n";
    legacy::parse(text, false, &mut rules);
    let seen = world().with(|w| w.host().rules = rules).between(container(A), container(C)).explained();
    assert_ne!(seen.verdict, Dropped, "{seen:#?}");
}
