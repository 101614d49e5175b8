//! The table of policy, as `crate::policy` writes it.

use weft_dataplane::{CLOSED, Flow, HOST, PolicyTable};
use weft_model::{PolicyId, PortRange, Protocol};

use super::*;
use crate::policy;

/// Classes of a, of b and of c.
const CLASSES: [u32; 3] = [8, 16, 24];

fn entry(from: u32, to: u32, protocol: u8, ports: Option<(u16, u16)>) -> Flow {
    Flow { from, to, protocol, ports: ports.map(|(start, end)| PortRange { start, end }) }
}

/// A host with one policy that decides these flows, and what is closed.
fn with_policy(flows: &[(Flow, bool)], closed: u32) -> World {
    let mut table = PolicyTable::default();
    for (address, class) in ["10.1.0.2", "10.1.0.3", "10.2.0.2"].iter().zip(CLASSES) {
        table.endpoints.insert(address.parse().unwrap(), class | closed);
    }
    for (flow, passes) in flows {
        let ranges = flow.ports.filter(|range| range.start != range.end);
        table.ranges.extend(ranges.map(|range| (Protocol::Tcp, range)));
        let marked = |class: u32| if class == 0 { 0 } else { class | closed };
        table.verdicts.insert(Flow { from: marked(flow.from), to: marked(flow.to), ..*flow }, *passes);
    }
    table.host = table.verdicts.keys().any(|flow| [flow.from, flow.to].contains(&HOST));
    let written = table.clone();
    let rules = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let mut socket = Socket::open(Family::Netfilter).unwrap();
        policy::replace(&mut socket, &written).unwrap();
        seen::ruleset(&mut socket).unwrap()
    });
    let rules = rules.join().unwrap();
    world().with(|w| {
        w.host().rules = rules;
        for link in w.host().links.iter_mut().filter(|link| link.kind == "bridge") {
            link.filtered = (true, true);
        }
        let known = &mut w.question.known;
        let id = PolicyId::from_bytes([0xab; 32]);
        known.policies.insert(id, "deny name=a -> name=b, tcp 80".into());
        known.decides.extend(table.verdicts.keys().map(|flow| (*flow, id)));
        for (address, network) in [("10.1.0.2", "red"), ("10.1.0.3", "red"), ("10.2.0.2", "blue")] {
            known.homes.insert(address.parse().unwrap(), network.into());
        }
    })
}

#[test]
fn a_policy_is_named_and_not_called_foreign() {
    let [a, b, c] = CLASSES;
    let flow = entry(a, b, 6, Some((80, 80)));
    let denied = || with_policy(&[(flow, false)], 0);
    let seen = denied().explained();
    assert_eq!(seen.verdict, Dropped, "{seen:#?}");
    assert_eq!(seen.reason, "denied by policy abababababab (deny name=a -> name=b, tcp 80)");
    assert!(seen.remedy.contains("weft policy rm abababababab"), "{}", seen.remedy);
    assert!(!seen.remedy.contains("nft") && !seen.remedy.contains("not of Weft"), "{}", seen.remedy);
    // Whoever began the connection is who counts, on its way back, too.
    denied().between(container(B), container(A)).check(Passes, "reaches container a");
    denied().with(|w| w.question.transport = Transport::Icmp).check(Passes, "");
    denied().between(container(A), container(C)).check(Passes, "");
    let to_anybody = with_policy(&[(entry(a, c, 0, None), false)], 0).between(container(A), container(C));
    to_anybody.check(Dropped, "denied by policy abababababab");
    let range = || with_policy(&[(entry(a, b, 6, Some((70, 90))), false)], 0);
    range().check(Dropped, "denied by policy abababababab");
    range().with(|w| w.question.port = Some(91)).check(Dropped, "nothing listens on tcp port 91");
    let outside_in = with_policy(&[(entry(0, a, 6, None), false)], 0);
    outside_in.between(outside(), container(A)).check(Dropped, "denied by policy");
}

#[test]
fn where_nothing_is_allowed_the_default_of_the_network_is_named() {
    let [a, b, _] = CLASSES;
    let seen = with_policy(&[], CLOSED).explained();
    assert_eq!(seen.verdict, Dropped, "{seen:#?}");
    assert!(
        seen.reason.ends_with("no policy allows it, and the default of network red is deny"),
        "{}",
        seen.reason
    );
    let add = "weft policy add --from name=a --to name=b --protocol tcp --port 80 allow";
    assert!(seen.remedy.starts_with(add), "{}", seen.remedy);
    assert!(seen.remedy.contains("weft policy default red allow"), "{}", seen.remedy);
    let allowed = || with_policy(&[(entry(a, b, 6, Some((80, 80))), true)], CLOSED);
    let seen = allowed().explained();
    assert_eq!(seen.verdict, Passes, "{seen:#?}");
    let named = |hop: &weft_dataplane::insight::Hop| {
        hop.rule.as_ref().is_some_and(|r| r.comment.contains("allowed by policy abababababab"))
            || hop.text.contains("allowed by policy abababababab")
    };
    assert!(seen.hops.iter().any(named), "{seen:#?}");
    allowed().between(container(B), container(A)).check(Dropped, "no policy allows it");
}

#[test]
fn the_host_is_an_end_of_its_own() {
    let [a, ..] = CLASSES;
    let host_alone = || with_policy(&[(entry(a, HOST, 6, Some((80, 80))), false)], 0);
    let to_host = |world: World| {
        world.between(container(A), End::Host { address: Some("10.1.0.1".parse().unwrap()) }).explained()
    };
    let seen = to_host(host_alone());
    assert_eq!(seen.verdict, Dropped, "{seen:#?}");
    assert!(seen.reason.starts_with("denied by policy abababababab"), "{}", seen.reason);
    assert_ne!(to_host(host_alone().with(|w| w.question.port = Some(81))).reason, seen.reason);
    host_alone().check(Passes, "reaches container b");
}
