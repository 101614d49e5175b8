//! A live trace of one flow, there and back: what the kernel itself reports of each rule (`nftrace`).

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use weft_dataplane::insight::{End, Question, RuleAt, TraceEvent, Transport};
use weft_sys::{
    netlink::detail,
    nft::{
        seen::{self, Ruleset},
        trace::{Flow, Report, Step, Tracer},
    },
};

use super::{
    explain,
    policies::{self, Judged},
    text,
};
use crate::{LinuxError, driver::LinuxDriver};

/// How often who has left is noticed.
const BREATH: Duration = Duration::from_millis(200);
/// Rules that came since are looked for at most so often.
const SECOND: Duration = Duration::from_secs(1);
/// Beginning of the names of our tables.
pub(crate) const TABLE: &str = "weft_trace_";
/// Packets that are known to be ours; more are forgotten, and what is told of them later is left out.
const REMEMBERED: usize = 65_536;
/// Tables of several traces at once have names of their own.
static NEXT: AtomicU32 = AtomicU32::new(1);

pub(crate) fn watch(
    driver: &LinuxDriver,
    question: &Question,
    tell: &mut dyn FnMut(Option<TraceEvent>) -> bool,
) -> Result<(), LinuxError> {
    let explained = explain(driver, question)?;
    let flows = flows(question, &explained.packet, &explained.hops)?;
    let mine = |report: &Report| headers(report).filter(|h| belongs(&flows, h));
    let table = format!("{TABLE}{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let mut tracer = Tracer::start(&table, &flows)?;
    let mut names = Names::default();
    names.refresh(driver)?;
    // The headers come with the first report of a hook, which may be one that is not told.
    let mut header: Option<Report> = None;
    // The kernel tells everybody of everybody's traces, and a packet gets another number when it goes through a bridge.
    let mut seen: BTreeMap<u32, Headers> = BTreeMap::new();
    let mut looked = Instant::now();
    loop {
        for mut report in tracer.next(BREATH)? {
            if let Some(h) = header.take().filter(|h| h.id == report.id && report.network.is_empty()) {
                report = with_header(report, h);
            }
            let ours = report.table == table;
            let word = report.step == Step::Policy || report.handle.is_some();
            if let Some(headers) = mine(&report) {
                if seen.len() > REMEMBERED {
                    seen.clear();
                }
                seen.insert(report.id, headers);
            }
            if ours && report.handle.is_some() {
                // The rule that marks it.
            } else if ours || report.table.starts_with(TABLE) || !seen.contains_key(&report.id) {
                // Other people's traces, and what our own table says besides.
                continue;
            } else if !word {
                // A chain's end without a verdict.
                header = Some(report);
                continue;
            }
            // Policy is in elements, which come and go while the rules stay.
            let stale = policies::is_policy_table(&report.table) || !names.knows(&report);
            if !ours && stale && looked.elapsed() > SECOND {
                names.refresh(driver)?;
                looked = Instant::now();
            }
            let mut event = if ours { names.arrival(&report) } else { names.event(&report) };
            if let Some(headers) = seen.get(&report.id).filter(|_| policies::is_policy(&event.rule)) {
                names.policy(question, &flows, headers, &mut event);
            }
            if !tell(Some(event)) {
                return Ok(());
            }
        }
        if !tell(None) {
            return Ok(());
        }
    }
}

fn with_header(report: Report, header: Report) -> Report {
    let Report { input, output, network, transport, .. } = header;
    Report { input, output, network, transport, ..report }
}

/// What of the packet is fixed on its way there, and on the way back: the source port is the sender's own choice.
fn flows(
    question: &Question,
    packet: &str,
    hops: &[weft_dataplane::insight::Hop],
) -> Result<Vec<Flow>, LinuxError> {
    let protocol = |v6: bool| match question.transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
        Transport::Sctp => 132,
        Transport::Icmp if v6 => 58,
        Transport::Icmp => 1,
    };
    let there = parse(packet).ok_or_else(|| LinuxError::NothingToTrace { what: packet.to_owned() })?;
    // Translations are told as the packet that came of them; the last one is what is answered.
    let texts = hops.iter().filter(|h| h.kind == weft_dataplane::insight::HopKind::Nat && !h.answer);
    let last = texts.filter_map(|h| parse(h.text.rsplit_once(": ")?.1)).next_back().unwrap_or(there);
    // Somebody outside is anybody there; the packet that was explained has an example's address.
    let anybody = |end: &End| matches!(end, End::Outside { address: None, .. });
    let mut flows = Vec::new();
    for (from, to, port) in [there, last] {
        let v6 = to.is_ipv6();
        let port = port.filter(|_| question.transport != Transport::Icmp);
        let named = |ip: IpAddr| Some(ip).filter(|ip| !ip.is_unspecified());
        let from = named(from).filter(|_| !anybody(&question.from));
        let to = named(to).filter(|_| !anybody(&question.to));
        let way = Flow { protocol: protocol(v6), v6, from, to, source: None, port };
        let back = Flow { from: to, to: from, source: port, port: None, ..way };
        for flow in [way, back] {
            if !flows.contains(&flow) {
                flows.push(flow);
            }
        }
    }
    Ok(flows)
}

/// `tcp A -> B:PORT`, as packets are written.
fn parse(text: &str) -> Option<(IpAddr, IpAddr, Option<u16>)> {
    let (_, rest) = text.split_once(' ')?;
    let (from, to) = rest.split_once(" -> ")?;
    let one = |text: &str| match text.parse::<std::net::SocketAddr>() {
        Ok(both) => Some((both.ip(), Some(both.port()))),
        Err(_) => text.parse().ok().map(|ip| (ip, None)),
    };
    let ((from, _), (to, port)) = (one(from)?, one(to)?);
    Some((from, to, port))
}

#[derive(Default)]
struct Names {
    rules: Ruleset,
    links: BTreeMap<u32, String>,
}

impl Names {
    fn refresh(&mut self, driver: &LinuxDriver) -> Result<(), LinuxError> {
        self.rules = seen::ruleset(&mut *driver.netfilter.lock())?;
        self.links =
            detail::links(&mut *driver.route.lock())?.into_iter().map(|l| (l.index, l.name)).collect();
        Ok(())
    }

    fn find(&self, report: &Report) -> Option<RuleAt> {
        let table = (report.family, report.table.clone());
        let chain = self.rules.chains.get(&(table.clone(), report.chain.clone()))?;
        let rule = chain.rules.iter().find(|r| Some(r.handle) == report.handle)?;
        Some(text::rule_at(&self.rules, &table, &report.chain, rule))
    }

    fn knows(&self, report: &Report) -> bool {
        report.step != Step::Rule || self.find(report).is_some()
    }

    fn event(&self, report: &Report) -> TraceEvent {
        let rule = self.find(report).filter(|_| report.step == Step::Rule).unwrap_or_else(|| RuleAt {
            family: report.family.as_str().to_owned(),
            table: report.table.clone(),
            chain: report.chain.clone(),
            handle: report.handle,
            text: if report.step == Step::Policy { "policy".into() } else { String::new() },
            comment: String::new(),
        });
        let verdict = report.verdict.as_ref().map_or_else(|| "continue".to_owned(), text::verdict);
        let name = |index: Option<u32>| {
            index.map(|i| self.links.get(&i).cloned().unwrap_or_else(|| format!("#{i}")))
        };
        TraceEvent {
            packet: report.id,
            what: packet(report),
            input: name(report.input),
            output: name(report.output),
            rule,
            verdict,
        }
    }

    /// What of policy it was that decided: the table's rules do not say.
    fn policy(&self, question: &Question, flows: &[Flow], headers: &Headers, event: &mut TraceEvent) {
        if matches!(event.verdict.as_str(), "drop" | "return") {
            let decision =
                policies::decide(&self.rules, &judged(flows, headers).at(&event.rule.chain, false));
            let words = policies::words(&question.known, decision);
            event.rule.comment = format!("{}: {words}", event.rule.comment);
        }
    }

    /// Our own rule marks the packet: that is where it is first seen.
    fn arrival(&self, report: &Report) -> TraceEvent {
        let event = self.event(report);
        let rule = RuleAt { text: "seen".into(), handle: None, ..event.rule };
        TraceEvent { rule, verdict: "seen".into(), ..event }
    }
}

/// What the headers say: source, destination, protocol, ports.
type Headers = (IpAddr, IpAddr, u8, Option<(u16, u16)>);

/// `None` when they did not come along.
fn headers(report: &Report) -> Option<Headers> {
    let n = &report.network;
    let v6 = n.first()? >> 4 == 6;
    let (from, to, protocol) = if v6 {
        let ip =
            |at: usize| Some(IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(n.get(at..at + 16)?).ok()?)));
        (ip(8)?, ip(24)?, *n.get(6)?)
    } else {
        let ip =
            |at: usize| Some(IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(n.get(at..at + 4)?).ok()?)));
        (ip(12)?, ip(16)?, *n.get(9)?)
    };
    let t = &report.transport;
    let port = |at: usize| t.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
    let ports = port(0).zip(port(2)).filter(|_| matches!(protocol, 6 | 17 | 132));
    Some((from, to, protocol, ports))
}

/// Whether a packet is of one of the flows, or on its way from one to another: half translated, with the address of one of
/// its ends as in another flow of the same direction. The service's address and port are of one flow always.
fn belongs(flows: &[Flow], (from, to, protocol, ports): &Headers) -> bool {
    let (source, destination) = ports.unzip();
    let is = |wanted: Option<IpAddr>, ip: &IpAddr| wanted.is_none_or(|wanted| wanted == *ip);
    let port = |wanted: Option<u16>, port: Option<u16>| wanted.is_none() || wanted == port;
    let ours = |f: &&Flow| f.protocol == *protocol && port(f.source, source) && port(f.port, destination);
    let alike = |f: &Flow, g: &Flow| f.port.is_some() == g.port.is_some() && f.v6 == g.v6;
    let others = |f: &Flow, is: &dyn Fn(&Flow) -> bool| flows.iter().any(|g| alike(f, g) && is(g));
    flows.iter().filter(ours).any(|f| {
        let way = is(f.to, to) && others(f, &|g| is(g.from, from));
        let back = is(f.from, from) && others(f, &|g| is(g.to, to));
        // The end that asks has no port in a flow; where neither has one (ICMP), either may be translated.
        if f.port.is_some() {
            way
        } else if f.source.is_some() {
            back
        } else {
            way || back
        }
    })
}

/// The connection of a packet: the service's port tells which way it goes, or who it is from.
fn judged(flows: &[Flow], (from, to, protocol, ports): &Headers) -> Judged {
    let served = |port: u16| flows.iter().any(|flow| flow.port == Some(port));
    let answers = match ports {
        Some((source, destination)) => served(*source) && !served(*destination),
        None => flows.first().is_some_and(|there| there.from != Some(*from)),
    };
    let (from, to) = if answers { (*to, *from) } else { (*from, *to) };
    let port = ports.map(|(source, destination)| if answers { source } else { destination });
    Judged { from, to, protocol: *protocol, port, host: None }
}

/// The packet in words, from its headers; empty when they did not come along.
fn packet(report: &Report) -> String {
    let Some((from, to, protocol, ports)) = headers(report) else { return String::new() };
    let name = match protocol {
        1 | 58 => "icmp",
        6 => "tcp",
        17 => "udp",
        132 => "sctp",
        _ => "ip",
    };
    let Some((source, port)) = ports else { return format!("{name} {from} -> {to}") };
    let (from, to) = (std::net::SocketAddr::new(from, source), std::net::SocketAddr::new(to, port));
    let flags = report.transport.get(13).filter(|_| protocol == 6).map(|f| flags(*f)).unwrap_or_default();
    format!("{name} {from} -> {to}{flags}")
}

fn flags(bits: u8) -> String {
    let names = [(2, "SYN"), (16, "ACK"), (1, "FIN"), (4, "RST"), (8, "PSH")];
    let set: Vec<&str> = names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    if set.is_empty() { String::new() } else { format!(" {}", set.join(",")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(from: &str, to: &str, port: u16) -> [Flow; 2] {
        let ip = |text: &str| Some(text).filter(|t| !t.is_empty()).map(|t| t.parse().unwrap());
        let way = Flow { protocol: 6, v6: false, from: ip(from), to: ip(to), source: None, port: Some(port) };
        [way, Flow { from: way.to, to: way.from, source: Some(port), port: None, ..way }]
    }

    fn seen(flows: &[Flow], from: &str, to: &str) -> bool {
        let (from, to): (std::net::SocketAddr, std::net::SocketAddr) =
            (from.parse().unwrap(), to.parse().unwrap());
        belongs(flows, &(from.ip(), to.ip(), 6, Some((from.port(), to.port()))))
    }

    #[test]
    fn packets_of_other_flows_are_left_out() {
        // From a to b: not what a asks itself by a published port, nor what b asks a.
        let plain = flow("10.1.0.2", "10.2.0.2", 80);
        assert!(seen(&plain, "10.1.0.2:4000", "10.2.0.2:80") && seen(&plain, "10.2.0.2:80", "10.1.0.2:4000"));
        for (from, to) in [
            ("10.1.0.2:4000", "10.1.0.2:80"),
            ("10.1.0.2:80", "10.1.0.2:4000"),
            ("10.2.0.2:4000", "10.1.0.2:80"),
            ("10.1.0.2:4000", "10.2.0.2:81"),
            ("10.1.0.9:4000", "10.2.0.2:80"),
        ] {
            assert!(!seen(&plain, from, to), "{from} {to}");
        }
    }

    #[test]
    fn half_translated_packets_are_of_the_flow_and_outside_is_anybody() {
        // Published: to the host's port, then to the container; masqueraded in a hairpin.
        let published = [flow("10.1.0.2", "192.0.2.1", 8080), flow("10.1.0.1", "10.1.0.2", 80)].concat();
        for (from, to) in [
            ("10.1.0.2:4000", "192.0.2.1:8080"),
            ("10.1.0.2:4000", "10.1.0.2:80"),
            ("10.1.0.1:4000", "10.1.0.2:80"),
            ("10.1.0.2:80", "10.1.0.1:4000"),
            ("10.1.0.2:80", "10.1.0.2:4000"),
            ("192.0.2.1:8080", "10.1.0.2:4000"),
        ] {
            assert!(seen(&published, from, to), "{from} {to}");
        }
        assert!(!seen(&published, "10.1.0.2:4000", "10.1.0.2:8080"));
        assert!(!seen(&published, "10.1.0.2:4000", "192.0.2.1:80"));
        let outside = [flow("", "192.0.2.1", 8080), flow("", "10.1.0.2", 80)].concat();
        assert!(
            seen(&outside, "192.0.2.77:4000", "10.1.0.2:80")
                && seen(&outside, "10.1.0.2:80", "192.0.2.77:4000")
        );
        assert!(!seen(&outside, "192.0.2.77:4000", "10.1.0.3:80"));
    }
}
