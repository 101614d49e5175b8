//! Policy between containers as its user meets it: `weft policy`, what of it `weft network` shows, and many hands at once.

use serde_json::Value;

use crate::{Host, plain, run, until};

fn on(host: &Host, name: &str, words: &[&str]) {
    let run = ["run", "-d", "--name", name, "--stop-timeout", "0"];
    host.ok(&[&run[..], words, &["busybox", "sh", "-c", "while :; do echo $0 | nc -l -p 80; done"]].concat());
}

fn reaches(host: &Host, from: &str, to: &str) -> bool {
    host.weft(&["exec", from, "sh", "-c", &format!("nc -w 1 {to} 80 < /dev/null")]).status.success()
}

fn ruleset(host: &Host) -> String {
    run(host.sandbox.command("nft").args(["list", "ruleset"]))
}

fn drops(host: &Host, network: &str) -> Vec<(String, u64)> {
    let stats = host.json(&["network", "stats", network]);
    let one = |d: &Value| (d["reason"].as_str().unwrap().to_owned(), d["packets"].as_u64().unwrap());
    stats["drops"]
        .as_array()
        .unwrap()
        .iter()
        .map(one)
        .filter(|(reason, _)| reason.starts_with("policy"))
        .collect()
}

fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

fn count(host: &Host, id: &str) -> u64 {
    host.json(&["policy", "inspect", id])[0]["packets"].as_u64().unwrap()
}

#[test]
fn drops_are_told_and_nothing_is_left_of_what_goes() {
    let host = Host::start(plain());
    host.ok(&["network", "create", "web"]);
    on(&host, "ca", &["--network", "web"]);
    on(&host, "cb", &["--network", "web"]);
    until("b answers", || reaches(&host, "ca", "cb"));

    for (from, to) in [("network=ghost", "any"), ("any", "network=ghost")] {
        let told = host.refused(&["policy", "add", "--from", from, "--to", to, "deny"]);
        assert!(told.contains("network ghost not found"), "{told}");
    }
    let told = host.refused(&["policy", "add", "--from", "network=host", "--to", "any", "deny"]);
    assert!(told.contains("policy is for bridge networks"), "{told}");
    let told = host.refused(&["policy", "add", "--from", "host", "--to", "outside", "deny"]);
    assert!(told.contains("what passes from host to outside is no container's"), "{told}");
    assert!(host.refused(&["policy", "rm", "beef"]).contains("No such policy: beef"));
    assert!(host.refused(&["policy", "default", "ghost", "deny"]).contains("network ghost not found"));
    let early = host.weft(&["policy", "add", "--from", "any", "--to", "name=later", "deny"]);
    let told = crate::text(&early.stderr);
    assert!(early.status.success() && told.contains("WARNING: name=later is not there"), "{told}");
    let early = crate::text(&early.stdout).trim().to_owned();
    ids_are_looked_up(&host);

    let deny = [
        "policy",
        "add",
        "--from",
        "name=ca",
        "--to",
        "network=web",
        "--protocol",
        "tcp",
        "--port",
        "80",
        "deny",
    ];
    let id = host.ok(&deny);
    assert!(!reaches(&host, "ca", "cb"));
    let told = drops(&host, "web");
    assert!(matches!(&told[..], [(reason, 1..)] if *reason == format!("policy {}", short(&id))), "{told:?}");
    let seen = host.json(&["network", "inspect", "web"])[0]["Counters"]["Drops"].clone();
    assert!(seen.to_string().contains(&format!("policy {}", short(&id))), "{seen}");
    assert!(host.ok(&["network", "stats", "web"]).contains(&format!("policy {}", short(&id))));

    // Another policy of the same containers gives their class another name; nothing that was counted is lost by it.
    let before = count(&host, &id);
    assert!(before > 0);
    let other = host.ok(&["policy", "add", "--from", "name=cb", "--to", "outside", "deny"]);
    assert!(count(&host, &id) >= before, "{} after {before}", count(&host, &id));
    host.ok(&["policy", "rm", &other]);
    assert!(count(&host, &id) >= before);

    assert_eq!(host.ok(&["policy", "ls", "-q", "--filter", "network=web"]), short(&id));
    assert_eq!(host.ok(&["policy", "ls", "-q", "--filter", "dangling=true"]), short(&early));
    assert_eq!(host.ok(&["policy", "ls", "--format", "{{.To}}", "--filter", "from=name=ca"]), "network=web");
    assert_eq!(host.json(&["policy", "ls", "--filter", "action=allow"]), Value::Array(Vec::new()));

    // A network that goes takes no policy with it, and leaves no entry of it.
    host.ok(&["rm", "-f", "ca", "cb"]);
    host.ok(&["network", "rm", "web"]);
    let dangling = host.ok(&["policy", "ls", "--format", "{{.ID}} {{.To}}", "--filter", "dangling=true"]);
    assert!(dangling.contains(&short(&id)) && dangling.contains("(removed)"), "{dangling}");
    until("no entry stands that nobody can match", || !ruleset(&host).contains("weft-policy"));
    host.ok(&["network", "create", "web"]);
    on(&host, "ca", &["--network", "web"]);
    on(&host, "cb", &["--network", "web"]);
    until("the network of the same name is another", || reaches(&host, "ca", "cb"));
    host.ok(&["policy", "rm", &id, &early]);
    until("the table is gone", || !ruleset(&host).contains("weft-policy"));

    host.ok(&["policy", "default", "web", "deny"]);
    assert!(!reaches(&host, "ca", "cb"));
    let told = drops(&host, "web");
    assert!(matches!(&told[..], [(reason, 1..)] if reason == "policy default"), "{told:?}");
    host.ok(&["rm", "-f", "ca", "cb"]);
    host.ok(&["network", "rm", "web"]);
    until("the table is gone with its network", || !ruleset(&host).contains("weft-policy"));
}

#[test]
fn many_hands_at_once_lose_nothing_and_leave_nothing() {
    let host = Host::start(plain());
    host.ok(&["network", "create", "web"]);
    on(&host, "target", &["--network", "web"]);
    std::thread::scope(|scope| {
        for hand in 0..4 {
            let host = &host;
            scope.spawn(move || {
                for turn in 0..5 {
                    let port = (1000 + hand * 10 + turn).to_string();
                    let of = [
                        "--from",
                        "label=hand",
                        "--to",
                        "name=target",
                        "--protocol",
                        "tcp",
                        "--port",
                        &port,
                        "deny",
                    ];
                    let id = host.ok(&[&["policy", "add"][..], &of].concat());
                    if turn % 2 == 0 {
                        host.ok(&["policy", "rm", &id]);
                    }
                }
            });
            scope.spawn(move || {
                let name = format!("h{hand}");
                host.ok(&[
                    "run",
                    "-d",
                    "--name",
                    &name,
                    "--network",
                    "web",
                    "-l",
                    "hand",
                    "busybox",
                    "sleep",
                    "1000",
                ]);
            });
        }
    });
    // Of five turns two stay.
    let left = host.ok(&["policy", "ls", "--format", "{{.ID}} {{.Traffic}}"]);
    assert_eq!(left.lines().count(), 8, "{left}");
    let rules = ruleset(&host);
    for hand in 0..4 {
        for turn in 0..5 {
            let port = 1000 + hand * 10 + turn;
            assert_eq!(left.contains(&format!("tcp {port}")), turn % 2 == 1, "{port}: {left}");
        }
        let address = host.json(&["inspect", &format!("h{hand}")])[0]["NetworkSettings"]["Networks"]["web"]["IPAddress"].clone();
        assert!(rules.contains(&format!("{} : 0x", address.as_str().unwrap())), "{address}: {rules}");
    }
    assert_eq!(rules.matches(" : drop").count(), 8, "one entry a policy: {rules}");
    let ids = host.ok(&["policy", "ls", "-q"]);
    std::thread::scope(|scope| {
        for id in ids.lines() {
            let host = &host;
            scope.spawn(move || host.ok(&["policy", "rm", id]));
        }
    });
    until("the table is gone", || !ruleset(&host).contains("weft-policy"));
}

#[test]
fn a_picture_of_all_networks_goes_to_standard_output() {
    let host = Host::start(plain());
    let picture = host.ok(&["network", "graph", "--svg", "-"]);
    assert!(picture.starts_with("<svg") && picture.ends_with("</svg>"), "{picture}");
}

#[test]
fn limits_are_told_as_people_and_programs_read_them() {
    let host = Host::start(plain());
    host.ok(&["network", "create", "web"]);
    assert_eq!(host.json(&["network", "limit"]), Value::Array(Vec::new()));
    let told = host.refused(&["network", "limit", "ghost", "--egress", "8mbit"]);
    assert!(told.to_lowercase().contains("no such") && told.contains("ghost"), "{told}");
    for bad in ["fast", "-1mbit", "0", ""] {
        let told = host.refused(&["network", "limit", "web", &format!("--egress={bad}")]);
        assert!(told.contains("rate"), "{bad:?}: {told}");
    }
    assert!(host.refused(&["network", "limit", "host", "--egress", "8mbit"]).contains("bridge networks"));
    let set = host.json(&["network", "limit", "web", "--egress", "8mbit"]);
    assert_eq!((&set["name"], &set["limit"]["egress"]), (&"web".into(), &"8mbit".into()), "{set}");
    assert_eq!(host.json(&["network", "limit"])[0], host.json(&["network", "limit", "web"]));
    host.ok(&["network", "limit", "web", "--clear"]);
    assert_eq!(host.json(&["network", "limit"]), Value::Array(Vec::new()));
}

/// Containers and networks may be given by id, or by the beginning of it, when a policy is made and when it is looked for.
fn ids_are_looked_up(host: &Host) {
    let id = host.json(&["inspect", "ca"])[0]["Id"].as_str().unwrap().to_owned();
    let network = host.json(&["network", "inspect", "web"])[0]["Id"].as_str().unwrap().to_owned();
    let named = |from: &str| {
        let policy =
            host.ok(&["policy", "add", "--from", from, "--to", "network=web", "--protocol", "udp", "deny"]);
        let shown = host.ok(&["policy", "ls", "--format", "{{.From}}", "-f", &format!("id={policy}")]);
        host.ok(&["policy", "rm", &policy]);
        shown
    };
    for from in [&id, &id[..12], &format!("id={}", &id[..6]), &format!("name={}", &id[..12]), "ca", "name=ca"]
    {
        assert_eq!(named(from), "name=ca", "{from}");
    }
    let refused = |from: &str| host.refused(&["policy", "add", "--from", from, "--to", "any", "deny"]);
    let nobody = "0123456789ab";
    for from in [nobody.to_owned(), format!("id={nobody}"), format!("name={nobody}"), "id=nobody".into()] {
        assert!(refused(&from).contains("No such container: "), "{from}");
    }
    let told = refused("nobody");
    assert!(told.contains("invalid selector \"nobody\": any, outside, host, a container, "), "{told}");

    let policy = host.ok(&[
        "policy",
        "add",
        "--from",
        &id[..12],
        "--to",
        &format!("network={}", &network[..12]),
        "deny",
    ]);
    let found = |filter: &str| host.ok(&["policy", "ls", "-q", "--no-trunc", "-f", filter]) == policy;
    for filter in [
        format!("network={network}"),
        format!("network={}", &network[..12]),
        "network=web".into(),
        format!("from={}", &id[..12]),
        "from=ca".into(),
        format!("to=network={}", &network[..12]),
    ] {
        assert!(found(&filter), "{filter}");
    }
    assert!(!found(&format!("from={nobody}")) && !found("from=cb") && !found("network=bridge"));
    for filter in ["action=x", "protocol=x", "direction=x", "port=abc"] {
        let told = host.refused(&["policy", "ls", "-f", filter]);
        assert!(told.contains("invalid filter '"), "{told}");
    }
    host.ok(&["policy", "rm", &policy]);
}
