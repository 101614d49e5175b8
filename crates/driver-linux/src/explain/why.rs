//! Why a packet is lost, in words, and what to do about it.

use std::net::IpAddr;

use weft_dataplane::{
    SandboxId,
    insight::{HopKind, Idle, Known, RuleAt, Transport},
};

use weft_sys::netlink::rules::{Action, Rule};

use super::{eval, facts::Space, packet::Packet, text::LEGACY};
use crate::{
    TABLE,
    rules::{UNPUBLISHED, is_users},
};

/// A container that neither sends nor answers.
pub(crate) fn idle(known: &Known, id: SandboxId, idle: Idle) -> (String, String) {
    let name = known.sandboxes.get(&id).cloned().unwrap_or_else(|| id.short());
    match idle {
        Idle::Stopped => (format!("container {name} is not running"), format!("docker start {name}")),
        Idle::Paused => (
            format!(
                "container {name} is paused: its processes are frozen; its kernel takes connections, and nobody answers"
            ),
            format!("docker unpause {name}"),
        ),
    }
}

/// A refusal of the kernel's routes.
pub(crate) fn refused(
    space: &Space,
    packet: &Packet,
    input: Option<&str>,
    errno: i32,
) -> (HopKind, String, String) {
    let (from, to) = (packet.from, packet.to);
    let link = input.unwrap_or("lo");
    let conf = |parameter: &str| space.of_link(packet.v6(), link, parameter).unwrap_or("?").to_owned();
    match errno {
        libc::EACCES => barred("prohibit", to),
        libc::EHOSTUNREACH if input.is_none() || packet.v6() || conf("forwarding") == "1" => {
            barred("unreachable", to)
        }
        libc::EXDEV => reverse(space, from, link),
        libc::EHOSTUNREACH => {
            if space.sysctl("net.ipv4.ip_forward") == Some("1") {
                let name = format!("net.ipv4.conf.{}.forwarding", link.replace('.', "/"));
                let text = format!("{name} is 0: this host forwards no IPv4 that comes by {link}");
                return (HopKind::Sysctl, text, format!("sysctl -w {name}=1"));
            }
            let text = format!("net.ipv4.ip_forward is 0: this host forwards no IPv4 that comes by {link}");
            (HopKind::Sysctl, text, "sysctl -w net.ipv4.ip_forward=1".into())
        }
        libc::EINVAL if input.is_some() => {
            let text = format!(
                "{from} -> {to} cannot come by {link}: the kernel takes the addresses for impossible (martian)"
            );
            let loopback = from.is_loopback() || to.is_loopback();
            let remedy = if loopback {
                format!("sysctl -w net.ipv4.conf.{link}.route_localnet=1, if that is meant")
            } else {
                "is one of this host's own addresses used by somebody else, or the subnet in use twice?"
                    .into()
            };
            (HopKind::Route, text, remedy)
        }
        libc::EINVAL => (HopKind::Route, format!("no packet from {from} can be sent to {to}"), String::new()),
        libc::ENETUNREACH | libc::ESRCH => {
            let remedy = "an internal network has no way out; else look at: ip route, ip rule";
            (HopKind::Route, format!("there is no route to {to}"), remedy.into())
        }
        other => {
            let error = std::io::Error::from_raw_os_error(other);
            (HopKind::Route, format!("the routes refuse {to}: {error}"), "ip route; ip rule".into())
        }
    }
}

/// A source that `rp_filter` takes for forged. Of the parameters of all interfaces and of this one the larger holds
/// (`IN_DEV_RPFILTER`): 1 wants the way back by the same interface (RFC 3704, 2.2), 2 any way back (2.4).
fn reverse(space: &Space, from: IpAddr, link: &str) -> (HopKind, String, String) {
    let own = format!("net.ipv4.conf.{}.rp_filter", link.replace('.', "/"));
    let every = "net.ipv4.conf.all.rp_filter";
    let number = |name: &str| space.sysctl(name).and_then(|value| value.parse::<u8>().ok()).unwrap_or(0);
    let (mine, all) = (number(&own), number(every));
    let name = if all > mine { every } else { own.as_str() };
    if mine.max(all) == 2 {
        let text = format!(
            "{name} is 2 (loose): there is no route back to {from} at all, so what comes from it is taken for forged"
        );
        let off =
            if all == 0 { format!("sysctl -w {own}=0") } else { format!("sysctl -w {every}=0 {own}=0") };
        return (HopKind::Sysctl, text, format!("add a route to {from}, or: {off}"));
    }
    let text = format!(
        "{name} is 1 (strict): an answer to {from} would not leave by {link}, so what comes by it is taken for forged"
    );
    let remedy = format!("sysctl -w {own}=2 (loose: any way back will do), or mend the route to {from}");
    (HopKind::Sysctl, text, remedy)
}

/// A policy rule that refuses what fits it.
pub(crate) fn ruled_out(rule: &Rule, packet: &Packet) -> (String, String) {
    let what = match rule.action {
        Action::Prohibit => "refuses it (administratively prohibited)",
        Action::Unreachable => "refuses it (network unreachable)",
        _ => "drops it without a word",
    };
    let priority = rule.priority;
    let ip = if packet.v6() { "ip -6" } else { "ip" };
    let text = format!("{ip} rule {priority} ({rule}) {what}");
    (text, format!("{ip} rule show lists it; {ip} rule del priority {priority} removes it"))
}

/// A route whose type refuses all that it leads to.
pub(crate) fn barred(kind: &str, to: IpAddr) -> (HopKind, String, String) {
    let what = match kind {
        "blackhole" => "drops it without a word",
        "prohibit" => "refuses it (administratively prohibited)",
        _ => "refuses it (host unreachable)",
    };
    let remedy = format!(
        "ip route show table all type {kind} shows it; ip route del {kind} … removes it (else: ip rule)"
    );
    (HopKind::Route, format!("a route of type {kind} for {to} {what}"), remedy)
}

/// A rule or policy that drops, in one line, and the remedy. That it drops is the verdict, which stands before it.
pub(crate) fn dropped(rule: &RuleAt, packet: &Packet) -> (String, String) {
    let at = format!("{} {} {}", rule.family, rule.table, rule.chain);
    let (reason, ours) = match (rule.handle, rule.comment.as_str()) {
        (None, _) => (format!("{} of chain {at}", rule.text), String::new()),
        (Some(handle), "") => (format!("rule {handle} of {at}: {}", rule.text), String::new()),
        (Some(handle), comment) => {
            (format!("rule {handle} of {at} ({comment}): {}", rule.text), own(comment).to_owned())
        }
    };
    if rule.table == TABLE && !ours.is_empty() {
        return (reason, ours);
    }
    if rule.table == TABLE && !is_users(&rule.chain) {
        let chain = &rule.chain;
        let remedy = if rule.handle.is_none() {
            format!(
                "Weft's chains accept at their end; somebody changed this one, which Weft mends at once while it runs, else: \
                 nft chain inet {TABLE} {chain} '{{ policy accept; }}'"
            )
        } else {
            "somebody put it into a chain of Weft's, which takes it out at once while it runs; rules of yours belong into \
             user_forward and user_publish"
                .to_owned()
        };
        return (reason, remedy);
    }
    if rule.table == TABLE && rule.chain == "user_publish" {
        let handle = rule.handle.unwrap_or_default();
        let remedy = format!(
            "it is yours: nft delete rule inet {TABLE} user_publish handle {handle}, or put one with `return` before it; accept would \
             leave the port to the host itself"
        );
        return (reason, remedy);
    }
    (reason, foreign(rule, packet))
}

/// What a drop rule of ours is there for, by its comment.
fn own(comment: &str) -> &'static str {
    let has = |word: &str| comment.contains(word);
    match () {
        () if has("isolation") => {
            "networks are isolated from one another: weft network connect NETWORK CONTAINER puts both on one, or publish the port"
        }
        () if has("internal") => {
            "the network is internal, nothing passes to or from beyond it: use one that is not"
        }
        () if has(UNPUBLISHED) => "the port is not published: run the container with -p HOST:PORT",
        () if has("loopback") => {
            "127.0.0.0/8 is never reached from outside: publish on another address than 127.0.0.1"
        }
        () if has("inter-container") => {
            "containers of this network may not talk to one another (enable_icc=false)"
        }
        () => "a rule of Weft itself; weft network inspect NETWORK shows what the network lets pass",
    }
}

/// The service that the packet is for, or answers for: which port of the packet says so, and its number.
fn ports(packet: &Packet) -> Option<(&'static str, u16)> {
    if !packet.service_protocol() {
        return None;
    }
    let (side, port) = if packet.answer { ("sport", packet.source) } else { ("dport", packet.port) };
    port.map(|port| (side, port))
}

fn foreign(rule: &RuleAt, packet: &Packet) -> String {
    if let Some(table) = rule.table.strip_prefix(LEGACY) {
        let chain = &rule.chain;
        let tool = if rule.family == "ip6" { "ip6tables-legacy" } else { "iptables-legacy" };
        let side = if packet.answer { format!("-s {}", packet.from) } else { format!("-d {}", packet.to) };
        let what = match ports(packet) {
            None => {
                format!("-p {}", if packet.protocol() == 58 { "icmpv6" } else { packet.transport.as_str() })
            }
            Some((side, port)) => format!("-p {} --{side} {port}", packet.transport.as_str()),
        };
        return format!(
            "it is not of Weft: {tool} -t {table} -I {chain} 1 {side} {what} -j ACCEPT lets the packet pass"
        );
    }
    let (family, table, chain) = (&rule.family, &rule.table, &rule.chain);
    let word = if packet.v6() { "ip6" } else { "ip" };
    // On the way back the container is whom it comes from.
    let side = if packet.answer { format!("saddr {}", packet.from) } else { format!("daddr {}", packet.to) };
    // No more than this service: whoever reads it will paste it.
    let what = match (ports(packet), packet.transport, packet.v6()) {
        (Some((side, port)), ..) => format!("{} {side} {port}", packet.transport.as_str()),
        (None, Transport::Icmp, true) => "meta l4proto ipv6-icmp".to_owned(),
        (None, transport, _) => format!("meta l4proto {}", transport.as_str()),
    };
    let mut text = format!(
        "it is not of Weft; to let it pass: nft insert rule {family} {table} {chain} {word} {side} {what} accept"
    );
    if let Some(handle) = rule.handle {
        text += &format!(" (or: nft delete rule {family} {table} {chain} handle {handle})");
    }
    text
}

/// Whether somebody waits for the packet: what, or why not and what to do.
pub(crate) fn listening(space: &Space, packet: &Packet) -> Result<String, (String, String)> {
    if !eval::has_ports(packet.transport) {
        let deaf = space.sysctl("net.ipv4.icmp_echo_ignore_all") == Some("1") && !packet.v6();
        return if deaf {
            let text = "echo requests are ignored (net.ipv4.icmp_echo_ignore_all is 1)";
            Err((text.into(), "sysctl -w net.ipv4.icmp_echo_ignore_all=0, there".into()))
        } else {
            Ok("the kernel answers echo requests".into())
        };
    }
    let name = packet.transport.as_str();
    let Some(port) = packet.port else {
        return Ok(format!("no port was named: whether {name} is served was not looked at"));
    };
    if packet.transport == Transport::Sctp {
        return Ok(format!("whether somebody listens on sctp port {port} is not known"));
    }
    let there: Vec<IpAddr> = space
        .listeners
        .iter()
        .filter(|l| l.protocol == packet.protocol() && l.port == port)
        .map(|l| l.address)
        .collect();
    let takes = |ip: &&IpAddr| **ip == packet.to || (ip.is_unspecified() && (ip.is_ipv6() || !packet.v6()));
    if let Some(ip) = there.iter().find(takes) {
        return Ok(format!("a socket waits on {name} port {port} of {ip}"));
    }
    let refused = if packet.transport == Transport::Tcp { "connection refused" } else { "port unreachable" };
    match there.first() {
        None => Err((
            format!("nothing listens on {name} port {port}: {refused}"),
            "start the server, or ask for the port it listens on".into(),
        )),
        Some(only) => Err((
            format!("{name} port {port} is served on {only} only: {refused}"),
            "let the server listen on all addresses (0.0.0.0 or ::)".into(),
        )),
    }
}
