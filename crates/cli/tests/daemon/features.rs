//! Features switched on and off in a running daemon.

use crate::{Host, plain};

#[test]
fn features_switch_at_once_and_stay() {
    let mut host = Host::start(plain());
    let refused = host.refused(&["feature", "disable", "networks"]);
    assert!(refused.contains("networks is needed by containers, dns, docker"), "{refused}");
    assert!(host.refused(&["feature", "enable", "magic"]).contains("no such feature: magic"));

    host.ok(&["network", "create", "n"]);
    host.ok(&["run", "-d", "--name", "one", "--network", "n", "busybox", "sleep", "1000"]);
    let lookup = ["exec", "one", "nslookup", "one", "127.0.0.11"];
    host.ok(&lookup);
    assert_eq!(host.ok(&["feature", "disable", "dns"]), "disabled: dns");
    assert_eq!(host.ok(&["feature", "disable", "dns"]), "nothing to change");
    assert!(!host.weft(&lookup).status.success(), "the resolver is gone");
    let resolv = host.ok(&["run", "--rm", "--network", "n", "busybox", "cat", "/etc/resolv.conf"]);
    assert!(!resolv.contains("127.0.0.11"), "{resolv}");

    let ports = host.ok(&["network", "ports", "n"]);
    assert!(ports.contains("one") && ports.contains("eth0"), "{ports}");

    // The API goes and comes; what listens at the socket is gone meanwhile.
    host.ok(&["feature", "disable", "docker"]);
    assert!(!host.daemon.socket().exists());
    host.ok(&["feature", "disable", "native"]);
    assert!(!host.home().join("run/native.sock").exists());
    let refused = host.refused(&["feature", "disable", "containers"]);
    assert!(refused.contains("containers cannot be disabled"), "{refused}");
    assert_eq!(host.ok(&["feature", "enable", "docker"]), "enabled: docker");
    assert_eq!(host.json(&["inspect", "one"])[0]["State"]["Running"], true);

    // Kept over a restart, until it is said otherwise; `--feature` is for one run.
    host.daemon.stop().unwrap();
    host.daemon.boot(&host.sandbox).unwrap();
    let on = |host: &Host| host.json(&["status"])["features"].as_array().unwrap().iter().any(|f| f == "dns");
    assert!(!on(&host));
    assert!(!host.weft(&lookup).status.success());
    host.ok(&["feature", "enable", "dns"]);
    assert!(on(&host));
    host.ok(&lookup);
    host.ok(&["rm", "-f", "one"]);
}

#[test]
fn feature_flag_enables_for_this_run() {
    let wanted = |sandbox: &weft_testkit::Sandbox| {
        let root = sandbox.dir().join("d/data");
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(root.join("features.json"), r#"{"version": 1, "enabled": ["docker"]}"#).unwrap();
    };
    let host = Host::with(plain(), wanted, &["--feature", "dns"]);
    let features = host.json(&["status"])["features"].to_string();
    assert_eq!(features, r#"["images","networks","containers","dns","docker","native"]"#);
    assert!(host.refused(&["metrics"]).contains("feature"));
    let kept = std::fs::read_to_string(host.home().join("data/features.json")).unwrap();
    assert!(!kept.contains("dns"), "{kept}");
}
