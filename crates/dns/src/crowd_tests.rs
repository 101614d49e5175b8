//! Many askers, many queries, much to say: what one container does keeps no other out, and what is too long is cut.

use hickory_proto::{
    op::{Edns, MessageType},
    rr::{RData, Record, rdata::A},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};

use super::{Duration, io};
use super::{Message, PortOwner, Server, Txn, UpstreamConfig, dig, packet, show, stage, web};

/// The whole answer over TCP on this connection.
async fn talk(stream: &mut TcpStream, query: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(&[&u16::try_from(query.len()).unwrap().to_be_bytes(), query].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_keep_nobody_out() {
    let s = stage(UpstreamConfig::default()).await;
    s.dns.attach(web()).await.unwrap();
    let at = s.at(web()).1.unwrap();
    let mut idle = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(at).await.unwrap();
        talk(&mut stream, &packet("db.")).await.unwrap();
        idle.push(stream);
    }
    // The first asks again, and so another is the idlest.
    talk(&mut idle[0], &packet("db.")).await.unwrap();
    for _ in 0..3 {
        let mut new = TcpStream::connect(at).await.unwrap();
        assert_eq!(show(&talk(&mut new, &packet("db.")).await.unwrap()), "10.1.0.3");
        idle.push(new);
    }
    let mut left = Vec::new();
    for (at, stream) in idle.iter_mut().enumerate() {
        if talk(stream, &packet("db.")).await.is_ok() {
            left.push(at);
        }
    }
    assert_eq!(left, [[0].as_slice(), &(4..67).collect::<Vec<_>>()].concat());
    s.tasks.stop().await;
}

/// A server of the host's that answers nobody.
async fn silent_server() -> (UpstreamConfig, UdpSocket) {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let servers = vec![Server::from(server.local_addr().unwrap())];
    (
        UpstreamConfig {
            servers,
            timeout: Duration::from_secs(60),
            concurrency: 4,
            ..UpstreamConfig::default()
        },
        server,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_asks_for_much_leaves_the_others_their_places() {
    let (config, server) = silent_server().await;
    let s = stage(config).await;
    s.dns.attach(web()).await.unwrap();
    let mut more = [0; 512];
    let greedy = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for n in 0..4 {
        greedy.send_to(&packet(&format!("a{n}.example.")), s.at(web()).0).await.unwrap();
        server.recv(&mut more).await.unwrap();
    }
    // One too many is refused, with its question, so that its asker knows which one it was.
    let fifth = packet("a5.example.");
    greedy.send_to(&fifth, s.at(web()).0).await.unwrap();
    let mut buffer = [0; 512];
    let size = greedy.recv(&mut buffer).await.unwrap();
    assert_eq!((buffer[3] & 0x0f, &buffer[..2], &buffer[12..size]), (2, &fifth[..2], &fifth[12..]));
    assert_eq!(s.dns.stats().await.refused, 1);
    // Another container's query is asked all the same; so is one about names here.
    let new = crate::fixtures::port(0x33, 0xa, 8, "eth0", &["10.1.0.8"], &["other"]);
    let PortOwner::Container(other) = new.spec.owner;
    Txn::new(&s.stores).create(&*new).commit().await.unwrap();
    s.dns.attach(other).await.unwrap();
    greedy.send_to(&packet("b.example."), s.at(other).0).await.unwrap();
    server.recv(&mut more).await.unwrap();
    assert_eq!(dig(s.at(web()).0, "db.").await, "10.1.0.3");
    s.tasks.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_from_outside_are_cut_to_what_the_asker_takes() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let config =
        UpstreamConfig { servers: vec![server.local_addr().unwrap().into()], ..UpstreamConfig::default() };
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((size, from)) = server.recv_from(&mut buffer).await {
            let mut answer = Message::from_vec(&buffer[..size]).unwrap();
            answer.metadata.message_type = MessageType::Response;
            let data = RData::A(A([192, 0, 2, 1].into()));
            let record = Record::from_rdata(answer.queries[0].name().clone(), 60, data);
            answer.add_answers(std::iter::repeat_n(record, 100));
            server.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    });
    let s = stage(config).await;
    s.dns.attach(web()).await.unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for (size, wanted) in
        [(None, (true, 30, false)), (Some(1232), (true, 74, true)), (Some(4096), (false, 100, true))]
    {
        let mut message = Message::from_vec(&packet("many.example.")).unwrap();
        if let Some(size) = size {
            let mut edns = Edns::new();
            edns.set_max_payload(size);
            message.set_edns(edns);
        }
        socket.send_to(&message.to_vec().unwrap(), s.at(web()).0).await.unwrap();
        let mut buffer = [0; 8192];
        let got = socket.recv(&mut buffer).await.unwrap();
        assert!(got <= usize::from(size.unwrap_or(512)));
        let answer = Message::from_vec(&buffer[..got]).unwrap();
        assert_eq!((answer.metadata.truncation, answer.answers.len(), answer.edns.is_some()), wanted);
    }
    s.tasks.stop().await;
}
