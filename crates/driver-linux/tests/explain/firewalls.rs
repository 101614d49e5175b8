//! Rules of others, of nftables and of the old iptables.

use std::process::Command;

use weft_dataplane::insight::Verdict;

use crate::{HOST4, LAN4, Scene, connect_from, container, lan, nft};

#[test]
fn rules_of_others() {
    let scene = Scene::new(|_| ());
    nft(
        "table inet foreign {\n chain f {\n type filter hook forward priority 10; tcp dport 80 drop comment \"no web\"\n }\n}",
    );
    scene.agrees(lan(), HOST4, 8080, "inet foreign f (no web)");
    scene.agrees(container(1), LAN4, 80, "inet foreign f");
    scene.agrees(container(1), "10.1.0.3", 80, "reaches container c2");
    nft(
        "delete table inet foreign\ntable ip foreign {\n chain FORWARD {\n type filter hook forward priority 0; policy drop;\n }\n}",
    );
    scene.agrees(lan(), HOST4, 8080, "policy drop of chain ip foreign FORWARD");
    scene.agrees(container(1), LAN4, 80, "policy drop");
    nft(
        "delete table ip foreign\ntable ip late {\n chain i {\n type filter hook forward priority 5; iifname \"eth0\" ct state established drop\n }\n}",
    );
    scene.agrees(container(1), LAN4, 80, "the answer is lost");
    scene.agrees(lan(), HOST4, 8080, "later packets are lost");
    nft(
        "delete table ip late\ntable ip early {\n chain p {\n type filter hook prerouting priority raw; ip saddr 192.0.2.9 reject\n }\n}",
    );
    scene.agrees(lan(), HOST4, 8080, "ip early p");
    nft(
        "delete table ip early\ntable bridge b {\n chain f {\n type filter hook forward priority 0; ip daddr 10.1.0.3 drop\n }\n}",
    );
    scene.agrees(container(1), "10.1.0.3", 80, "bridge b f");
}

#[test]
fn the_old_iptables() {
    let scene = Scene::new(|_| ());
    let set =
        |args: &[&str]| Command::new("iptables-legacy").args(args).output().is_ok_and(|o| o.status.success());
    if !set(&["-A", "FORWARD", "-p", "tcp", "--dport", "80", "-j", "DROP"]) {
        // This kernel has no such tables: there is nothing to explain.
        return;
    }
    scene.agrees(lan(), HOST4, 8080, "iptables-legacy filter FORWARD");
    assert!(set(&["-F", "FORWARD"]));
    scene.agrees(lan(), HOST4, 8080, "reaches");
    assert!(set(&["-P", "FORWARD", "DROP"]));
    scene.agrees(lan(), HOST4, 8080, "policy drop");
}

/// Matches that `iptables-nft` keeps in iptables' own form.
#[test]
fn matches_of_iptables() {
    let scene = Scene::new(|_| ());
    for (rule, dropped) in [
        ("-p tcp -m multiport --dports 79:81", true),
        ("-p tcp -m multiport --dports 22,443", false),
        ("-p tcp -m multiport ! --dports 80,1024:65535", false),
        ("-p tcp -m conntrack --ctorigdstport 8080", true),
        ("-p tcp -m conntrack --ctorigdstport 8081", false),
    ] {
        let iptables = |action: &str| {
            let args = [action, "FORWARD"].into_iter().chain(rule.split(' ')).chain(["-j", "DROP"]);
            assert!(Command::new("iptables").args(args).status().unwrap().success(), "{rule}");
        };
        iptables("-A");
        scene.agrees(lan(), HOST4, 8080, if dropped { "filter FORWARD" } else { "reaches container c1" });
        iptables("-D");
    }
}

#[test]
fn directions_of_a_connection() {
    let scene = Scene::new(|_| ());
    let rule = |rule: &str| {
        nft(&format!(
            "table ip dir\ndelete table ip dir\ntable ip dir {{\n chain f {{\n type filter hook forward priority 10; {rule} drop\n }}\n}}"
        ));
    };
    rule("ct direction original tcp dport 80");
    scene.agrees(container(1), LAN4, 80, "ct direction original");
    rule("ct direction reply");
    scene.agrees(container(1), LAN4, 80, "the answer is lost");
    scene.agrees(lan(), HOST4, 8080, "the answer is lost");
    rule("ct original ip saddr 10.1.0.2");
    scene.agrees(container(1), LAN4, 80, "ct original ip saddr 10.1.0.2");
    scene.agrees(lan(), HOST4, 8080, "reaches container c1");
    rule(&format!("ct original ip daddr {HOST4}"));
    scene.agrees(lan(), HOST4, 8080, "ct original ip daddr");
    scene.agrees(container(1), LAN4, 80, "leaves this host by eth0");
    rule(&format!("ct reply ip saddr {HOST4}"));
    scene.agrees(lan(), HOST4, 8080, "reaches container c1");
    rule("ct reply ip saddr 10.1.0.2 ct direction reply");
    scene.agrees(lan(), HOST4, 8080, "the answer is lost");
}

#[test]
fn of_chains_of_one_priority_the_youngest_is_the_first() {
    let mut scene = Scene::new(|_| ());
    // Where nothing listens: whoever is asked first is seen by whether there is an answer.
    let table = |name: &str, port: u16| {
        nft(&format!(
            "table ip {name}\ndelete table ip {name}\ntable ip {name} {{\n chain p {{\n type nat hook prerouting priority -100; \
             ip daddr {HOST4} tcp dport 8080 dnat to 10.1.0.2:{port}\n }}\n}}"
        ));
    };
    table("zz", 81);
    scene.agrees(lan(), HOST4, 8080, "connection refused");
    table("aa", 80);
    scene.agrees(lan(), HOST4, 8080, "reaches container c1");
    table("mm", 81);
    scene.agrees(lan(), HOST4, 8080, "connection refused");
    // Weft's chains are made anew, and are the youngest then.
    nft("delete table inet weft");
    scene.host.converger.forget();
    scene.host.converge();
    scene.agrees(lan(), HOST4, 8080, "reaches container c1");
    // Its chains stay in their place when its rules change.
    table("mm", 81);
    scene.agrees(lan(), HOST4, 8080, "connection refused");
    for segment in scene.host.desired.segments.values_mut() {
        segment.masquerade = !segment.masquerade;
    }
    scene.host.converge();
    scene.agrees(lan(), HOST4, 8080, "connection refused");
    // Its table stays where a chain comes anew, and with it the table's number.
    nft("flush chain inet weft prerouting; delete chain inet weft prerouting");
    scene.host.converger.forget();
    scene.host.converge();
    assert!(connect_from(&scene.host.lan, &format!("{HOST4}:8080")).is_ok(), "the chain was not made anew");
    scene.agrees(lan(), HOST4, 8080, "reaches container c1");
    // A table that sleeps decides nothing.
    nft(
        "table ip qq {\n flags dormant;\n chain f {\n type filter hook forward priority 0; policy drop;\n }\n}",
    );
    scene.agrees(lan(), HOST4, 8080, "reaches container c1");
}

#[test]
fn what_the_hosts_firewall_lets_in_is_asked_again_and_reaches() {
    let mut scene = Scene::new(|_| ());
    scene.host.desired.publish_policy = weft_model::PublishPolicy::HostFirewall;
    scene.host.converge();
    nft(
        "table inet fw {\n chain input {\n type filter hook input priority 0; policy drop;\n tcp dport 8080 accept\n }\n}",
    );
    let seen = scene.explained(lan(), HOST4, 8080);
    assert_eq!(seen.verdict, Verdict::Passes, "{seen:#?}");
    assert!(seen.reason.contains("reaches container c1"), "{seen:#?}");
    nft("flush chain inet fw input");
    let seen = scene.explained(lan(), HOST4, 8080);
    assert_eq!(seen.verdict, Verdict::Dropped, "{seen:#?}");
    assert!(seen.reason.contains("policy drop of chain inet fw input"), "{seen:#?}");
    // What is advised lets in this service and no more.
    assert!(seen.remedy.contains("tcp dport 8080 accept"), "{seen:#?}");
}
