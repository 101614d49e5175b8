//! Routes, bridges, interfaces, and who is at the other end.

use super::*;

#[test]
fn without_rules_everything_passes() {
    world().check(Passes, "reaches container b");
    world().between(container(A), container(C)).check(Passes, "reaches container c");
    world().between(to_host(), container(A)).check(Passes, "reaches container a");
    world().between(outside(), container(A)).check(Passes, "reaches container a");
    let seen = world().between(container(A), outside()).explained();
    assert_eq!(seen.verdict, Unclear, "nobody translates: {seen:#?}");
    assert!(seen.reason.contains("knows the way back to 10.1.0.2"), "{}", seen.reason);
}

#[test]
fn what_a_bridge_does_not_pass() {
    let ports = |isolated: bool| {
        world().with(|w| {
            for link in w.host().links.iter_mut().filter(|l| l.name.starts_with("wfp-")) {
                link.port = Some(BridgePort { state: 3, isolated, hairpin: false });
            }
        })
    };
    ports(false).check(Passes, "");
    ports(true).check(Dropped, "isolated");
    ports(true).between(to_host(), container(A)).check(Passes, "");
    let link = |name: &'static str, change: fn(&mut Detail)| {
        world().with(|w| w.host().links.iter_mut().filter(|l| l.name == name).for_each(change))
    };
    link("red", |l| l.up = false).check(Dropped, "red is down");
    link("wfp-b", |l| l.up = false).check(Dropped, "wfp-b is down");
    link("wfp-a", |l| l.master = Some(6)).check(Dropped, "nobody on bridge blue has 10.1.0.3");
    link("wfp-b", |l| l.master = Some(6)).check(Dropped, "nobody on bridge red");
    link("wfp-b", |l| l.port = Some(BridgePort::default())).check(Dropped, "does not forward");
    let stranger = world().with(|w| {
        w.question.to = End::Host { address: Some("10.1.0.77".parse().unwrap()) };
    });
    stranger.check(Dropped, "nobody on bridge red has 10.1.0.77");
    let stranger = world().with(|w| {
        w.host().links.push(Detail { master: Some(3), ..link_of("eth9") });
        w.question.to = End::Host { address: Some("10.1.0.77".parse().unwrap()) };
    });
    stranger.check(Unclear, "may be behind port eth9");
}

fn link_of(name: &str) -> Detail {
    link(9, name, "")
}

#[test]
fn who_does_not_run_or_listen() {
    let stopped = |nth: u8| world().with(|w| drop(w.facts.spaces.insert(Place::Sandbox(id(nth)), None)));
    stopped(A).check(Dropped, "container a is not running");
    stopped(B).check(Dropped, "container b is not running");
    world().with(|w| w.question.port = Some(81)).check(Dropped, "nothing listens on tcp port 81");
    world().with(|w| w.question.transport = Transport::Udp).check(Dropped, "nothing listens on udp port 80");
    world().with(|w| w.question.transport = Transport::Icmp).check(Passes, "");
    let only = |address: &str| {
        world().with(|w| {
            let b = w.facts.spaces.get_mut(&Place::Sandbox(id(B))).unwrap().as_mut().unwrap();
            b.listeners = vec![Listener { protocol: 6, address: address.parse().unwrap(), port: 80 }];
        })
    };
    only("127.0.0.1").check(Dropped, "on 127.0.0.1 only");
    only("10.1.0.3").check(Passes, "");
    only("::").check(Passes, "");
}

#[test]
fn who_is_paused_is_said_so() {
    use weft_dataplane::insight::Idle;
    let paused = |nth: u8| {
        world().with(|w| {
            w.question.known.idle.insert(id(nth), Idle::Paused);
        })
    };
    paused(A).check(Dropped, "container a is paused");
    let seen = paused(B).explained();
    assert_eq!((seen.verdict, seen.remedy.as_str()), (Dropped, "docker unpause b"), "{seen:#?}");
    assert!(seen.reason.starts_with("container b is paused"), "{}", seen.reason);
    // The kernel answers for it.
    paused(B).with(|w| w.question.transport = Transport::Icmp).check(Passes, "");
    paused(C).check(Passes, "");
    // Its namespace may be there still, or already.
    let stopped = |nth: u8| {
        world().with(|w| {
            w.question.known.idle.insert(id(nth), Idle::Stopped);
        })
    };
    stopped(A).check(Dropped, "container a is not running");
    stopped(B).check(Dropped, "container b is not running");
}
