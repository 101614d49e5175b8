//! Forwarding against servers on loopback that misbehave in one way each.

use std::sync::Arc;

use super::*;

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

async fn ask(servers: &[SocketAddr], timeout: u64) -> Option<Vec<u8>> {
    Upstream::new(config(timeout)).ask(&QUERY, Transport::Udp, servers, 512).await
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
    let upstream = Upstream::new(config(200));
    let go = async |servers: &[SocketAddr]| upstream.ask(&QUERY, Transport::Udp, servers, 512).await;
    assert_eq!(go(&[silent, failing, good]).await.unwrap()[3], 0);
    assert_eq!(upstream.order(&[silent, good]), [good, silent], "a server that failed is asked last");
    assert_eq!(go(&[closed, good]).await.unwrap()[3], 0);
    assert_eq!(go(&[silent, failing]).await.unwrap()[3], 2, "its own failure is better than none");
    assert_eq!(go(&[silent]).await, None);
    assert_eq!(go(&[]).await, None);
}

#[tokio::test]
async fn tcp_goes_over_tcp() {
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
    let got = Upstream::new(config(2000)).ask(&QUERY, Transport::Tcp, &[at], 512).await.unwrap();
    assert_eq!((got.len(), &got[..2]), (5000, &QUERY[..2]));
}

#[test]
fn the_hosts_file_is_read_again_when_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("resolv.conf");
    let text = "# made by hand\nsearch a b\nnameserver 10.0.0.1 \n nameserver\tfe80::1%eth0\noptions ndots:2\n\
                nameserver 300.1.1.1\nnameserver 10.0.0.3\nnameserver 10.0.0.4";
    std::fs::write(&path, text).unwrap();
    let upstream = Upstream::new(UpstreamConfig { resolv_conf: path.clone(), ..UpstreamConfig::default() });
    let show = |u: &Upstream| u.host_servers().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(show(&upstream), ["10.0.0.1:53", "[fe80::1]:53", "10.0.0.3:53"]);
    std::fs::remove_file(&path).unwrap();
    upstream.host.lock().looked = None;
    assert!(show(&upstream).is_empty());
}

#[test]
fn questions_end_where_they_end() {
    assert_eq!(question_end(&QUERY), Some(19));
    for cut in 0..QUERY.len() {
        assert_eq!(question_end(&QUERY[..cut]), None);
    }
    let mut pointer = QUERY;
    pointer[12] = 0xc0;
    assert_eq!(question_end(&pointer), None);
}
