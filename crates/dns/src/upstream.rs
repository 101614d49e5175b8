//! Asking the world: one query to the first server that gives a useful answer.
//!
//! Servers are asked in order, those that failed in the last half minute last. Each query has its own
//! socket and identifier (RFC 5452), connected, so that only that server's packets arrive. A cut answer
//! is handed on as it is: the client asks again over TCP, and so do we.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use crate::{Transport, names::server};

/// Where queries go that this host cannot answer.
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    /// Servers of the daemon's configuration; where empty, those of `resolv_conf`.
    pub servers: Vec<SocketAddr>,
    /// The host's resolver configuration, read again when it changes.
    pub resolv_conf: PathBuf,
    /// Longest wait for one server.
    pub timeout: Duration,
    /// Queries under way at a time; more are refused with SERVFAIL.
    pub concurrency: usize,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            resolv_conf: "/etc/resolv.conf".into(),
            timeout: Duration::from_secs(2),
            concurrency: 1024,
        }
    }
}

/// How long a server that failed is asked last.
const SHUNNED: Duration = Duration::from_secs(30);
/// How often the host's file is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Most servers asked for one query (resolv.conf(5) has the same).
const MAX_SERVERS: usize = 3;

/// The name servers of a `resolv.conf`(5), at most three.
#[must_use]
pub fn parse_resolv_conf(text: &str) -> Vec<SocketAddr> {
    let one = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|w| *w == "nameserver").and_then(|_| words.next())?;
        // A scope (fe80::1%eth0) has no meaning in another namespace's words, but it has here.
        server(address.split_once('%').map_or(address, |(ip, _)| ip))
    };
    text.lines().filter_map(one).take(MAX_SERVERS).collect()
}

pub(crate) struct Upstream {
    config: UpstreamConfig,
    host: Mutex<HostFile>,
    shunned: Mutex<Vec<(SocketAddr, Instant)>>,
}

#[derive(Default)]
struct HostFile {
    looked: Option<Instant>,
    changed: Option<SystemTime>,
    servers: Vec<SocketAddr>,
}

impl Upstream {
    pub(crate) fn new(config: UpstreamConfig) -> Self {
        Self { config, host: Mutex::default(), shunned: Mutex::default() }
    }

    /// The host's servers.
    pub(crate) fn host_servers(&self) -> Vec<SocketAddr> {
        if !self.config.servers.is_empty() {
            return self.config.servers.clone();
        }
        let mut host = self.host.lock();
        if host.looked.is_none_or(|at| at.elapsed() > LOOK) {
            host.looked = Some(Instant::now());
            let changed = std::fs::metadata(&self.config.resolv_conf).and_then(|m| m.modified()).ok();
            if changed.is_none() || changed != host.changed {
                host.changed = changed;
                let text = std::fs::read_to_string(&self.config.resolv_conf).unwrap_or_default();
                host.servers = parse_resolv_conf(&text);
            }
        }
        host.servers.clone()
    }

    fn order(&self, servers: &[SocketAddr]) -> Vec<SocketAddr> {
        let mut shunned = self.shunned.lock();
        shunned.retain(|(_, at)| at.elapsed() < SHUNNED);
        let bad = |s: &SocketAddr| shunned.iter().any(|(b, _)| b == s);
        let mut order: Vec<_> = servers.iter().take(MAX_SERVERS).copied().collect();
        order.sort_by_key(|s| bad(s));
        order
    }

    /// The first useful answer to `query`, with the query's own identifier; a server's own failure when all
    /// fail; `None` when none answers.
    pub(crate) async fn ask(
        &self,
        query: &[u8],
        transport: Transport,
        servers: &[SocketAddr],
        limit: u16,
    ) -> Option<Vec<u8>> {
        let mut failure = None;
        for server in self.order(servers) {
            let answer = timeout(self.config.timeout, exchange(query, transport, server, limit)).await;
            match answer {
                Ok(Ok(answer)) if !failed(&answer) => {
                    self.shunned.lock().retain(|(s, _)| *s != server);
                    return Some(answer);
                }
                Ok(Ok(answer)) => failure = Some(answer),
                Ok(Err(_)) | Err(_) => {
                    let mut shunned = self.shunned.lock();
                    shunned.retain(|(s, _)| *s != server);
                    shunned.push((server, Instant::now()));
                }
            }
        }
        failure
    }
}

/// SERVFAIL, NOTIMP and REFUSED: another server may do better.
fn failed(answer: &[u8]) -> bool {
    answer.get(3).is_some_and(|b| matches!(b & 0x0f, 2 | 4 | 5))
}

async fn exchange(query: &[u8], transport: Transport, server: SocketAddr, limit: u16) -> io::Result<Vec<u8>> {
    let mut sent = query.to_vec();
    let mut id = [0u8; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    sent[..2].copy_from_slice(&id);
    let mut answer = match transport {
        Transport::Udp => over_udp(&sent, server, limit).await?,
        Transport::Tcp => over_tcp(&sent, server).await?,
    };
    answer[..2].copy_from_slice(&query[..2]);
    Ok(answer)
}

async fn over_udp(sent: &[u8], server: SocketAddr, limit: u16) -> io::Result<Vec<u8>> {
    let any = match server {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
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

async fn over_tcp(sent: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
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
    const HEADER: usize = 12;
    if answer.len() < HEADER || answer[..2] != query[..2] || answer[2] & 0x80 == 0 {
        return false;
    }
    if answer[4..6] == [0, 0] {
        return answer[3] & 0x0f != 0;
    }
    let Some(end) = question_end(query) else { return false };
    answer.get(HEADER..end).is_some_and(|q| q.eq_ignore_ascii_case(&query[HEADER..end]))
}

/// Where the first question of a packet ends. Names of questions are never compressed by honest senders.
fn question_end(packet: &[u8]) -> Option<usize> {
    let mut at = 12;
    loop {
        match packet.get(at)? {
            0 => break,
            length if *length < 64 => at += usize::from(*length) + 1,
            _ => return None,
        }
    }
    let end = at + 5;
    (end <= packet.len()).then_some(end)
}

#[cfg(test)]
#[path = "upstream_tests.rs"]
mod tests;
