//! The planner's laws on random hosts: applying the plan reaches desired; planning again gives nothing; a failure anywhere
//! leaves what the next run finishes; steps refer to nothing that is not there.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::BTreeSet;

use proptest::prelude::*;
use weft_dataplane::{
    Converger, Desired, Driver, DriverError, FakeDriver, Gateway, Listeners, Observed, Open, Port, Publish,
    Sandbox, SeenPort, SeenSegment, Segment, Step, link_name,
};
use weft_model::{ContainerId, GatewayMode, MacAddr, NetworkId, PortId, PortRange, Protocol};

/// What a random host is made of; small numbers, so that changes meet each other.
#[derive(Clone, Debug)]
struct Draft {
    segments: Vec<(u8, u8, bool)>,
    ports: Vec<(u8, u8, u8, u8)>,
    publishes: Vec<(u16, u16, u8, bool)>,
    /// Of the sandboxes, by their numbers.
    runs: Vec<Option<u64>>,
    open: Vec<(u8, u16, bool)>,
}

fn drafts() -> impl Strategy<Value = Draft> {
    let segments = prop::collection::vec((0..4u8, 0..3u8, any::<bool>()), 0..5);
    let ports = prop::collection::vec((0..8u8, 0..4u8, 0..5u8, 1..6u8), 0..10);
    let publishes = prop::collection::vec((1..12u16, 0..4u16, 1..6u8, any::<bool>()), 0..8);
    let runs = prop::collection::vec(prop::option::of(0..3u64), 5);
    let open = prop::collection::vec((0..4u8, 1..6u16, any::<bool>()), 0..5);
    (segments, ports, publishes, runs, open).prop_map(|(segments, ports, publishes, runs, open)| Draft {
        segments,
        ports,
        publishes,
        runs,
        open,
    })
}

fn build(draft: &Draft, generation: u64) -> Desired {
    let mut desired = Desired { generation, ..Desired::default() };
    for (nth, variant, internal) in &draft.segments {
        let id = NetworkId::from_bytes([*nth; 32]);
        let segment = Segment {
            link: link_name('b', &id),
            mac: MacAddr([2, 0, 0, 0, 0, *nth]),
            addresses: [format!("10.{nth}.{variant}.1/24").parse().unwrap()].into(),
            mtu: 1500,
            internal: *internal,
            inter_container: true,
            masquerade: true,
            borrowed: false,
            further: Default::default(),
            gateways: Default::default(),
            trusted: Default::default(),
            open: Default::default(),
            source: Default::default(),
            uplink: None,
        };
        desired.segments.insert(id, segment);
    }
    for (nth, port, trusted) in &draft.open {
        if let Some(segment) = desired.segments.get_mut(&NetworkId::from_bytes([*nth; 32])) {
            let open = Open { protocol: Protocol::Tcp, ip: "10.0.0.1".parse().unwrap(), port: *port };
            segment.open.insert(open);
            segment.gateways.v4 = GatewayMode::Routed;
            segment.trusted.extend(trusted.then(|| "eth0".to_owned()));
        }
    }
    for (nth, segment, sandbox, address) in &draft.ports {
        let run = draft.runs.get(usize::from(*sandbox)).copied().flatten();
        let segment = NetworkId::from_bytes([*segment; 32]);
        if !desired.segments.contains_key(&segment) {
            continue;
        }
        let (id, sandbox) = (PortId::from_bytes([*nth; 32]), ContainerId::from_bytes([*sandbox; 32]));
        desired.sandboxes.insert(sandbox, Sandbox { run, ..Sandbox::default() });
        let port = Port {
            link: link_name('p', &id),
            segment,
            sandbox,
            ifname: format!("eth{nth}"),
            mac: MacAddr([2, 0, 0, 0, 1, *nth]),
            addresses: [format!("10.0.0.{address}/24").parse().unwrap()].into(),
            mtu: 1500,
            gateways: [Gateway { via: "10.0.0.1".parse().unwrap(), metric: 0 }].into(),
            sysctls: Default::default(),
            isolated: false,
            parent: None,
        };
        desired.ports.insert(id, port);
    }
    let mut taken = Listeners::default();
    for (number, more, target, shifted) in &draft.publishes {
        let publish = Publish {
            protocol: Protocol::Tcp,
            host_ip: "0.0.0.0".parse().unwrap(),
            host_ports: PortRange { start: *number, end: number + more },
            target_ip: format!("10.0.0.{target}").parse().unwrap(),
            target_port: if *shifted { 80 } else { *number },
        };
        if !desired.segments.is_empty() && taken.take(&publish) {
            desired.publishes.insert(publish);
        }
    }
    desired
}

/// A machine where steps are applied one by one, each refused when what it stands on is missing.
fn replay(mut machine: Observed, steps: &[Step], rules: &str) -> Result<Observed, String> {
    for step in steps {
        match step {
            Step::CreatePort { port, bridge } => {
                let fits = machine.sandboxes.contains_key(&port.sandbox)
                    && machine.segments.contains_key(bridge)
                    && machine.rules.as_deref() == Some(rules)
                    && !machine.ports.contains_key(&port.link);
                if !fits {
                    return Err(format!("{step} stands on nothing"));
                }
            }
            Step::ConfigurePort { port, .. } if !machine.ports.contains_key(&port.link) => {
                return Err(format!("{step}: no such port"));
            }
            Step::CreateSandbox { id, .. } if machine.sandboxes.contains_key(id) => {
                return Err(format!("{step}: there already"));
            }
            Step::ChangePublishes { remove, .. }
                if !remove.keys().all(|k| machine.publishes.contains_key(k)) =>
            {
                return Err(format!("{step}: not published"));
            }
            Step::ChangeOpen { remove, .. } if !remove.is_subset(&machine.open) => {
                return Err(format!("{step}: not open"));
            }
            _ => {}
        }
        machine.note(step);
    }
    Ok(machine)
}

fn strays(machine: &mut Observed) {
    machine.broken_sandboxes.insert("f".repeat(64));
    machine.segments.insert("wfbffffffffffff".into(), SeenSegment::default());
    machine.ports.insert("wfpffffffffffff".into(), SeenPort::default());
    machine.sandboxes.insert(ContainerId::from_bytes([0xff; 32]), 0);
}

proptest! {
    #[test]
    fn a_plan_reaches_desired_in_an_order_that_works(first in drafts(), second in drafts(), stray in any::<bool>()) {
        let driver = FakeDriver::default();
        let (first, second) = (build(&first, 1), build(&second, 2));
        let mut machine = Observed::default();
        for desired in [&first, &second] {
            if stray {
                strays(&mut machine);
            }
            desired.check().unwrap();
            let steps = driver.plan(desired, &machine);
            machine = replay(machine, &steps, &driver.rules_digest(desired)).map_err(TestCaseError::fail)?;
            prop_assert_eq!(driver.plan(desired, &machine), vec![]);
            let links: BTreeSet<_> = desired.ports.values().map(|p| &p.link).collect();
            prop_assert_eq!(machine.ports.keys().collect::<BTreeSet<_>>(), links);
            prop_assert_eq!(&machine.publishes, &desired.publish_map());
            prop_assert_eq!(&machine.open, &desired.open_set());
            prop_assert_eq!(machine.sandboxes.len(), desired.sandboxes.len());
            prop_assert!(machine.sandboxes.iter().all(|(id, run)| desired.sandboxes[id].is_for(*run)));
            prop_assert_eq!(machine.segments.len(), desired.segments.len());
        }
    }

    #[test]
    fn a_failed_step_is_mended_by_the_next_run(first in drafts(), second in drafts(), fail in 0..20usize) {
        let mut converger = Converger::new(FakeDriver::default());
        let (first, second) = (build(&first, 1), build(&second, 2));
        prop_assert!(converger.converge(&first).unwrap().converged());
        converger.driver().take_steps();
        converger.driver().fail_at(fail);
        let outcome = converger.converge(&second).unwrap();
        let failed = !outcome.converged();
        prop_assert_eq!(outcome.failed.len(), usize::from(failed));
        let looks = converger.driver().observations();
        prop_assert!(converger.converge(&second).unwrap().converged());
        prop_assert_eq!(converger.driver().observations() > looks, failed, "looks again after a failure, and only then");
        let machine = converger.driver().observe().unwrap();
        prop_assert_eq!(converger.driver().plan(&second, &machine), vec![]);
    }
}

#[test]
fn one_port_more_is_one_small_step_and_no_look() {
    let all = Draft {
        segments: vec![(0, 0, false)],
        ports: (0..7).map(|n| (n, 0, n, 1 + n)).collect(),
        publishes: vec![],
        runs: vec![],
        open: vec![(0, 1, false)],
    };
    let mut converger = Converger::new(FakeDriver::default());
    converger.converge(&build(&all, 1)).unwrap();
    let more = Draft { publishes: vec![(9, 3, 1, false)], ..all };
    let outcome = converger.converge(&build(&more, 2)).unwrap();
    assert!(
        matches!(&outcome.done[..], [Step::ChangePublishes { remove, add }] if remove.is_empty() && add.len() == 1)
    );
    let open = Draft { open: vec![(0, 1, false), (0, 2, false)], ..more };
    let outcome = converger.converge(&build(&open, 3)).unwrap();
    assert!(
        matches!(&outcome.done[..], [Step::ChangeOpen { remove, add }] if remove.is_empty() && add.len() == 1)
    );
    assert_eq!(converger.driver().observations(), 1);
}

#[test]
fn what_contradicts_itself_and_what_is_old_is_refused() {
    let draft = Draft {
        segments: vec![(0, 0, false)],
        ports: vec![(0, 0, 0, 2)],
        publishes: vec![(5, 0, 2, true)],
        runs: vec![Some(1)],
        open: vec![],
    };
    let good = build(&draft, 5);
    let mut converger = Converger::new(FakeDriver::default());
    converger.converge(&good).unwrap();
    let check = |change: &dyn Fn(&mut Desired), expected: &str| {
        let mut desired = good.clone();
        change(&mut desired);
        let error = desired.check().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let port = PortId::from_bytes([0; 32]);
    check(&|d| d.segments.clear(), "is on segment");
    check(&|d| d.sandboxes.clear(), "is in sandbox");
    check(&|d| d.ports.get_mut(&port).unwrap().link = "wf/up".into(), "no valid name");
    check(&|d| d.ports.get_mut(&port).unwrap().link = "a-name-too-long-for-it".into(), "no valid name");
    check(&|d| d.ports.get_mut(&port).unwrap().link = "wfb000000000000".into(), "two links would be called");
    let twin = |d: &mut Desired| {
        let twin = Port { link: "wfp1".into(), ..d.ports[&port].clone() };
        d.ports.insert(PortId::from_bytes([1; 32]), twin);
    };
    check(&twin, "two interfaces of");
    let publish = good.publishes.first().unwrap().clone();
    let with = |p: Publish| {
        move |d: &mut Desired| {
            d.publishes.insert(p.clone());
        }
    };
    check(&with(Publish { target_port: 81, ..publish.clone() }), "is published twice");
    let over = PortRange { start: 3, end: 5 };
    check(&with(Publish { host_ports: over, ..publish.clone() }), "is published twice");
    check(&with(Publish { host_ip: "::".parse().unwrap(), ..publish.clone() }), "is malformed");
    check(&with(Publish { host_ports: PortRange { start: 9, end: 8 }, ..publish.clone() }), "is malformed");
    let range = PortRange { start: 9, end: 20 };
    check(&with(Publish { host_ports: range, target_port: 65_530, ..publish }), "is malformed");
    let old = Desired { generation: 4, ..good.clone() };
    assert!(matches!(converger.converge(&old), Err(DriverError::Stale { offered: 4, held: 5 })));
    let text = serde_json::to_string(&good).unwrap();
    assert_eq!(serde_json::from_str::<Desired>(&text).unwrap(), good);
}

#[test]
fn rows_are_one_entry_where_the_numbers_stay_and_spelled_out_where_they_do_not() {
    let entries = |start, end, target_port| {
        let publish = Publish {
            protocol: Protocol::Udp,
            host_ip: "0.0.0.0".parse().unwrap(),
            host_ports: PortRange { start, end },
            target_ip: "10.0.0.2".parse().unwrap(),
            target_port,
        };
        publish.entries().map(|(k, t)| format!("{}>{}", k.host_ports, t.port)).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(entries(80, 80, 8080), "80>8080");
    assert_eq!(entries(9000, 9999, 9000), "9000-9999>9000");
    assert_eq!(entries(1, 65535, 1), "1-65535>1");
    assert_eq!(entries(8000, 8002, 80), "8000>80 8001>81 8002>82");
    assert_eq!(entries(8000, 8001, 65534), "8000>65534 8001>65535");
}
