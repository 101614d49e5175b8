//! Asking the world: one query to the first server that gives a useful answer.
//!
//! Servers are asked in their order. One that does not answer, nor a question that any server can answer, is remembered
//! and from then on asked last, so that a dead first server costs one wait, not one for each query; now and then it is
//! given a query beside the others', for nobody to wait for, and its answer brings it back. One that is silent about a
//! single name (its authority is dead) keeps its place, and what another says in the place of the first is not cached:
//! the first may know better as soon as it answers. How long and how often they are asked, and whether they take
//! turns, the host's options say (resolv.conf(5)); without any it is once each, since the client asks again. A cut
//! answer is handed on as it is: the client asks again over TCP, and so do we.
//!
//! The host's servers are asked from the daemon's namespace. A container's own (`--dns`) are asked from the
//! container's, as Docker does: `--dns 127.0.0.1` is a server in the container, not one of the host's.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::time::timeout;
use weft_base::metrics::Histogram;
use weft_model::ContainerId;

use crate::{
    Transport,
    cache::{Cache, Key},
    exchange::{From, Question, exchange},
    hostfile::{HostConfig, HostFile, MAX_SERVERS},
    options::Options,
    server::Server,
};

/// Where queries go that this host cannot answer.
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    /// Servers of the daemon's configuration; where empty, those of `resolv_conf`.
    pub servers: Vec<Server>,
    /// Resolver options of the daemon's configuration; where empty, those of `resolv_conf`.
    pub options: Vec<String>,
    /// The host's resolver configuration, read again when it changes.
    pub resolv_conf: PathBuf,
    /// What stands behind systemd-resolved's stub, where `resolv_conf` names only that.
    pub behind_stub: PathBuf,
    /// Longest wait for one server, where no option says another.
    pub timeout: Duration,
    /// Queries of one container under way at a time; more are refused with SERVFAIL.
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

/// Longest that a query is asked for at all, whatever the options say: nobody waits for its answer any more.
const LONGEST: Duration = Duration::from_secs(30);

/// `. NS`: what every server knows or refuses, so that silence means that it is not there.
const ALIVE: [u8; 17] = [0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];

/// Who is asked, from where and how.
#[derive(Clone)]
pub(crate) struct Whom {
    pub(crate) servers: Vec<Server>,
    pub(crate) from: From,
    pub(crate) options: Options,
}

/// A server as one asker reaches it.
type Way = (Option<ContainerId>, Server);

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
    /// Where the next query begins, of those whose servers take turns.
    turn: AtomicUsize,
    pub(crate) cache: Cache,
    pub(crate) figures: Figures,
}

impl Upstream {
    pub(crate) fn new(config: UpstreamConfig) -> Self {
        let host = HostFile::new(config.resolv_conf.clone(), config.behind_stub.clone());
        Self {
            config,
            host,
            silent: Mutex::default(),
            turn: AtomicUsize::new(0),
            cache: Cache::default(),
            figures: Figures::default(),
        }
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
            host.options = Options::parse(&own.options);
        }
        host
    }

    /// Servers in the order in which they are asked, and one that is to be tried beside them.
    fn order(&self, whom: &Whom) -> (Vec<Server>, Option<Server>) {
        let from = whom.from.container();
        let mut silent = self.silent.lock();
        silent.retain(|s| s.tried.elapsed() < FORGOTTEN);
        let mut order: Vec<_> = whom.servers.iter().take(MAX_SERVERS).cloned().collect();
        if whom.options.rotate && !order.is_empty() {
            let first = self.turn.fetch_add(1, Relaxed) % order.len();
            order.rotate_left(first);
        }
        let is_silent = |server: &Server| silent.iter().any(|s| s.way.0 == from && s.way.1 == *server);
        order.sort_by_key(is_silent);
        if order.first().is_none_or(is_silent) {
            return (order, None);
        }
        let due = silent
            .iter_mut()
            .find(|s| s.way.0 == from && s.tried.elapsed() >= PROBE && order.contains(&s.way.1));
        let probe = due.map(|s| {
            s.tried = Instant::now();
            s.way.1.clone()
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
        whom: &Whom,
        limit: u16,
    ) -> Option<Vec<u8>> {
        let asked = (transport, whom.from.container(), &whom.servers);
        let key = Key::new(&format!("{asked:?}"), query);
        if let Some(key) = &key
            && let Some(answer) = self.cache.get(key, query, Instant::now())
        {
            self.figures.cached.fetch_add(1, Relaxed);
            return Some(answer);
        }
        let (mut order, probe) = self.order(whom);
        let wait = whom.options.timeout.unwrap_or(self.config.timeout);
        if let Some(server) = probe {
            let (me, query, from) = (Arc::clone(self), query.to_vec(), whom.from.clone());
            tokio::spawn(async move {
                me.ask_one(Question { query: &query, transport, limit }, &server, &from, wait).await
            });
        }
        let question = Question { query, transport, limit };
        let first = if whom.options.rotate { order.first() } else { whom.servers.first() }.cloned();
        let (begun, mut failure) = (Instant::now(), None);
        for _ in 0..whom.options.attempts.unwrap_or(1) {
            let mut silent = Vec::new();
            for server in order {
                let wait = wait.min(LONGEST.saturating_sub(begun.elapsed()));
                match self.ask_one(question, &server, &whom.from, wait).await {
                    Some(answer) if !failed(&answer) => {
                        if let Some(key) = key.filter(|_| first == Some(server)) {
                            self.cache.put(key, &answer, Instant::now());
                        }
                        return Some(answer);
                    }
                    Some(answer) => failure = Some(answer),
                    None => silent.push(server),
                }
            }
            // One that failed has said what it has to say.
            order = silent;
        }
        failure
    }

    async fn ask_one(
        &self,
        question: Question<'_>,
        server: &Server,
        from: &From,
        wait: Duration,
    ) -> Option<Vec<u8>> {
        if wait.is_zero() {
            return None;
        }
        let (begun, mut alive) = (Instant::now(), false);
        let answer = tokio::select! {
            answer = timeout(wait, exchange(question, server, from)) => match answer {
                Ok(Ok(answer)) => Some(answer),
                Ok(Err(error)) => {
                    // A link that is not there, a port that nobody listens at.
                    tracing::debug!(%server, %error, "a name server cannot be asked");
                    None
                }
                Err(_) => None,
            },
            () = noticed(server, from, wait, &mut alive) => None,
        };
        if answer.is_some() || !alive {
            self.note((from.container(), server.clone()), answer.is_some());
        }
        if answer.as_ref().is_some_and(|answer| !failed(answer)) {
            self.figures.latency.observe(begun.elapsed());
        }
        answer
    }
}

/// Looks, in the second half of a wait, whether a server is there at all. Never ends.
async fn noticed(server: &Server, from: &From, wait: Duration, alive: &mut bool) {
    tokio::time::sleep(wait * 7 / 16).await;
    let question = Question { query: &ALIVE, transport: Transport::Udp, limit: 512 };
    *alive = matches!(timeout(wait / 2, exchange(question, server, from)).await, Ok(Ok(_)));
    std::future::pending().await
}

/// SERVFAIL, NOTIMP and REFUSED: another server may do better.
fn failed(answer: &[u8]) -> bool {
    answer.get(3).is_some_and(|b| matches!(b & 0x0f, 2 | 4 | 5))
}

#[cfg(test)]
#[path = "upstream_tests.rs"]
mod tests;
