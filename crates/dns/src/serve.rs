//! The thin loop around [`decide`]: packets in, packets out, for the sockets of one container.
//!
//! Nothing is kept for a container but its two sockets and their tasks: buffers are the threads'. A query that must be forwarded goes on in a task of its own, of which there are only so many.

use std::{
    cell::RefCell,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use hickory_proto::op::ResponseCode;
use parking_lot::RwLock;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    time::timeout,
};
use weft_model::ContainerId;

use crate::{
    Asker, Decision, Names, SandboxSockets, Transport,
    answer::failure,
    batch::Batch,
    counters::Counters,
    decide, quick,
    upstream::{From, Upstream},
};

/// A TCP connection that asks nothing for this long is closed.
const IDLE: Duration = Duration::from_secs(10);
/// TCP connections of one container at a time.
const CONNECTIONS: usize = 64;

/// What all sockets share.
pub(crate) struct Core {
    pub(crate) names: RwLock<Arc<Names>>,
    pub(crate) upstream: Arc<Upstream>,
    sockets: Arc<dyn SandboxSockets>,
    pub(crate) forwards: Arc<Semaphore>,
    turn: AtomicU32,
    pub(crate) counters: Counters,
}

impl Core {
    pub(crate) fn new(upstream: Upstream, sockets: Arc<dyn SandboxSockets>, concurrency: usize) -> Self {
        Self {
            names: RwLock::default(),
            upstream: Arc::new(upstream),
            sockets,
            forwards: Arc::new(Semaphore::new(concurrency)),
            turn: AtomicU32::new(0),
            counters: Counters::default(),
        }
    }

    /// The plain queries, which nearly all are; `false` for the others.
    fn quick(&self, packet: &[u8], names: &Names, container: ContainerId, out: &mut Vec<u8>) -> bool {
        let turn = self.turn.fetch_add(1, Relaxed);
        let said = quick::answer(packet, &Asker { names, container, dots: false, turn }, out);
        if said {
            self.counters.answered.fetch_add(1, Relaxed);
            self.counters.question(packet);
            self.counters.success();
        }
        said
    }

    fn decide(&self, packet: &[u8], transport: Transport, names: &Names, container: ContainerId) -> Decision {
        let turn = self.turn.fetch_add(1, Relaxed);
        let asker = Asker { names, container, dots: self.upstream.host().dots, turn };
        let decision = decide(packet, transport, &asker);
        let counter = match &decision {
            Decision::Drop => &self.counters.dropped,
            Decision::Reply(_) => &self.counters.answered,
            Decision::Forward { .. } => &self.counters.forwarded,
        };
        counter.fetch_add(1, Relaxed);
        match &decision {
            Decision::Drop => return decision,
            Decision::Reply(answer) => self.counters.answer(answer),
            Decision::Forward { .. } => {}
        }
        self.counters.question(packet);
        decision
    }

    /// The answer of an upstream server, or SERVFAIL.
    async fn forward(
        &self,
        packet: &[u8],
        transport: Transport,
        container: ContainerId,
        limit: u16,
    ) -> Option<Vec<u8>> {
        let (servers, from) = match Arc::clone(&self.names.read()).upstream(container) {
            Some(Some(own)) => (own.to_vec(), From::Container(Arc::clone(&self.sockets), container)),
            Some(None) => (self.upstream.host().servers, From::Host),
            None => (Vec::new(), From::Host),
        };
        match self.upstream.ask(packet, transport, &servers, &from, limit).await {
            Some(answer) => {
                self.counters.answer(&answer);
                Some(answer)
            }
            None => self.fail(packet),
        }
    }

    /// SERVFAIL to a query that nobody answers, or that there is no room for.
    fn fail(&self, packet: &[u8]) -> Option<Vec<u8>> {
        self.counters.failed.fetch_add(1, Relaxed);
        let answer = failure(packet, ResponseCode::ServFail)?;
        self.counters.answer(&answer);
        Some(answer)
    }
}

thread_local! {
    static BATCH: RefCell<Batch> = RefCell::new(Batch::new());
}

/// Serves datagrams until the socket fails.
pub(crate) async fn serve_udp(core: Arc<Core>, socket: UdpSocket, container: ContainerId) -> io::Result<()> {
    let socket = Arc::new(socket);
    loop {
        socket.readable().await?;
        match BATCH.with_borrow_mut(|batch| take_udp(&core, &socket, container, batch)) {
            // A client that is gone already (its port's ICMP error) is no failure of the socket.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            other => other?,
        }
    }
}

fn take_udp(
    core: &Arc<Core>,
    socket: &Arc<UdpSocket>,
    container: ContainerId,
    batch: &mut Batch,
) -> io::Result<()> {
    let names = Arc::clone(&core.names.read());
    // Some batches, then the others' turn.
    for _ in 0..4 {
        let more = batch.take(socket)?;
        batch.each(|packet, from, answers| {
            if answers.write(|out| core.quick(packet, &names, container, out)) {
                return;
            }
            let answer = match core.decide(packet, Transport::Udp, &names, container) {
                Decision::Drop => None,
                Decision::Reply(answer) => Some(answer),
                Decision::Forward { limit } => {
                    forward_udp(core, socket, container, packet, SocketAddr::V4(from.into()), limit)
                }
            };
            if let Some(answer) = answer {
                answers.write(|out| {
                    out.extend_from_slice(&answer);
                    true
                });
            }
        });
        batch.give(socket);
        if !more {
            break;
        }
    }
    Ok(())
}

/// Lets a task of its own ask the servers; an answer at once where there is no room for one.
fn forward_udp(
    core: &Arc<Core>,
    socket: &Arc<UdpSocket>,
    container: ContainerId,
    packet: &[u8],
    from: SocketAddr,
    limit: u16,
) -> Option<Vec<u8>> {
    let Ok(permit) = Arc::clone(&core.forwards).try_acquire_owned() else { return core.fail(packet) };
    let (core, socket, packet) = (Arc::clone(core), Arc::clone(socket), packet.to_vec());
    tokio::spawn(async move {
        if let Some(answer) = core.forward(&packet, Transport::Udp, container, limit).await {
            send(&socket, &answer, from);
        }
        drop(permit);
    });
    None
}

/// A full send buffer or a client that is gone loses an answer, as networks do; the client asks again.
fn send(socket: &UdpSocket, answer: &[u8], to: SocketAddr) {
    if let Err(error) = socket.try_send_to(answer, to) {
        tracing::debug!(%to, %error, "an answer was lost");
    }
}

/// Serves connections until the listener fails.
pub(crate) async fn serve_tcp(
    core: Arc<Core>,
    listener: TcpListener,
    container: ContainerId,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            // Out of descriptors: wait for some to come back instead of spinning.
            Err(error) if error.raw_os_error().is_some_and(|e| matches!(e, 23 | 24)) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let core = Arc::clone(&core);
        tokio::spawn(async move {
            if let Err(error) = converse(&core, stream, container).await {
                tracing::debug!(%error, "a connection to the resolver ended");
            }
            drop(place);
        });
    }
}

/// RFC 7766: queries one after another, each with its length before it.
async fn converse(core: &Arc<Core>, mut stream: TcpStream, container: ContainerId) -> io::Result<()> {
    loop {
        let Ok(size) = timeout(IDLE, stream.read_u16()).await else { return Ok(()) };
        let size = match size {
            Ok(size) => size,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut packet = vec![0u8; usize::from(size)];
        timeout(IDLE, stream.read_exact(&mut packet)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        let names = Arc::clone(&core.names.read());
        let answer = match core.decide(&packet, Transport::Tcp, &names, container) {
            Decision::Drop => return Ok(()),
            Decision::Reply(answer) => Some(answer),
            Decision::Forward { limit } => match core.forwards.try_acquire() {
                Ok(_permit) => core.forward(&packet, Transport::Tcp, container, limit).await,
                Err(_) => core.fail(&packet),
            },
        };
        let Some(answer) = answer else { return Ok(()) };
        let mut framed = u16::try_from(answer.len()).map_err(io::Error::other)?.to_be_bytes().to_vec();
        framed.extend_from_slice(&answer);
        timeout(IDLE, stream.write_all(&framed)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    }
}
