//! Forwarding against servers on loopback that misbehave in one way each.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UdpSocket,
};

use super::*;
use crate::SandboxSockets;

fn config(timeout: u64) -> UpstreamConfig {
    UpstreamConfig { timeout: Duration::from_millis(timeout), ..UpstreamConfig::default() }
}

/// A query for `x.` with the identifier 0xabcd.
const QUERY: [u8; 19] = [0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'x', 0, 0, 1, 0, 1];

/// A server that answers each packet by what `make` says of it.
async fn udp_server(make: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0u8; 512];
        while let Ok((size, from)) = socket.recv_from(&mut buffer).await {
            for answer in make(&buffer[..size]) {
                socket.send_to(&answer, from).await.unwrap();
            }
        }
    });
    at
}

fn answer(query: &[u8], code: u8) -> Vec<u8> {
    let mut out = query.to_vec();
    out[2] |= 0x80;
    out[3] = code;
    out
}

/// The host's servers.
fn host(servers: &[SocketAddr]) -> Whom {
    let servers = servers.iter().copied().map(Server::from).collect();
    Whom { servers, from: From::Host, options: Options::default() }
}

async fn ask(servers: &[SocketAddr], timeout: u64) -> Option<Vec<u8>> {
    Arc::new(Upstream::new(config(timeout))).ask(&QUERY, Transport::Udp, &host(servers), 512).await
}

fn order(upstream: &Upstream, whom: &Whom) -> Vec<String> {
    upstream.order(whom).0.iter().map(ToString::to_string).collect()
}

fn shown(servers: [SocketAddr; 2]) -> [String; 2] {
    servers.map(|server| server.to_string())
}

#[tokio::test]
async fn identifiers_are_ours_outside_and_the_clients_inside() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let at = udp_server(move |q| {
        log.lock().push(q[..2].to_vec());
        vec![answer(q, 0)]
    })
    .await;
    for _ in 0..8 {
        assert_eq!(ask(&[at], 2000).await.unwrap(), answer(&QUERY, 0));
    }
    let different: std::collections::HashSet<_> = seen.lock().iter().cloned().collect();
    assert!(different.len() > 1, "identifiers must not be predictable");
}

#[tokio::test]
async fn forged_answers_are_passed_over() {
    let at = udp_server(|q| {
        let mut wrong_id = answer(q, 0);
        wrong_id[0] ^= 0xff;
        let mut wrong_question = answer(q, 0);
        wrong_question[13] = b'y';
        vec![wrong_id, wrong_question, q.to_vec(), vec![1, 2, 3], answer(q, 3)]
    })
    .await;
    assert_eq!(ask(&[at], 2000).await.unwrap()[3], 3);
}

#[tokio::test]
async fn silent_refusing_and_failing_servers_are_followed_by_the_next() {
    let silent = udp_server(|_| Vec::new()).await;
    let failing = udp_server(|q| vec![answer(q, 2)]).await;
    let good = udp_server(|q| vec![answer(q, 0)]).await;
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let upstream = Arc::new(Upstream::new(config(200)));
    let go = async |servers: &[SocketAddr]| upstream.ask(&QUERY, Transport::Udp, &host(servers), 512).await;
    assert_eq!(go(&[silent, failing, good]).await.unwrap()[3], 0);
    assert_eq!(order(&upstream, &host(&[silent, good])), shown([good, silent]), "asked last from now on");
    let from = From::Container(Arc::new(Counting(AtomicU64::new(0))), ContainerId::from_bytes([7; 32]));
    let elsewhere = Whom { from, ..host(&[silent, good]) };
    assert_eq!(order(&upstream, &elsewhere), shown([silent, good]), "another way to it");
    assert_eq!(go(&[closed, good]).await.unwrap()[3], 0);
    assert_eq!(go(&[silent, failing]).await.unwrap()[3], 2, "its own failure is better than none");
    assert_eq!(go(&[silent]).await, None);
    assert_eq!(go(&[]).await, None);
    assert!(upstream.figures.silent.load(Relaxed) >= 2 && upstream.figures.latency.read().sum > 0.0);
}

/// The authority of one name is dead: its server is not, and goes on being asked first. What another says instead holds for
/// nobody but who asked.
#[tokio::test]
async fn a_server_that_is_silent_about_one_name_keeps_its_place() {
    let first =
        udp_server(|q| if q[12..].starts_with(&[1, b'x']) { Vec::new() } else { vec![answer(q, 5)] }).await;
    let count = Arc::new(AtomicU64::new(0));
    let asked = Arc::clone(&count);
    let second = udp_server(move |q| {
        asked.fetch_add(1, Relaxed);
        let mut answer = answer(q, 0);
        answer[7] = 1;
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
        vec![answer]
    })
    .await;
    let upstream = Arc::new(Upstream::new(config(300)));
    for n in 1..=2 {
        let got = upstream.ask(&QUERY, Transport::Udp, &host(&[first, second]), 512).await.unwrap();
        assert_eq!(order(&upstream, &host(&[first, second])), shown([first, second]));
        assert_eq!((count.load(Relaxed), got[7]), (n, 1), "not from the cache");
    }
}

/// A host that is there and has no server says so (ICMP: port unreachable).
#[tokio::test]
async fn a_refusal_is_heard_and_not_waited_for() {
    let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let good = udp_server(|q| vec![answer(q, 0)]).await;
    let asked = timeout(Duration::from_secs(10), ask(&[nobody, good], 60_000)).await;
    assert_eq!(asked.expect("long before the server's own time is over").unwrap(), answer(&QUERY, 0));
}

#[tokio::test]
async fn a_dead_first_server_costs_one_wait_and_comes_back_unasked() {
    let alive = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let switch = Arc::clone(&alive);
    let first = udp_server(move |q| if switch.load(Relaxed) { vec![answer(q, 0)] } else { Vec::new() }).await;
    let second = udp_server(|q| vec![answer(q, 0)]).await;
    let upstream = Arc::new(Upstream::new(config(300)));
    let go = async || {
        let begun = Instant::now();
        upstream.ask(&QUERY, Transport::Udp, &host(&[first, second]), 512).await.unwrap();
        begun.elapsed()
    };
    assert!(go().await >= Duration::from_millis(300));
    let later: Duration = futures_util::future::join_all((0..20).map(|_| go())).await.iter().sum();
    assert!(later < Duration::from_millis(300), "{later:?} for twenty queries after the first");
    // Its time to be tried comes; the query beside which that happens does not wait for it.
    alive.store(true, Relaxed);
    upstream.silent.lock()[0].tried = Instant::now().checked_sub(PROBE).unwrap();
    assert!(go().await < Duration::from_millis(300));
    while order(&upstream, &host(&[first, second])) != shown([first, second]) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn answers_are_asked_for_once_while_they_hold() {
    let count = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&count);
    let at = udp_server(move |q| {
        seen.fetch_add(1, Relaxed);
        let mut answer = answer(q, 0);
        answer[7] = 1;
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
        vec![answer]
    })
    .await;
    let upstream = Arc::new(Upstream::new(config(2000)));
    for n in 0..5 {
        let query = [&[n, n], &QUERY[2..]].concat();
        let got = upstream.ask(&query, Transport::Udp, &host(&[at]), 512).await.unwrap();
        assert_eq!((&got[..2], &got[got.len() - 4..]), (&[n, n][..], &[192, 0, 2, 1][..]));
    }
    assert_eq!((count.load(Relaxed), upstream.figures.cached.load(Relaxed)), (1, 4));
}

/// A socket of "the container" comes from wherever the trait says.
struct Counting(AtomicU64);

impl SandboxSockets for Counting {
    fn open(&self, _: ContainerId, _: SocketAddr, _: bool) -> io::Result<crate::Sockets> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn namespace(&self, _: ContainerId) -> io::Result<u64> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn outward(&self, container: ContainerId, v6: bool, tcp: bool) -> io::Result<std::os::fd::OwnedFd> {
        assert_eq!(container, ContainerId::from_bytes([7; 32]));
        self.0.fetch_add(1, Relaxed);
        crate::outward_here(v6, tcp)
    }
}

#[tokio::test]
async fn a_containers_own_servers_are_asked_from_its_namespace() {
    let sockets = Arc::new(Counting(AtomicU64::new(0)));
    let from = From::Container(sockets.clone(), ContainerId::from_bytes([7; 32]));
    let at = udp_server(|q| vec![answer(q, 0)]).await;
    let upstream = Arc::new(Upstream::new(config(2000)));
    let got =
        upstream.ask(&QUERY, Transport::Udp, &Whom { from: from.clone(), ..host(&[at]) }, 512).await.unwrap();
    assert_eq!(got, answer(&QUERY, 0));
    assert_eq!(sockets.0.load(Relaxed), 1);
    let tcp = tcp_server().await;
    let got = upstream.ask(&QUERY, Transport::Tcp, &Whom { from, ..host(&[tcp]) }, 512).await.unwrap();
    assert_eq!((got.len(), sockets.0.load(Relaxed)), (5000, 2));
}

/// Answers with 5000 bytes.
async fn tcp_server() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut query = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut query).await.unwrap();
            let mut long = answer(&query, 0);
            long.resize(5000, 0);
            stream.write_u16(5000).await.unwrap();
            stream.write_all(&long).await.unwrap();
        }
    });
    at
}

#[tokio::test]
async fn tcp_goes_over_tcp() {
    let at = tcp_server().await;
    let upstream = Arc::new(Upstream::new(config(2000)));
    let got = upstream.ask(&QUERY, Transport::Tcp, &host(&[at]), 512).await.unwrap();
    assert_eq!((got.len(), &got[..2]), (5000, &QUERY[..2]));
}

#[tokio::test]
async fn what_servers_say_beyond_the_limit_is_whole_until_it_is_cut() {
    let at = udp_server(|q| vec![[answer(q, 0), vec![7; 30_000]].concat()]).await;
    assert_eq!(ask(&[at], 2000).await.unwrap().len(), QUERY.len() + 30_000);
}

#[tokio::test]
async fn a_query_is_asked_with_the_askers_limit() {
    // Says the size that it was asked for.
    let at = udp_server(|q| vec![[answer(q, 0), q[22..24].to_vec()].concat()]).await;
    let mut query = QUERY.to_vec();
    query[11] = 1;
    query.extend([0, 0, 41, 0xff, 0xff, 0, 0, 0, 0, 0, 0]);
    let upstream = Arc::new(Upstream::new(config(2000)));
    let got = upstream.ask(&query, Transport::Udp, &host(&[at]), 4096).await.unwrap();
    assert_eq!(got[got.len() - 2..], 4096u16.to_be_bytes());
}

#[tokio::test]
async fn failures_without_a_question_get_the_clients() {
    let at = udp_server(|q| {
        let mut bare = answer(q, 5)[..12].to_vec();
        bare[4..12].fill(0);
        vec![bare]
    })
    .await;
    let got = ask(&[at], 2000).await.unwrap();
    assert_eq!((got[3] & 0x0f, &got[4..6], &got[12..]), (5, &[0, 1][..], &QUERY[12..]));
}

#[tokio::test]
async fn options_say_how_long_how_often_and_in_which_order() {
    let count = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&count);
    // Answers the third time only, and never whether it is there.
    let late = udp_server(move |q| match seen.fetch_add(u64::from(q.len() == QUERY.len()), Relaxed) {
        _ if q.len() != QUERY.len() => Vec::new(),
        0 | 1 => Vec::new(),
        _ => vec![answer(q, 0)],
    })
    .await;
    let go = async |servers: &[SocketAddr], words: &[&str]| {
        let upstream = Arc::new(Upstream::new(config(60_000)));
        let whom = Whom { options: Options::parse(words), ..host(servers) };
        upstream.ask(&QUERY, Transport::Udp, &whom, 512).await.is_some()
    };
    let begun = Instant::now();
    assert!(!go(&[late], &["timeout:1"]).await);
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_secs(1) && waited < Duration::from_secs(10), "{waited:?}");
    assert!(go(&[late], &["timeout:1", "attempts:2"]).await);

    let [first, second, third] =
        ["192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"].map(|at| at.parse().unwrap());
    let upstream = Upstream::new(config(1000));
    let turning = Whom { options: Options::parse(["rotate"]), ..host(&[first, second, third]) };
    let firsts: Vec<String> = (0..4).map(|_| order(&upstream, &turning).swap_remove(0)).collect();
    assert_eq!(firsts, [first, second, third, first].map(|at| at.to_string()));
}

/// In a namespace whose only link has a link-local address; another one has the same address.
#[test]
fn a_server_with_a_scope_is_asked_on_its_link() {
    let lab = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        for words in [
            "link set lo up",
            "link add one type veth peer name two",
            "link set one addrgenmode none up",
            "link set two addrgenmode none up",
            "addr add fe80::1/64 dev one nodad",
            "addr add fe80::2/64 dev two nodad",
        ] {
            let done = std::process::Command::new("ip").args(words.split(' ')).status().unwrap();
            assert!(done.success(), "{words}");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let socket = UdpSocket::bind("[::]:0").await.unwrap();
            let port = socket.local_addr().unwrap().port();
            let serving = async {
                let mut buffer = [0u8; 512];
                while let Ok((size, from)) = socket.recv_from(&mut buffer).await {
                    socket.send_to(&answer(&buffer[..size], 0), from).await.unwrap();
                }
            };
            let asking = async {
                let upstream = Arc::new(Upstream::new(config(5000)));
                let go = async |server: String| {
                    let whom = Whom { servers: vec![Server::parse(&server).unwrap()], ..host(&[]) };
                    upstream.ask(&QUERY, Transport::Udp, &whom, 512).await
                };
                assert_eq!(go(format!("[fe80::1%one]:{port}")).await.unwrap(), answer(&QUERY, 0));
                assert_eq!(go(format!("[fe80::1%nosuch]:{port}")).await, None, "and at once");
            };
            tokio::select! { () = serving => {}, () = asking => {} }
        });
    };
    std::thread::spawn(lab).join().unwrap();
}
