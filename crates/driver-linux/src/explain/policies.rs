//! Which policy decides: the table of policy (`crate::policy`) names no policy in its rules, only classes of endpoints in its
//! maps. Here the maps are asked as the rules ask them, for the name of what they say.

use std::net::IpAddr;

use weft_dataplane::{
    CLOSED, Flow, HOST, OUTSIDE,
    insight::{Known, RuleAt},
};
use weft_model::PortRange;
use weft_sys::nft::seen::{Code, Data, Family, Ruleset, Set};

use super::{
    packet::Packet,
    sets::{Found, find},
};
use crate::policy::{OF_NO_CONNECTION, TABLE, VERDICTS, class_set, key, range_set};

/// A connection as policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    /// Who began it.
    pub(super) from: IpAddr,
    /// Who answers, after translation.
    pub(super) to: IpAddr,
    pub(super) protocol: u8,
    /// The port that answers.
    pub(super) port: Option<u16>,
    /// Which of the two is the host itself.
    pub(super) host: Option<Side>,
}

/// A side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Who began it.
    From,
    /// Who answers.
    To,
}

impl Judged {
    pub(super) fn of(packet: &Packet) -> Self {
        let answers = packet.tuple(true);
        let port = answers.source.filter(|_| packet.service_protocol());
        Self {
            from: packet.tuple(false).from,
            to: answers.from,
            protocol: packet.protocol(),
            port,
            host: None,
        }
    }

    /// The same in a chain of the table: in those that the host's own traffic passes, one side is the host, whatever its
    /// address (`crate::policy::rules`). `answer`: the packet is of the answering direction.
    pub(super) fn at(self, chain: &str, answer: bool) -> Self {
        let host = match (chain, answer) {
            ("to_host", _) | ("input", false) | ("output", true) => Some(Side::To),
            ("from_host", _) | ("input", true) | ("output", false) => Some(Side::From),
            _ => None,
        };
        Self { host, ..self }
    }
}

/// What decides about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// This entry says whether it passes.
    Entry(Flow, bool),
    /// No entry, and whoever has this address is on a network whose default is to deny.
    Closed(IpAddr),
    /// Nothing speaks of it: it passes.
    None,
}

/// Whether a rule is of the table of policy.
pub(super) fn is_policy(rule: &RuleAt) -> bool {
    rule.table == TABLE && rule.family == Family::Inet.as_str()
}

/// Whether a table is that of policy, by its name.
pub(super) fn is_policy_table(name: &str) -> bool {
    name == TABLE
}

fn set<'a>(rules: &'a Ruleset, name: &str) -> Option<&'a Set> {
    rules.sets.get(&((Family::Inet, TABLE.to_owned()), name.to_owned()))
}

fn looked_up<'a>(rules: &'a Ruleset, name: &str, value: &[u8]) -> Option<&'a Data> {
    let value: Vec<Option<u8>> = value.iter().copied().map(Some).collect();
    match find(set(rules, name)?, &value) {
        Found::Yes(element) => element.data.as_ref(),
        Found::No | Found::Maybe => None,
    }
}

fn class(rules: &Ruleset, ip: IpAddr) -> u32 {
    let octets = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    match looked_up(rules, class_set(ip.is_ipv6()), &octets) {
        Some(Data::Value(class)) => class[..].try_into().map_or(OUTSIDE, u32::from_ne_bytes),
        _ => OUTSIDE,
    }
}

/// The range that a port is in, of those that policies name.
fn range(rules: &Ruleset, protocol: u8, port: u16) -> Option<PortRange> {
    match looked_up(rules, range_set(protocol)?, &port.to_be_bytes())? {
        Data::Value(bytes) => match bytes[..] {
            [a, b, c, d] => {
                Some(PortRange { start: u16::from_be_bytes([a, b]), end: u16::from_be_bytes([c, d]) })
            }
            _ => None,
        },
        Data::Verdict(_) => None,
    }
}

/// What decides: the narrowest entry, else the default of an end's network.
pub(super) fn decide(rules: &Ruleset, judged: &Judged) -> Decision {
    let class_of = |side, ip| if judged.host == Some(side) { HOST } else { class(rules, ip) };
    let (from, to) = (class_of(Side::From, judged.from), class_of(Side::To, judged.to));
    let flow = |protocol, ports| Flow { from, to, protocol, ports };
    let single = judged.port.map(|port| PortRange { start: port, end: port });
    let wide = judged.port.and_then(|port| range(rules, judged.protocol, port));
    let narrow = [single, wide].into_iter().flatten().map(|ports| flow(judged.protocol, Some(ports)));
    for flow in narrow.chain([flow(judged.protocol, None), flow(0, None)]) {
        match looked_up(rules, VERDICTS.name, &key(&flow)) {
            Some(Data::Verdict(Code::Drop)) => return Decision::Entry(flow, false),
            Some(Data::Verdict(_)) => return Decision::Entry(flow, true),
            _ => {}
        }
    }
    // A network that is closed by default is not closed to its host.
    match (judged.host.is_none() && from & CLOSED != 0, judged.host.is_none() && to & CLOSED != 0) {
        (true, _) => Decision::Closed(judged.from),
        (_, true) => Decision::Closed(judged.to),
        _ => Decision::None,
    }
}

/// The policy in words: what people know it by.
fn entry(known: &Known, flow: &Flow) -> Option<(String, String)> {
    let id = known.decides.get(flow)?;
    Some((id.short(), known.policies.get(id).cloned().unwrap_or_default()))
}

/// What the table of policy says of a packet, for whoever reads its chain in a walk or a trace.
pub(super) fn words(known: &Known, decision: Decision) -> String {
    match decision {
        Decision::Entry(flow, passes) => {
            let verb = if passes { "allowed" } else { "denied" };
            match entry(known, &flow) {
                Some((id, text)) => format!("{verb} by policy {id} ({text})"),
                None => format!("{verb} by a policy that is gone"),
            }
        }
        Decision::Closed(ip) => {
            format!("no policy allows it, and the default of {} is deny", home(known, ip))
        }
        Decision::None => "no policy speaks of it".into(),
    }
}

/// The network of an address.
fn home(known: &Known, ip: IpAddr) -> String {
    known.homes.get(&ip).map_or_else(|| format!("the network of {ip}"), |name| format!("network {name}"))
}

/// How a policy selects an end.
fn selector(known: &Known, ip: IpAddr) -> String {
    let name = known.addresses.get(&ip).and_then(|id| known.sandboxes.get(id));
    name.map_or_else(|| "outside".to_owned(), |name| format!("name={name}"))
}

/// `weft policy add` for just this connection.
fn allow(known: &Known, judged: &Judged) -> String {
    let (from, to) = (selector(known, judged.from), selector(known, judged.to));
    let traffic = match (judged.protocol, judged.port) {
        (6, Some(port)) => format!(" --protocol tcp --port {port}"),
        (17, Some(port)) => format!(" --protocol udp --port {port}"),
        (132, Some(port)) => format!(" --protocol sctp --port {port}"),
        (1 | 58, _) => " --protocol icmp".into(),
        _ => String::new(),
    };
    format!("weft policy add --from {from} --to {to}{traffic} allow")
}

/// Why policy drops a packet, and what to do about it.
pub(super) fn dropped(rules: &Ruleset, known: &Known, rule: &RuleAt, judged: &Judged) -> (String, String) {
    let decision = decide(rules, judged);
    let reason = words(known, decision);
    if rule.comment.starts_with(OF_NO_CONNECTION) {
        let reason = "the packet belongs to no connection (ct state invalid), so policy cannot judge it";
        return (reason.into(), "begin the connection anew".into());
    }
    match decision {
        Decision::Entry(flow, _) => {
            let remedy = match entry(known, &flow) {
                Some((id, _)) => {
                    format!(
                        "a deny wins over every allow: weft policy rm {id}, or make it narrower (weft policy inspect {id})"
                    )
                }
                None => {
                    "weft policy ls shows what there is; the next run of the daemon's repair removes the rest"
                        .into()
                }
            };
            (reason, remedy)
        }
        Decision::Closed(ip) => {
            let network = known.homes.get(&ip).map_or("NETWORK", String::as_str);
            let allow = allow(known, judged);
            (reason, format!("{allow} (or: weft policy default {network} allow)"))
        }
        Decision::None => ("a rule of the table of policy".into(), "weft policy ls".into()),
    }
}
