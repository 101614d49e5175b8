//! All watches of a store on one stream of one connection.
//!
//! ```text
//!   watch() ──Add──▶ ┌─────┐ ── create, cancel ──▶ ┌────────┐
//!   reader ─Resume─▶ │ hub │ ◀─ events, progress ── │ member │    the stream breaks: another connection, every
//!   drop ───Remove─▶ └─────┘                        └────────┘    watch is created again from its cursor
//!                       └──▶ one queue for each watch
//! ```
//!
//! The hub never waits for a reader. A reader that falls behind by [`HIGH`] bytes is parked: its watch is cancelled at the
//! member, and created again from its cursor when the queue is nearly empty. So a slow reader costs a bounded queue, keeps
//! nobody else waiting, and is told `Compacted` only if the cluster forgot the history meanwhile.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tonic::{Status, Streaming};
use weft_store::{Batch, Event, Reached, StoreError, Watch};

use super::cursor::Cursor;
use crate::{
    conn::{Conn, method, unavailable},
    convert::unsigned,
    fault::{Fault, no_permission, says_denied, told},
    pool::{Pool, State},
    proto::{self, WatchRequestKind},
};

/// Bytes in a watch's queue at which it is parked, and at which it goes on.
const HIGH: usize = 4 << 20;
const LOW: usize = 256 << 10;

type Told = Result<Batch, StoreError>;

/// What goes through a watch's queue.
enum News {
    Told(Told),
    /// All up to this revision went through before.
    Reached(u64),
}

enum Ask {
    Add(u64, Entry),
    /// The reader of a parked watch has caught up.
    Resume(u64),
    Remove(u64),
}

/// What the hub and a reader share.
#[derive(Default)]
struct Gauge {
    queued: AtomicUsize,
    parked: AtomicBool,
}

impl Gauge {
    /// Whether a parked watch shall go on; says so to one of those who ask.
    fn caught_up(&self) -> bool {
        self.queued.load(SeqCst) <= LOW && self.parked.swap(false, SeqCst)
    }
}

struct Entry {
    start: Bytes,
    end: Bytes,
    cursor: Cursor,
    queue: UnboundedSender<News>,
    gauge: Arc<Gauge>,
    /// The member's number of it in the present stream.
    remote: Option<i64>,
    /// Times in a row that the member denied it; an old token is denied as well.
    denied: u8,
}

/// Where watches are asked for.
pub(crate) struct Hub {
    asks: UnboundedSender<Ask>,
    numbers: AtomicU64,
}

impl Hub {
    /// A hub, and the task that serves it.
    pub(crate) fn new(pool: &Arc<Pool>) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (asks, receiver) = unbounded_channel();
        let serving = Serving {
            pool: Arc::downgrade(pool),
            asks: receiver,
            entries: BTreeMap::new(),
            remotes: HashMap::new(),
            unanswered: VecDeque::new(),
            next_remote: 1,
        };
        (Self { asks, numbers: AtomicU64::new(1) }, serving.run())
    }

    /// A watch of `start..end` from revision `next` on.
    pub(crate) fn watch(&self, start: Bytes, end: Bytes, next: u64) -> Result<Watch, StoreError> {
        let (queue, receiver) = unbounded_channel();
        let gauge = Arc::new(Gauge::default());
        let id = self.numbers.fetch_add(1, SeqCst);
        let (cursor, remote, denied) = (Cursor::new(next), None, 0);
        let entry = Entry { start, end, cursor, queue, gauge: Arc::clone(&gauge), remote, denied };
        self.asks.send(Ask::Add(id, entry)).map_err(|_| StoreError::Closed)?;
        let reached = Reached::default();
        reached.tell(next - 1);
        let reader = Reader { id, queue: receiver, reached: reached.clone(), gauge, asks: self.asks.clone() };
        let batches = stream::unfold(Some(reader), |reader| async move {
            let mut reader = reader?;
            let told = reader.next().await?;
            // An error is the last word.
            let rest = told.is_ok().then_some(reader);
            Some((told, rest))
        });
        Ok(Watch::new(batches, reached))
    }
}

/// The end of a watch that its holder has.
struct Reader {
    id: u64,
    queue: UnboundedReceiver<News>,
    reached: Reached,
    gauge: Arc<Gauge>,
    asks: UnboundedSender<Ask>,
}

impl Reader {
    async fn next(&mut self) -> Option<Told> {
        let told = loop {
            match self.queue.recv().await? {
                News::Told(told) => break told,
                News::Reached(revision) => self.reached.tell(revision),
            }
        };
        if let Ok(batch) = &told {
            self.reached.tell(batch.revision);
            self.gauge.queued.fetch_sub(weight(batch), SeqCst);
            if self.gauge.caught_up() {
                // A hub that is gone is told by the queue's end.
                self.asks.send(Ask::Resume(self.id)).ok();
            }
        }
        Some(told)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.asks.send(Ask::Remove(self.id)).ok();
    }
}

/// About how many bytes a batch takes in a queue.
fn weight(batch: &Batch) -> usize {
    let one = |event: &Event| match event {
        Event::Put(item) => item.key.len() + item.value.len(),
        Event::Delete { key, .. } => key.len(),
    };
    batch.events.iter().map(|e| one(e) + 160).sum()
}

struct Serving {
    pool: Weak<Pool>,
    asks: UnboundedReceiver<Ask>,
    entries: BTreeMap<u64, Entry>,
    /// Which watch a member's number is, in the present stream.
    remotes: HashMap<i64, u64>,
    /// Numbers that were asked for and not answered yet, in their order.
    unanswered: VecDeque<i64>,
    /// Never used twice, so that late words about a cancelled watch are known.
    next_remote: i64,
}

/// Why a stream ended.
enum End {
    /// There is nothing to watch.
    Idle,
    /// The stream, or its connection, is of no use.
    Broken(String),
    /// A watch was denied, perhaps because of the token's age.
    Denied,
    /// The store is closed.
    Closed,
}

/// A stream of watches.
struct Session {
    requests: UnboundedSender<proto::WatchRequest>,
    answers: Streaming<proto::WatchResponse>,
}

impl Serving {
    async fn run(mut self) {
        loop {
            while self.entries.is_empty() {
                let Some(ask) = self.asks.recv().await else { return };
                self.take(ask, None);
            }
            let Some(pool) = self.pool.upgrade() else { return };
            let conn = tokio::select! {
                conn = pool.conn_some_time() => conn,
                ask = self.asks.recv() => {
                    let Some(ask) = ask else { return };
                    self.take(ask, None);
                    continue;
                }
            };
            let token = conn.token_number();
            match self.session(&pool, &conn).await {
                End::Idle => {}
                End::Closed => return,
                End::Broken(reason) => pool.fail(&conn, &reason),
                End::Denied => {
                    if let Err(error) = conn.renew(token, pool.options.attempt).await {
                        pool.fail(&conn, &error.to_string());
                    }
                }
            }
        }
    }

    /// Opens a stream with all watches on it and serves it to its end.
    async fn session(&mut self, pool: &Pool, conn: &Conn) -> End {
        self.remotes.clear();
        self.unanswered.clear();
        self.entries.values_mut().for_each(|e| e.remote = None);
        let (requests, mut outgoing) = unbounded_channel();
        let ids: Vec<u64> = self.entries.keys().copied().collect();
        for id in ids {
            self.create(id, &requests);
        }
        let outgoing = stream::poll_fn(move |cx| outgoing.poll_recv(cx));
        // The member's first answer comes when it made the first watch; if all are parked, there is none yet.
        if self.remotes.is_empty() {
            return self.until_wanted().await;
        }
        let opened = conn.stream(method::WATCH, outgoing, pool.options.attempt).await;
        let answers = match opened {
            Ok(answers) => answers,
            Err(status) => return ended(&status, pool),
        };
        let mut session = Session { requests, answers };
        let mut state = pool.state();
        // It may have changed before this receiver was made.
        state.mark_changed();
        loop {
            let end = tokio::select! {
                answer = session.answers.message() => match answer {
                    Ok(Some(answer)) => self.answer(pool, &answer, &session.requests),
                    Ok(None) => Some(End::Broken("the stream of watches ended".to_owned())),
                    Err(status) => Some(ended(&status, pool)),
                },
                ask = self.asks.recv() => match ask {
                    Some(ask) => {
                        self.take(ask, Some(&session.requests));
                        self.remotes.is_empty().then_some(End::Idle)
                    }
                    None => Some(End::Closed),
                },
                changed = state.changed() => match changed {
                    Err(_) => Some(End::Closed),
                    Ok(()) => {
                        let current = matches!(&*state.borrow_and_update(), State::Up(c) if c.number == conn.number);
                        // Somebody else found it out; failing it again does nothing.
                        (!current).then(|| End::Broken("the connection is given up".to_owned()))
                    }
                },
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// All watches are parked: waits for one that is not.
    async fn until_wanted(&mut self) -> End {
        let Some(ask) = self.asks.recv().await else { return End::Closed };
        self.take(ask, None);
        End::Idle
    }

    fn take(&mut self, ask: Ask, requests: Option<&UnboundedSender<proto::WatchRequest>>) {
        match ask {
            Ask::Add(id, entry) => {
                self.entries.insert(id, entry);
                if let Some(requests) = requests {
                    self.create(id, requests);
                }
            }
            // Unless a new stream has done so already.
            Ask::Resume(id) => {
                let waits = self.entries.get(&id).is_some_and(|e| e.remote.is_none());
                if let Some(requests) = requests.filter(|_| waits) {
                    self.create(id, requests);
                }
            }
            Ask::Remove(id) => {
                if let Some(remote) = self.entries.remove(&id).and_then(|e| e.remote) {
                    self.cancel(remote, requests);
                }
            }
        }
    }

    /// Asks the member for a watch, unless it is parked.
    fn create(&mut self, id: u64, requests: &UnboundedSender<proto::WatchRequest>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.gauge.parked.load(SeqCst) {
            return;
        }
        let remote = self.next_remote;
        self.next_remote += 1;
        entry.remote = Some(remote);
        self.remotes.insert(remote, id);
        self.unanswered.push_back(remote);
        let request = proto::WatchCreateRequest {
            key: entry.start.clone(),
            range_end: entry.end.clone(),
            start_revision: entry.cursor.ask(),
            progress_notify: true,
            watch_id: remote,
            fragment: true,
        };
        // A stream that is gone is noticed by its answers.
        requests.send(proto::WatchRequest { request: Some(WatchRequestKind::Create(request)) }).ok();
    }

    fn cancel(&mut self, remote: i64, requests: Option<&UnboundedSender<proto::WatchRequest>>) {
        if let (Some(_), Some(requests)) = (self.remotes.remove(&remote), requests) {
            let request = proto::WatchCancelRequest { watch_id: remote };
            requests.send(proto::WatchRequest { request: Some(WatchRequestKind::Cancel(request)) }).ok();
        }
    }

    fn answer(
        &mut self,
        pool: &Pool,
        answer: &proto::WatchResponse,
        requests: &UnboundedSender<proto::WatchRequest>,
    ) -> Option<End> {
        let id = self.whose(answer)?;
        let entry = self.entries.get_mut(&id)?;
        if answer.canceled {
            return self.cancelled(pool, id, answer);
        }
        if answer.created {
            entry.denied = 0;
        }
        let (before, batches) = (entry.cursor.next(), entry.cursor.take(&pool.keys, answer));
        if batches.is_empty() && entry.cursor.next() > before {
            entry.queue.send(News::Reached(entry.cursor.next() - 1)).ok();
        }
        for batch in batches {
            entry.gauge.queued.fetch_add(weight(&batch), SeqCst);
            // A reader that is gone says so itself.
            entry.queue.send(News::Told(Ok(batch))).ok();
        }
        if entry.gauge.queued.load(SeqCst) > HIGH {
            self.park(id, requests);
        }
        None
    }

    /// Which watch an answer is about. A member that denies a watch may forget its number (-1), but it answers in the
    /// order of the requests.
    fn whose(&mut self, answer: &proto::WatchResponse) -> Option<u64> {
        let oldest = if answer.created { self.unanswered.pop_front() } else { None };
        let remote = if answer.watch_id < 0 { oldest? } else { answer.watch_id };
        self.remotes.get(&remote).copied()
    }

    fn park(&mut self, id: u64, requests: &UnboundedSender<proto::WatchRequest>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.gauge.parked.store(true, SeqCst);
        if let Some(remote) = entry.remote.take() {
            self.cancel(remote, Some(requests));
        }
        // The reader may have emptied the queue before it could see that it is parked.
        if self.entries.get(&id).is_some_and(|e| e.gauge.caught_up()) {
            self.create(id, requests);
        }
    }

    /// The member ended a watch.
    fn cancelled(&mut self, pool: &Pool, id: u64, answer: &proto::WatchResponse) -> Option<End> {
        let entry = self.entries.get_mut(&id)?;
        if let Some(remote) = entry.remote.take() {
            self.remotes.remove(&remote);
        }
        let denied = says_denied(&answer.cancel_reason);
        if denied && entry.denied == 0 && pool.config.login.is_some() {
            entry.denied += 1;
            return Some(End::Denied);
        }
        let error = if answer.compact_revision > 0 {
            StoreError::Compacted { asked: entry.cursor.next(), compacted: unsigned(answer.compact_revision) }
        } else if denied {
            no_permission(&pool.config, "watch")
        } else {
            unavailable(&pool.config, format!("a watch was ended: {}", answer.cancel_reason))
        };
        entry.queue.send(News::Told(Err(error))).ok();
        self.entries.remove(&id);
        None
    }
}

/// What the end of a stream means.
fn ended(status: &Status, pool: &Pool) -> End {
    match Fault::of(status, &pool.config, "watch") {
        Fault::Token(_) => End::Denied,
        _ => End::Broken(told(status)),
    }
}
