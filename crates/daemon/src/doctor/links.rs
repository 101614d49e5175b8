//! Kinds of links, nftables and conntrack, tried in a network namespace of our own that ends with its thread.

use std::thread;

use nix::sched::{CloneFlags, unshare};
use weft_sys::{
    netlink::{Channel, Family, Message, NetlinkError, Socket, attr::Attrs},
    nft::{Batch, Element, Field, Hook, HookPoint, Set, Shape, expr::Expr},
};

use super::{Check, Finding, Without, read};

const GROUP: &str = "network";
const RTM_NEWLINK: u16 = 16;
/// `NLM_F_CREATE | NLM_F_EXCL`.
const CREATE: u16 = 0x600;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VXLAN_ID: u16 = 1;
const VLAN_ID: u16 = 1;

pub(super) fn probe() -> Vec<Check> {
    let worker = thread::Builder::new().name("doctor-net".into()).spawn(inside);
    let mut all = match worker.map(thread::JoinHandle::join) {
        Ok(Ok(Ok(all))) => all,
        Ok(Ok(Err(error))) => vec![Check::lacks(GROUP, "network namespaces", error, NAMESPACES)],
        Ok(Err(_)) => vec![Check::lacks(GROUP, "network namespaces", "the probe died", NAMESPACES)],
        Err(error) => vec![Check::lacks(GROUP, "network namespaces", error.to_string(), NAMESPACES)],
    };
    all.extend(settings());
    all
}

const NAMESPACES: Without = Without {
    finding: Finding::Fatal,
    loses: "containers have no networks of their own",
    remedy: "run as root; the kernel needs CONFIG_NET_NS",
};

const fn missing(loses: &'static str, remedy: &'static str) -> Without {
    Without { finding: Finding::Missing, loses, remedy }
}

const fn note(loses: &'static str, remedy: &'static str) -> Without {
    Without { finding: Finding::Note, loses, remedy }
}

fn inside() -> Result<Vec<Check>, String> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|e| e.to_string())?;
    let mut all = vec![Check::ok(GROUP, "network namespaces", "made one")];
    let socket = |family| Socket::open(family).map_err(|e| weft_base::chain(&e));
    let mut route = socket(Family::Route)?;
    all.extend(links(&mut route));
    let mut netfilter = match socket(Family::Netfilter) {
        Ok(socket) => socket,
        Err(error) => {
            all.push(Check::lacks(GROUP, "nftables", error, NFTABLES));
            return Ok(all);
        }
    };
    let nat = |exprs: &[Expr]| {
        let mut batch = Batch::new("weft-doctor");
        batch.add_table();
        batch.add_chain("c", Some(Hook { kind: "nat", point: HookPoint::Postrouting, priority: 100 }));
        batch.add_rule("c", "probe", exprs);
        batch.finish()
    };
    let mut table = Batch::new("weft-doctor");
    table.add_table();
    all.push(of("nftables", netfilter.transact(&table.finish()), NFTABLES));
    all.push(of(
        "nftables masquerade",
        netfilter.transact(&nat(&[Expr::Masquerade])),
        missing(
            "containers do not reach beyond this host",
            "load nf_nat, nft_chain_nat and nft_masq (CONFIG_NFT_MASQ)",
        ),
    ));
    let mut rows = Batch::new("weft-doctor");
    rows.add_table();
    rows.add_set(&ROWS);
    let tcp = |port: u8| vec![6, 0, 0, 0, 0, port, 0, 0];
    let row = Element { key: tcp(1), key_end: tcp(2), data: vec![192, 0, 2, 1], ..Element::default() };
    rows.add_elements(&ROWS, &[row]);
    all.push(of(
        "nftables ranges of ports",
        netfilter.transact(&rows.finish()),
        missing("published ranges of ports", "use Linux 5.6 or later (concatenated intervals)"),
    ));
    let mut others = Batch::new("weft-doctor");
    others.add_table();
    others.add_set(&CLASSES);
    let all_else = Element { data: vec![0; 4], catchall: true, ..Element::default() };
    others.add_elements(&CLASSES, &[all_else]);
    all.push(of(
        "nftables catch-all elements",
        netfilter.transact(&others.finish()),
        missing(
            "no policy between containers (weft policy): it is refused, not left unenforced",
            "use Linux 5.13 or later",
        ),
    ));
    // IPCTNL_MSG_CT_GET_STATS
    let conntrack =
        Message { kind: 0x0105, flags: 0, body: vec![0; 4], tolerate: &[], what: "conntrack".into() };
    all.push(of(
        "conntrack",
        netfilter.transact(&[conntrack]),
        missing("changed ports keep old connections; no stateful rules", "load nf_conntrack_netlink"),
    ));
    Ok(all)
}

/// A map such as those of published rows of ports.
const ROWS: Set =
    Set { name: "rows", key: &[Field::Protocol, Field::Service], shape: Shape::Ranges(&[Field::Ipv4]) };

/// A map such as those of the classes of policy.
const CLASSES: Set = Set { name: "classes", key: &[Field::Ipv4], shape: Shape::Map(&[Field::Mark]) };

const NFTABLES: Without = Without {
    finding: Finding::Missing,
    loses: "no published ports, no masquerade, no isolation between networks",
    remedy: "load nf_tables (CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET)",
};

fn of(name: &str, result: Result<(), NetlinkError>, without: Without) -> Check {
    Check::of(GROUP, name, result.map(|()| "works").map_err(|e| weft_base::chain(&e)), without)
}

fn link(name: &str, kind: &str, parent: Option<u32>, data: Option<&Attrs>) -> Message {
    // `struct ifinfomsg`: all zero.
    let mut body = vec![0; 16];
    let mut info = Attrs::new().text(INFO_KIND, kind);
    if let Some(data) = data {
        info = info.nest(INFO_DATA, data);
    }
    let mut attrs = Attrs::new().text(IFLA_IFNAME, name).nest(IFLA_LINKINFO, &info);
    if let Some(parent) = parent {
        attrs = attrs.ne32(IFLA_LINK, parent);
    }
    body.extend_from_slice(attrs.as_bytes());
    Message { kind: RTM_NEWLINK, flags: CREATE, body, tolerate: &[], what: format!("create a {kind} link") }
}

fn links(route: &mut Socket) -> Vec<Check> {
    let mut make = |kind: &str, parent: Option<u32>, data: Option<&Attrs>| {
        route.transact(&[link(&format!("wf{kind}"), kind, parent, data)])
    };
    let bridge = make("bridge", None, None);
    let veth = make("veth", None, None);
    // Children are put on one end of the pair.
    let parent = weft_sys::netlink::link::get(route, "wfveth").ok().flatten().map(|l| l.index);
    let mut make = |kind: &str, parent: Option<u32>, data: Option<&Attrs>| {
        route.transact(&[link(&format!("wf{kind}"), kind, parent, data)])
    };
    let vxlan = make("vxlan", None, Some(&Attrs::new().ne32(VXLAN_ID, 42)));
    let macvlan = make("macvlan", parent, None);
    let vlan = make("vlan", parent, Some(&Attrs::new().bytes(VLAN_ID, &7_u16.to_ne_bytes())));
    let wireguard = make("wireguard", None, None);
    let dummy = make("dummy", None, None);
    // A link has macvlans or ipvlans, not both: the other end takes these.
    let other = weft_sys::netlink::link::list(route).unwrap_or_default();
    let other = other.iter().find(|l| l.name.starts_with("veth")).map(|l| l.index);
    let ipvlan = route.transact(&[link("wfipvlan", "ipvlan", other, None)]);
    let tun = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    vec![
        of("bridge", bridge, missing("no networks but host and none", "load bridge")),
        of("veth", veth, missing("no networks but host and none", "load veth")),
        of("vxlan", vxlan, missing("no overlay networks between hosts", "load vxlan")),
        of("macvlan", macvlan, note("no macvlan networks", "load macvlan")),
        of("ipvlan", ipvlan, note("no ipvlan networks", "load ipvlan")),
        of("vlan (802.1Q)", vlan, note("no vlan networks", "load 8021q")),
        of(
            "wireguard",
            wireguard,
            note("encryption between hosts is done in userspace: slower", "load wireguard"),
        ),
        of("dummy", dummy, note("nothing that Weft needs; some tools do", "load dummy")),
        Check::of(
            GROUP,
            "tun",
            tun.map(|_| "/dev/net/tun opens"),
            note("no encryption in userspace, no VPN programs in containers", "load tun"),
        ),
    ]
}

/// The module that shows packets within a bridge to the rules of policy.
fn bridge_netfilter(there: bool) -> Check {
    Check::of(
        GROUP,
        "br_netfilter",
        if there { Ok("loaded") } else { Err("not loaded") },
        missing(
            "no policy between containers (weft policy, and networks whose default is deny): it is refused, not left unenforced",
            "modprobe br_netfilter, and name it in /etc/modules-load.d/weft.conf",
        ),
    )
}

fn settings() -> Vec<Check> {
    let forward = read("/proc/sys/net/ipv4/ip_forward");
    let writable = std::fs::OpenOptions::new().write(true).open("/proc/sys/net/ipv4/ip_forward");
    let forwarding = match (forward.as_str(), writable) {
        ("1", _) => Ok("on".to_owned()),
        (_, Ok(_)) => Ok("off; the daemon turns it on".to_owned()),
        (_, Err(e)) => Err(format!("off, and cannot be turned on: {e}")),
    };
    let filtered = read("/proc/sys/net/bridge/bridge-nf-call-iptables");
    let bridge = match filtered.as_str() {
        "1" => Err("on: iptables rules of others see packets between containers of one network"),
        "0" => Ok("loaded, off"),
        _ => Ok("not loaded"),
    };
    vec![
        bridge_netfilter(std::fs::exists("/proc/sys/net/bridge").unwrap_or_default()),
        Check::of(
            GROUP,
            "ip_forward",
            forwarding,
            missing("containers do not reach beyond this host", "sysctl -w net.ipv4.ip_forward=1"),
        ),
        Check::of(
            GROUP,
            "br_netfilter out of the way",
            bridge,
            note(
                "a FORWARD DROP of another program can cut traffic within a network",
                "sysctl -w net.bridge.bridge-nf-call-iptables=0, unless Kubernetes runs here",
            ),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_without_bridge_netfilter_is_told() {
        let lacking = bridge_netfilter(false);
        assert_eq!(lacking.finding, Finding::Missing);
        assert!(
            lacking.loses.contains("policy") && lacking.remedy.contains("modprobe br_netfilter"),
            "{lacking:?}"
        );
        assert_eq!(bridge_netfilter(true).finding, Finding::Ok);
    }
}
