//! Real rules, put there by `nft` in a namespace of the test's own, and mutations of what the kernel said of them.

use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::netlink::{Family as Protocol, Socket};

const RULES: &str = r#"
table inet t {
    set ports { type inet_service; flags interval; elements = { 80, 8000-8100 } }
    map where { type inet_proto . ipv4_addr : verdict; elements = { tcp . 10.0.0.1 : jump sub } }
    chain sub { return; }
    chain pre { type nat hook prerouting priority dstnat; fib daddr type local tcp dport 81 dnat ip to 10.0.0.9:80; }
    chain post { type nat hook postrouting priority srcnat; oifname { "a", "b" } masquerade; }
    chain forward {
        type filter hook forward priority filter + 5; policy drop;
        ct state established,related counter accept comment "known"
        iifname "eth0" tcp dport @ports drop
        ip protocol . ip daddr vmap @where
        tcp dport 1-1000 limit rate 5/second log reject
    }
}
table bridge b {
    chain f { type filter hook forward priority 0; ether type arp accept; }
}
table netdev n {
    chain i { type filter hook ingress device lo priority 0; udp dport 9 drop; }
}
"#;

/// Tables that `nft` makes in the calling thread's namespace.
fn load(text: &str) {
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut nft.stdin.take().unwrap(), text.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{text}");
}

#[test]
fn chains_are_dated_and_sleeping_tables_have_none() {
    let chain = |name: &str, comment: &str| {
        format!("chain {name} {{\n type filter hook input priority 0; {comment}\n }}")
    };
    let table = |name: &str, body: String| format!("table ip {name} {{\n {body}\n }}\n");
    let of = |all: &Ruleset, table: &str, chain: &str| {
        all.chains[&((Family::Ip, table.to_owned()), chain.to_owned())].clone()
    };
    std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        load(&table("a", chain("old", "")));
        load(&table("b", chain("c", "")));
        load(&table("sleeping", format!("flags dormant;\n {}", chain("c", ""))));
        let mut socket = Socket::open(Protocol::Netfilter).unwrap();
        let last = last_table(&mut socket).unwrap();
        let mut batch = crate::nft::Batch::new("ours");
        batch.add_table();
        batch.stamp(last);
        let hook = crate::nft::Hook { kind: "filter", point: crate::nft::HookPoint::Input, priority: 0 };
        batch.add_chain("c", Some(hook));
        socket.transact(&batch.finish()).unwrap();
        load(&table("a", chain("new", &format!("comment \"after table handle {last}\";"))));
        let all = ruleset(&mut socket).unwrap();
        assert_eq!(of(&all, "sleeping", "c").hook, None, "its table is dormant");
        let dates = [("a", "old"), ("b", "c"), ("sleeping", "c"), ("a", "new")];
        let dates: Vec<Registered> = dates.iter().map(|(t, c)| of(&all, t, c).registered).collect();
        assert!(dates.is_sorted_by(|a, b| a < b), "{dates:?}");
        let ours = &all.chains[&((Family::Inet, "ours".to_owned()), "c".to_owned())];
        assert!(
            ours.registered.table > last && !ours.registered.later,
            "its table is younger than what it says"
        );
    })
    .join()
    .unwrap();
}

fn answers() -> (Ruleset, Vec<Vec<u8>>) {
    std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        load(RULES);
        let mut socket = Socket::open(Protocol::Netfilter).unwrap();
        let all = ruleset(&mut socket).unwrap();
        let mut bodies = Vec::new();
        for kind in [GETCHAIN, GETRULE, GETSET] {
            bodies
                .extend(socket.query(&dump(kind, 0, &Attrs::new(), "")).unwrap().into_iter().map(|(_, b)| b));
        }
        for ((family, table), set) in all.sets.keys() {
            let attrs = Attrs::new().text(1, table).text(2, set);
            let elements = socket.query(&dump(GETSETELEM, family.number(), &attrs, "")).unwrap();
            bodies.extend(elements.into_iter().map(|(_, b)| b));
        }
        (all, bodies)
    })
    .join()
    .unwrap()
}

#[test]
fn everybodys_rules_are_read() {
    let (all, _) = answers();
    let table: TableKey = (Family::Inet, "t".into());
    let chain = &all.chains[&(table.clone(), "forward".to_owned())];
    let hook = chain.hook.as_ref().unwrap();
    assert_eq!((hook.kind.as_str(), hook.number, hook.priority, hook.accepts), ("filter", 2, 5, false));
    assert_eq!(chain.rules.len(), 4);
    assert_eq!(chain.rules[0].comment, "known");
    assert!(chain.rules[0].exprs.contains(&Expr::Counter { packets: 0, bytes: 0 }));
    let known = |e: &Expr| !matches!(e, Expr::Other(_));
    for rule in all.chains.values().flat_map(|c| &c.rules) {
        assert!(rule.exprs.iter().all(known), "{:?}", rule.exprs);
    }
    assert!(chain.rules[3].exprs.contains(&Expr::Reject));
    let translate = &all.chains[&(table.clone(), "pre".to_owned())].rules[0];
    assert!(translate.exprs.iter().any(|e| matches!(e, Expr::Fib { flags: 2, result: 3, .. })));
    let ports = &all.sets[&(table.clone(), "ports".to_owned())];
    assert!(ports.interval() && !ports.anonymous());
    assert!(ports.elements.iter().any(|e| e.key == 8101u16.to_be_bytes() && e.end), "{:?}", ports.elements);
    let places = &all.sets[&(table, "where".to_owned())];
    assert_eq!(places.elements[0].data, Some(Data::Verdict(Code::Jump("sub".into()))));
    let device = &all.chains[&((Family::Netdev, "n".into()), "i".to_owned())];
    assert_eq!(device.hook.as_ref().unwrap().devices, ["lo"]);
}

#[test]
fn fuzz_nft_dumps() {
    let (_, bodies) = answers();
    weft_testkit::fuzz::run(
        "nft-dumps",
        &bodies,
        &["meta", "lookup", "nat", "match", "conntrack"],
        |bytes| {
            let _ = (
                decode_table(bytes),
                decode_chain(bytes),
                decode_rule(bytes),
                decode_set(bytes),
                decode_elements(bytes),
            );
            for (name, revision) in
                [("conntrack", 3), ("tcp", 0), ("udp", 0), ("addrtype", 1), ("comment", 0)]
            {
                let _ = XtMatch::decode(name, revision, bytes);
            }
            for name in ["DNAT", "SNAT"] {
                let _ = XtTarget::decode(name, 0, bytes);
            }
        },
    );
}
