//! Translations, there and back.

use super::*;

const PUBLISH: &str = "table ip nat {
    chain pre { type nat hook prerouting priority dstnat; fib daddr type local tcp dport 8080 dnat to 10.1.0.2:80; }
    chain out { type nat hook output priority -100; fib daddr type local tcp dport 8080 dnat to 10.1.0.2:80; }
    chain post { type nat hook postrouting priority srcnat; ip saddr 10.1.0.0/24 oifname \"eth0\" masquerade; }
}
table ip filter {
    chain f { type filter hook forward priority 0; policy drop; ct state established accept; ct status dnat accept; iifname \"red\" accept; }
}";

#[test]
fn translations_are_followed_there_and_back() {
    let lines = PUBLISH.replace("; ", ";\n").replace("{ ", "{\n").replace("; }", ";\n}");
    let rules = rules(&lines);
    let case = |from: End, to: End, port: u16| {
        world()
            .with(|w| {
                w.host().rules = rules.clone();
                w.question.port = Some(port);
            })
            .between(from, to)
    };
    let seen = case(outside(), to_host(), 8080).explained();
    assert_eq!(seen.verdict, Passes, "{seen:#?}");
    assert_eq!(seen.packet, "tcp 192.0.2.2 -> 192.0.2.1:8080");
    assert!(seen.hops.iter().any(|h| h.kind == weft_dataplane::insight::HopKind::Nat), "{seen:#?}");
    let back = seen.hops.iter().find(|h| h.answer && h.text.contains("translates it back")).unwrap();
    assert!(back.text.contains("192.0.2.1:8080 -> 192.0.2.2"), "{}", back.text);
    case(outside(), to_host(), 8081).check(Dropped, "nothing listens on tcp port 8081");
    case(outside(), container(A), 80).check(Dropped, "policy drop");
    let out = case(container(A), outside(), 443).explained();
    assert_eq!(out.verdict, Passes, "masqueraded: {out:#?}");
    assert!(out.reason.contains("leaves this host by eth0"), "{}", out.reason);
}

/// A table whose prerouting chain translates port 80 of the host to a port of a, where nothing listens but on 80.
fn translating(table: &str, priority: i32, port: u16) -> String {
    format!(
        "table ip {table} {{\n chain p {{\n type nat hook prerouting priority {priority}; \
         ip daddr 192.0.2.1 tcp dport 8080 dnat to 10.1.0.2:{port}\n }}\n}}\n"
    )
}

#[test]
fn of_chains_of_one_priority_the_youngest_translates() {
    let case = |text: &str| {
        let rules = rules(text);
        world()
            .with(|w| {
                w.host().rules = rules;
                w.question.port = Some(8080);
            })
            .between(outside(), to_host())
    };
    // Names in any order: it is not they that decide.
    for names in [("a", "b"), ("b", "a")] {
        let (old, young) = (translating(names.0, -100, 81), translating(names.1, -100, 80));
        case(&format!("{old}{young}")).check(Passes, "reaches container a");
        let (old, young) = (translating(names.0, -100, 80), translating(names.1, -100, 81));
        case(&format!("{old}{young}")).check(Dropped, "nothing listens on tcp port 81");
        let (old, young) = (translating(names.0, -101, 80), translating(names.1, -100, 81));
        case(&format!("{old}{young}")).check(Passes, "reaches container a");
    }
}

#[test]
fn between_old_and_new_iptables_of_one_priority_it_is_not_known() {
    let nat = "*nat\n:PREROUTING ACCEPT [0:0]\n\
        -A PREROUTING -d 192.0.2.1/32 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.1.0.2:81\nCOMMIT\n";
    let rules = rules(&translating("x", -100, 80));
    let rival = world().with(|w| {
        w.host().rules = rules;
        crate::explain::legacy::parse(nat, false, &mut w.host().rules);
        w.question.port = Some(8080);
    });
    let seen = rival.between(outside(), to_host()).explained();
    assert_ne!(seen.verdict, Passes, "{seen:#?}");
    let told = seen.reason.contains("which one the kernel asks first is not known");
    assert!(told || seen.verdict == Dropped, "{seen:#?}");
}

#[test]
fn the_connection_is_asked_for_as_it_began() {
    let forward = |rule: &str| {
        let text = translating("x", -100, 80);
        let text = format!(
            "{text}table ip y {{\n chain f {{\n type filter hook forward priority 0; {rule} drop\n }}\n}}\n"
        );
        let rules = rules(&text);
        world()
            .with(|w| {
                w.host().rules = rules;
                w.question.port = Some(8080);
            })
            .between(outside(), to_host())
    };
    forward("ct original ip daddr 192.0.2.1 meta l4proto tcp ct original proto-dst 8080")
        .check(Dropped, "ct original ip daddr");
    forward("ct original ip daddr 10.1.0.2").check(Passes, "");
    forward("ct reply ip saddr 10.1.0.2 meta l4proto tcp ct reply proto-src 80 ct direction reply")
        .check(Dropped, "the answer");
    forward("ct reply ip saddr 192.0.2.1").check(Passes, "");
}
