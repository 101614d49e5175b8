//! A container that is started again has a namespace of its own for it: nothing stays of what was changed inside, all that
//! was given to it is there again, and who shared the old namespace keeps that.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod common;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use common::{HOST4, Host, LAN4, connect, connect_from, serve_tcp};
use weft_dataplane::{Converger, Driver, Origin, Parent, PortLimit, Segment, Step, Uplink, link_name};
use weft_driver_linux::LinuxDriver;
use weft_model::{Branch, ContainerId, MacAddr, MacvlanMode, NetworkId, PortId, Protocol};

/// Runs some `ip` commands in a namespace; what the last one said.
fn ip(path: &Path, commands: &'static [&'static str]) -> String {
    common::spawn(path, move || {
        let mut said = String::new();
        for args in commands {
            let output = Command::new("ip").args(args.split(' ')).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "ip {args}: {error}");
            said = String::from_utf8(output.stdout).unwrap();
        }
        said
    })
    .join()
    .unwrap()
}

/// A process that lives on in the namespace as it is now: commands run there, whatever name it has.
struct Sharer(std::process::Child);

impl Sharer {
    fn of(path: &Path) -> Self {
        let child = common::spawn(path, || Command::new("sleep").arg("1000").spawn().unwrap());
        Self(child.join().unwrap())
    }

    fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.0.id()).into()
    }
}

impl Drop for Sharer {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// One container that is published and limited; its first run.
fn furnished() -> (Host, PathBuf) {
    let mut host = Host::new();
    let red = host.segment(1, &["10.1.0.1/24", "fd01::1/64"]);
    let path = host.container(1, red, &["10.1.0.2/24", "fd01::2/64"]);
    host.publish(Protocol::Tcp, "0.0.0.0", 8080, "10.1.0.2", 80);
    let limit = PortLimit { ingress: Some(1_000_000), ..PortLimit::default() };
    host.desired.limits.ports.insert("wfp010101010101".into(), limit);
    run(&mut host, 0);
    (host, path)
}

fn run(host: &mut Host, run: u64) {
    host.desired.sandboxes.values_mut().for_each(|s| s.run = Some(run));
}

fn next_daemon(host: &mut Host) {
    let driver = LinuxDriver::new(host.dir.path().join("netns"), true).unwrap();
    host.converger = Converger::new(driver);
    host.desired.generation = 0;
}

fn names(host: &Host) -> usize {
    std::fs::read_dir(host.dir.path().join("netns")).unwrap().count()
}

#[test]
fn another_run_finds_nothing_of_the_last_one() {
    let (mut host, path) = furnished();
    host.converge();
    serve_tcp(&path, "0.0.0.0:80");
    assert!(connect_from(&host.lan, &format!("{HOST4}:8080")).is_ok());
    let before = ip(&path, &["-br addr", "-o addr show eth0"]);
    ip(
        &path,
        &[
            "addr add 10.99.0.1/24 dev eth0",
            "route add 10.88.0.0/24 dev eth0",
            "link add br7 type bridge",
            "link set eth0 down",
            "link set eth0 name net9",
        ],
    );
    let sharer = Sharer::of(&path);

    run(&mut host, 1);
    let steps: Vec<String> = host.converge().done.iter().map(ToString::to_string).collect();
    let id = ContainerId::from_bytes([1; 32]).short();
    let wanted = [
        "delete port wfp010101010101".to_owned(),
        format!("delete sandbox {id}"),
        format!("create sandbox {id}"),
        "create port wfp010101010101 on wfb010101010101".to_owned(),
        "limit port wfp010101010101".to_owned(),
    ];
    assert_eq!(steps, wanted);
    host.assert_settled();
    let without_index = |text: &str| -> Vec<String> {
        text.lines().map(|l| l.split_once(' ').unwrap().1.replace("tentative", "")).collect()
    };
    let after = ip(&path, &["-o addr show eth0"]);
    assert_eq!(without_index(&after), without_index(&before));
    let link = ip(&path, &["link"]);
    assert!(link.contains("02:42:01:00:00:01") && !link.contains("br7") && !link.contains("net9"), "{link}");
    assert!(!ip(&path, &["route"]).contains("10.88"));
    serve_tcp(&path, "0.0.0.0:80");
    assert!(connect("10.1.0.2:80").is_ok());
    assert!(connect_from(&host.lan, &format!("{HOST4}:8080")).is_ok(), "published as before");
    let shared = ip(&sharer.path(), &["-br link"]);
    assert!(
        shared.contains("br7") && !shared.contains("net9"),
        "who shares the old one has it without ports: {shared}"
    );

    // Nobody asks for another run: what is there stays, whoever looks.
    for wanted in [Some(1), None] {
        host.desired.sandboxes.values_mut().for_each(|s| s.run = wanted);
        next_daemon(&mut host);
        assert!(host.converge().done.is_empty());
    }
    host.desired = weft_dataplane::Desired { generation: host.desired.generation, ..Default::default() };
    host.converge();
    host.driver().settle();
    host.assert_settled();
    assert_eq!(names(&host), 0);
}

#[test]
fn a_daemon_that_dies_on_the_way_leaves_what_the_next_one_finishes() {
    let (mut first, _) = furnished();
    first.converge();
    run(&mut first, 3);
    let total = first.driver().plan(&first.desired, &first.driver().observe().unwrap()).len();
    assert_eq!(total, 5);
    for cut in 0..=total {
        // Each round is a host of its own, on a thread of its own.
        let round = move || {
            let (mut host, path) = furnished();
            host.converge();
            ip(&path, &["route add 10.88.0.0/24 dev eth0"]);
            run(&mut host, 3);
            for step in host.driver().plan(&host.desired, &host.driver().observe().unwrap()).iter().take(cut)
            {
                host.driver().apply(step).unwrap();
                host.driver().apply(step).unwrap_or_else(|e| panic!("{step} twice: {e:?}"));
            }
            next_daemon(&mut host);
            let steps = host.converge().done;
            let made = steps.iter().any(|s| matches!(s, Step::CreateSandbox { .. }));
            assert_eq!(made, cut < 3, "{cut}: {steps:?}");
            host.assert_settled();
            assert!(!ip(&path, &["route"]).contains("10.88"), "{cut}");
            assert_eq!(names(&host), 2, "the namespace, and its note");
        };
        std::thread::spawn(round).join().unwrap();
    }
}

#[test]
fn a_note_without_a_namespace_is_removed() {
    let (mut host, _) = furnished();
    host.converge();
    let stray = host.dir.path().join("netns").join(format!("{}.run", ContainerId::from_bytes([9; 32])));
    std::fs::write(&stray, "4\n").unwrap();
    next_daemon(&mut host);
    host.converge();
    assert!(!stray.exists());
    host.assert_settled();
}

#[test]
fn an_interface_on_the_lan_comes_anew_though_its_container_renamed_it() {
    let mut host = Host::new();
    let id = NetworkId::from_bytes([1; 32]);
    let parent = Parent { link: "eth0".to_owned(), branch: Branch::Macvlan(MacvlanMode::Bridge) };
    let uplink = Uplink {
        parent: parent.clone(),
        origin: Origin::Foreign,
        shim: Default::default(),
        reached: Default::default(),
    };
    let segment = Segment {
        link: link_name('h', &id),
        mac: MacAddr([2, 0x42, 0, 0, 0, 1]),
        addresses: Default::default(),
        mtu: 0,
        internal: false,
        inter_container: true,
        masquerade: false,
        source: Default::default(),
        borrowed: false,
        further: Default::default(),
        gateways: Default::default(),
        trusted: Default::default(),
        open: Default::default(),
        uplink: Some(uplink),
    };
    host.desired.segments.insert(id, segment);
    let path = host.container(1, id, &["192.0.2.51/24"]);
    host.desired.ports.get_mut(&PortId::from_bytes([1; 32])).unwrap().parent = Some(parent);
    run(&mut host, 0);
    host.converge();
    // The old namespace lives on, and with it whatever is not taken out of it: two of one MAC address cannot be.
    let sharer = Sharer::of(&path);
    ip(&path, &["link set eth0 down", "link set eth0 name lan7", "link set lan7 up"]);
    run(&mut host, 1);
    host.converge();
    host.assert_settled();
    assert!(!ip(&sharer.path(), &["link"]).contains("lan7"));
    let outside = host.lan.clone();
    serve_tcp(&outside, "0.0.0.0:80");
    assert_eq!(connect_from(&path, &format!("{LAN4}:80")), Ok(common::ip("192.0.2.51")));
}
