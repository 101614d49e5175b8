//! The whole resolver on an embedded store: in a namespace of its own, where 127.0.0.11:53 is free, so that a
//! query and its answer pass the kernel.

use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize},
};

use hickory_proto::{
    op::{Message, Query},
    rr::RecordType,
};
use weft_store::{Embedded, Options, Txn};

use super::*;
use crate::{
    Server,
    fixtures::{db, web, world},
};

/// Opens sockets wherever a test says, and can fail.
#[derive(Default)]
struct FakeSockets {
    opened: Mutex<HashMap<ContainerId, (SocketAddr, Option<SocketAddr>)>>,
    count: AtomicUsize,
    /// The namespace that every container has.
    namespace: AtomicU64,
    broken: AtomicBool,
}

impl SandboxSockets for FakeSockets {
    fn open(&self, container: ContainerId, at: SocketAddr, tcp: bool) -> io::Result<Sockets> {
        assert_eq!(at, RESOLVER);
        if self.broken.load(Relaxed) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.count.fetch_add(1, Relaxed);
        let udp = UdpSocket::bind("127.0.0.1:0")?;
        let tcp = if tcp { Some(TcpListener::bind("127.0.0.1:0")?) } else { None };
        let tcp_at = tcp.as_ref().map(|t| t.local_addr()).transpose()?;
        self.opened.lock().insert(container, (udp.local_addr()?, tcp_at));
        Ok(Sockets { udp, tcp, namespace: self.namespace.load(Relaxed) })
    }

    fn namespace(&self, _: ContainerId) -> io::Result<u64> {
        Ok(self.namespace.load(Relaxed))
    }

    fn outward(&self, _: ContainerId, v6: bool, tcp: bool) -> io::Result<std::os::fd::OwnedFd> {
        crate::outward_here(v6, tcp)
    }
}

struct Stage {
    stores: Stores,
    sockets: Arc<FakeSockets>,
    dns: Dns,
    tasks: Tasks,
    _dir: tempfile::TempDir,
}

async fn stage(config: UpstreamConfig) -> Stage {
    let dir = tempfile::tempdir().unwrap();
    let stores =
        Stores::single(Arc::new(Embedded::open(dir.path().join("store"), Options::default()).unwrap()));
    let (world, mut txn) = (world(), Txn::new(&stores));
    for network in &world.networks {
        txn = txn.create(&**network);
    }
    for port in &world.ports {
        txn = txn.create(&**port);
    }
    for container in &world.containers {
        txn = txn.create(&**container);
    }
    txn.commit().await.unwrap();
    let (sockets, tasks) = (Arc::new(FakeSockets::default()), Tasks::new());
    let dns = Dns::start(&stores, Arc::clone(&sockets) as Arc<dyn SandboxSockets>, config, &tasks);
    Stage { stores, sockets, dns, tasks, _dir: dir }
}

impl Stage {
    fn at(&self, container: ContainerId) -> (SocketAddr, Option<SocketAddr>) {
        self.sockets.opened.lock()[&container]
    }

    /// Waits until so many containers are served; a test that waits in vain is ended by its runner.
    async fn serves(&self, containers: u64) {
        while self.dns.stats().await.containers != containers {
            tokio::task::yield_now().await;
        }
    }
}

fn packet(name: &str) -> Vec<u8> {
    let mut message = Message::query();
    message.add_query(Query::query(name.parse().unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

async fn dig(at: SocketAddr, name: &str) -> String {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&packet(name), at).await.unwrap();
    let mut buffer = [0u8; 4096];
    let size = socket.recv(&mut buffer).await.unwrap();
    show(&buffer[..size])
}

async fn dig_tcp(at: SocketAddr, name: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
    let query = packet(name);
    stream.write_u16(query.len().try_into().unwrap()).await.unwrap();
    stream.write_all(&query).await.unwrap();
    let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut answer).await.unwrap();
    show(&answer)
}

fn show(bytes: &[u8]) -> String {
    let answer = Message::from_vec(bytes).unwrap();
    match answer.answers.first() {
        Some(record) => record.data.to_string(),
        None => format!("{:?}", answer.metadata.response_code),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_answered_over_both_transports_and_follow_the_store() {
    let s = stage(UpstreamConfig {
        servers: vec![Server::parse("127.0.0.1:9").unwrap()],
        ..UpstreamConfig::default()
    })
    .await;
    s.dns.attach(web()).await.unwrap();
    let (udp, tcp) = s.at(web());
    assert_eq!(dig(udp, "db.").await, "10.1.0.3");
    assert_eq!(dig_tcp(tcp.unwrap(), "DB.").await, "10.1.0.3");
    assert_eq!(dig(udp, "example.com.").await, "ServFail", "no upstream answers");

    let new = crate::fixtures::port(0x30, 0xa, 7, "eth0", &["10.1.0.7"], &["fresh"]);
    Txn::new(&s.stores).create(&*new).commit().await.unwrap();
    while dig(udp, "fresh.").await != "10.1.0.7" {}
    s.serves(4).await;
    let before = s.sockets.count.load(Relaxed);
    s.dns.attach(web()).await.unwrap();
    assert_eq!(s.sockets.count.load(Relaxed), before, "what is open stays open");

    Txn::new(&s.stores).delete::<Port>(&new.spec.id).commit().await.unwrap();
    s.serves(3).await;
    let stats = s.dns.stats().await;
    assert!(stats.forwarded >= 1 && stats.failed >= 1 && stats.silent >= 1);
    let asked: u64 = stats.kinds.iter().sum();
    assert_eq!(asked, stats.answered + stats.forwarded, "each question is counted once: {stats:?}");
    assert_eq!(stats.codes.iter().sum::<u64>(), asked, "and each answer: {stats:?}");
    s.tasks.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_with_new_ports_has_a_new_namespace() {
    let s = stage(UpstreamConfig::default()).await;
    s.dns.attach(web()).await.unwrap();
    let first = s.at(web()).0;
    let old = world().ports[0].spec.id;
    let new = crate::fixtures::port(0x31, 0xa, 1, "eth0", &["10.1.0.9"], &["web"]);
    Txn::new(&s.stores).delete::<Port>(&old).create(&*new).commit().await.unwrap();
    s.dns.attach(web()).await.unwrap();
    assert_ne!(s.at(web()).0, first);
    assert_eq!(dig(s.at(web()).0, "web.").await, "10.1.0.9");
    s.tasks.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_was_restarted_is_served_in_its_new_namespace() {
    let s = stage(UpstreamConfig::default()).await;
    s.dns.attach(web()).await.unwrap();
    let (first, others) = (s.at(web()).0, s.at(db()).0);
    s.sockets.namespace.store(7, Relaxed);
    // Its ports are the same, and at a change of the store nobody asks for namespaces.
    let new = crate::fixtures::port(0x33, 0xa, 9, "eth0", &["10.1.0.10"], &["beside"]);
    Txn::new(&s.stores).create(&*new).commit().await.unwrap();
    s.serves(4).await;
    assert_eq!(s.at(web()).0, first);
    s.dns.attach(web()).await.unwrap();
    assert_ne!(s.at(web()).0, first);
    assert_eq!(dig(s.at(web()).0, "db.").await, "10.1.0.3");
    // The old ones are closed, so that their namespace can end.
    while UdpSocket::bind(first).is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(s.at(db()).0, others, "only who starts is looked at");
    s.tasks.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_late_is_tried_again() {
    let s = stage(UpstreamConfig::default()).await;
    s.dns.attach(db()).await.unwrap();
    s.sockets.broken.store(true, Relaxed);
    let new = crate::fixtures::port(0x32, 0xa, 8, "eth0", &["10.1.0.8"], &["late"]);
    let PortOwner::Container(late) = new.spec.owner;
    Txn::new(&s.stores).create(&*new).commit().await.unwrap();
    let refused = s.dns.attach(late).await.unwrap_err();
    assert!(matches!(refused, DnsError::Listen { container, .. } if container == late));
    s.sockets.broken.store(false, Relaxed);
    s.serves(4).await;
    s.tasks.stop().await;
}

/// As in a container: a namespace with loopback only, the resolver bound there from outside, the client in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_namespace_is_served_from_outside() {
    struct Inside(Mutex<Option<Sockets>>);
    impl SandboxSockets for Inside {
        fn open(&self, container: ContainerId, _: SocketAddr, _: bool) -> io::Result<Sockets> {
            let mine = if container == web() { self.0.lock().take() } else { None };
            mine.ok_or_else(|| io::ErrorKind::NotFound.into())
        }
        fn namespace(&self, _: ContainerId) -> io::Result<u64> {
            Err(io::ErrorKind::NotFound.into())
        }
        fn outward(&self, _: ContainerId, v6: bool, tcp: bool) -> io::Result<std::os::fd::OwnedFd> {
            crate::outward_here(v6, tcp)
        }
    }
    let (ask, asked) = std::sync::mpsc::channel::<Vec<u8>>();
    let (tell, told) = std::sync::mpsc::channel();
    let (give, given) = std::sync::mpsc::channel();
    let client = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
        assert!(up.success());
        give.send(crate::open_here(RESOLVER, true).unwrap()).unwrap();
        // A name server of the container's own, as careful ones bind theirs, stands beside and is not asked.
        let own = crate::open_here("0.0.0.0:53".parse().unwrap(), true).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        for packet in asked {
            socket.send_to(&packet, RESOLVER).unwrap();
            let mut buffer = [0u8; 4096];
            let (size, from) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!(from, RESOLVER, "the answer comes from where it was asked");
            tell.send(buffer[..size].to_vec()).unwrap();
            assert_eq!(own.udp.recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
    });
    let s = stage(UpstreamConfig::default()).await;
    s.tasks.stop().await;
    let sockets = given.recv().unwrap();
    let tasks = Tasks::new();
    let inside = Arc::new(Inside(Mutex::new(Some(sockets))));
    let dns = Dns::start(&s.stores, inside, UpstreamConfig::default(), &tasks);
    dns.attach(web()).await.unwrap();
    for (name, wanted) in [("db.", "10.1.0.3"), ("web.app.", "10.1.0.2")] {
        ask.send(packet(name)).unwrap();
        let answer = tokio::task::block_in_place(|| told.recv().unwrap());
        assert_eq!(show(&answer), wanted, "{name}");
    }
    drop(ask);
    client.join().unwrap();
    tasks.stop().await;
}

#[path = "crowd_tests.rs"]
mod crowd;
