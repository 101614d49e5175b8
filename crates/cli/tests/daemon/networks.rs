//! Networks of a running host: they grow under their containers, bridges of others are used and left alone.

use serde_json::Value;

use crate::{Host, plain, run, until};

fn addresses(host: &Host, container: &str) -> String {
    host.ok(&["exec", container, "ip", "-o", "-4", "addr", "show", "eth0"])
}

fn on(host: &Host, name: &str, words: &[&str]) {
    let run = ["run", "-d", "--name", name, "--restart", "always", "--stop-timeout", "0"];
    host.ok(&[&run[..], words, &["busybox", "sleep", "1000"]].concat());
}

fn pools(host: &Host, network: &str) -> Vec<String> {
    let config = host.json(&["network", "inspect", network])[0]["IPAM"]["Config"].clone();
    let text = |p: &Value| p["Subnet"].as_str().unwrap().to_owned();
    config.as_array().unwrap().iter().map(text).collect()
}

fn reaches(host: &Host, from: &str, to: &str) {
    host.ok(&["exec", from, "ping", "-c1", "-W3", to]);
}

#[test]
fn a_network_grows_while_containers_run() {
    let mut host = Host::start(plain());
    host.ok(&["network", "create", "--subnet", "10.60.0.0/24", "web"]);
    host.ok(&["network", "create", "--subnet", "10.62.0.0/24", "other"]);
    on(&host, "c1", &["--network", "web"]);
    on(&host, "c2", &["--network", "web"]);
    run(host.sandbox.command("ip").args(["route", "add", "blackhole", "10.63.0.0/24", "table", "99"]));
    let overlaps = "Pool overlaps with other one on this address space";
    for words in
        [["--subnet", "10.60.0.0/14"], ["--add-subnet", "10.62.0.128/25"], ["--add-subnet", "10.63.0.0/16"]]
    {
        let told = host.refused(&[&["network", "set", "web"][..], &words].concat());
        assert!(told.contains(overlaps), "{words:?}: {told}");
    }
    let told = host.refused(&["network", "set", "bridge", "--subnet", "172.16.0.0/12"]);
    assert!(told.contains("operation is not permitted on predefined bridge network"), "{told}");
    assert_eq!(pools(&host, "web"), ["10.60.0.0/24"], "what was refused left nothing behind");

    let started = host.json(&["inspect", "c1"])[0]["State"]["StartedAt"].clone();
    host.ok(&["network", "set", "web", "--subnet", "10.60.0.0/23"]);
    host.ok(&["network", "set", "web", "--add-subnet", "10.61.0.0/24", "--gateway", "10.61.0.254"]);
    for round in ["at once", "after kill -9", "after a stop"] {
        match round {
            "after kill -9" => host.daemon.kill9().unwrap(),
            "after a stop" => host.daemon.stop().unwrap(),
            _ => {}
        }
        if round != "at once" {
            host.daemon.boot(&host.sandbox).unwrap();
        }
        assert_eq!(pools(&host, "web"), ["10.60.0.0/23", "10.61.0.0/24"], "{round}");
        for name in ["c1", "c2"] {
            let text = addresses(&host, name);
            assert!(text.contains("/23 ") && !text.contains("/24 "), "{round}: {text}");
        }
        let shown = host.json(&["inspect", "c1"])[0].clone();
        let endpoint = &shown["NetworkSettings"]["Networks"]["web"];
        assert_eq!(
            (&endpoint["IPPrefixLen"], &endpoint["Gateway"]),
            (&23.into(), &"10.60.0.1".into()),
            "{round}"
        );
        assert_eq!(shown["State"]["StartedAt"], started, "nothing was restarted, {round}");
        host.ok(&[
            "run",
            "-d",
            "--name",
            "new",
            "--network",
            "web",
            "--ip",
            "10.60.1.7",
            "busybox",
            "sleep",
            "1000",
        ]);
        host.ok(&[
            "run",
            "-d",
            "--name",
            "far",
            "--network",
            "web",
            "--ip",
            "10.61.0.9",
            "busybox",
            "sleep",
            "1000",
        ]);
        for (from, to) in [("new", "c1"), ("c2", "new"), ("far", "c1"), ("c1", "far"), ("far", "10.61.0.254")]
        {
            reaches(&host, from, to);
        }
        assert!(addresses(&host, "far").contains("10.61.0.9/24"));
        host.ok(&["rm", "-f", "new", "far"]);
    }
    let nft = run(host.sandbox.command("nft").args(["list", "set", "inet", "weft", "masquerade4"]));
    assert!(nft.contains("10.60.0.0/23") || nft.contains("10.60.0.0-10.61.0.255"), "{nft}");
    host.ok(&["rm", "-f", "c1", "c2"]);
    host.ok(&["network", "rm", "web", "other"]);
}

#[test]
fn a_full_network_gets_a_second_subnet() {
    let host = Host::start(plain());
    host.ok(&["network", "create", "--subnet", "10.64.0.0/30", "tiny"]);
    on(&host, "one", &["--network", "tiny"]);
    let told = host.refused(&["run", "-d", "--name", "two", "--network", "tiny", "busybox", "sleep", "1000"]);
    assert!(told.contains("no available IPv4 addresses on this network's address pools: tiny"), "{told}");
    host.ok(&["rm", "-f", "two"]);
    let view =
        host.json(&["network", "set", "tiny", "--add-subnet", "10.65.0.0/24", "--ip-range", "10.65.0.64/26"]);
    assert_eq!(view["network"]["spec"]["subnets"][1]["cidr"], "10.65.0.0/24");
    on(&host, "two", &["--network", "tiny"]);
    assert!(addresses(&host, "two").contains("10.65.0.65/24"), "{}", addresses(&host, "two"));
    reaches(&host, "two", "one");
    reaches(&host, "one", "two");
    // IPv6 for a network that had none: for who is there, with a way out, and for who comes.
    host.ok(&["network", "set", "tiny", "--add-subnet", "fd00:65::/64", "--ip-range", "10.65.0.128/26"]);
    for name in ["one", "two"] {
        let text = host.ok(&["exec", name, "ip", "-o", "-6", "addr"]);
        assert!(text.contains("fd00:65::"), "{text}");
        let text = host.ok(&["exec", name, "ip", "-6", "route"]);
        assert!(text.contains("default via fd00:65::1"), "{text}");
    }
    on(&host, "three", &["--network", "tiny"]);
    let text = host.ok(&["exec", "three", "ip", "-o", "-6", "addr"]);
    assert!(text.contains("fd00:65::4/64"), "{text}");
    assert!(addresses(&host, "three").contains("10.65.0.128/24"), "{}", addresses(&host, "three"));
    let told = host.refused(&["network", "inspect", "nope"]);
    assert!(told.contains("weft: Error response from daemon: network nope not found"), "{told}");
    host.ok(&["rm", "-f", "one", "two", "three"]);
}

#[test]
fn a_bridge_of_others_is_used_and_left_as_it_is() {
    let mut host = Host::start(plain());
    let ip = |host: &Host, words: &[&str]| run(host.sandbox.command("ip").args(words));
    ip(&host, &["link", "add", "br7", "type", "bridge"]);
    ip(&host, &["addr", "add", "10.66.0.5/24", "dev", "br7"]);
    ip(&host, &["link", "set", "br7", "up"]);
    // Flags apart, which tell whether somebody is plugged in, and whether the kernel is sure of its own address by now.
    let look = |host: &Host| {
        let link = ip(host, &["-o", "link", "show", "br7"]);
        let link = link.split_once("> ").unwrap().1.split(" state").next().unwrap().to_owned();
        (ip(host, &["-o", "addr", "show", "br7"]).replace(" tentative", ""), link)
    };
    let before = look(&host);
    let name = ["-o", "com.docker.network.bridge.name=br7"];
    host.ok(&[&["network", "create"][..], &name, &["lan"]].concat());
    assert_eq!(pools(&host, "lan"), ["10.66.0.0/24"]);
    on(&host, "one", &["--network", "lan"]);
    reaches(&host, "one", "10.66.0.5");
    assert!(host.ok(&["exec", "one", "ip", "route"]).contains("default via 10.66.0.5"));
    let told = host.refused(&["network", "set", "lan", "--subnet", "10.66.0.0/16"]);
    assert!(told.contains("are those of bridge br7, which is not ours"), "{told}");
    host.daemon.kill9().unwrap();
    host.daemon.boot(&host.sandbox).unwrap();
    reaches(&host, "one", "10.66.0.5");
    host.ok(&["rm", "-f", "one"]);
    host.ok(&["network", "rm", "lan"]);
    // A router beyond it; the bridge's own address is kept from containers.
    let words = ["--subnet", "10.66.0.0/24", "--gateway", "10.66.0.1"];
    host.ok(&[&["network", "create"][..], &name, &words, &["lan"]].concat());
    let refused =
        host.refused(&["run", "--name", "xx", "--network", "lan", "--ip", "10.66.0.5", "busybox", "true"]);
    assert!(refused.contains("Address already in use"), "{refused}");
    on(&host, "two", &["--network", "lan"]);
    assert!(host.ok(&["exec", "two", "ip", "route"]).contains("default via 10.66.0.1"));
    host.ok(&["rm", "-f", "two", "xx"]);
    host.ok(&["network", "rm", "lan"]);
    assert_eq!(look(&host), before);
}

#[test]
fn small_subnets_beside_every_route_of_the_host() {
    let prepare = |sandbox: &weft_testkit::Sandbox| {
        run(sandbox.command("ip").args(["route", "add", "blackhole", "172.18.0.0/24"]));
        run(sandbox.command("ip").args(["route", "add", "blackhole", "172.18.1.0/25", "table", "77"]));
    };
    let host = Host::with(plain(), prepare, &[]);
    assert_eq!(pools(&host, "bridge"), ["172.17.0.0/16"]);
    host.ok(&["network", "create", "a"]);
    host.ok(&["network", "create", "b"]);
    assert_eq!(
        (pools(&host, "a"), pools(&host, "b")),
        (vec!["172.18.2.0/24".into()], vec!["172.18.3.0/24".into()])
    );
}

#[test]
fn configuration_gives_networks_ipv6_and_docker_says_no() {
    let options =
        serde_json::json!({"default-network-opts": {"bridge": {"com.docker.network.enable_ipv6": "true"}}});
    let host = Host::start(options);
    host.ok(&["network", "create", "both"]);
    host.ok(&["network", "create", "--ipv6=false", "four"]);
    assert_eq!(pools(&host, "both").len(), 2);
    assert!(pools(&host, "both")[1].starts_with("fd"), "{:?}", pools(&host, "both"));
    assert_eq!(pools(&host, "four").len(), 1);
    on(&host, "one", &["--network", "both"]);
    on(&host, "two", &["--network", "both"]);
    host.ok(&["exec", "one", "sh", "-c", "ip -6 route | grep default; ping -6 -c1 -W3 two"]);
    host.ok(&["rm", "-f", "one", "two"]);
}

#[test]
fn another_bip_reaches_containers_or_waits() {
    let bip = |host: &mut Host, bip: &str| {
        host.daemon.kill9().unwrap();
        host.daemon.reconfigure(|config| {
            config.insert("bip".into(), bip.into());
        });
        host.daemon.boot(&host.sandbox).unwrap();
    };
    let mut host = Host::start(plain());
    bip(&mut host, "10.67.0.1/24");
    on(&host, "one", &[]);
    assert!(addresses(&host, "one").contains("10.67.0.2/24"));
    bip(&mut host, "10.67.0.254/16");
    until("the new prefix at the container", || addresses(&host, "one").contains("10.67.0.2/16"));
    assert!(host.ok(&["exec", "one", "ip", "route"]).contains("default via 10.67.0.254"));
    reaches(&host, "one", "10.67.0.254");
    // No place for it there: it is not cut off.
    bip(&mut host, "10.68.0.1/24");
    assert_eq!(pools(&host, "bridge"), ["10.67.0.0/16"]);
    reaches(&host, "one", "10.67.0.254");
    host.ok(&["rm", "-f", "one"]);
    bip(&mut host, "10.68.0.1/24");
    assert_eq!(pools(&host, "bridge"), ["10.68.0.0/24"]);
}
