//! What others do to our bridges and ports is seen, heard and mended, and what is theirs stays theirs.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod common;

use std::{
    process::Command,
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

use common::{Host, connect, serve_tcp};
use weft_dataplane::{Driver, Step};
use weft_model::NetworkId;

const BRIDGE: &str = "wfb010101010101";
const PORT: &str = "wfp010101010101";
/// Nothing more is heard once it was quiet for so long.
const QUIET: Duration = Duration::from_millis(300);

fn run(program: &str, args: &str) -> String {
    let output = Command::new(program).args(args.split(' ')).output().unwrap();
    assert!(output.status.success(), "{program} {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn ip(args: &str) {
    run("ip", args);
}

/// An ear on the machine, with a fresh measure of who fights.
fn listen(host: &Host) -> Receiver<Instant> {
    let (tell, heard) = mpsc::channel();
    host.driver().watch(Box::new(move || tell.send(Instant::now()).unwrap_or_default())).unwrap();
    heard
}

/// One segment, two containers; the first serves. With an ear on the machine.
fn furnished() -> (Host, Receiver<Instant>) {
    let mut host = Host::new();
    let red = host.segment(1, &["10.1.0.1/24", "fd01::1/64"]);
    let one = host.container(1, red, &["10.1.0.2/24", "fd01::2/64"]);
    host.container(2, red, &["10.1.0.3/24", "fd01::3/64"]);
    let heard = listen(&host);
    host.converge();
    serve_tcp(&one, "0.0.0.0:80");
    serve_tcp(&one, "[::]:81");
    assert_eq!(heard.recv_timeout(QUIET), Err(mpsc::RecvTimeoutError::Timeout), "our own doing");
    (host, heard)
}

/// What a daemon does who hears something: looks, until nothing more is heard. How often it did.
fn mend(host: &mut Host, heard: &Receiver<Instant>, what: &str) -> (Vec<Step>, usize) {
    let (mut passes, mut done) = (0, Vec::new());
    let mut wait = Duration::from_secs(1);
    while heard.recv_timeout(wait).is_ok() {
        host.converger.forget();
        done.extend(host.converge().done);
        passes += 1;
        wait = QUIET;
        assert!(passes < 10, "{what}: no end of it: {done:?}");
    }
    (done, passes)
}

fn reaches() {
    for address in ["10.1.0.2:80", "[fd01::2]:81"] {
        // IPv6 tries a new address on its link before it is used.
        let good = (0..30).any(|_| {
            let done = connect(address).is_ok();
            if !done {
                std::thread::sleep(Duration::from_millis(100));
            }
            done
        });
        assert!(good, "{address}: {}", run("ip", "addr"));
    }
}

#[test]
fn damage_to_links_is_heard_at_once_and_mended() {
    let (mut host, _) = furnished();
    reaches();
    let damages = [
        format!("addr del 10.1.0.1/24 dev {BRIDGE}"),
        format!("addr del fd01::1/64 dev {BRIDGE}"),
        format!("addr flush dev {BRIDGE}"),
        format!("-6 addr flush dev {BRIDGE} scope link"),
        format!("route del 10.1.0.0/24 dev {BRIDGE}"),
        format!("-6 route del fd01::/64 dev {BRIDGE}"),
        format!("link set {BRIDGE} mtu 1400"),
        format!("link set {BRIDGE} address 02:42:00:00:00:77"),
        format!("link set {BRIDGE} down"),
        format!("link set {PORT} nomaster"),
        format!("link set {PORT} down"),
        format!("link set {PORT} mtu 1300"),
        format!("link set {PORT} type bridge_slave isolated on"),
        format!("link set {PORT} type bridge_slave hairpin on"),
        format!("link del {BRIDGE}"),
        format!("link set {BRIDGE} name other0"),
    ];
    for damage in &damages {
        let heard = listen(&host);
        // A bridge cannot be renamed while it is up, on older kernels.
        if damage.contains(" name ") {
            ip(&format!("link set {BRIDGE} down"));
        }
        ip(damage);
        let (done, passes) = mend(&mut host, &heard, damage);
        // Three times at most, each with its second look.
        assert!((1..=6).contains(&passes), "{damage}: heard {passes} times");
        host.assert_settled();
        reaches();
        let inside = |s: &Step| matches!(s, Step::ConfigurePort { .. } | Step::CreatePort { .. });
        assert_ne!(done, [], "{damage}: mended");
        assert!(!done.iter().any(inside), "{damage}: no sandbox is entered: {done:?}");
    }
}

#[test]
fn it_takes_a_fraction_of_a_second() {
    let (mut host, heard) = furnished();
    for _ in 0..5 {
        let begun = Instant::now();
        ip(&format!("addr del 10.1.0.1/24 dev {BRIDGE}"));
        heard.recv_timeout(Duration::from_secs(1)).unwrap();
        host.converger.forget();
        host.converge();
        assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
        host.assert_settled();
        mend(&mut host, &heard, "again");
    }
}

#[test]
fn a_hundred_changes_are_few_passes_and_other_peoples_none() {
    let (mut host, heard) = furnished();
    for nth in 0..100 {
        ip(&format!("link set {BRIDGE} mtu {}", 1300 + nth));
    }
    // They took a while: a pass in each pause, at most.
    let mut passes = 0;
    while heard.recv_timeout(QUIET).is_ok() {
        passes += 1;
    }
    assert!((1..=25).contains(&passes), "{passes}");
    host.converger.forget();
    host.converge();
    host.assert_settled();
    assert_eq!(mend(&mut host, &heard, "after").1, 0, "our own doing");
    for nth in 0..20 {
        ip(&format!("link add strange{nth} type veth peer name peer{nth}"));
        ip(&format!("addr add 10.200.{nth}.1/24 dev strange{nth}"));
        ip(&format!("link set strange{nth} up"));
        ip(&format!("link del strange{nth}"));
    }
    // What is no damage: an address more, a port of others in our bridge.
    ip(&format!("addr add 10.9.0.1/24 dev {BRIDGE}"));
    ip("link add guest0 type veth peer name guest1");
    ip(&format!("link set guest0 master {BRIDGE}"));
    assert!(heard.recv_timeout(QUIET).is_err());
    host.assert_settled();
    // It stays through a repair, too.
    ip(&format!("addr del 10.1.0.1/24 dev {BRIDGE}"));
    mend(&mut host, &heard, "address");
    host.assert_settled();
    let shown = run("ip", &format!("addr show dev {BRIDGE}"));
    assert!(shown.contains("10.9.0.1/24") && shown.contains("10.1.0.1/24"), "{shown}");
}

#[test]
fn a_repair_that_does_not_help_is_not_tried_for_its_own_news() {
    let (mut host, heard) = furnished();
    // The kernel lets no bridge have what is wanted: its first octet says it is a group's.
    let id = NetworkId::from_bytes([1; 32]);
    host.desired.segments.get_mut(&id).unwrap().mac.0[0] = 3;
    host.desired.generation += 1;
    let outcome = host.converger.converge(&host.desired).unwrap();
    assert_eq!(outcome.failed.len(), 1, "{:?}", outcome.done);
    let mut passes = 0;
    while heard.recv_timeout(QUIET).is_ok() {
        passes += 1;
        host.converger.forget();
        host.desired.generation += 1;
        let _ = host.converger.converge(&host.desired).unwrap();
        assert!(passes < 5);
    }
}

#[test]
fn bridges_of_others_keep_what_their_owners_set() {
    let mut host = Host::new();
    ip("link add lan0 type bridge");
    ip("addr add 10.1.0.1/24 dev lan0");
    ip("link set lan0 up");
    let lan = host.segment(1, &["10.1.0.1/24"]);
    let segment = host.desired.segments.get_mut(&lan).unwrap();
    (segment.link, segment.borrowed) = ("lan0".into(), true);
    let one = host.container(1, lan, &["10.1.0.2/24"]);
    let (tell, heard) = mpsc::channel();
    host.driver().watch(Box::new(move || tell.send(Instant::now()).unwrap_or_default())).unwrap();
    host.converge();
    serve_tcp(&one, "0.0.0.0:80");
    let theirs = [
        "link set lan0 mtu 1400",
        "link set lan0 address 02:00:00:00:00:05",
        "addr add 10.5.0.1/24 dev lan0",
        "link set lan0 type bridge stp_state 1",
        "addr del 10.1.0.1/24 dev lan0",
        "link set lan0 down",
    ];
    for change in theirs {
        ip(change);
        let before = run("ip", "-d addr show dev lan0");
        mend(&mut host, &heard, change);
        host.converger.forget();
        let done = host.converge().done;
        let touches = |s: &Step| matches!(s, Step::PutSegment { .. } | Step::DeleteSegment { .. });
        assert!(!done.iter().any(touches), "{change}: {done:?}");
        // Without the kernel's own addresses, which change by themselves.
        let still = |text: &str| {
            let lines = text.lines().take(2).chain(text.lines().filter(|l| l.contains("scope global")));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(still(&before), still(&run("ip", "-d addr show dev lan0")), "{change}");
    }
    ip("link set lan0 type bridge stp_state 0");
    ip("link set lan0 up");
    ip("addr add 10.1.0.1/24 dev lan0");
    // But the port is ours.
    ip(&format!("link set {PORT} nomaster"));
    let (done, _) = mend(&mut host, &heard, "port");
    assert!(matches!(&done[..], [Step::AttachPort { .. }]), "{done:?}");
    host.assert_settled();
    assert!((0..50).any(|_| connect("10.1.0.2:80").is_ok()));
}

#[test]
fn bridges_of_others_keep_their_address_and_mtu() {
    let mut host = Host::new();
    // Nobody has set either: both follow the ports.
    ip("link add lan0 type bridge");
    ip("link add up0 type veth peer name up1");
    ip("link set up0 address ee:ff:ff:ff:ff:ff");
    ip("link set up0 mtu 9000 master lan0");
    ip("addr add 10.1.0.1/24 dev lan0");
    ip("link set lan0 up");
    let of = |link: &str, what: &str| {
        let shown = run("ip", &format!("-o link show dev {link}"));
        let mut words = shown.split_whitespace().skip_while(|word| *word != what);
        words.nth(1).unwrap_or_default().to_owned()
    };
    let seen = || (of("lan0", "link/ether"), of("lan0", "mtu"));
    let before = seen();
    assert_eq!(before, ("ee:ff:ff:ff:ff:ff".to_owned(), "9000".to_owned()));
    let lan = host.segment(1, &["10.1.0.1/24"]);
    let segment = host.desired.segments.get_mut(&lan).unwrap();
    (segment.link, segment.borrowed) = ("lan0".into(), true);
    for (n, mtu, given) in [(1, 0, "9000"), (2, 0, "9000"), (3, 1400, "1400")] {
        host.container(n, lan, &[&format!("10.1.0.{}/24", n + 1)]);
        let port = host.desired.ports.values_mut().next_back().unwrap();
        port.mtu = mtu;
        let link = port.link.clone();
        host.converge();
        assert_eq!(seen(), before, "{n}");
        let address = of(&link, "link/ether");
        assert_eq!((&address[..3], &of(&link, "mtu")[..]), ("fe:", given), "{n}");
        ip(&format!("link set {link} nomaster"));
        host.converger.forget();
        host.converge();
        assert_eq!(seen(), before, "{n}, put back");
    }
    host.assert_settled();
}

#[test]
fn who_hairpins_by_ipv6_does_so_after_a_flush() {
    let (mut host, heard) = furnished();
    host.publish(weft_model::Protocol::Tcp, "::", 8081, "fd01::2", 81);
    host.converge();
    reaches();
    let neighbour = host.driver().sandbox_path(weft_model::ContainerId::from_bytes([2; 32]));
    let hairpins = || common::connect_from(&neighbour, "[fd01::1]:8081").is_ok();
    assert!((0..5).any(|_| hairpins()), "before");
    ip(&format!("addr flush dev {BRIDGE}"));
    mend(&mut host, &heard, "flush");
    host.assert_settled();
    ip(&format!("-6 neigh flush dev {BRIDGE}"));
    assert!((0..5).any(|_| hairpins()), "after: {}", run("ip", "-6 addr"));
}

#[test]
fn kernel_parameters_are_mended() {
    let (mut host, _heard) = furnished();
    for (name, wrong) in [
        (format!("net.ipv4.conf.{BRIDGE}.route_localnet"), "0"),
        (format!("net.ipv6.conf.{BRIDGE}.accept_ra"), "1"),
        ("net.ipv4.ip_forward".to_owned(), "0"),
        ("net.ipv6.conf.all.forwarding".to_owned(), "0"),
    ] {
        let right = weft_sys::sysctl::read(&name).unwrap();
        assert_ne!(right, wrong, "{name}");
        weft_sys::sysctl::write(&name, wrong).unwrap();
        host.converger.forget();
        let done = host.converge().done;
        assert!(matches!(&done[..], [Step::PutSegment { .. }]), "{name}: {done:?}");
        assert_eq!(weft_sys::sysctl::read(&name).unwrap(), right, "{name}");
        host.assert_settled();
    }
    reaches();
}
