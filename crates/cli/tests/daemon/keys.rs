//! `daemon.json`, key by key, by what containers see of it.

use std::time::{Duration, Instant};

use serde_json::json;
use weft_testkit::{Daemon, DaemonOptions, Sandbox, Subject};

use crate::{Host, run, text, until};

#[test]
fn defaults_of_containers() {
    let host = Host::start(json!({
        "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 333, "Hard": 444}},
        "default-shm-size": "12M", "init": true, "no-new-privileges": true,
        "log-driver": "local", "log-opts": {"max-size": "1m", "max-file": "2"},
        "dns": ["192.0.2.53"], "dns-search": ["weft.example"], "dns-opts": ["ndots:7"],
        "labels": ["where=here"], "max-concurrent-downloads": 1, "max-concurrent-uploads": 1,
        "max-download-attempts": 2, "features": {"buildkit": true}, "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "userland-proxy": false, "default-runtime": "runc", "log-level": "info"
    }));
    let script = "ulimit -Sn; ulimit -Hn; df -k /dev/shm | awk 'NR==2{print $2}'; cat /proc/1/comm; \
                  grep NoNewPrivs /proc/self/status; cat /etc/resolv.conf";
    let seen = host.ok(&["run", "--rm", "busybox", "sh", "-c", script]);
    let expected = "333\n444\n12288\ndocker-init\nNoNewPrivs:\t1\n";
    assert!(seen.starts_with(expected), "{seen}");
    for expected in ["192.0.2.53", "weft.example", "ndots:7"] {
        assert!(seen.contains(expected), "{expected:?} in {seen}");
    }
    host.ok(&["run", "-d", "--name", "c1", "busybox", "sleep", "1000"]);
    let made = host.json(&["inspect", "c1"]);
    assert_eq!(
        made[0]["HostConfig"]["LogConfig"],
        json!({"Type": "local", "Config": {"max-size": "1m", "max-file": "2"}})
    );
    let info = host.json(&["info"]);
    assert_eq!((&info["Labels"], &info["DefaultRuntime"]), (&json!(["where=here"]), &json!("runc")));
    assert_eq!(info["LiveRestoreEnabled"], true);
    host.ok(&["rm", "-f", "c1"]);
}

/// A web server `c1` that says `hi`, published on port 8080.
fn serve(host: &Host) {
    let script = "echo hi > /index.html; httpd -f -h /";
    host.ok(&["run", "-d", "--name", "c1", "-p", "8080:80", "busybox", "sh", "-c", script]);
}

#[test]
fn the_default_bridge() {
    // A namespace begins with what the host has.
    let still = |sandbox: &Sandbox| {
        run(sandbox.command("sh").args(["-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"]));
    };
    let keys = json!({
        "bip": "10.77.0.1/24", "fixed-cidr": "10.77.0.128/26", "mtu": 1321, "icc": false, "ip-masq": false,
        "default-gateway": "10.77.0.254", "ipv6": true, "bip6": "fd77::1/64", "default-gateway-v6": "fd77::fe",
        "ip": "127.0.0.1", "default-address-pools": [{"base": "10.99.0.0/16", "size": 26}],
        "host-gateway-ip": "192.0.2.7", "ip-forward": false,
        "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1234"}}
    });
    let host = Host::with(keys, still, &[]);
    let look = "ip route; ip -6 route; cat /sys/class/net/eth0/mtu; ip addr show eth0; cat /etc/hosts";
    let seen = host.ok(&["run", "--rm", "--add-host", "up:host-gateway", "busybox", "sh", "-c", look]);
    for expected in [
        "default via 10.77.0.254",
        "default via fd77::fe",
        "\n1321\n",
        "inet 10.77.0.1",
        "inet6 fd77::",
        "192.0.2.7\tup",
    ] {
        assert!(seen.contains(expected), "{expected:?} in {seen}");
    }
    let address =
        seen.split("inet 10.77.0.").nth(1).unwrap().split('/').next().unwrap().parse::<u8>().unwrap();
    assert!((128..192).contains(&address), "{seen}");
    let bridge = host.json(&["network", "inspect", "bridge"]);
    let config = bridge[0]["IPAM"]["Config"].to_string();
    assert!(config.contains("10.77.0.254") && config.contains("DefaultGatewayIPv4"), "{config}");
    let forwards = run(host.sandbox.command("cat").arg("/proc/sys/net/ipv4/ip_forward"));
    assert_eq!(forwards.trim(), "0", "ip-forward: false");
    host.ok(&["network", "create", "pooled"]);
    let pooled = host.json(&["network", "inspect", "pooled"])[0].clone();
    assert_eq!(pooled["IPAM"]["Config"][0]["Subnet"], "10.99.0.0/26");
    assert_eq!(pooled["Options"]["com.docker.network.driver.mtu"], "1234");
    let mtu = ["run", "--rm", "--network", "pooled", "busybox", "cat", "/sys/class/net/eth0/mtu"];
    assert_eq!(host.ok(&mtu), "1234");
    // No talk between containers, and a port is published where `ip` says.
    serve(&host);
    let made = host.json(&["inspect", "c1"]);
    assert_eq!(made[0]["NetworkSettings"]["Ports"]["80/tcp"][0]["HostIp"], "127.0.0.1");
    let ip = made[0]["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].as_str().unwrap().to_owned();
    let fetch = format!("http://{ip}/");
    assert!(!host.weft(&["run", "--rm", "busybox", "wget", "-T", "1", "-qO-", &fetch]).status.success());
    let near = || host.sandbox.command("busybox").args(["wget", "-qO-", &fetch]).output().unwrap();
    until("the server", || text(&near().stdout).trim() == "hi");
    host.ok(&["rm", "-f", "c1"]);
}

#[test]
fn a_bridge_of_somebody_else() {
    let make = |sandbox: &Sandbox| {
        let script = "ip link add br0 type bridge && ip link set br0 mtu 1400 alias mine up \
                      && ip addr add 10.78.0.9/24 dev br0 && ip link add far0 type veth peer name near0 \
                      && ip link set near0 master br0 up";
        run(sandbox.command("sh").args(["-c", script]));
    };
    let mut host = Host::with(json!({"bridge": "br0", "fixed-cidr": "10.78.0.64/26"}), make, &[]);
    let look = |host: &Host| {
        let seen = run(host.sandbox.command("ip").args(["addr", "show", "dev", "br0", "scope", "global"]));
        seen + &run(host.sandbox.command("ip").args(["link", "show", "dev", "br0"]))
    };
    let before = look(&host);
    serve(&host);
    let settings = host.json(&["inspect", "c1"])[0]["NetworkSettings"]["Networks"]["bridge"].clone();
    assert_eq!(settings["Gateway"], "10.78.0.9");
    assert!(settings["IPAddress"].as_str().unwrap().starts_with("10.78.0."));
    let url = format!("http://{}:8080/", host.sandbox.address());
    let fetch =
        || text(&std::process::Command::new("busybox").args(["wget", "-qO-", &url]).output().unwrap().stdout);
    until("the server", || fetch().trim() == "hi");
    let members =
        |host: &Host| run(host.sandbox.command("ip").args(["-br", "link", "show", "master", "br0"]));
    assert!(members(&host).contains("near0") && members(&host).contains("wfp"), "{}", members(&host));
    let inspect = host.json(&["network", "inspect", "bridge"]);
    assert_eq!(inspect[0]["Options"]["com.docker.network.bridge.name"], "br0");
    host.daemon.kill9().unwrap();
    host.daemon.boot(&host.sandbox).unwrap();
    assert_eq!(fetch().trim(), "hi");
    host.ok(&["rm", "-f", "c1"]);
    until("the port's end", || !members(&host).contains("wfp"));
    host.daemon.stop().unwrap();
    assert_eq!(look(&host), before, "it is as it was");
    // Back to a bridge of our own: the other stays.
    host.daemon.reconfigure(|config| drop(config.remove("bridge").and(config.remove("fixed-cidr"))));
    host.daemon.boot(&host.sandbox).unwrap();
    assert_eq!(look(&host), before);
    assert_eq!(
        host.json(&["network", "inspect", "bridge"])[0]["Options"]["com.docker.network.bridge.name"],
        "wf0"
    );
    host.ok(&["run", "--rm", "busybox", "true"]);
}

#[test]
fn no_default_bridge() {
    let mut host = Host::start(crate::plain());
    host.ok(&["run", "-d", "--name", "c1", "busybox", "sleep", "1000"]);
    let names = |host: &Host| host.json(&["network", "ls"]).to_string();
    let restart = |host: &mut Host, value: &str| {
        host.daemon.stop().unwrap();
        host.daemon.reconfigure(|config| drop(config.insert("bridge".into(), json!(value))));
        host.daemon.boot(&host.sandbox).unwrap();
    };
    restart(&mut host, "none");
    assert!(names(&host).contains("\"bridge\""), "a container is on it: {}", names(&host));
    host.ok(&["rm", "-f", "c1"]);
    restart(&mut host, "none");
    assert!(!names(&host).contains("\"Name\":\"bridge\""), "{}", names(&host));
    assert!(!run(host.sandbox.command("ip").args(["-br", "link"])).contains("wf0"));
    let seen = host.ok(&["run", "--rm", "busybox", "ip", "addr"]);
    assert!(seen.contains("127.0.0.1") && !seen.contains("eth0"), "{seen}");
    host.ok(&["network", "create", "own"]);
    assert!(host.ok(&["run", "--rm", "--network", "own", "busybox", "ip", "addr"]).contains("eth0"));
    restart(&mut host, "");
    assert!(host.ok(&["run", "--rm", "busybox", "ip", "addr"]).contains("eth0"));
}

#[test]
fn what_cannot_be_had_is_refused_by_name() {
    let sandbox = Sandbox::new().unwrap();
    run(sandbox
        .command("sh")
        .args(["-c", "ip link add br9 type bridge; ip link add dm9 type veth peer name dm8"]));
    for (config, word) in [
        (json!({"bridge": "br8"}), "bridge device with non default name br8 must be created manually"),
        (json!({"bridge": "br9"}), "bridge br9 has no IPv4 address"),
        (json!({"bridge": "dm9"}), "bridge dm9 is no bridge"),
        (json!({"bridge": "br9", "bip": "10.0.0.1/24"}), "mutually exclusive"),
        (json!({"bip": "10.0.0.1/24", "default-gateway": "10.0.1.1"}), "not in the bridge's subnet"),
        (json!({"iptables": false}), "iptables: "),
        (json!({"authorization-plugins": ["img-authz"]}), "authorization-plugins: "),
    ] {
        let options =
            DaemonOptions { config: config.as_object().cloned().unwrap(), ..DaemonOptions::default() };
        let error = Daemon::start(&sandbox, Subject::Weft, "d", options).unwrap_err();
        let said = format!("{error:#}");
        assert!(said.contains(word), "{config}: {said}");
    }
}

#[test]
fn without_live_restore_containers_stop_with_the_daemon() {
    let mut host = Host::start(json!({"live-restore": false, "shutdown-timeout": 3}));
    assert_eq!(host.json(&["info"])["LiveRestoreEnabled"], false);
    let script = "trap 'echo bye; exit 7' TERM; echo up; while true; do sleep 0.1; done";
    host.ok(&["run", "-d", "--name", "polite", "--restart", "always", "busybox", "sh", "-c", script]);
    host.ok(&["run", "-d", "--name", "plain", "busybox", "sh", "-c", script]);
    host.ok(&["run", "-d", "--name", "stubborn", "--stop-timeout", "1", "busybox", "sleep", "1000"]);
    host.ok(&["run", "-d", "--name", "frozen", "--restart", "unless-stopped", "busybox", "sh", "-c", script]);
    host.ok(&["run", "-d", "--name", "halted", "--restart", "unless-stopped", "busybox", "sh", "-c", script]);
    host.ok(&["stop", "halted"]);
    for name in ["polite", "plain", "frozen"] {
        until("its trap", || host.ok(&["logs", name]).contains("up"));
    }
    host.ok(&["pause", "frozen"]);
    let begun = Instant::now();
    host.daemon.stop().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let left = std::fs::read_dir(host.home().join("run/containers")).into_iter().flatten().count();
    assert_eq!(left, 0, "shims' directories");
    host.daemon.boot(&host.sandbox).unwrap();
    let state = |name: &str| host.json(&["inspect", name])[0]["State"].clone();
    assert_eq!((&state("plain")["Status"], &state("plain")["ExitCode"]), (&json!("exited"), &json!(7)));
    assert_eq!(
        (&state("stubborn")["Status"], &state("stubborn")["ExitCode"]),
        (&json!("exited"), &json!(137))
    );
    assert_eq!(state("halted")["Status"], "exited", "people stopped it");
    for name in ["polite", "frozen"] {
        until("its next run", || state(name)["Status"] == "running");
        assert!(host.ok(&["logs", name]).contains("bye"), "{name} was asked");
    }
    host.ok(&["rm", "-f", "polite", "plain", "stubborn", "frozen", "halted"]);
}

#[test]
fn live_restore_is_read_again() {
    let mut host = Host::start(json!({"live-restore": false, "shutdown-timeout": 1}));
    // Switched on while it runs: then nothing is stopped.
    host.ok(&["run", "-d", "--name", "c1", "--stop-timeout", "1", "busybox", "sleep", "1000"]);
    let file = host.home().join("daemon.json");
    let text =
        std::fs::read_to_string(&file).unwrap().replace("\"live-restore\":false", "\"live-restore\":true");
    std::fs::write(&file, text).unwrap();
    run(std::process::Command::new("kill").args(["-HUP", &host.daemon.pid().to_string()]));
    until("the reload", || host.json(&["info"])["LiveRestoreEnabled"] == true);
    let pid = host.json(&["inspect", "c1"])[0]["State"]["Pid"].clone();
    host.daemon.stop().unwrap();
    host.daemon.boot(&host.sandbox).unwrap();
    assert_eq!(host.json(&["inspect", "c1"])[0]["State"]["Pid"], pid);
    host.ok(&["rm", "-f", "c1"]);
}

#[test]
fn who_asks_twice_does_not_wait() {
    let mut host = Host::start(json!({"live-restore": false}));
    host.ok(&["run", "-d", "--name", "c1", "--stop-timeout", "-1", "busybox", "sleep", "1000"]);
    let pid = host.json(&["inspect", "c1"])[0]["State"]["Pid"].clone();
    run(std::process::Command::new("kill").args(["-TERM", &host.daemon.pid().to_string()]));
    std::thread::sleep(Duration::from_secs(1));
    let daemon = format!("/proc/{}/stat", host.daemon.pid());
    assert!(std::path::Path::new(&daemon).exists(), "it waits for the container, which waits for ever");
    host.daemon.stop().unwrap();
    host.daemon.boot(&host.sandbox).unwrap();
    assert_eq!(host.json(&["inspect", "c1"])[0]["State"]["Pid"], pid, "it went on");
    host.ok(&["rm", "-f", "c1"]);
}

#[test]
fn the_daemons_log() {
    let sandbox = Sandbox::new().unwrap();
    let said = |config: serde_json::Value| {
        let options =
            DaemonOptions { config: config.as_object().cloned().unwrap(), ..DaemonOptions::default() };
        let name = format!("d{}", config.to_string().len());
        let mut daemon = Daemon::start(&sandbox, Subject::Weft, &name, options).unwrap();
        daemon.stop().unwrap();
        std::fs::read_to_string(daemon.log_path()).unwrap()
    };
    assert!(said(json!({})).contains("stopping on SIGTERM"));
    let quiet = said(json!({"log-level": "error", "storage-driver": "overlay2"}));
    assert!(!quiet.contains("SIGTERM") && !quiet.contains("storage-driver"), "{quiet}");
    let structured = said(json!({"log-format": "json"}));
    let line = structured.lines().find(|line| line.contains("SIGTERM")).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(line).unwrap()["level"], "INFO");
}
