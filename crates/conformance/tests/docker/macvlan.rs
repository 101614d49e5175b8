//! Networks whose containers hang on a link of the host: macvlan and ipvlan.
//!
//! Each case has a wire of its own in the subject's sandbox: a veth pair whose one end is the parent, and whose other end stands
//! for the LAN and has an address.

use crate::{
    dsl::{IMG, T, cases},
    restarts::kill_process,
};

/// A parent `upN` with the LAN's address `10.81.N.1/24` on the other end.
fn wire(t: &T, n: u8) -> String {
    let script = format!(
        "ip link add up{n} type veth peer name lan{n} && ip addr add 10.81.{n}.1/24 dev lan{n} \
         && ip link set up{n} up && ip link set lan{n} up"
    );
    t.host(["sh", "-c", &script]).ok();
    format!("parent=up{n}")
}

/// A macvlan network on such a parent.
fn lan(t: &T, n: u8, more: &[&str]) -> String {
    let (parent, net) = (wire(t, n), t.net("n"));
    let subnet = format!("10.81.{n}.0/24");
    let mut args = vec!["network", "create", "-d", "macvlan", "--subnet", &subnet, "-o", &parent];
    args.extend(more);
    args.push(&net);
    t.docker(args).ok();
    net
}

fn unwire(t: &T, n: u8) {
    t.host(["ip", "link", "del", &format!("up{n}")]).ok();
}

const PING: [&str; 4] = ["ping", "-c1", "-W2", "-q"];

cases! {
    fn containers_are_on_the_lan(t) {
        let n = lan(t, 1, &[]);
        let c = t.sleeper("c", ["--network", &n, "--ip", "10.81.1.9"]);
        t.host(["busybox", "ping", "-c1", "-W2", "10.81.1.9"]).ok();
        t.docker([&["exec", &c][..], &PING, &["10.81.1.1"]].concat()).ok();
        t.docker(["exec", &c, "ip", "route"]).ok().has("default via 10.81.1.1 dev eth0");
        t.docker(["network", "inspect", "-f", "{{.Driver}} {{.Options.parent}}", &n]).ok().is("macvlan up1");
        t.docker(["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.Gateway}} {{.IPAddress}}{{end}}", &c]).ok().is("10.81.1.1 10.81.1.9");
        t.docker(["rm", "-f", &c]).ok();
        t.docker(["network", "rm", &n]).ok();
        // The parent is somebody else's and stays.
        t.host(["ip", "link", "show", "up1"]).ok();
        unwire(t, 1);
    }
    fn names_resolve_on_it(t) {
        let n = lan(t, 2, &[]);
        let a = t.sleeper("a", ["--network", &n, "--network-alias", "web"]);
        t.docker(["run", "--rm", "--network", &n, IMG, "cat", "/etc/resolv.conf"]).ok().has("nameserver 127.0.0.11");
        for name in [a.as_str(), "web"] {
            t.docker([&["run", "--rm", "--network", &n, IMG][..], &PING, &[name]].concat()).ok();
        }
        t.docker(["rm", "-f", &a]).ok();
        unwire(t, 2);
    }
    fn connect_and_disconnect_while_running(t) {
        let n = lan(t, 3, &[]);
        let c = t.sleeper("c", Vec::<&str>::new());
        t.docker(["network", "connect", "--ip", "10.81.3.9", &n, &c]).ok();
        t.docker(["exec", &c, "ip", "addr", "show", "eth1"]).ok().has("10.81.3.9/24");
        t.host(["busybox", "ping", "-c1", "-W2", "10.81.3.9"]).ok();
        t.docker(["network", "disconnect", &n, &c]).ok();
        t.docker(["exec", &c, "ip", "addr", "show", "eth1"]).fails();
        t.host(["busybox", "ping", "-c1", "-W1", "10.81.3.9"]).fails();
        unwire(t, 3);
    }
    fn a_restart_keeps_the_address_and_nothing_else(t) {
        let n = lan(t, 16, &[]);
        let c = t.sleeper("c", ["--network", &n, "--cap-add", "NET_ADMIN", "--restart", "always"]);
        let sharer = t.sleeper("s", ["--network", &format!("container:{c}")]);
        let shown = || t.docker(["exec", &c, "sh", "-c", "ip addr show eth0 | grep -E 'ether|inet '; ip route"]).ok().text();
        let before = shown();
        for again in [|t: &T, c: &str| drop(t.docker(["restart", "-t", "0", c]).ok()), kill_process] {
            t.docker(["exec", &c, "ip", "route", "add", "10.89.0.0/24", "dev", "eth0"]).ok();
            again(t, &c);
            assert_eq!(shown(), before);
            t.docker([&["exec", &c][..], &PING, &["10.81.16.1"]].concat()).ok();
            t.docker(["exec", &sharer, "ip", "link", "show", "eth0"]).fails();
        }
        t.docker(["rm", "-f", &c]).ok();
        unwire(t, 16);
    }
    fn private_containers_do_not_meet(t) {
        let n = lan(t, 4, &["-o", "macvlan_mode=private"]);
        t.sleeper("c", ["--network", &n, "--ip", "10.81.4.9"]);
        t.host(["busybox", "ping", "-c1", "-W2", "10.81.4.9"]).ok();
        t.docker(["run", "--rm", "--network", &n, IMG, "ping", "-c1", "-W1", "10.81.4.9"]).fails();
        unwire(t, 4);
    }
    fn internal_has_no_gateway(t) {
        let n = lan(t, 5, &["--internal"]);
        t.docker(["run", "--rm", "--network", &n, IMG, "ip", "route"]).ok().lacks("default");
        unwire(t, 5);
    }
    fn passthru_has_its_parent_for_itself(t) [newer = "passthru networks were looked at later"] {
        let n = lan(t, 6, &["-o", "macvlan_mode=passthru"]);
        let other = t.net("other");
        t.docker(["network", "create", "-d", "macvlan", "-o", "parent=up6", &other]).exits(1).says("is already using parent interface up6 in mode passthru");
        t.docker(["network", "ls", "-q", "-f", &format!("name={other}")]).ok().is("");
        t.sleeper("c", ["--network", &n, "--ip", "10.81.6.9"]);
        t.host(["busybox", "ping", "-c1", "-W2", "10.81.6.9"]).ok();
        t.docker(["run", "--rm", "--network", &n, IMG, "true"]).exits(125);
        unwire(t, 6);
    }
    fn bad_options(t) {
        let n = t.net("n");
        let says = |options: &[&str], text: &str| {
            let mut args = vec!["network", "create", "-d", "macvlan"];
            args.extend(options);
            args.push(&n);
            t.docker(args).exits(1).says(text);
            t.docker(["network", "inspect", &n]).exits(1);
        };
        says(&["-o", "parent=nosuch9"], "invalid subinterface vlan name nosuch9, example formatting is eth0.10");
        says(&["-o", "parent=nosuch9.10"], "-o parent interface does was not found on the host: nosuch9");
        says(&["-o", "parent=a.b.c"], "required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received a.b.c");
        says(&["-o", "parent=eth0.x"], "unable to parse a valid vlan id from: x (ex. eth0.10 for vlan 10)");
        says(&["-o", "parent=eth0.5000"], "vlan id must be between 1-4094, received: 5000");
        says(&["-o", "parent=eth0", "-o", "macvlan_mode=l2"], "requested macvlan mode 'l2' is not valid, 'bridge' mode is the macvlan driver default");
        says(&["-o", "parent=lo"], "loopback interface is not a valid macvlan parent link");
    }
    fn what_the_kernel_lacks_is_said(t) [newer = "20.10 finds out when a container starts"] {
        let n = t.net("n");
        let has = |module: &str| t.exists(&format!("/sys/module/{module}"));
        let vlan = t.docker(["network", "create", "-d", "macvlan", "-o", "parent=eth0.7", &n]);
        if has("8021q") { vlan.ok(); } else { vlan.exits(1).says("failed to create eth0.7 vlan link: operation not supported"); }
        t.docker(["network", "create", "-d", "ipvlan", "-o", "ipvlan_mode=l4", &n]).exits(1);
        if !has("ipvlan") {
            t.docker(["network", "create", "-d", "ipvlan", "-o", "parent=eth0", &n]).exits(1).says("operation not supported");
        }
    }
    fn without_a_parent(t) [newer = "dockerd needs a dummy link, which this kernel lacks"] {
        let n = t.net("n");
        t.docker(["network", "create", "-d", "macvlan", "--subnet", "10.82.1.0/24", &n]).ok();
        t.sleeper("a", ["--network", &n, "--ip", "10.82.1.9"]);
        t.docker([&["run", "--rm", "--network", &n, IMG][..], &PING, &["10.82.1.9"]].concat()).ok();
    }
    fn the_host_has_a_leg_on_request(t) [newer = "the host's own leg is Weft's"] {
        let n = lan(t, 7, &["-o", "weft.host_shim=10.81.7.200"]);
        let c = t.sleeper("c", ["--network", &n, "--ip", "10.81.7.9"]);
        t.host(["ip", "route", "get", "10.81.7.9"]).ok().has("dev wfh").has("src 10.81.7.200");
        t.host(["busybox", "ping", "-c1", "-W2", "-I", "10.81.7.200", "10.81.7.9"]).ok();
        t.docker(["run", "--rm", "--network", &n, "--ip", "10.81.7.200", IMG, "true"]).exits(125).says("Address already in use");
        t.docker(["rm", "-f", &c]).ok();
        t.docker(["network", "rm", &n]).ok();
        t.host(["sh", "-c", "ip -br link | grep wfh"]).fails();
        unwire(t, 7);
    }
    fn published_ports_are_without_effect(t) [newer = "dockerd drops them without a word"] {
        let n = lan(t, 8, &[]);
        let c = t.ctr("c");
        t.docker(["create", "--name", &c, "--network", &n, "-p", "18081:80", IMG, "sleep", "100"]).ok().says("Published ports are discarded when using macvlan network mode");
        t.docker(["start", &c]).ok();
        t.docker(["port", &c]).ok().is("");
        unwire(t, 8);
    }
}
