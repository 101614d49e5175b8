//! Policies in, entries out; and the entries judged as a kernel does, against the meaning of the policies themselves.

use proptest::prelude::*;
use weft_model::{MacAddr, Network, PolicyProtocol, Port, PortOwner};

use super::*;
use crate::{
    HostDefaults,
    fixtures::{container, network, object, port, subnet},
};

fn policy(from: &str, to: &str, what: &str, action: PolicyAction) -> Policy {
    let (protocol, ports) = what.split_once(' ').unwrap_or((what, ""));
    let ports = (!ports.is_empty()).then(|| {
        let (start, end) = ports.split_once('-').unwrap_or((ports, ports));
        PortRange { start: start.parse().unwrap(), end: end.parse().unwrap() }
    });
    let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
    object(PolicySpec { id: PolicyId::new(), from, to, protocol: protocol.parse().ok(), ports, action })
}

/// Containers `c0`, `c1`, … on one network, with the label `tier` of each; addresses `10.1.0.2`, ….
fn world(tiers: &[&str], closed: bool, policies: &[Policy]) -> CompiledPolicy {
    let mut net = network("web", vec![subnet("10.1.0.0/24")]);
    net.closed = closed;
    let (mut containers, mut ports): (Vec<Container>, Vec<Port>) = (Vec::new(), Vec::new());
    for (nth, tier) in tiers.iter().enumerate() {
        let mut c: Container = object(container(&format!("c{nth}"), &[&net]));
        c.meta.labels.insert("tier".into(), (*tier).into());
        let mut p = port(&net, &[&format!("10.1.0.{}", nth + 2)]);
        p.owner = PortOwner::Container(c.spec.id);
        p.mac = MacAddr([2, 0, 0, 0, 0, u8::try_from(nth).unwrap()]);
        containers.push(c);
        ports.push(object(p));
    }
    let net: Network = object(net);
    let desired = crate::compile([&net], &ports, &containers, &HostDefaults::default()).desired;
    let networks = [(net.spec.id, &net.spec)].into();
    let (containers, policies): (Vec<_>, Vec<_>) = (containers.iter().collect(), policies.iter().collect());
    compile(&desired, &networks, &containers, &policies)
}

/// What the kernel does with a connection, as `weft-driver-linux` lays its rules.
fn judge(table: &PolicyTable, from: &str, to: &str, protocol: u8, port: u16) -> bool {
    let class = |ip: &str| match ip {
        "host" => HOST,
        ip => table.endpoints.get(&ip.parse().unwrap()).copied().unwrap_or(OUTSIDE),
    };
    let (from, to) = (class(from), class(to));
    let look = |protocol, ports| table.verdicts.get(&Flow { from, to, protocol, ports }).copied();
    let at = |(p, range): &&(Protocol, PortRange)| {
        transport(protocol) == Some(*p) && range.start <= port && port <= range.end
    };
    let range = table.ranges.iter().find(at).map(|(_, range)| *range);
    look(protocol, Some(PortRange { start: port, end: port }))
        .or_else(|| range.and_then(|range| look(protocol, Some(range))))
        .or_else(|| look(protocol, None))
        .or_else(|| look(0, None))
        .unwrap_or(from == HOST || to == HOST || (from | to) & CLOSED == 0)
}

use PolicyAction::{Allow, Deny};

#[test]
fn nothing_is_made_for_nothing() {
    assert_eq!(world(&["db", "web"], false, &[]), CompiledPolicy::default());
}

#[test]
fn endpoints_of_a_kind_share_their_entries() {
    let policies = [policy("label=tier=web", "label=tier=db", "tcp 5432", Allow)];
    let few = world(&["web", "db"], true, &policies);
    let many = world(&["web", "db", "web", "web", "db"], true, &policies);
    assert_eq!((few.table.endpoints.len(), many.table.endpoints.len()), (2, 5));
    assert_eq!(few.table.verdicts, many.table.verdicts);
    assert_eq!(few.table.verdicts.len(), 1);
    assert_eq!(many.guarded.len(), 1);
}

#[test]
fn a_closed_network_passes_what_is_allowed() {
    let policies = [
        policy("label=tier=web", "label=tier=db", "tcp 5432", Allow),
        policy("outside", "name=c0", "tcp 80", Allow),
    ];
    let out = world(&["web", "db"], true, &policies).table;
    assert!(judge(&out, "10.1.0.2", "10.1.0.3", 6, 5432));
    assert!(!judge(&out, "10.1.0.2", "10.1.0.3", 17, 5432), "another protocol");
    assert!(!judge(&out, "10.1.0.2", "10.1.0.3", 6, 5433), "another port");
    assert!(!judge(&out, "10.1.0.3", "10.1.0.2", 6, 5432), "the other way");
    assert!(judge(&out, "192.0.2.9", "10.1.0.2", 6, 80));
    assert!(!judge(&out, "192.0.2.9", "10.1.0.3", 6, 80));
    assert!(!judge(&out, "10.1.0.2", "192.0.2.9", 6, 80), "nor out");
}

#[test]
fn a_deny_wins_over_any_allow() {
    let policies = [
        policy("any", "name=c1", "tcp 80", Allow),
        policy("any", "name=c1", "tcp 70-90", Deny),
        policy("any", "name=c1", "tcp 60-75", Allow),
        policy("any", "any", "icmp", Deny),
    ];
    let out = world(&["a", "b"], false, &policies).table;
    for (port, passes) in [(80, false), (70, false), (90, false), (65, true), (91, true)] {
        assert_eq!(judge(&out, "10.1.0.2", "10.1.0.3", 6, port), passes, "{port}");
    }
    for icmp in [1, 58] {
        assert!(!judge(&out, "10.1.0.2", "10.1.0.3", icmp, 0));
    }
    assert!(out.ranges.iter().all(|(_, range)| range.start < range.end));
}

#[test]
fn the_counters_owner_is_who_decided() {
    let policies = [policy("any", "name=c1", "tcp 80", Allow), policy("any", "name=c1", "tcp 80", Deny)];
    let out = world(&["a", "b"], false, &policies);
    assert!(out.decided.owners.values().all(|owner| *owner == (policies[1].spec.id, false)));
    let links: BTreeSet<_> = out.decided.links.values().flatten().cloned().collect();
    assert_eq!(out.guarded, links);
}

#[test]
fn the_host_is_judged_only_where_it_is_named_and_never_by_default() {
    let out = world(&["a", "b"], true, &[policy("any", "any", "-", Deny)]);
    assert!(!out.table.host);
    assert_eq!(out.table.closed, out.guarded);
    let policies = [
        policy("name=c0", "host", "tcp 22", Deny),
        policy("host", "name=c1", "-", Deny),
        policy("host", "any", "tcp 80", Allow),
        policy("host", "any", "icmp", Deny),
    ];
    let out = world(&["a", "b"], false, &policies);
    assert!(out.table.host);
    assert_eq!(out.guarded, Default::default(), "what the host sends is not bridged alone");
    for (from, to, protocol, port, passes) in [
        ("10.1.0.2", "host", 6, 22, false),
        ("10.1.0.2", "host", 6, 23, true),
        ("10.1.0.3", "host", 6, 22, true),
        ("host", "10.1.0.2", 6, 22, true),
        ("host", "10.1.0.3", 6, 80, false),
        ("host", "10.1.0.2", 1, 0, false),
    ] {
        assert_eq!(judge(&out.table, from, to, protocol, port), passes, "{from} {to} {protocol} {port}");
    }
    assert!(out.table.verdicts.keys().all(|f| f.from != OUTSIDE && f.to != OUTSIDE), "not with the world");
}

#[test]
fn the_address_that_the_kernel_makes_is_judged_as_the_others() {
    let mut net = network("web", vec![subnet("10.1.0.0/24"), subnet("fd01::/64")]);
    net.closed = true;
    let c: Container = object(container("c0", &[&net]));
    let mut p = port(&net, &["10.1.0.2", "fd01::2"]);
    (p.owner, p.mac) = (PortOwner::Container(c.spec.id), MacAddr([0x02, 0x42, 10, 1, 0, 2]));
    let (net, p): (Network, Port) = (object(net), object(p));
    let desired = crate::compile([&net], [&p], [&c], &HostDefaults::default()).desired;
    let out = compile(&desired, &[(net.spec.id, &net.spec)].into(), &[&c], &[]).table;
    let class = |ip: &str| out.endpoints.get(&ip.parse().unwrap());
    assert_eq!(class("fe80::42:aff:fe01:2"), class("10.1.0.2"));
    assert_eq!((class("fe80::42:aff:fe01:2"), out.endpoints.len()), (class("fd01::2"), 3));
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let who = prop::sample::select(vec![
        "any",
        "outside",
        "host",
        "name=c0",
        "name=c1",
        "label=tier=a",
        "label=tier",
    ]);
    let what = prop_oneof![
        Just("-".to_owned()),
        Just("tcp".to_owned()),
        Just("icmp".to_owned()),
        (1..12u16).prop_map(|p| format!("tcp {p}")),
        (1..12u16, 0..8u16).prop_map(|(p, more)| format!("tcp {p}-{}", p + more)),
    ];
    let action = prop::sample::select(vec![Allow, Deny]);
    (who.clone(), who, what, action).prop_map(|(from, to, what, action)| policy(from, to, &what, action))
}

/// What the policies mean, read one by one.
fn meaning(policies: &[Policy], closed: bool, from: usize, to: usize, protocol: u8, port: u16) -> bool {
    let tiers = ["a", "b", "a"];
    let chosen = |selector: &Selector, who: usize| match selector {
        Selector::Any => who != ITSELF,
        Selector::Outside => who == OUT,
        Selector::Host => who == ITSELF,
        Selector::Name(name) => *name == format!("c{who}"),
        Selector::Label(_, None) => who < OUT,
        Selector::Label(_, Some(value)) => who < OUT && tiers[who] == value,
        Selector::Network(_) => false,
    };
    let fits = |spec: &PolicySpec| {
        chosen(&spec.from, from)
            && chosen(&spec.to, to)
            && spec.protocol.is_none_or(|p: PolicyProtocol| p.numbers().contains(&protocol))
            && spec.ports.is_none_or(|r| r.start <= port && port <= r.end)
    };
    let fitting: Vec<_> = policies.iter().filter(|p| fits(&p.spec)).map(|p| p.spec.action).collect();
    let open = !closed || from == ITSELF || to == ITSELF;
    if fitting.contains(&Deny) { false } else { !fitting.is_empty() || open }
}

const OUT: usize = 9;
const ITSELF: usize = 10;

proptest! {
    #[test]
    fn entries_mean_what_the_policies_mean(policies in prop::collection::vec(any_policy(), 0..8), closed: bool) {
        let table = world(&["a", "b", "a"], closed, &policies).table;
        let address = |who: usize| match who {
            OUT => "192.0.2.9".to_owned(),
            ITSELF => "host".to_owned(),
            who => format!("10.1.0.{}", who + 2),
        };
        for from in [0, 1, 2, OUT, ITSELF] {
            for to in [0, 1, 2, OUT, ITSELF] {
                if from >= OUT && to >= OUT {
                    continue;
                }
                for (protocol, port) in (0..22).map(|port| (6, port)).chain([(1, 0), (17, 5)]) {
                    let seen = judge(&table, &address(from), &address(to), protocol, port);
                    let meant = meaning(&policies, closed, from, to, protocol, port);
                    prop_assert_eq!(seen, meant, "{} to {}, protocol {} port {}", from, to, protocol, port);
                }
            }
        }
    }
}
