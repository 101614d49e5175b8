//! Rules of others: expressions, hooks, what is not understood.

use super::*;

/// A forward chain of a foreign table, on a packet from a to c (port 80).
#[track_caller]
fn forwarded(body: &str, verdict: Verdict, reason: &str) {
    let text = format!(
        "table ip foreign {{\n set nets {{ type ipv4_addr; flags interval; elements = {{ 10.2.0.0/16, 10.7.0.1-10.7.0.9 }} }}\n \
         map verdicts {{ type inet_service : verdict; elements = {{ 80 : drop, 443 : accept }} }}\n \
         map pairs {{ type ipv4_addr . inet_service : verdict; flags interval; elements = {{ 10.2.0.0/24 . 70-90 : drop }} }}\n \
         chain sub {{\n ip daddr 10.2.0.2 return\n ip saddr 10.2.0.2 return\n drop\n }}\n chain bad {{\n drop\n }}\n \
         chain forward {{\n type filter hook forward priority 10; policy accept;\n {body}\n }}\n}}\n"
    );
    let rules = rules(&text);
    world().with(|w| w.host().rules = rules).between(container(A), container(C)).check(verdict, reason);
}

#[test]
fn foreign_rules_are_understood() {
    forwarded("tcp dport 80 drop", Dropped, "ip foreign forward: tcp");
    forwarded("tcp dport 80 drop comment \"no web\"", Dropped, "(no web)");
    forwarded("tcp dport 81 drop", Passes, "");
    forwarded("udp dport 80 drop", Passes, "");
    forwarded("tcp dport 70-90 reject", Dropped, "tcp dport");
    forwarded("tcp dport { 22, 80 } drop", Dropped, "");
    forwarded("ct state new tcp dport != { 22, 80 } drop", Passes, "");
    forwarded("iifname \"red\" oifname \"blue\" drop", Dropped, "iifname \"red\" oifname \"blue\" drop");
    forwarded("iifname \"re*\" drop", Dropped, "iifname \"re*\"");
    forwarded("iifname \"eth0\" drop", Passes, "");
    forwarded("iifname { \"eth0\", \"red\" } drop", Dropped, "");
    forwarded("ip saddr 10.1.0.0/24 ip daddr 10.2.0.0/24 drop", Dropped, "ip saddr 10.1.0.0/24");
    forwarded("ct state new ip saddr != 10.1.0.0/24 drop", Passes, "");
    forwarded("ip saddr != 10.1.0.0/24 drop", Dropped, "the answer is lost");
    forwarded("ip daddr @nets drop", Dropped, "ip daddr @nets drop");
    forwarded("ip saddr @nets tcp flags syn drop", Dropped, "the answer is lost");
    forwarded("tcp dport vmap @verdicts", Dropped, "vmap @verdicts");
    forwarded("ip daddr . tcp dport vmap @pairs", Dropped, "");
    forwarded("ct state new drop", Dropped, "ct state new drop");
    forwarded("ct state established,related accept\ncounter drop", Dropped, "counter packets 0");
    forwarded("ct state invalid drop", Passes, "");
    forwarded("ct state new accept\ndrop", Dropped, "the answer is lost");
    forwarded("ct state vmap { established : accept, new : accept }\ndrop", Passes, "");
    forwarded("ct status dnat drop", Passes, "");
    forwarded("jump sub", Passes, "");
    forwarded("goto bad", Dropped, "ip foreign bad");
    forwarded("jump sub\njump bad", Dropped, "ip foreign bad");
    forwarded("return\ndrop", Passes, "");
    forwarded("accept\ndrop", Passes, "");
    forwarded("meta mark 1 drop", Passes, "");
    forwarded("meta mark set 1\nmeta mark 1 drop", Dropped, "meta mark");
    forwarded("fib daddr type local drop", Passes, "");
    forwarded("fib saddr . iif oif missing drop", Passes, "");
    forwarded("limit rate 5/second accept\ndrop", Passes, "");
    forwarded("limit rate over 5/second drop", Passes, "");
    forwarded("limit rate 5/second drop", Unclear, "limit is reached");
    forwarded("ct state new ct count over 5 drop", Unclear, "ct count");
    forwarded("meta l4proto != tcp drop", Passes, "");
    forwarded("ip protocol tcp drop", Dropped, "ip protocol tcp drop");
}

#[test]
fn a_rule_asks_for_a_direction_of_the_connection() {
    forwarded("ct direction original ct state new drop", Dropped, "ct direction original ct state new drop");
    forwarded("ct direction reply drop", Dropped, "the answer is lost");
    forwarded("ct direction original accept\nct direction reply accept\ndrop", Passes, "");
    forwarded("ct original ip saddr 10.1.0.2 ct state new drop", Dropped, "ct original ip saddr 10.1.0.2");
    forwarded("ct original ip saddr 10.2.0.2 drop", Passes, "");
    forwarded("ct original ip saddr 10.1.0.2 ct direction reply drop", Dropped, "the answer is lost");
    forwarded("ct reply ip saddr 10.2.0.2 ct state new drop", Dropped, "ct reply ip saddr 10.2.0.2");
    forwarded("ct reply ip daddr 10.2.0.2 drop", Passes, "");
    forwarded(
        "meta l4proto tcp ct original proto-dst 80 ct state new drop",
        Dropped,
        "ct original proto-dst",
    );
    forwarded("meta l4proto tcp ct original proto-dst 81 drop", Passes, "");
    forwarded(
        "meta l4proto tcp ct reply proto-src 80 ct direction reply drop",
        Dropped,
        "the answer is lost",
    );
}

#[test]
fn what_is_not_known_is_said() {
    forwarded("tcp sport 1024-65535 drop", Dropped, "tcp sport");
    forwarded("tcp sport 5 drop", Passes, "");
    forwarded("ip dscp cs1 drop", Unclear, "not known of the packet (rule 11 of ip foreign forward)");
    forwarded("meta skuid 0 drop", Unclear, "foreign forward");
    forwarded("meta cpu 1 accept\ndrop", Unclear, "cannot tell");
    forwarded("ip dscp cs1 tcp dport 81 drop", Passes, "");
    forwarded("numgen random mod 2 0 jump bad", Unclear, "cannot tell");
    forwarded("numgen random mod 2 0 jump sub", Passes, "");
}

#[test]
fn what_is_not_understood_is_said_once_for_a_rule() {
    let text = "table ip foreign {\n chain forward {\n type filter hook forward priority 10; ip dscp cs1 drop\n }\n}\n";
    let rules = rules(text);
    let seen = world().with(|w| w.host().rules = rules).between(container(A), container(C)).explained();
    assert_eq!(seen.verdict, Unclear, "{seen:#?}");
    assert_eq!(seen.reason.matches("not known of the packet").count(), 1, "{}", seen.reason);
    assert_eq!(seen.reason.matches("ip foreign forward").count(), 1, "{}", seen.reason);
    let told = |text: &str| seen.hops.iter().filter(|hop| hop.text.ends_with(text)).count();
    assert_eq!((told("not known of the packet"), told("as above")), (1, 1), "{seen:#?}");
}

#[test]
fn every_hook_and_every_table_counts() {
    let case = |text: &str, verdict: Verdict, reason: &str| {
        let rules = rules(text);
        world().with(|w| w.host().rules = rules).between(container(A), container(C)).check(verdict, reason);
    };
    let two = |second: &str| {
        format!(
            "table inet x {{\n chain f {{\n type filter hook forward priority -10; accept\n }}\n}}\n\
             table ip y {{\n chain f {{\n type filter hook forward priority 20; {second}\n }}\n}}\n"
        )
    };
    case(&two("policy drop;"), Dropped, "policy drop of chain ip y f");
    case(&two("policy accept;"), Passes, "");
    case("table ip6 x {\n chain f {\n type filter hook forward priority 0; policy drop;\n }\n}", Passes, "");
    case("table ip x {\n chain f {\n type filter hook input priority 0; policy drop;\n }\n}", Passes, "");
    case(
        "table ip x {\n chain f {\n type filter hook prerouting priority -300; tcp dport 80 drop\n }\n}",
        Dropped,
        "x f",
    );
    case(
        "table inet x {\n chain f {\n type filter hook postrouting priority 0; tcp dport 80 drop\n }\n}",
        Dropped,
        "x f",
    );
    case(
        "table bridge x {\n chain f {\n type filter hook forward priority 0; policy drop;\n }\n}",
        Passes,
        "",
    );
    for hook in ["ingress", "egress"] {
        let text = format!(
            "table netdev x {{\n chain f {{\n type filter hook {hook} device lo priority 0; policy drop;\n }}\n}}"
        );
        for (device, verdict) in [("red", Dropped), ("wfp-c", Dropped), ("eth0", Passes)] {
            let mut seen = rules(&text);
            for chain in seen.chains.values_mut() {
                chain.hook.as_mut().unwrap().devices = vec![device.into()];
            }
            let world = world().with(|w| w.host().rules = seen);
            world.between(container(A), container(C)).check(verdict, "");
        }
    }
    let early =
        "table ip x {\n chain f {\n type filter hook prerouting priority -300; ct state new drop\n }\n}";
    case(early, Passes, "");
    let later = "table ip x {\n chain f {\n type filter hook forward priority 0; iifname \"red\" ct state established drop\n }\n}";
    case(later, Dropped, "later packets are lost");
    let bridged =
        "table bridge x {\n chain f {\n type filter hook forward priority 0; ip daddr 10.1.0.3 drop\n }\n}";
    let bridged = rules(bridged);
    world().with(|w| w.host().rules = bridged).check(Dropped, "bridge x f");
    let ip = rules("table ip x {\n chain f {\n type filter hook forward priority 0; policy drop;\n }\n}");
    let both = |on: &str| {
        world().with(|w| {
            w.host().rules = ip.clone();
            w.host().sysctls.insert("net.bridge.bridge-nf-call-iptables".into(), on.into());
        })
    };
    both("0").check(Passes, "");
    both("1").check(Dropped, "policy drop of chain ip x f");
    let inner =
        rules("table ip x {\n chain i {\n type filter hook input priority 0; tcp dport 80 drop\n }\n}");
    let inside = world().with(|w| {
        w.facts.spaces.get_mut(&Place::Sandbox(id(B))).unwrap().as_mut().unwrap().rules = inner;
    });
    inside.check(Dropped, "ip x i");
}
