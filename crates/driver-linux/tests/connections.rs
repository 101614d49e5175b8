//! Connections through published ports: which of them end when a port goes, and which live on when the table is lost.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod common;

use std::{path::Path, time::Duration};

use common::{
    HOST4, HOST6, Host, LAN4,
    host_rules::{furnished, held, listed, nft},
    serve_tcp, serve_udp, spawn,
};
use weft_model::Protocol::{Tcp, Udp};

/// Asks the host's UDP port 53 by one socket, whose packets keep its connection entry alive.
fn asker(lan: &Path) -> impl Fn() -> bool + use<> {
    let (question, questions) = std::sync::mpsc::channel::<()>();
    let (answer, answers) = std::sync::mpsc::channel();
    spawn(lan, move || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
        for () in questions {
            let _ = socket.send_to(b"?", (HOST4, 53));
            answer.send(socket.recv_from(&mut [0; 64]).is_ok()).unwrap();
        }
    });
    move || {
        question.send(()).unwrap();
        answers.recv().unwrap()
    }
}

#[test]
fn udp_of_a_dead_container_is_forgotten_by_the_next_daemon() {
    let (mut host, _a) = furnished();
    let red = *host.desired.segments.keys().next().unwrap();
    let b = host.container(2, red, &["10.1.0.3/24"]);
    host.converge();
    serve_udp(&b, "0.0.0.0:53");
    let ask = asker(&host.lan);
    assert!(ask());
    // The daemon dies; the container goes; another daemon finds that.
    let driver = weft_driver_linux::LinuxDriver::new(host.dir.path().join("netns"), true).unwrap();
    host.converger = weft_dataplane::Converger::new(driver);
    host.desired.publishes.retain(|p| p.protocol == Tcp);
    host.desired.ports.remove(&weft_model::PortId::from_bytes([1; 32]));
    host.publish(Udp, "0.0.0.0", 53, "10.1.0.3", 53);
    host.converge();
    host.assert_settled();
    assert!(ask(), "its entry would lead to nobody");
}

#[test]
fn udp_that_went_past_a_lost_table_is_found_again() {
    let (mut host, _a) = furnished();
    let lan = host.lan.clone();
    let ask = asker(&lan);
    nft("flush ruleset");
    assert!(!ask(), "no table");
    assert!(!ask(), "no table");
    host.converger.forget();
    host.converge();
    assert!(ask(), "its entry of that time does not stay in the way");
    // And the other way round: the container goes while the table is away.
    nft("flush ruleset");
    host.desired.publishes.retain(|p| p.protocol == Tcp);
    host.converger.forget();
    host.converge();
    assert!(!ask(), "what was translated then is not any more");
}

/// Its first packet left with the container's own address, to which nobody can answer.
#[test]
fn who_went_out_while_the_table_was_away_gets_through() {
    let (mut host, a) = furnished();
    serve_tcp(&host.lan, "0.0.0.0:80");
    for damage in ["flush table inet weft", "delete table inet weft", "flush ruleset"] {
        nft(damage);
        let there = std::net::SocketAddr::new(LAN4.parse().unwrap(), 80);
        let client = spawn(&a, move || {
            std::net::TcpStream::connect_timeout(&there, Duration::from_secs(10))
                .map(drop)
                .map_err(|e| e.kind())
        });
        std::thread::sleep(Duration::from_millis(200));
        assert!(!client.is_finished(), "nobody answers yet");
        host.converger.forget();
        host.converge();
        assert_eq!(client.join().unwrap(), Ok(()), "{damage}");
    }
}

/// The kernel's own filter compares IPv6 addresses the wrong way round.
#[test]
fn an_ipv6_port_that_goes_ends_its_connections_and_no_others() {
    let mut host = Host::new();
    let red = host.segment(1, &["10.1.0.1/24", "fd01::1/64"]);
    let a = host.container(1, red, &["10.1.0.2/24", "fd01::2/64"]);
    let b = host.container(2, red, &["10.1.0.3/24", "fd01::3/64"]);
    host.publish(Tcp, "::", 9000, "fd01::2", 9000);
    host.publish(Tcp, HOST6, 9001, "fd01::3", 9001);
    host.converge();
    let lan = host.lan.clone();
    let (lost, kept) = (held(&a, &lan, HOST6, 9000), held(&b, &lan, HOST6, 9001));
    host.desired.publishes.retain(|p| p.target_port == 9001);
    host.converge();
    host.assert_settled();
    assert!(lost.ended());
    assert!(!kept.ended());
}

#[test]
fn connections_live_through_the_loss_of_all_tables() {
    let (mut host, a) = furnished();
    host.publish(Tcp, "0.0.0.0", 9000, "10.1.0.2", 9000);
    host.publish(Tcp, "::", 9001, "fd01::2", 9001);
    host.converge();
    let lan = host.lan.clone();
    let connections = [held(&a, &lan, HOST6, 9001), held(&a, &lan, HOST4, 9000)];
    for damage in ["flush ruleset", "delete table inet weft"] {
        nft(damage);
        // Several packets of each come while there is no rule of ours.
        std::thread::sleep(Duration::from_millis(200));
        host.converger.forget();
        host.converge();
        host.assert_settled();
    }
    for connection in connections {
        assert!(!connection.ended());
    }
    host.desired = weft_dataplane::Desired { generation: host.desired.generation, ..Default::default() };
    host.converge();
    assert_eq!(listed(&["list", "tables"]), "", "what kept them goes with the last of ours");
}

/// The table that an earlier daemon laid stays; what keeps connections over its loss went with that daemon.
#[test]
fn the_next_daemon_keeps_them_too() {
    let (mut host, _a) = furnished();
    assert!(listed(&["list", "tables"]).contains("weft-keep"));
    let none = weft_driver_linux::LinuxDriver::new(host.dir.path().join("other"), true).unwrap();
    host.converger = weft_dataplane::Converger::new(none);
    assert!(!listed(&["list", "tables"]).contains("weft-keep"), "it ends with its daemon");
    let driver = weft_driver_linux::LinuxDriver::new(host.dir.path().join("netns"), true).unwrap();
    host.converger = weft_dataplane::Converger::new(driver);
    let outcome = host.converge();
    assert_eq!(outcome.done, [], "all is as the last one left it");
    assert!(listed(&["list", "tables"]).contains("weft-keep"));
}
