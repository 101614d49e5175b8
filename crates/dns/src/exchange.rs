//! One query to one server. Each has its own socket and identifier (RFC 5452), connected, so that only that server's
//! packets arrive; what comes is taken whole, and looked at before it counts as the answer.

use std::{
    cell::RefCell,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::Arc,
};

use hickory_proto::op::ResponseCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{TcpSocket, UdpSocket},
};
use weft_model::ContainerId;

use crate::{
    SandboxSockets, Transport, edns,
    reply::failure,
    server::Server,
    wire::{HEADER, question_end},
};

/// Where a query leaves from.
#[derive(Clone)]
pub(crate) enum From {
    /// The daemon's namespace.
    Host,
    /// The namespace of a container.
    Container(Arc<dyn SandboxSockets>, ContainerId),
}

impl From {
    pub(crate) fn container(&self) -> Option<ContainerId> {
        match self {
            Self::Host => None,
            Self::Container(_, id) => Some(*id),
        }
    }

    /// A socket for one server; `None` where it is made in the daemon's own namespace.
    async fn socket(&self, v6: bool, tcp: bool) -> io::Result<Option<OwnedFd>> {
        let Self::Container(sockets, container) = self else { return Ok(None) };
        let (sockets, container) = (Arc::clone(sockets), *container);
        let made = tokio::task::spawn_blocking(move || sockets.outward(container, v6, tcp)).await;
        made.map_err(io::Error::other)?.map(Some)
    }
}

/// What is asked.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    /// The client's packet.
    pub(crate) query: &'a [u8],
    pub(crate) transport: Transport,
    /// Bytes that an answer over UDP may have. Some servers give more.
    pub(crate) limit: u16,
}

/// The server's answer, with the query's own identifier.
pub(crate) async fn exchange(question: Question<'_>, server: &Server, from: &From) -> io::Result<Vec<u8>> {
    let Question { query, transport, limit } = question;
    let mut sent = query.to_vec();
    let mut id = [0u8; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    sent[..2].copy_from_slice(&id);
    let mut answer = match transport {
        Transport::Udp => {
            edns::allow(&mut sent, limit);
            over_udp(&sent, server, from).await?
        }
        Transport::Tcp => over_tcp(&sent, server, from).await?,
    };
    if answer[4..6] == [0, 0] {
        // Servers may leave the question out of a failure, and clients then do not know it for theirs.
        let code = ResponseCode::from(0, answer[3] & 0x0f);
        answer = failure(query, code).unwrap_or(answer);
    }
    answer[..2].copy_from_slice(&query[..2]);
    Ok(answer)
}

thread_local! {
    /// For the largest datagram there is. Nobody holds it while he waits.
    static ROOM: RefCell<Vec<u8>> = RefCell::new(vec![0; 65_536]);
}

async fn over_udp(sent: &[u8], server: &Server, from: &From) -> io::Result<Vec<u8>> {
    let socket = match from.socket(server.is_ipv6(), false).await? {
        Some(socket) => UdpSocket::from_std(socket.into())?,
        None => {
            let any: IpAddr =
                if server.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
            UdpSocket::bind(SocketAddr::new(any, 0)).await?
        }
    };
    socket.connect(server.reached_by(&socket)?).await?;
    socket.send(sent).await?;
    loop {
        // A refusal (ICMP: port unreachable) makes a socket ready with an error and without anything to read.
        if socket.ready(Interest::READABLE | Interest::ERROR).await?.is_error() {
            if let Some(error) = socket.take_error()? {
                return Err(error);
            }
            let _ = socket.try_io(Interest::ERROR, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        }
        let taken = ROOM.with_borrow_mut(|room| {
            let size = socket.try_recv(room)?;
            Ok(matches(sent, &room[..size]).then(|| room[..size].to_vec()))
        });
        match taken {
            Ok(Some(answer)) => return Ok(answer),
            Err(error) if io::Error::kind(&error) != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
    }
}

async fn over_tcp(sent: &[u8], server: &Server, from: &From) -> io::Result<Vec<u8>> {
    let socket = match from.socket(server.is_ipv6(), true).await? {
        Some(socket) => TcpSocket::from_std_stream(socket.into()),
        None if server.is_ipv6() => TcpSocket::new_v6()?,
        None => TcpSocket::new_v4()?,
    };
    let at = server.reached_by(&socket)?;
    let mut stream = socket.connect(at).await?;
    let size = u16::try_from(sent.len()).map_err(io::Error::other)?;
    let mut framed = size.to_be_bytes().to_vec();
    framed.extend_from_slice(sent);
    stream.write_all(&framed).await?;
    let mut answer = vec![0u8; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    if matches(sent, &answer) { Ok(answer) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// An answer to this query: identifier, the answer bit, and the question repeated (without case; error
/// answers may leave it out).
fn matches(query: &[u8], answer: &[u8]) -> bool {
    if answer.len() < HEADER || answer[..2] != query[..2] || answer[2] & 0x80 == 0 {
        return false;
    }
    if answer[4..6] == [0, 0] {
        return answer[3] & 0x0f != 0;
    }
    let Some(end) = question_end(query) else { return false };
    answer.get(HEADER..end).is_some_and(|q| q.eq_ignore_ascii_case(&query[HEADER..end]))
}
