//! Asking the world: one query to the first server that gives a useful answer.
//!
//! Servers are asked in their order. One that does not answer is remembered and from then on asked last, so that a
//! dead first server costs one wait, not one for each query; now and then it is given a query beside the others', for
//! nobody to wait for, and its answer brings it back. Each query has its own socket and identifier (RFC 5452),
//! connected, so that only that server's packets arrive. A cut answer is handed on as it is: the client asks again
//! over TCP, and so do we.
//!
//! The host's servers are asked from the daemon's namespace. A container's own (`--dns`) are asked from the
//! container's, as Docker does: `--dns 127.0.0.1` is a server in the container, not one of the host's.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream, UdpSocket},
    time::timeout,
};
use weft_base::metrics::Histogram;
use weft_model::ContainerId;

use crate::{
    SandboxSockets, Transport,
    cache::{Cache, Key},
    hostfile::{HostConfig, HostFile, MAX_SERVERS},
    wire::{HEADER, question_end},
};

/// Where queries go that this host cannot answer.
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    /// Servers of the daemon's configuration; where empty, those of `resolv_conf`.
    pub servers: Vec<SocketAddr>,
    /// Resolver options of the daemon's configuration; where empty, those of `resolv_conf`.
    pub options: Vec<String>,
    /// The host's resolver configuration, read again when it changes.
    pub resolv_conf: PathBuf,
    /// What stands behind systemd-resolved's stub, where `resolv_conf` names only that.
    pub behind_stub: PathBuf,
    /// Longest wait for one server.
    pub timeout: Duration,
    /// Queries under way at a time; more are refused with SERVFAIL.
    pub concurrency: usize,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            options: Vec::new(),
            resolv_conf: "/etc/resolv.conf".into(),
            behind_stub: "/run/systemd/resolve/resolv.conf".into(),
            timeout: Duration::from_secs(2),
            concurrency: 1024,
        }
    }
}

/// How often a server that failed is tried beside the others.
const PROBE: Duration = Duration::from_secs(10);
/// How long a server that nobody asks any more is remembered.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// Where a query leaves from.
#[derive(Clone)]
pub(crate) enum From {
    /// The daemon's namespace.
    Host,
    /// The namespace of a container.
    Container(Arc<dyn SandboxSockets>, ContainerId),
}

impl From {
    fn container(&self) -> Option<ContainerId> {
        match self {
            Self::Host => None,
            Self::Container(_, id) => Some(*id),
        }
    }
}

/// A server as one asker reaches it.
type Way = (Option<ContainerId>, SocketAddr);

/// A server that did not answer.
struct Silent {
    way: Way,
    tried: Instant,
}

/// What the servers did.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// From query to useful answer, of one server.
    pub(crate) latency: Histogram,
    /// Servers that did not answer in time, or could not be reached.
    pub(crate) silent: AtomicU64,
    /// Answers from the cache.
    pub(crate) cached: AtomicU64,
}

pub(crate) struct Upstream {
    config: UpstreamConfig,
    host: HostFile,
    silent: Mutex<Vec<Silent>>,
    pub(crate) cache: Cache,
    pub(crate) figures: Figures,
}

impl Upstream {
    pub(crate) fn new(config: UpstreamConfig) -> Self {
        let host = HostFile::new(config.resolv_conf.clone(), config.behind_stub.clone());
        Self { config, host, silent: Mutex::default(), cache: Cache::default(), figures: Figures::default() }
    }

    /// The host's servers and rules.
    pub(crate) fn host(&self) -> HostConfig {
        let own = &self.config;
        let mut host = if own.servers.is_empty() || own.options.is_empty() {
            self.host.config()
        } else {
            HostConfig::default()
        };
        if !own.servers.is_empty() {
            host.servers.clone_from(&own.servers);
        }
        if !own.options.is_empty() {
            host.dots = crate::hostfile::wants_dots(&own.options).unwrap_or_default();
        }
        host
    }

    /// Servers in the order in which they are asked, and one that is to be tried beside them.
    fn order(
        &self,
        from: Option<ContainerId>,
        servers: &[SocketAddr],
    ) -> (Vec<SocketAddr>, Option<SocketAddr>) {
        let mut silent = self.silent.lock();
        silent.retain(|s| s.tried.elapsed() < FORGOTTEN);
        let mut order: Vec<_> = servers.iter().take(MAX_SERVERS).copied().collect();
        let is_silent = |server: &SocketAddr| silent.iter().any(|s| s.way == (from, *server));
        order.sort_by_key(is_silent);
        if order.first().is_none_or(is_silent) {
            return (order, None);
        }
        let due = silent
            .iter_mut()
            .find(|s| s.way.0 == from && s.tried.elapsed() >= PROBE && order.contains(&s.way.1));
        let probe = due.map(|s| {
            s.tried = Instant::now();
            s.way.1
        });
        (order, probe)
    }

    fn note(&self, way: Way, answered: bool) {
        let mut silent = self.silent.lock();
        silent.retain(|s| s.way != way);
        if !answered {
            self.figures.silent.fetch_add(1, Relaxed);
            silent.push(Silent { way, tried: Instant::now() });
        }
    }

    /// The answer to `query`, from the cache or the first server that has a useful one, with the query's own
    /// identifier; a server's own failure when all fail; `None` when none answers.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        query: &[u8],
        transport: Transport,
        servers: &[SocketAddr],
        from: &From,
        limit: u16,
    ) -> Option<Vec<u8>> {
        let key = Key::new(&format!("{transport:?} {:?} {servers:?}", from.container()), query);
        if let Some(key) = &key
            && let Some(answer) = self.cache.get(key, query, Instant::now())
        {
            self.figures.cached.fetch_add(1, Relaxed);
            return Some(answer);
        }
        let (order, probe) = self.order(from.container(), servers);
        if let Some(server) = probe {
            let (me, query, from) = (Arc::clone(self), query.to_vec(), from.clone());
            tokio::spawn(async move { me.ask_one(&query, transport, server, &from, limit).await });
        }
        let mut failure = None;
        for server in order {
            match self.ask_one(query, transport, server, from, limit).await {
                Some(answer) if !failed(&answer) => {
                    if let Some(key) = key {
                        self.cache.put(key, &answer, Instant::now());
                    }
                    return Some(answer);
                }
                Some(answer) => failure = Some(answer),
                None => {}
            }
        }
        failure
    }

    async fn ask_one(
        &self,
        query: &[u8],
        transport: Transport,
        server: SocketAddr,
        from: &From,
        limit: u16,
    ) -> Option<Vec<u8>> {
        let begun = Instant::now();
        let answer = timeout(self.config.timeout, exchange(query, transport, server, from, limit)).await;
        let answer = answer.ok().and_then(Result::ok);
        self.note((from.container(), server), answer.is_some());
        if answer.as_ref().is_some_and(|answer| !failed(answer)) {
            self.figures.latency.observe(begun.elapsed());
        }
        answer
    }
}

/// SERVFAIL, NOTIMP and REFUSED: another server may do better.
fn failed(answer: &[u8]) -> bool {
    answer.get(3).is_some_and(|b| matches!(b & 0x0f, 2 | 4 | 5))
}

async fn exchange(
    query: &[u8],
    transport: Transport,
    server: SocketAddr,
    from: &From,
    limit: u16,
) -> io::Result<Vec<u8>> {
    let mut sent = query.to_vec();
    let mut id = [0u8; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    sent[..2].copy_from_slice(&id);
    let mut answer = match transport {
        Transport::Udp => over_udp(&sent, server, from, limit).await?,
        Transport::Tcp => over_tcp(&sent, server, from).await?,
    };
    answer[..2].copy_from_slice(&query[..2]);
    Ok(answer)
}

async fn over_udp(sent: &[u8], server: SocketAddr, from: &From, limit: u16) -> io::Result<Vec<u8>> {
    let socket = match from {
        From::Host => {
            let any = match server {
                SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            };
            UdpSocket::bind(SocketAddr::new(any, 0)).await?
        }
        From::Container(..) => UdpSocket::from_std(inside(from, server, false).await?.into())?,
    };
    socket.connect(server).await?;
    socket.send(sent).await?;
    let mut buffer = vec![0u8; usize::from(limit)];
    loop {
        let size = socket.recv(&mut buffer).await?;
        if matches(sent, &buffer[..size]) {
            buffer.truncate(size);
            return Ok(buffer);
        }
    }
}

async fn over_tcp(sent: &[u8], server: SocketAddr, from: &From) -> io::Result<Vec<u8>> {
    let mut stream = match from {
        From::Host => TcpStream::connect(server).await?,
        From::Container(..) => {
            let socket = TcpSocket::from_std_stream(inside(from, server, true).await?.into());
            socket.connect(server).await?
        }
    };
    let size = u16::try_from(sent.len()).map_err(io::Error::other)?;
    let mut framed = size.to_be_bytes().to_vec();
    framed.extend_from_slice(sent);
    stream.write_all(&framed).await?;
    let mut answer = vec![0u8; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    if matches(sent, &answer) { Ok(answer) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// A socket of the container's namespace.
async fn inside(from: &From, server: SocketAddr, tcp: bool) -> io::Result<std::os::fd::OwnedFd> {
    let From::Container(sockets, container) = from else { return Err(io::ErrorKind::NotFound.into()) };
    let (sockets, container) = (Arc::clone(sockets), *container);
    let made = tokio::task::spawn_blocking(move || sockets.outward(container, server.is_ipv6(), tcp)).await;
    made.map_err(io::Error::other)?
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

#[cfg(test)]
#[path = "upstream_tests.rs"]
mod tests;
