//! How long the driver takes, in a network namespace of its own: one sandbox with a port and a published port more on a host
//! that has some, its end, and a look at everything. Prints medians in microseconds.
//!
//! `cargo run --release -p weft-bench --example driver -- 200`
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a tool for developers"
)]

use std::{collections::BTreeMap, time::Instant};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use weft_dataplane::{Converger, Desired, Driver, Gateway, Port, Publish, Sandbox, Segment, Step, link_name};
use weft_driver_linux::LinuxDriver;
use weft_model::{ContainerId, MacAddr, NetworkId, PortId, PortRange, Protocol};

fn id(nth: u16) -> [u8; 32] {
    let mut id = [7; 32];
    id[..2].copy_from_slice(&nth.to_be_bytes());
    id
}

fn add(desired: &mut Desired, nth: u16) {
    let sandbox = ContainerId::from_bytes(id(nth));
    let [high, low] = (nth + 2).to_be_bytes();
    desired.sandboxes.insert(sandbox, Sandbox::default());
    let port = PortId::from_bytes(id(nth));
    desired.ports.insert(
        port,
        Port {
            link: link_name('p', &port),
            segment: NetworkId::from_bytes(id(0)),
            sandbox,
            ifname: "eth0".into(),
            mac: MacAddr([2, 0x42, 10, 1, high, low]),
            addresses: [format!("10.1.{high}.{low}/16").parse().unwrap()].into(),
            mtu: 1500,
            gateways: [Gateway { via: "10.1.0.1".parse().unwrap(), metric: 0 }].into(),
            sysctls: BTreeMap::new(),
            isolated: false,
            parent: None,
        },
    );
    desired.publishes.insert(Publish {
        protocol: Protocol::Tcp,
        host_ip: "0.0.0.0".parse().unwrap(),
        host_ports: PortRange { start: 20_000 + nth, end: 20_000 + nth },
        target_ip: format!("10.1.{high}.{low}").parse().unwrap(),
        target_port: 80,
    });
}

fn remove(desired: &mut Desired, nth: u16) {
    desired.sandboxes.remove(&ContainerId::from_bytes(id(nth)));
    desired.ports.remove(&PortId::from_bytes(id(nth)));
    desired.publishes.retain(|p| p.host_ports.start != 20_000 + nth);
}

fn kind(step: &Step) -> String {
    step.to_string().split(' ').take(2).collect::<Vec<_>>().join(" ")
}

fn median(times: &mut [u128]) -> u128 {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn main() {
    let base: u16 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let driver = LinuxDriver::new(dir.path(), true).unwrap();
    let mut desired = Desired::default();
    let segment = NetworkId::from_bytes(id(0));
    desired.segments.insert(
        segment,
        Segment {
            link: link_name('b', &segment),
            mac: MacAddr([2, 0x42, 10, 1, 0, 1]),
            addresses: ["10.1.0.1/16".parse().unwrap()].into(),
            mtu: 1500,
            internal: false,
            inter_container: true,
            masquerade: true,
            borrowed: false,
            further: Default::default(),
            gateways: Default::default(),
            trusted: Default::default(),
            open: Default::default(),
            source: Default::default(),
            uplink: None,
        },
    );
    for nth in 1..=base {
        add(&mut desired, nth);
    }
    let start = Instant::now();
    let mut converger = Converger::new(driver);
    assert!(converger.converge(&desired).unwrap().converged());
    println!("{base} containers at once: {} ms", start.elapsed().as_millis());

    let mut steps: BTreeMap<String, Vec<u128>> = BTreeMap::new();
    let (mut up, mut down, mut plan) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..30u16 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        for (times, coming) in [(&mut up, true), (&mut down, false)] {
            let nth = base + 1 + round;
            if coming {
                add(&mut desired, nth)
            } else {
                remove(&mut desired, nth)
            }
            let start = Instant::now();
            let seen = converger.driver().observe().unwrap();
            steps.entry("(observe)".into()).or_default().push(start.elapsed().as_micros());
            let start = Instant::now();
            let todo = converger.driver().plan(&desired, &seen);
            plan.push(start.elapsed().as_micros());
            let whole = Instant::now();
            for step in &todo {
                let start = Instant::now();
                converger.driver().apply(step).unwrap();
                steps.entry(kind(step)).or_default().push(start.elapsed().as_micros());
            }
            times.push(whole.elapsed().as_micros());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let start = Instant::now();
        converger.driver().settle();
        steps.entry("(settle after 50 ms)".into()).or_default().push(start.elapsed().as_micros());
    }
    println!("up {} µs, down {} µs, plan {} µs", median(&mut up), median(&mut down), median(&mut plan));
    for (name, mut times) in steps {
        println!("  {name}: {} µs, worst {}", median(&mut times), times.last().copied().unwrap_or_default());
    }
    let start = Instant::now();
    desired = Desired { generation: desired.generation, ..Desired::default() };
    converger.forget();
    assert!(converger.converge(&desired).unwrap().converged());
    println!("all down: {} ms", start.elapsed().as_millis());
    converger.driver().settle();
    println!("all gone: {} ms", start.elapsed().as_millis());
}
