//! Which connection is used now, and who looks for another one.
//!
//! ```text
//!             a member passes the check
//!   Down ───────────────────────────────────▶ Up(connection)
//!    ▲  └─ every member failed: wait, again       │
//!    └────────────────────────────────────────────┘ a call on it failed, or it broke
//! ```
//!
//! One task dials, all members with a small stagger at once, the first that passes the check wins. Callers wait for its
//! success within their own time; once the store has been away for longer than that, they are told at once.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use weft_base::Backoff;
use weft_store::StoreError;

use crate::{
    Config, Options,
    conn::{Conn, unavailable},
    keys::Keys,
    open::{self, Known},
};

/// How long a member has for itself before the next one is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);

/// Whether the store can be reached.
#[derive(Clone)]
pub(crate) enum State {
    /// By this connection.
    Up(Arc<Conn>),
    /// Not, since when, and why.
    Down { since: Instant, error: StoreError },
}

pub(crate) struct Pool {
    pub(crate) config: Arc<Config>,
    pub(crate) options: Options,
    pub(crate) keys: Keys,
    pub(crate) known: Arc<Known>,
    state: watch::Sender<State>,
    /// The member to begin with.
    turn: AtomicU64,
    numbers: AtomicU64,
}

impl Pool {
    /// A pool, and the task that dials for it as long as it lives.
    pub(crate) fn new(
        config: Config,
        options: Options,
    ) -> (Arc<Self>, impl Future<Output = ()> + Send + use<>) {
        let error = unavailable(&config, "it was not reached yet");
        let mut random = [0; 2];
        // Hosts spread over the members; without random numbers they all begin with the first one.
        if let Err(error) = getrandom::fill(&mut random) {
            tracing::debug!(%error, "no random member to begin with");
        }
        let pool = Arc::new(Self {
            keys: Keys::new(&config.prefix),
            config: Arc::new(config),
            options,
            known: Arc::default(),
            state: watch::Sender::new(State::Down { since: Instant::now(), error }),
            turn: AtomicU64::new(u16::from_le_bytes(random).into()),
            numbers: AtomicU64::new(0),
        });
        let weak = Arc::downgrade(&pool);
        (pool, dial_for_ever(weak))
    }

    pub(crate) fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// A connection, at `deadline` at the latest.
    pub(crate) async fn conn(&self, deadline: Instant) -> Result<Arc<Conn>, StoreError> {
        let mut state = self.state();
        loop {
            let why = match &*state.borrow_and_update() {
                State::Up(conn) if Instant::now() < deadline => return Ok(Arc::clone(conn)),
                State::Up(_) => return Err(unavailable(&self.config, "its members fail one after another")),
                State::Down { since, error } => {
                    if !error.transient() || since.elapsed() > self.options.request {
                        return Err(error.clone());
                    }
                    error.clone()
                }
            };
            match timeout_at(deadline, state.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(StoreError::Closed),
                Err(_) => return Err(why),
            }
        }
    }

    /// A connection, whenever there is one.
    pub(crate) async fn conn_some_time(&self) -> Arc<Conn> {
        let mut state = self.state();
        loop {
            if let State::Up(conn) = &*state.borrow_and_update() {
                return Arc::clone(conn);
            }
            // The sender lives as long as `self`.
            if state.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Gives up a connection, if it is still the one in use.
    pub(crate) fn fail(&self, conn: &Conn, reason: &str) {
        let gone = self.state.send_if_modified(|state| {
            let current = matches!(state, State::Up(c) if c.number == conn.number);
            if current {
                let error = unavailable(&self.config, format!("{}: {reason}", conn.endpoint));
                *state = State::Down { since: Instant::now(), error };
            }
            current
        });
        if gone {
            tracing::info!(store = %self.config, endpoint = %conn.endpoint, reason, "leaving a member of the store");
        }
    }

    /// Dials all members; the first that passes the check wins.
    async fn dial(&self) -> Result<Arc<Conn>, StoreError> {
        let members = &self.config.endpoints;
        let turn = usize::try_from(self.turn.fetch_add(1, Relaxed)).unwrap_or(0);
        let mut attempts: FuturesUnordered<_> = (0..members.len())
            .map(|n| async move {
                let endpoint = &members[(turn + n) % members.len()];
                tokio::time::sleep(STAGGER * u32::try_from(n).unwrap_or(0)).await;
                let number = self.numbers.fetch_add(1, Relaxed) + 1;
                let conn = Conn::open(&self.config, endpoint, &self.options, number).await?;
                open::check(&conn, &self.config, &self.keys, &self.known, self.options.attempt).await?;
                Ok::<_, StoreError>(Arc::new(conn))
            })
            .collect();
        let mut reasons: Vec<String> = Vec::new();
        let mut definite = None;
        while let Some(outcome) = attempts.next().await {
            match outcome {
                Ok(conn) => return Ok(conn),
                Err(StoreError::Unavailable { reason, .. }) => reasons.push(reason),
                Err(error) => definite = definite.or(Some(error)),
            }
        }
        // A member that says what is wrong knows more than one that keeps silent.
        Err(definite.unwrap_or_else(|| unavailable(&self.config, reasons.join("; "))))
    }
}

async fn dial_for_ever(pool: Weak<Pool>) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
    let Some(mut state) = pool.upgrade().map(|p| p.state()) else { return };
    let mut up: Option<Instant> = None;
    loop {
        // The pool itself is not kept alive from here: it ends when its store does.
        if state.wait_for(|s| matches!(s, State::Down { .. })).await.is_err() {
            return;
        }
        match up.take() {
            // One that passes the check and fails at once is not asked as fast as it fails.
            Some(since) if since.elapsed() < Duration::from_secs(1) => {
                tokio::time::sleep(backoff.next_delay()).await;
            }
            Some(_) => backoff.reset(),
            None => {}
        }
        let Some(pool) = pool.upgrade() else { return };
        match pool.dial().await {
            Ok(conn) => {
                tracing::info!(store = %pool.config, endpoint = %conn.endpoint, "the store answers");
                pool.state.send_replace(State::Up(conn));
                up = Some(Instant::now());
            }
            Err(found) => {
                pool.state.send_modify(|state| {
                    if let State::Down { error, .. } = state {
                        if error.to_string() != found.to_string() {
                            tracing::warn!(error = weft_base::chain(&found), "the store cannot be used");
                        }
                        *error = found;
                    }
                });
                drop(pool);
                tokio::time::sleep(backoff.next_delay()).await;
            }
        }
    }
}
