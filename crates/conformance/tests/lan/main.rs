//! Containers whose addresses come from the LAN: a real DHCP server (busybox's, dnsmasq) on the wire, and the `docker` client.
//!
//! ```text
//!  udhcpd on lan0 10.83.0.1 ──veth── up0 (parent of a macvlan network, or port of a network's bridge)
//! ```

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use weft_testkit::{
    daemon::{Daemon, DaemonOptions, Subject},
    image::{ImageSpec, busybox_archive},
    sandbox::{Sandbox, run},
};

/// Seconds of a lease: renewed after half of them.
const LEASE: u64 = 8;
/// The server knows this one.
const RESERVED: &str = "02:42:aa:bb:cc:dd";

struct Lan {
    daemon: Daemon,
    sandbox: Sandbox,
}

impl Lan {
    fn new() -> Self {
        let sandbox = Sandbox::new().unwrap();
        let script = "ip link add up0 type veth peer name lan0 && ip addr add 10.83.0.1/24 dev lan0 \
                      && ip link set up0 up && ip link set lan0 up";
        run(sandbox.command("sh").args(["-c", script])).unwrap();
        let daemon = Daemon::start(&sandbox, Subject::Weft, "weft", DaemonOptions::default()).unwrap();
        let archive = sandbox.dir().join("busybox.tar");
        busybox_archive(&ImageSpec::tagged("busybox:latest"), &archive).unwrap();
        run(daemon.docker().args(["load", "-q", "-i"]).arg(&archive)).unwrap();
        Self { daemon, sandbox }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.sandbox.dir().join(name)
    }

    fn serve(&self) {
        let (leases, pid) = (self.file("leases"), self.file("udhcpd.pid"));
        std::fs::write(&leases, "").unwrap();
        let config = format!(
            "start 10.83.0.100\nend 10.83.0.110\ninterface lan0\nlease_file {}\npidfile {}\nmin_lease {LEASE}\n\
             option lease {LEASE}\noption subnet 255.255.255.0\noption router 10.83.0.1\noption dns 10.83.0.1\n\
             static_lease {RESERVED} 10.83.0.200\n",
            leases.display(),
            pid.display()
        );
        let path = self.file("udhcpd.conf");
        std::fs::write(&path, config).unwrap();
        // It goes to the background by itself, and ends with the sandbox.
        run(self.sandbox.command("busybox").args(["udhcpd", "-a", "50"]).arg(&path)).unwrap();
    }

    /// Another server: dnsmasq knows clients by the names that they give themselves (`dhcp-host=NAME,ADDRESS`), busybox's does not.
    fn serve_by_names(&self, reserved: &[(&str, &str)]) {
        let (leases, pid) = (self.file("dnsmasq.leases"), self.file("dnsmasq.pid"));
        let mut server = self.sandbox.command("dnsmasq");
        server.args([
            "--conf-file=/dev/null",
            "--port=0",
            "--user=root",
            "--interface=lan0",
            "--bind-interfaces",
        ]);
        server.args([
            "--no-ping",
            "--dhcp-authoritative",
            "--dhcp-range=10.83.0.100,10.83.0.110,255.255.255.0,120",
        ]);
        server.arg(format!("--dhcp-leasefile={}", leases.display()));
        server.arg(format!("--pid-file={}", pid.display()));
        server.args(reserved.iter().map(|(name, address)| format!("--dhcp-host={name},{address}")));
        // It goes to the background by itself, and ends with the sandbox.
        run(&mut server).unwrap();
    }

    fn server(&self, signal: &str) {
        let script = format!("kill -{signal} $(cat {})", self.file("udhcpd.pid").display());
        run(self.sandbox.command("sh").args(["-c", &script])).unwrap();
    }

    /// What the server has given: one line for each lease, with the client's name and "expired" or the time left.
    fn leases(&self) -> String {
        self.server("USR1");
        std::thread::sleep(Duration::from_millis(100));
        let mut dump = self.sandbox.command("busybox");
        let output = dump.args(["dumpleases", "-f"]).arg(self.file("leases")).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn docker(&self, args: &[&str]) -> Result<String, String> {
        let output = self.daemon.docker().args(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    fn ok(&self, args: &[&str]) -> String {
        self.docker(args).unwrap_or_else(|error| panic!("{args:?}: {error}\n{}", self.daemon.log_tail()))
    }

    fn reaches(&self, address: &str) -> bool {
        let mut ping: Command = self.sandbox.command("busybox");
        ping.args(["ping", "-c1", "-W2", address]).output().unwrap().status.success()
    }

    fn address(&self, container: &str) -> String {
        self.ok(&["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container])
    }

    fn until(&self, what: &str, done: impl Fn() -> bool) {
        let begun = Instant::now();
        while !done() {
            assert!(begun.elapsed() < Duration::from_secs(20), "never: {what}\n{}", self.daemon.log_tail());
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

const MACVLAN: [&str; 8] =
    ["network", "create", "-d", "macvlan", "--ipam-driver", "dhcp", "-o", "parent=up0"];

#[test]
fn a_lease_is_kept_over_kill_9_and_given_back() {
    let mut lan = Lan::new();
    lan.serve();
    lan.ok(&[&MACVLAN[..], &["wire"]].concat());
    lan.ok(&[
        "run",
        "-d",
        "--name",
        "box",
        "--hostname",
        "printer",
        "--cap-add",
        "NET_ADMIN",
        "--network",
        "wire",
        "busybox",
        "sleep",
        "1000",
    ]);
    let address = lan.address("box");
    assert!(address.starts_with("10.83.0.1") && lan.reaches(&address), "{address}");
    assert!(lan.ok(&["exec", "box", "ip", "route"]).contains("default via 10.83.0.1 dev eth0"));
    assert_eq!(lan.ok(&["network", "inspect", "-f", "{{.IPAM.Driver}}", "wire"]), "dhcp");
    assert!(lan.ok(&["exec", "box", "cat", "/etc/hosts"]).contains(&address), "the hosts file, too");
    let line = |lan: &Lan| lan.leases().lines().find(|l| l.contains(&address)).map(str::to_owned);
    lan.until("known by its name", || line(&lan).is_some_and(|l| l.contains("printer")));

    // Long after the first lease would have ended, with a daemon that was killed in between.
    lan.daemon.kill9().unwrap();
    assert!(lan.reaches(&address), "nobody notices");
    let (daemon, sandbox) = (&mut lan.daemon, &lan.sandbox);
    daemon.boot(sandbox).unwrap();
    // Nor is it given back for a restart, whose new interface asks for more in its time.
    lan.ok(&["exec", "box", "ip", "route", "add", "10.89.0.0/24", "dev", "eth0"]);
    lan.ok(&["restart", "-t", "0", "box"]);
    let routes = lan.ok(&["exec", "box", "ip", "route"]);
    assert!(routes.contains("default via 10.83.0.1 dev eth0") && !routes.contains("10.89"), "{routes}");
    assert!(line(&lan).is_some_and(|l| !l.contains("expired")));
    std::thread::sleep(Duration::from_secs(LEASE + 3));
    assert_eq!(lan.address("box"), address);
    assert!(lan.reaches(&address));
    // The server writes its file in its own time.
    lan.until("renewed", || line(&lan).is_some_and(|l| !l.contains("expired")));

    lan.ok(&["rm", "-f", "box"]);
    lan.until("given back", || line(&lan).is_none_or(|l| l.contains("expired")));
    lan.ok(&["network", "rm", "wire"]);
}

#[test]
fn addresses_are_reserved_by_mac_on_a_bridge() {
    let lan = Lan::new();
    lan.serve();
    let create =
        ["network", "create", "--ipam-driver", "dhcp", "-o", "com.docker.network.bridge.name=br83", "wire"];
    lan.ok(&create);
    run(lan.sandbox.command("ip").args(["link", "set", "up0", "master", "br83"])).unwrap();
    let args = [
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "wire",
        "--mac-address",
        RESERVED,
        "busybox",
        "sleep",
        "1000",
    ];
    lan.ok(&args);
    assert_eq!(lan.address("box"), "10.83.0.200");
    assert!(lan.reaches("10.83.0.200"));
    lan.ok(&["rm", "-f", "box"]);
    // And while it runs.
    lan.ok(&["run", "-d", "--name", "dox", "busybox", "sleep", "1000"]);
    lan.ok(&["network", "connect", "wire", "dox"]);
    assert!(lan.ok(&["exec", "dox", "ip", "addr", "show", "eth1"]).contains("10.83.0.1"));
    lan.ok(&["network", "disconnect", "wire", "dox"]);
}

#[test]
fn addresses_are_reserved_by_host_name() {
    let lan = Lan::new();
    lan.serve_by_names(&[("printer", "10.83.0.201"), ("scanner", "10.83.0.202")]);
    lan.ok(&[&MACVLAN[..], &["wire"]].concat());
    let start = |name: &str, host: &str| {
        lan.ok(&[
            "run",
            "-d",
            "--name",
            name,
            "--hostname",
            host,
            "--network",
            "wire",
            "busybox",
            "sleep",
            "1000",
        ]);
        lan.address(name)
    };
    assert_eq!(start("aa", "printer"), "10.83.0.201");
    assert!(lan.reaches("10.83.0.201"));
    // Whoever is not known has one of the others, and one that is known its own, whoever came before.
    let guest = start("bb", "guest");
    assert!(guest.starts_with("10.83.0.10") || guest == "10.83.0.110", "{guest}");
    assert_eq!(start("cc", "scanner"), "10.83.0.202");
    // The name has the address, not the container: its successor has another Ethernet address.
    let mac = |name: &str| lan.ok(&["exec", name, "cat", "/sys/class/net/eth0/address"]);
    let first = mac("aa");
    lan.ok(&["rm", "-f", "aa"]);
    let leases = || std::fs::read_to_string(lan.file("dnsmasq.leases")).unwrap();
    lan.until("given back", || !leases().contains("10.83.0.201"));
    assert_eq!(start("dd", "printer"), "10.83.0.201");
    assert_ne!(mac("dd"), first);
    assert!(leases().lines().any(|l| l.contains("10.83.0.201 printer")), "{}", leases());
    // And after a restart.
    lan.ok(&["restart", "-t", "0", "dd"]);
    assert_eq!(lan.address("dd"), "10.83.0.201");
    for name in ["bb", "cc", "dd"] {
        lan.ok(&["rm", "-f", name]);
    }
}

#[test]
fn without_a_server_a_start_fails_and_leaves_nothing() {
    let lan = Lan::new();
    lan.ok(&[&MACVLAN[..], &["wire"]].concat());
    let failed = lan.docker(&["run", "--name", "box", "--network", "wire", "busybox", "true"]).unwrap_err();
    assert!(failed.contains("failed to obtain an IP address for interface eth0 by DHCP"), "{failed}");
    lan.ok(&["rm", "box"]);
    lan.ok(&["network", "rm", "wire"]);
    let refused = |args: &[&str]| lan.docker(&[&MACVLAN[..], args].concat()).unwrap_err();
    assert!(
        refused(&["--subnet", "10.83.0.0/24", "n"]).contains("dhcp ipam driver does not support subnets")
    );
    assert!(refused(&["--ipv6", "n"]).contains("dhcp ipam driver gives IPv4 addresses only"));
    assert!(refused(&["-o", "macvlan_mode=passthru", "n"]).contains("MAC addresses of their own"));
    // A server that comes later is found.
    lan.ok(&[&MACVLAN[..], &["wire"]].concat());
    lan.serve();
    assert!(lan.ok(&["run", "--rm", "--network", "wire", "busybox", "ip", "addr"]).contains("10.83.0.1"));
}

#[test]
fn an_address_whose_lease_ends_is_taken_away_and_another_found() {
    let lan = Lan::new();
    lan.serve();
    lan.ok(&[&MACVLAN[..], &["wire"]].concat());
    lan.ok(&["run", "-d", "--name", "box", "--network", "wire", "busybox", "sleep", "1000"]);
    let has = |text: &str| lan.ok(&["exec", "box", "ip", "addr", "show", "eth0"]).contains(text);
    assert!(has("10.83.0.1"));
    lan.server("KILL");
    lan.until("its lease has ended", || !has("10.83.0.1"));
    lan.serve();
    // It asks again each 10 s.
    std::thread::sleep(Duration::from_secs(10));
    lan.until("another address", || has("10.83.0.1"));
}
