//! The seam's calls: which are asked again, which never, and what the caller is told.
//!
//! | call | when its answer is lost |
//! |---|---|
//! | get, range, revision, transactions that only read | asked again, of another member, until the time is over: `Unavailable` |
//! | lease, keepalive, revoke, compact | the same: doing them twice is as doing them once |
//! | transactions that write | never asked again: `Unknown`; a stopped member may carry them out when it goes on |
//!
//! What certainly was not carried out (no connection, no leader, an old token) is always asked again.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use prost::Message;
use tokio::{task::AbortHandle, time::Instant};
use tonic::Status;
use weft_store::{Item, Kv, LeaseId, MAX_VALUE, Op, Range, Request, Response, StoreError, Watch};

use crate::{
    Config, Options,
    conn::{Conn, method, unavailable},
    convert::{self, item, lease_to_wire, revision, signed, unsigned},
    fault::{Fault, Odd},
    open::SCHEMA_KEY,
    pool::{Pool, State},
    proto,
    watch::Hub,
};

/// Most items of a range in one answer, and about how many bytes one shall have.
const PAGE_ITEMS: usize = 4096;
const FIRST_PAGE: usize = 128;
const PAGE_BYTES: usize = 4 << 20;
/// How often a range begins anew because its revision was compacted between two pages.
const RANGE_TRIES: usize = 5;
/// Longest lease that etcd takes, in seconds.
const LONGEST_LEASE: u64 = 9_000_000_000;

/// Whether the store can be reached.
#[derive(Clone, Debug)]
pub enum Reach {
    /// By the member at this address.
    Up {
        /// `host:port`.
        endpoint: String,
    },
    /// Not.
    Down {
        /// For how long.
        since: Duration,
        /// Why.
        error: StoreError,
    },
}

/// A store in an etcd cluster. Dropping it ends its connection and its watches.
pub struct Etcd {
    pool: Arc<Pool>,
    hub: Hub,
    tasks: [AbortHandle; 2],
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// A kind of call.
struct Call {
    /// For errors.
    doing: &'static str,
    method: &'static str,
    /// Doing it twice is as doing it once, so a lost answer is asked for again.
    again: bool,
}

const READ: Call = Call { doing: "read", method: method::RANGE, again: true };
const READ_TXN: Call = Call { doing: "read", method: method::TXN, again: true };
const WRITE_TXN: Call = Call { doing: "write", method: method::TXN, again: false };
const GRANT: Call = Call { doing: "make a lease", method: method::GRANT, again: true };
const KEEPALIVE: Call = Call { doing: "keep a lease alive", method: method::KEEPALIVE, again: true };
const REVOKE: Call = Call { doing: "end a lease", method: method::REVOKE, again: true };
const COMPACT: Call = Call { doing: "compact", method: method::COMPACT, again: true };

/// A definite answer.
enum Answer<A> {
    Done(A),
    Odd {
        odd: Odd,
        /// An earlier attempt, whose answer was lost, may have been carried out.
        perhaps: bool,
    },
}

impl Etcd {
    /// A store that is reached for in the background: calls wait for it within their own time. Must be called in a
    /// runtime of tokio.
    #[must_use]
    pub fn start(config: Config, options: Options) -> Self {
        let (pool, dial) = Pool::new(config, options);
        let (hub, watching) = Hub::new(&pool);
        let tasks = [tokio::spawn(dial).abort_handle(), tokio::spawn(watching).abort_handle()];
        Self { pool, hub, tasks }
    }

    /// The same, once a member has been reached and has proved to hold a store of Weft's.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::LoginRefused`], [`StoreError::NoPermission`], [`StoreError::Foreign`],
    /// [`StoreError::NewerStore`], at [`Options::request`] at the latest. Nothing was written then.
    pub async fn connect(config: Config, options: Options) -> Result<Self, StoreError> {
        let deadline = Instant::now() + options.request;
        let store = Self::start(config, options);
        store.pool.conn(deadline).await?;
        Ok(store)
    }

    /// Where the store is.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.pool.config
    }

    /// Whether the store can be reached, as far as is known now.
    #[must_use]
    pub fn reach(&self) -> Reach {
        match &*self.pool.state().borrow() {
            State::Up(conn) => Reach::Up { endpoint: conn.endpoint.to_string() },
            State::Down { since, error } => Reach::Down { since: since.elapsed(), error: error.clone() },
        }
    }

    async fn call<Q, A>(&self, call: &Call, request: Q) -> Result<Answer<A>, StoreError>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        self.attempts(call, |conn, within| {
            let (request, method) = (request.clone(), call.method);
            async move { conn.unary(method, request, within).await }.boxed()
        })
        .await
    }

    /// Asks until there is a definite answer or the time is over.
    async fn attempts<A>(
        &self,
        call: &Call,
        ask: impl Fn(Arc<Conn>, Duration) -> BoxFuture<'static, Result<A, Status>> + Send + Sync,
    ) -> Result<Answer<A>, StoreError> {
        let deadline = Instant::now() + self.pool.options.request;
        let (mut perhaps, mut logins) = (false, 0);
        loop {
            let conn = self.pool.conn(deadline).await?;
            let left = deadline.saturating_duration_since(Instant::now());
            let within = if call.again { left.min(self.pool.options.attempt) } else { left };
            let token = conn.token_number();
            let status = match ask(Arc::clone(&conn), within).await {
                Ok(answer) => return Ok(Answer::Done(answer)),
                Err(status) => status,
            };
            match Fault::of(&status, &self.pool.config, call.doing) {
                Fault::Refused(error) => return Err(error),
                Fault::Odd(odd) => return Ok(Answer::Odd { odd, perhaps }),
                Fault::Token(reason) if logins == 2 => return Err(self.login_refused(reason)),
                Fault::Token(_) => {
                    logins += 1;
                    match conn.renew(token, within).await {
                        Ok(()) => {}
                        Err(error) if error.transient() => self.pool.fail(&conn, &error.to_string()),
                        Err(error) => return Err(error),
                    }
                }
                Fault::NotDone(reason) => self.pool.fail(&conn, &reason),
                Fault::Lost(reason) => {
                    self.pool.fail(&conn, &reason);
                    if !call.again {
                        return Err(StoreError::Unknown { doing: call.doing, reason });
                    }
                    perhaps = true;
                }
            }
        }
    }

    fn login_refused(&self, reason: String) -> StoreError {
        let user = self.pool.config.login.as_ref().map_or("nobody", |l| &l.user).to_owned();
        StoreError::LoginRefused { store: self.pool.config.to_string(), user, reason }
    }

    fn strange(&self, doing: &str, odd: Odd) -> StoreError {
        unavailable(&self.pool.config, format!("{odd:?} as the answer to a request to {doing}"))
    }

    /// A definite answer, where no odd one is expected.
    fn done<A>(&self, call: &Call, answer: Answer<A>) -> Result<A, StoreError> {
        match answer {
            Answer::Done(answer) => Ok(answer),
            Answer::Odd { odd, .. } => Err(self.strange(call.doing, odd)),
        }
    }

    async fn read(&self, request: proto::RangeRequest) -> Result<Answer<proto::RangeResponse>, StoreError> {
        let answer: Answer<proto::RangeResponse> = self.call(&READ, request).await?;
        if let Answer::Done(range) = &answer {
            self.reached(range.header.as_ref());
        }
        Ok(answer)
    }

    /// Remembers how far the store is. Only for answers to linearizable requests: no later one may be lower.
    fn reached(&self, header: Option<&proto::Header>) {
        self.pool.known.reached(revision(header));
    }

    /// All items of a range, page by page at the revision of the first; `None` when it was compacted meanwhile.
    async fn pages(&self, start: Bytes, end: &Bytes) -> Result<Option<Range>, StoreError> {
        let (mut items, mut at, mut key, mut limit) = (Vec::new(), 0, start, FIRST_PAGE);
        loop {
            let request = proto::RangeRequest {
                key: key.clone(),
                range_end: end.clone(),
                limit: i64::try_from(limit).unwrap_or(i64::MAX),
                revision: signed(at),
                keys_only: false,
            };
            let page = match self.read(request).await? {
                Answer::Done(page) => page,
                Answer::Odd { odd: Odd::Compacted, .. } => return Ok(None),
                Answer::Odd { odd, .. } => return Err(self.strange(READ.doing, odd)),
            };
            if at == 0 {
                at = revision(page.header.as_ref());
            }
            items.extend(page.kvs.iter().map(|kv| item(&self.pool.keys, kv)));
            let Some(last) = page.kvs.last().filter(|_| page.more) else {
                return Ok(Some(Range { revision: at, items }));
            };
            // The next key after the last one is that with a zero byte behind it.
            key = [&last.key[..], b"\0"].concat().into();
            let bytes: usize = page.kvs.iter().map(|kv| kv.key.len() + kv.value.len() + 32).sum();
            limit = (PAGE_BYTES * page.kvs.len() / bytes.max(1)).clamp(FIRST_PAGE / 8, PAGE_ITEMS);
        }
    }
}

#[async_trait]
impl Kv for Etcd {
    async fn get(&self, key: &[u8]) -> Result<Option<Item>, StoreError> {
        let request = proto::RangeRequest { key: self.pool.keys.full(key)?, ..Default::default() };
        let range = self.done(&READ, self.read(request).await?)?;
        Ok(range.kvs.first().map(|kv| item(&self.pool.keys, kv)))
    }

    async fn range(&self, prefix: &[u8]) -> Result<Range, StoreError> {
        let (start, end) = self.pool.keys.span(prefix)?;
        for _ in 0..RANGE_TRIES {
            if let Some(mut range) = self.pages(start.clone(), &end).await? {
                // The store's own key is no record.
                range.items.retain(|i| i.key != SCHEMA_KEY);
                return Ok(range);
            }
        }
        Err(unavailable(&self.pool.config, "its history is compacted faster than it can be read"))
    }

    async fn txn(&self, request: Request) -> Result<Response, StoreError> {
        request.validate(self.max_value())?;
        guard_schema(&request)?;
        let keys = &self.pool.keys;
        let wire = convert::txn(keys, &request, &keys.full(SCHEMA_KEY.as_bytes())?)?;
        let call = if convert::only_reads(&request) { &READ_TXN } else { &WRITE_TXN };
        let answer: proto::TxnResponse = match self.call(call, wire).await? {
            Answer::Done(answer) => answer,
            Answer::Odd { odd: Odd::NoLease, .. } => return Err(no_such_lease(&request)),
            Answer::Odd { odd, .. } => return Err(self.strange(call.doing, odd)),
        };
        self.reached(answer.header.as_ref());
        convert::txn_answer(keys, &request, &answer)
    }

    async fn watch(&self, prefix: &[u8], from: u64) -> Result<Watch, StoreError> {
        let (start, end) = self.pool.keys.span(prefix)?;
        // A member may lag behind: its "now" could lie before a write that the caller knows of.
        let next = if from == 0 { self.revision().await? + 1 } else { from };
        self.hub.watch(start, end, next)
    }

    async fn lease(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        if ttl < Duration::from_millis(1) || seconds > LONGEST_LEASE {
            return Err(StoreError::invalid(format!(
                "a lease's time to live is between a millisecond and {LONGEST_LEASE} seconds"
            )));
        }
        loop {
            let id = random_lease()?;
            let request = proto::LeaseGrantRequest { ttl: signed(seconds), id };
            match self.call::<_, proto::LeaseGrantResponse>(&GRANT, request).await? {
                // An earlier attempt made it, and its answer was lost.
                Answer::Done(_) | Answer::Odd { odd: Odd::LeaseExists, perhaps: true } => {
                    return Ok(LeaseId(id.cast_unsigned()));
                }
                Answer::Odd { odd: Odd::LeaseExists, perhaps: false } => {}
                Answer::Odd { odd, .. } => return Err(self.strange(GRANT.doing, odd)),
            }
        }
    }

    async fn keepalive(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        let id = lease_to_wire(lease);
        let answer = self.attempts(&KEEPALIVE, |conn, within| keep(conn, id, within).boxed()).await?;
        match answer {
            Answer::Done(ttl) if ttl > 0 => Ok(Duration::from_secs(unsigned(ttl))),
            Answer::Done(_) | Answer::Odd { odd: Odd::NoLease, .. } => Err(StoreError::NoLease { lease }),
            Answer::Odd { odd, .. } => Err(self.strange(KEEPALIVE.doing, odd)),
        }
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        let request = proto::LeaseRevokeRequest { id: lease_to_wire(lease) };
        match self.call::<_, proto::LeaseRevokeResponse>(&REVOKE, request).await? {
            Answer::Done(_) | Answer::Odd { odd: Odd::NoLease, perhaps: true } => Ok(()),
            Answer::Odd { odd: Odd::NoLease, perhaps: false } => Err(StoreError::NoLease { lease }),
            Answer::Odd { odd, .. } => Err(self.strange(REVOKE.doing, odd)),
        }
    }

    async fn compact(&self, revision: u64) -> Result<(), StoreError> {
        let request = proto::CompactionRequest { revision: signed(revision) };
        match self.call::<_, proto::CompactionResponse>(&COMPACT, request).await? {
            Answer::Done(_) | Answer::Odd { odd: Odd::Compacted, .. } => Ok(()),
            Answer::Odd { odd, .. } => Err(self.strange(COMPACT.doing, odd)),
        }
    }

    async fn revision(&self) -> Result<u64, StoreError> {
        let key = self.pool.keys.full(SCHEMA_KEY.as_bytes())?;
        let request = proto::RangeRequest { key, keys_only: true, ..Default::default() };
        let range = self.done(&READ, self.read(request).await?)?;
        Ok(revision(range.header.as_ref()))
    }

    fn max_value(&self) -> usize {
        MAX_VALUE
    }
}

/// Nobody writes the key by which the store is known, not even by removing all there is.
fn guard_schema(request: &Request) -> Result<(), StoreError> {
    let touched = request.then.iter().chain(&request.otherwise).any(|op| match op {
        Op::Put { key, .. } | Op::Delete { key } => key == SCHEMA_KEY,
        Op::DeleteRange { prefix } => SCHEMA_KEY.as_bytes().starts_with(prefix),
        Op::Get { .. } | Op::Range { .. } => false,
    });
    if touched {
        return Err(StoreError::invalid(format!("{SCHEMA_KEY} is the store's own")));
    }
    Ok(())
}

/// etcd does not say which one.
fn no_such_lease(request: &Request) -> StoreError {
    let named = request.then.iter().chain(&request.otherwise).find_map(|op| match op {
        Op::Put { lease: Some(lease), .. } => Some(*lease),
        _ => None,
    });
    StoreError::NoLease { lease: named.unwrap_or(LeaseId(0)) }
}

fn random_lease() -> Result<i64, StoreError> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|e| StoreError::backend("find a random number", e))?;
    // Positive, and not 0, which lets etcd choose.
    Ok((i64::from_le_bytes(random) & i64::MAX).max(1))
}

/// One request of the keepalive stream, and its answer.
async fn keep(conn: Arc<Conn>, id: i64, within: Duration) -> Result<i64, Status> {
    let asked = tokio::time::timeout(within, async {
        // The stream of requests stays open until there is an answer: etcd stops working where it ends.
        let requests = stream::iter([proto::LeaseKeepAliveRequest { id }]).chain(stream::pending());
        let mut answers =
            conn.stream::<_, proto::LeaseKeepAliveResponse>(method::KEEPALIVE, requests, within).await?;
        answers
            .message()
            .await?
            .map(|a| a.ttl)
            .ok_or_else(|| Status::unavailable("the stream of keepalives ended"))
    });
    asked.await.unwrap_or_else(|_| Err(Status::deadline_exceeded(format!("no answer within {within:?}"))))
}
