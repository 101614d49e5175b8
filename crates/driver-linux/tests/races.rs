//! Damage at any moment, also while a step mends earlier damage: all is right within a second after the last of it.
//!
//! `WEFT_RACES=200` runs more rounds.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod common;

use std::{
    process::Command,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use common::Host;
use weft_dataplane::Driver;
use weft_driver_linux::LinuxDriver;
use weft_sys::{
    netlink::{
        Channel, Family, Socket, address,
        link::{self, Change, Link},
    },
    nft::Batch,
};

const BRIDGE: &str = "wfb010101010101";
const PORTS: [&str; 2] = ["wfp010101010101", "wfp020202020202"];

/// Numbers that look random and are the same in each run (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % most
    }
}

/// One bit of damage; what is gone already is damaged enough.
fn damage(route: &mut Socket, netfilter: &mut Socket, numbers: &mut Numbers) {
    let port = PORTS[usize::try_from(numbers.below(2)).unwrap()];
    let down = Change { up: Some(false), ..Change::default() };
    let mtu = Change { mtu: Some(1400), ..Change::default() };
    let free = Change { master: Some(0), ..Change::default() };
    let bridge = link::get(route, BRIDGE).unwrap().map_or(0, |l| l.index);
    let _ = match numbers.below(8) {
        0 => route.transact(&[link::change(BRIDGE, &down)]),
        1 => route.transact(&[link::change(BRIDGE, &mtu)]),
        2 => route.transact(&[address::remove(bridge, "10.1.0.1/24".parse().unwrap())]),
        3 => route.transact(&[address::remove(bridge, "fd01::1/64".parse().unwrap())]),
        4 => route.transact(&[link::change(port, &free)]),
        5 => route.transact(&[link::change(port, &down)]),
        6 => route.transact(&[link::delete(BRIDGE)]),
        _ => {
            let mut batch = Batch::new("weft");
            batch.add_table();
            batch.delete_table();
            netfilter.transact(&batch.finish())
        }
    };
}

/// Waits until a repair is at work on the port, and damages it again before the repair can look at what it did.
fn work_against(route: &mut Socket, rounds: u64) {
    let free = Change { master: Some(0), ..Change::default() };
    let is_in = |port: &Option<Link>| port.as_ref().is_some_and(|l| l.master.is_some());
    for _ in 0..=rounds {
        let begun = Instant::now();
        while !is_in(&link::get(route, PORTS[0]).unwrap()) {
            if begun.elapsed() > Duration::from_secs(1) {
                return;
            }
        }
        let _: Result<(), _> = route.transact(&[link::change(PORTS[0], &free)]);
    }
}

fn furnished() -> Host {
    let mut host = Host::new();
    let red = host.segment(1, &["10.1.0.1/24", "fd01::1/64"]);
    host.container(1, red, &["10.1.0.2/24", "fd01::2/64"]);
    host.container(2, red, &["10.1.0.3/24"]);
    host.converge();
    host.assert_settled();
    host
}

/// A round: damage in another thread, what a daemon does in this one. How long after the last damage all was right again.
fn round(
    host: &mut Host,
    work: impl FnOnce(&mut Socket, &mut Socket) + Send + 'static,
) -> Result<Duration, String> {
    let (tell, heard) = mpsc::channel();
    // An ear of its own, and with it a fresh measure of who fights.
    host.driver().watch(Box::new(move || tell.send(()).unwrap_or_default())).unwrap();
    // Another's eyes: looking is noted by who looks.
    let other = LinuxDriver::new(host.dir.path().join("netns"), true).unwrap();
    let damaging = thread::spawn(move || {
        let mut sockets = [Family::Route, Family::Netfilter].map(|family| Socket::open(family).unwrap());
        let [route, netfilter] = &mut sockets;
        work(route, netfilter);
        Instant::now()
    });
    let mut last = None;
    let mut failed = false;
    let begun = Instant::now();
    let mut damaging = Some(damaging);
    loop {
        let called = match heard.recv_timeout(Duration::from_millis(if failed { 50 } else { 10 })) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => failed,
            Err(RecvTimeoutError::Disconnected) => return Err("nobody listens any more".into()),
        };
        if called {
            while heard.try_recv().is_ok() {}
            host.converger.forget();
            host.desired.generation += 1;
            failed = host.converger.converge(&host.desired).map_or(true, |outcome| !outcome.converged());
        }
        if damaging.as_ref().is_some_and(thread::JoinHandle::is_finished) {
            last = damaging.take().map(|thread| thread.join().unwrap());
        }
        let Some(last) = last else {
            assert!(begun.elapsed() < Duration::from_secs(30), "the damage has no end");
            continue;
        };
        let observed = other.observe().unwrap();
        let plan = other.plan(&host.desired, &observed);
        if plan.is_empty() {
            return Ok(last.elapsed());
        }
        if last.elapsed() > Duration::from_secs(1) {
            return Err(format!("{plan:?}\n{}", listed()));
        }
    }
}

fn listed() -> String {
    let output = Command::new("ip").args(["-d", "addr"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn rounds() -> u64 {
    std::env::var("WEFT_RACES").ok().and_then(|n| n.parse().ok()).unwrap_or(40)
}

#[test]
fn damage_at_random_moments_is_mended_within_a_second() {
    let mut host = furnished();
    let mut worst = Duration::ZERO;
    for seed in 0..rounds() {
        let took = round(&mut host, move |route, netfilter| {
            let mut numbers = Numbers(seed);
            for _ in 0..=numbers.below(6) {
                damage(route, netfilter, &mut numbers);
                thread::sleep(Duration::from_micros(numbers.below(15_000)));
            }
        });
        worst = worst.max(took.unwrap_or_else(|left| panic!("round {seed}: {left}")));
    }
    println!("all right again after {worst:?} at most");
}

#[test]
fn damage_while_damage_is_mended_is_mended_too() {
    let mut host = furnished();
    for seed in 0..rounds() {
        let took = round(&mut host, move |route, _| work_against(route, 1 + seed % 4));
        took.unwrap_or_else(|left| panic!("round {seed}: {left}"));
    }
}
