//! Published ports on the host's own `::1`.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod common;

use std::{
    io::ErrorKind,
    net::{TcpListener, UdpSocket},
    path::PathBuf,
    time::Duration,
};

use common::{
    HOST6, Host, LAN6, connect, connect_from,
    host_rules::{feed, held, listed, nft},
    ip, serve_tcp, serve_udp,
};
use weft_dataplane::{Driver, Step};
use weft_model::Protocol::{Tcp, Udp};

/// Whom the container sees.
const SOURCE: &str = "fdcb:e83e:b6cc::1";

struct World {
    host: Host,
    a: PathBuf,
    b: PathBuf,
}

/// Two containers, the first serves. `None` where this kernel cannot.
fn world(filtered: bool) -> Option<World> {
    let mut host = Host::new();
    if host.bridged_packets_are_filtered(filtered) != filtered && filtered {
        return None;
    }
    let red = host.segment(1, &["10.1.0.1/24", "fd01::1/64"]);
    let a = host.container(1, red, &["10.1.0.2/24", "fd01::2/64"]);
    let b = host.container(2, red, &["10.1.0.3/24", "fd01::3/64"]);
    for protocol in [Tcp, Udp] {
        host.publish(protocol, "::", 8080, "fd01::2", 80);
        host.publish(protocol, "::1", 8081, "fd01::2", 80);
        host.publish(protocol, "::1", 8082, "fd01::2", 82);
        host.publish_row(protocol, "::", 9000, 9009, "fd01::2");
    }
    if !host.driver().observe().unwrap().can_loop {
        let lacking = host.driver().unsupported(&host.desired);
        assert_eq!(lacking[0].feature, "publishing 8081 on ::1");
        return None;
    }
    host.converge();
    host.assert_settled();
    // Once its address is its own (DAD).
    let bound = || TcpListener::bind("[fd01::2]:79").is_ok();
    assert!(host.inside(&a, move || patient(bound)));
    for port in [80, 9003] {
        serve_tcp(&a, &format!("[::]:{port}"));
        serve_udp(&a, &format!("[fd01::2]:{port}"));
    }
    // The bridge asks for its neighbours by its link-local address, which has to be its own first.
    assert!(patient(|| connect("[::1]:8080").is_ok()));
    Some(World { host, a, b })
}

fn patient(done: impl Fn() -> bool) -> bool {
    (0..50).any(|_| {
        let good = done();
        if !good {
            std::thread::sleep(Duration::from_millis(100));
        }
        good
    })
}

fn answers() {
    for port in [8080, 8081, 9003] {
        assert_eq!(connect(&format!("[::1]:{port}")), Ok(ip(SOURCE)), "{port}");
    }
}

#[test]
fn the_host_reaches_published_ports_by_its_own_loopback() {
    for filtered in [false, true] {
        let Some(w) = world(filtered) else { return };
        answers();
        let refused = Err(ErrorKind::ConnectionRefused);
        assert_eq!(connect("[::1]:8082"), refused, "the container's own refusal");
        assert_eq!(connect("[::1]:9004"), refused, "the container's own refusal");
        assert_eq!(connect("[::1]:8083"), refused, "published nowhere");
        let lan = w.host.lan.clone();
        assert_eq!(connect_from(&lan, &format!("[{HOST6}]:8080")), Ok(ip(LAN6)));
        assert!(connect_from(&lan, &format!("[{HOST6}]:8081")).is_err(), "bound to loopback");
        assert!(connect_from(&w.b, "[fd01::1]:8081").is_err(), "bound to loopback");
        assert_eq!(connect("[fd01::1]:8080"), Ok(ip("fd01::1")));
        // What is the host's own stays so.
        let own = TcpListener::bind("[::1]:8084").unwrap();
        assert!(std::net::TcpStream::connect("[::1]:8084").is_ok());
        drop(own);
    }
}

#[test]
fn datagrams_of_any_size_go_both_ways() {
    for filtered in [false, true] {
        let Some(w) = world(filtered) else { return };
        for port in [8080, 8081, 9003] {
            let socket = UdpSocket::bind("[::1]:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
            socket.connect(("::1", port)).unwrap();
            socket.send(b"?").unwrap();
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], SOURCE.as_bytes(), "{port}");
        }
        // Longer than the container's MTU, in pieces.
        w.host.inside(&w.a, || {
            let echo = UdpSocket::bind("[fd01::2]:82").unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 9000];
                while let Ok((length, peer)) = echo.recv_from(&mut buffer) {
                    let _ = echo.send_to(&buffer[..length], peer);
                }
            });
        });
        let socket = UdpSocket::bind("[::1]:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        socket.connect("[::1]:8082").unwrap();
        socket.send(&[7; 5000]).unwrap();
        let mut buffer = [0; 9000];
        assert_eq!(socket.recv(&mut buffer).unwrap(), 5000);
        assert!(buffer[..5000].iter().all(|byte| *byte == 7));
    }
}

#[test]
fn containers_win_nothing_by_it() {
    for filtered in [false, true] {
        let Some(w) = world(filtered) else { return };
        let listener = TcpListener::bind("[::]:8086").unwrap();
        std::thread::spawn(move || listener.incoming().for_each(drop));
        assert!(std::net::TcpStream::connect("[::1]:8086").is_ok(), "the host's own service");
        // With a way on for what is sent to nobody.
        feed("ip", &["-6", "route", "add", "default", "via", LAN6], "");
        for container in [&w.a, &w.b] {
            assert!(connect_from(container, &format!("[{SOURCE}]:8086")).is_err());
            assert!(connect_from(container, &format!("[{SOURCE}]:8080")).is_err());
        }
        let dropped = listed(&["list", "chain", "inet", "weft", "forward"]);
        let line = dropped.lines().find(|l| l.contains("to nobody who asked by ::1")).unwrap();
        assert!(!line.contains("packets 0 "), "{line}");
    }
}

#[test]
fn what_others_remove_comes_back_and_nothing_is_left() {
    let Some(mut w) = world(true) else { return };
    let chain = w.host.desired.ports.values().next().unwrap().link.clone();
    for damage in [
        "delete table netdev weft".to_owned(),
        "flush ruleset".to_owned(),
        format!("flush chain netdev weft {chain}"),
        format!("insert rule netdev weft {chain} accept"),
        "add chain netdev weft stranger".to_owned(),
    ] {
        nft(&damage);
        w.host.converger.forget();
        w.host.converge();
        w.host.assert_settled();
        answers();
    }
    // A port that is made anew.
    let chains = |w: &World| w.host.driver().observe().unwrap().loopbacks;
    assert_eq!(chains(&w).into_iter().collect::<Vec<_>>(), [(chain, "fd01::2".parse().unwrap())]);
    w.host.desired.ports.values_mut().next().unwrap().mac.0[5] = 0x99;
    w.host.converge();
    w.host.driver().settle();
    w.host.assert_settled();
    assert!(patient(|| connect("[::1]:8080") == Ok(ip(SOURCE))), "on the new port");
    w.host.desired.publishes.clear();
    let done = w.host.converge().done;
    assert!(done.iter().any(|step| matches!(step, Step::ChangeLoopbacks { .. })), "{done:?}");
    assert!(!listed(&["list", "tables"]).contains("netdev"), "without a port no table");
    w.host.assert_settled();
}

#[test]
fn connections_live_through_a_flush_of_everything() {
    let Some(mut w) = world(true) else { return };
    let here = w.host.dir.path().join("here");
    std::fs::write(&here, "").unwrap();
    nix::mount::mount(
        Some("/proc/thread-self/ns/net"),
        &here,
        None::<&str>,
        nix::mount::MsFlags::MS_BIND,
        None::<&str>,
    )
    .unwrap();
    let kept = held(&w.a, &here, "::1", 9005);
    nft("flush ruleset");
    std::thread::sleep(Duration::from_millis(100));
    w.host.converger.forget();
    w.host.converge();
    assert!(!kept.ended());
}
