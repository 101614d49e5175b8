//! The walker on a host of values: two networks, three containers, one way out. Rules are real: `nft` loads them in a namespace
//! of the test's own, and they are read back as the driver reads them.
//!
//! ```text
//!  a 10.1.0.2 ─ p-a ┐                        ┌ p-c ─ c 10.2.0.2
//!  b 10.1.0.3 ─ p-b ┴ red 10.1.0.1   10.2.0.1 blue ┘          eth0 192.0.2.1 ─ the world (default via .254)
//! ```

mod foreign;
mod legacy;
mod nat;
mod parameters;
mod policy;
mod ways;

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use nix::sched::{CloneFlags, unshare};
use weft_dataplane::insight::{End, Known, Transport};
use weft_model::ContainerId;
use weft_sys::{
    netlink::{
        Family, Socket,
        detail::{BridgePort, Detail},
        lookup::{Lookup, Way},
    },
    nft::seen::{self, Ruleset},
    sockets::Listener,
};

use super::{facts::*, walk::walk, *};

const A: u8 = 1;
const B: u8 = 2;
const C: u8 = 3;

fn id(nth: u8) -> ContainerId {
    ContainerId::from_bytes([nth; 32])
}

/// Rules as the kernel tells them.
fn rules(text: &str) -> Ruleset {
    let text = text.to_owned();
    std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        nft.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success(), "{text}");
        seen::ruleset(&mut Socket::open(Family::Netfilter).unwrap()).unwrap()
    })
    .join()
    .unwrap()
}

fn link(index: u32, name: &str, kind: &str) -> Detail {
    Detail {
        index,
        name: name.into(),
        kind: kind.into(),
        up: true,
        carrier: true,
        mtu: 1500,
        ..Detail::default()
    }
}

fn sandbox(peer: u32, address: &str) -> Space {
    let eth0 = Detail { peer: Some(peer), peer_elsewhere: true, ..link(2, "eth0", "veth") };
    let listener = Listener { protocol: 6, address: [0, 0, 0, 0].into(), port: 80 };
    Space {
        links: vec![link(1, "lo", ""), eth0],
        addresses: vec![(1, "127.0.0.1/8".parse().unwrap()), (2, address.parse().unwrap())],
        listeners: vec![listener],
        ..Space::default()
    }
}

struct World {
    facts: Facts,
    question: Question,
}

fn world() -> World {
    let port = |index, name: &str, master| Detail {
        master: Some(master),
        peer: Some(2),
        port: Some(BridgePort { state: 3, isolated: false, hairpin: false }),
        ..link(index, name, "veth")
    };
    let mut host = Space {
        links: vec![
            link(1, "lo", ""),
            link(2, "eth0", ""),
            link(3, "red", "bridge"),
            port(4, "wfp-a", 3),
            port(5, "wfp-b", 3),
            link(6, "blue", "bridge"),
            port(7, "wfp-c", 6),
        ],
        ..Space::default()
    };
    for (index, net) in [(1, "127.0.0.1/8"), (2, "192.0.2.1/24"), (3, "10.1.0.1/24"), (6, "10.2.0.1/24")] {
        host.addresses.push((index, net.parse().unwrap()));
    }
    host.sysctls.insert("net.ipv4.conf.eth0.forwarding".into(), "1".into());
    let mut facts = Facts::default();
    facts.spaces.insert(Place::Host, Some(host));
    let mut known = Known::default();
    for (nth, peer, name, address) in
        [(A, 4, "a", "10.1.0.2"), (B, 5, "b", "10.1.0.3"), (C, 7, "c", "10.2.0.2")]
    {
        facts.spaces.insert(Place::Sandbox(id(nth)), Some(sandbox(peer, &format!("{address}/24"))));
        known.sandboxes.insert(id(nth), name.into());
        known.addresses.insert(address.parse().unwrap(), id(nth));
    }
    let from = End::Sandbox { id: id(A), address: None };
    let to = End::Sandbox { id: id(B), address: None };
    World { facts, question: Question { from, to, transport: Transport::Tcp, port: Some(80), known } }
}

/// The routes of this world: what is local, on a link's subnet, or by the default.
fn route(facts: &Facts, place: Place, lookup: &Lookup) -> Way {
    let space = facts.spaces[&place].as_ref().unwrap();
    if space.owns(lookup.to) {
        return Way::Local { source: Some(lookup.to) };
    }
    let source = |index| space.on(index, false).next().map(|net| net.addr());
    let near = space.addresses.iter().find(|(_, net)| net.contains(&lookup.to)).map(|(index, _)| *index);
    let out = |link: u32, via| {
        if lookup.output.is_some_and(|want| want != link) {
            return Way::Refused(libc::ENETUNREACH);
        }
        Way::Out { link, via, source: source(link), table: 254 }
    };
    match (near, place) {
        (Some(index), _) => out(index, None),
        (None, Place::Host) => out(2, Some([192, 0, 2, 254].into())),
        (None, Place::Sandbox(_)) => {
            let net = space.on(2, false).next().unwrap();
            out(2, net.hosts().next())
        }
    }
}

impl World {
    fn host(&mut self) -> &mut Space {
        self.facts.spaces.get_mut(&Place::Host).unwrap().as_mut().unwrap()
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn between(mut self, from: End, to: End) -> Self {
        (self.question.from, self.question.to) = (from, to);
        self
    }

    fn explained(mut self) -> Explanation {
        for _ in 0..50 {
            match walk(&self.question, &self.facts) {
                Ok(explanation) => return explanation,
                Err(Ask::Space(place)) => {
                    self.facts.spaces.insert(place, None);
                }
                Err(Ask::Connections(place, service)) => {
                    self.facts.connections.insert((place, service), Vec::new());
                }
                Err(Ask::Routing(place, v6)) => {
                    self.facts.routings.insert((place, v6), routing::Routing::default());
                }
                Err(Ask::Way(place, lookup)) => {
                    let way = route(&self.facts, place, &lookup);
                    self.facts.ways.insert((place, lookup), way);
                }
            }
        }
        panic!("asks for ever");
    }

    /// Verdict, and a part of the reason.
    #[track_caller]
    fn check(self, verdict: Verdict, reason: &str) {
        let seen = self.explained();
        assert_eq!(seen.verdict, verdict, "{seen:#?}");
        assert!(seen.reason.contains(reason), "{reason:?} in {seen:#?}");
    }
}

fn outside() -> End {
    End::Outside { link: None, address: None }
}

fn container(nth: u8) -> End {
    End::Sandbox { id: id(nth), address: None }
}

fn to_host() -> End {
    End::Host { address: None }
}

use Verdict::{Dropped, Passes, Unclear};
