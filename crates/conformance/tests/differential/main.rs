//! The same sequence of `docker` commands on dockerd and on Weft, at the same time, each in a sandbox of its own; then what
//! every container sees is compared: addresses, routes, `/etc/hosts`, `/etc/resolv.conf`, host name, lookups, and who
//! reaches whom, by address, by name and through published ports.
//!
//! What differs by nature is made alike first ([`normal`]): ids, Ethernet addresses, numbers of interfaces, the sandbox's
//! own addresses. What differs on purpose is listed in [`KNOWN`], with its reason, and must differ just so.
//! A difference that a second look does not find again was the machine's, not the subject's.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests say what they expect")]

mod host;
mod normal;
mod scenario;

use std::collections::BTreeMap;
use std::sync::mpsc;

use weft_testkit::Subject;

use host::Host;

/// What was seen: by whom and of what, and its text.
type Seen = BTreeMap<String, String>;

/// A difference that is meant.
struct Known {
    /// What was looked at.
    what: &'static [&'static str],
    dockerd: &'static str,
    weft: &'static str,
    why: &'static str,
}

/// Against dockerd 20.10.
const KNOWN: &[Known] = &[
    Known {
        what: &["i1: routes"],
        dockerd: "default via 10.81.3.1 dev eth0\n10.81.3.0/24 dev eth0 scope link src 10.81.3.2",
        weft: "10.81.3.0/24 dev eth0 scope link src 10.81.3.2",
        why: INTERNAL,
    },
    Known {
        what: &["i2: routes"],
        dockerd: "default via 10.81.3.1 dev eth0\n10.81.3.0/24 dev eth0 scope link src 10.81.3.3",
        weft: "10.81.3.0/24 dev eth0 scope link src 10.81.3.3",
        why: INTERNAL,
    },
    Known {
        what: &["m2: routes"],
        dockerd: "default via 10.81.3.1 dev eth1\n10.81.3.0/24 dev eth1 scope link src 10.81.3.4",
        weft: "10.81.3.0/24 dev eth1 scope link src 10.81.3.4",
        why: INTERNAL,
    },
    Known {
        what: &[
            "i1 reaches 10.81.1.1:8099",
            "i1 reaches 10.81.4.1:8099",
            "i1 reaches 172.17.0.1:8099",
            "i1 reaches HOST:8099",
            "i2 reaches 10.81.1.1:8099",
            "i2 reaches 10.81.4.1:8099",
            "i2 reaches 172.17.0.1:8099",
            "i2 reaches HOST:8099",
            "m2 reaches 10.81.1.1:8099",
            "m2 reaches 10.81.4.1:8099",
            "m2 reaches 172.17.0.1:8099",
            "m2 reaches HOST:8099",
        ],
        dockerd: "h1",
        weft: "no",
        why: INTERNAL,
    },
    Known {
        what: &["m2: hosts"],
        dockerd: HOSTS,
        weft: "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\nfe00::0 ip6-localnet\n\
               ff00::0 ip6-mcastprefix\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n10.81.3.4 ID",
        why: "dockerd takes out all lines of the host name when one network is left, those of the others among them",
    },
    Known {
        what: &["m1 looks up m1"],
        dockerd: "Address: 10.81.2.3; Address: fd81:2::3; Name: m1; Non-authoritative answer:",
        weft: "Address: 10.81.1.4; Name: m1; Non-authoritative answer:",
        why: "a container's own name is that of its first network; dockerd's of the one that is its way out",
    },
    Known {
        what: &["p1 reaches 10.81.1.1:18081", "p1 reaches 172.17.0.1:18081", "p1 reaches HOST:18081"],
        dockerd: "no",
        weft: "f1",
        why: "dockerd drops what comes from a network without masquerading to a port published by another; from all \
              other networks it is let through",
    },
];

const INTERNAL: &str = "an internal network of Weft has no default route: nothing of it can leave";
const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\nfe00::0 ip6-localnet\n\
                     ff00::0 ip6-mcastprefix\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters";

/// Looks that may still find what a busy machine made different.
const LOOKS: usize = 3;

#[test]
fn containers_see_the_same_on_both() {
    if !host::has("dockerd") || !host::has("docker") {
        eprintln!("left out: this machine has no dockerd to compare with");
        return;
    }
    let both = [Subject::Dockerd, Subject::Weft].map(Player::start);
    let mut left = Vec::new();
    for _ in 0..LOOKS {
        for player in &both {
            player.go.send(()).unwrap();
        }
        let seen =
            both.each_ref().map(|player| player.seen.recv().expect("that host's part failed, see above"));
        assert!(seen[0].len() > 100, "only {} things were looked at", seen[0].len());
        left = differences(&seen);
        if left.is_empty() {
            break;
        }
    }
    // With the hosts everything of them goes.
    for Player { go, seen, thread } in both {
        drop((go, seen));
        thread.join().unwrap();
    }
    assert!(left.is_empty(), "{} differences:\n{}", left.len(), left.join("\n"));
}

/// A host on a thread of its own, which lives as long as its sandbox. It looks when it is told to, and ends when
/// nobody can tell it any more.
struct Player {
    go: mpsc::Sender<()>,
    seen: mpsc::Receiver<Seen>,
    thread: std::thread::JoinHandle<()>,
}

impl Player {
    fn start(subject: Subject) -> Self {
        let (go, told) = mpsc::channel();
        let (tell, seen) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let host = Host::new(subject);
            scenario::play(&host);
            while told.recv().is_ok() && tell.send(scenario::look(&host)).is_ok() {}
        });
        Self { go, seen, thread }
    }
}

/// What differs and is not known, and what is known and does not differ.
fn differences(both: &[Seen; 2]) -> Vec<String> {
    let mut left = Vec::new();
    let all: std::collections::BTreeSet<&String> = both.iter().flat_map(BTreeMap::keys).collect();
    for what in all {
        let [dockerd, weft] = both.each_ref().map(|seen| seen.get(what).map_or("(not seen)", String::as_str));
        match KNOWN.iter().find(|known| known.what.contains(&what.as_str())) {
            Some(known) if (known.dockerd, known.weft) == (dockerd, weft) => {}
            Some(known) => left.push(format!(
                "{what}: known to differ ({}), but is now\n  dockerd: {dockerd}\n  weft:    {weft}",
                known.why
            )),
            None if dockerd == weft => {}
            None => left.push(format!("{what}:\n  dockerd: {dockerd}\n  weft:    {weft}")),
        }
    }
    left
}
