//! Everything that is asked of the kernel as a list, with answers that were changed at random. The seeds are what this kernel
//! really says of a namespace that has a little of each.

use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::{conntrack, nft};

/// Keeps what the kernel answers.
struct Recorder(Socket, Answers);

impl Channel for Recorder {
    fn transact(&mut self, messages: &[Message]) -> Result<(), NetlinkError> {
        self.0.transact(messages)
    }

    fn query(&mut self, message: &Message) -> Result<Answers, NetlinkError> {
        let answers = self.0.query(message)?;
        self.1.extend(answers.iter().cloned());
        Ok(answers)
    }
}

/// Answers everything with the same.
struct Parrot(Answers);

impl Channel for Parrot {
    fn transact(&mut self, _: &[Message]) -> Result<(), NetlinkError> {
        Ok(())
    }

    fn query(&mut self, _: &Message) -> Result<Answers, NetlinkError> {
        Ok(self.0.clone())
    }
}

fn ask_route(channel: &mut dyn Channel) {
    let _ =
        (link::list(channel), link::get(channel, "a"), detail::links(channel), detail::addresses(channel));
    let _ = (address::all(channel), route::list(channel, 2), route::destinations(channel));
    let _ = (route::entries(channel, false), route::entries(channel, true), host_route::list(channel, 2));
    let _ = (rules::list(channel, false), rules::list(channel, true));
    let _ = (tc::qdiscs(channel), tc::classes(channel, 2), tc::filters(channel, 2, tc::Hook::In));
}

fn ask_netfilter(channel: &mut dyn Channel) {
    let set = nft::Set { name: "s", key: &[nft::Field::Ipv4], shape: nft::Shape::Plain };
    let _ = (nft::rules(channel, "weft"), nft::names(channel, "weft"));
    let _ = (nft::elements(channel, "weft", &set), nft::counters(channel, "weft", &set));
    let _ = conntrack::list(channel, conntrack::Families::Both);
}

const LINKS: &str = "ip link add a type veth peer name b && ip link add br0 type bridge && ip link set a master br0 && \
    ip addr add 10.0.0.1/24 dev b && ip addr add fd00::1/64 dev b && ip link set b up && ip link set a up && \
    ip route add default via 10.0.0.9 && ip route add blackhole 10.9.0.0/16 && \
    ip rule add from 10.0.0.0/24 fwmark 1/3 ipproto tcp dport 80-90 prohibit; \
    tc qdisc add dev b root handle 1: htb && tc class add dev b parent 1: classid 1:1 htb rate 1mbit; \
    tc qdisc add dev a root tbf rate 1mbit burst 10k latency 50ms; tc qdisc add dev b clsact";

const TABLE: &str = "table inet weft {\n set s { type inet_proto . ipv4_addr . inet_service; flags interval; counter; \
    elements = { tcp . 10.0.0.1 . 80-90 comment \"c\" } }\n chain sub { }\n \
    chain c { type filter hook forward priority 0; tcp dport 80 counter drop comment \"tag\";\n }\n}";

/// What the kernel says, as kind and body in one.
fn recorded(protocol: Family, prepare: &'static str, ask: fn(&mut dyn Channel)) -> Vec<Vec<u8>> {
    let record = move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        Command::new("sh").args(["-c", prepare]).stderr(Stdio::null()).status().unwrap();
        let mut recorder = Recorder(Socket::open(protocol).unwrap(), Vec::new());
        ask(&mut recorder);
        recorder.1.into_iter().map(|(kind, body)| [&kind.to_ne_bytes(), body.as_slice()].concat()).collect()
    };
    let seeds: Vec<Vec<u8>> = std::thread::spawn(record).join().unwrap();
    assert!(seeds.len() > 4, "the kernel said nothing");
    seeds
}

fn try_all(name: &str, seeds: &[Vec<u8>], ask: fn(&mut dyn Channel)) {
    weft_testkit::fuzz::run(name, seeds, &["\0", "weft", "htb", "tbf"], |input| {
        if let Some((kind, body)) = input.split_first_chunk() {
            ask(&mut Parrot(vec![(u16::from_ne_bytes(*kind), body.to_vec())]));
        }
    });
}

#[test]
fn fuzz_rtnetlink_lists() {
    let mut seeds = recorded(Family::Route, LINKS, ask_route);
    // Finds: the codec looks for the second byte of a wireless event (RTM_NEWLINK, IFLA_WIRELESS) and of realms (RTM_NEWROUTE,
    // RTA_FLOW).
    let cut = |kind: u16, fixed: usize, attribute: u16| {
        [&kind.to_ne_bytes(), vec![0; fixed].as_slice(), attr::Attrs::new().u8(attribute, 0).as_bytes()]
            .concat()
    };
    seeds.extend([cut(16, 16, 11), cut(24, 12, 11)]);
    try_all("netlink-lists", &seeds, ask_route);
}

#[test]
fn fuzz_nft_and_conntrack_lists() {
    let load: &str = Box::leak(format!("echo '{TABLE}' | nft -f -").into_boxed_str());
    let mut seeds = recorded(Family::Netfilter, load, ask_netfilter);
    let way = |ips: [[u8; 4]; 2], ports: [u16; 2]| {
        let proto = attr::Attrs::new().u8(1, 6).be16(2, ports[0]).be16(3, ports[1]);
        attr::Attrs::new().nest(1, &attr::Attrs::new().bytes(1, &ips[0]).bytes(2, &ips[1])).nest(2, &proto)
    };
    let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let connection =
        attr::Attrs::new().nest(1, &way([a, b], [5, 80])).nest(2, &way([b, a], [80, 5])).be32(3, 32);
    seeds.push([&[0, 1, 2, 0, 0, 0][..], connection.as_bytes()].concat());
    try_all("netfilter-lists", &seeds, ask_netfilter);
}
