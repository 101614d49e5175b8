//! What happened, for whoever watches: a ring of the last events, a live feed, and a journal on disk behind the ring.
//!
//! Docker's `events` with `since` first replays and then follows without a gap: [`EventLog::follow`] takes ring and feed from
//! under one lock; what is older than the ring comes from the [journal](crate::journal), up to the number where the ring
//! begins. Docker forgets its events with its daemon; here they outlive it, since the daemon may go unnoticed.

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::broadcast;
use weft_base::{Clock, Timestamp};
use weft_model::{Container, ContainerId, Event, EventKind, Network, NetworkKind, ProjectId};

use crate::{EngineError, Result, journal::Journal};

/// Events kept in memory for replay (Docker keeps 256).
const KEPT: usize = 256;
/// A watcher that is further behind loses the oldest.
const FEED: usize = 4096;

/// The log of events; cheap to clone.
#[derive(Clone)]
pub struct EventLog(Arc<Inner>);

struct Inner {
    ring: Mutex<Ring>,
    feed: broadcast::Sender<Arc<Event>>,
    clock: Arc<dyn Clock>,
    counts: Mutex<BTreeMap<(EventKind, String), u64>>,
    journal: Option<Journal>,
}

#[derive(Default)]
struct Ring {
    events: VecDeque<Arc<Event>>,
    /// The number of the next event.
    next: u64,
}

/// Events as they come.
pub struct Feed {
    past: std::vec::IntoIter<Arc<Event>>,
    live: broadcast::Receiver<Arc<Event>>,
}

impl Feed {
    /// The next event; `None` when the log is gone. A watcher that was too slow misses some and goes on.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        if let Some(event) = self.past.next() {
            return Some(event);
        }
        loop {
            match self.live.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "a watcher of events is too slow");
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// The next event that is there already (replayed or waiting).
    pub fn ready(&mut self) -> Option<Arc<Event>> {
        self.past.next().or_else(|| self.live.try_recv().ok())
    }
}

impl EventLog {
    /// An empty log, in memory only.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with(clock, None, 0)
    }

    /// A log that remembers in the file `path` (and `path.1` beside it).
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn open(clock: Arc<dyn Clock>, path: &Path) -> Result<Self> {
        let opened = Journal::open(path);
        let (journal, next) = opened.map_err(EngineError::io(format!("opening {}", path.display())))?;
        Ok(Self::with(clock, Some(journal), next))
    }

    fn with(clock: Arc<dyn Clock>, journal: Option<Journal>, next: u64) -> Self {
        let ring = Mutex::new(Ring { next, ..Ring::default() });
        let (feed, counts) = (broadcast::channel(FEED).0, Mutex::default());
        Self(Arc::new(Inner { ring, feed, clock, counts, journal }))
    }

    /// Records what happened now to `id`.
    pub fn emit(
        &self,
        kind: EventKind,
        action: impl Into<String>,
        id: impl Into<String>,
        project: ProjectId,
        attributes: BTreeMap<String, String>,
    ) {
        let (action, id) = (action.into(), id.into());
        // What follows a colon is one event's own (`exec_start: ls`).
        let verb = action.split(':').next().unwrap_or_default().to_owned();
        *self.0.counts.lock().entry((kind, verb)).or_default() += 1;
        // Stamped under the lock, so that the ring's order is that of time.
        let mut ring = self.0.ring.lock();
        let event = Arc::new(Event { at: self.0.clock.now(), kind, action, id, attributes, project });
        if let Some(journal) = &self.0.journal {
            journal.append(ring.next, Arc::clone(&event));
        }
        ring.next += 1;
        if ring.events.len() == KEPT {
            ring.events.pop_front();
        }
        ring.events.push_back(Arc::clone(&event));
        // No watcher is no error.
        let _ = self.0.feed.send(event);
    }

    /// Records what happened to a network, with Docker's attributes: `name`, `type`, and the container it is about.
    pub fn network(&self, network: &Network, action: &str, container: Option<ContainerId>) {
        let mut attributes = BTreeMap::from([
            ("name".to_owned(), network.spec.name.to_string()),
            ("type".to_owned(), driver(network.spec.kind).to_owned()),
        ]);
        attributes.extend(container.map(|id| ("container".to_owned(), id.to_string())));
        let id = network.spec.id.to_string();
        self.emit(EventKind::Network, action, id, network.meta.project, attributes);
    }

    /// Records what happened to a container, with Docker's attributes: its labels, `image`, `name`, and `more`.
    pub fn container<'a>(
        &self,
        container: &Container,
        action: impl Into<String>,
        more: impl IntoIterator<Item = (&'a str, String)>,
    ) {
        let mut attributes = container.meta.labels.clone();
        attributes.insert("image".into(), container.spec.image.reference.clone());
        attributes.insert("name".into(), container.spec.name.to_string());
        attributes.extend(more.into_iter().map(|(k, v)| (k.to_owned(), v)));
        let id = container.spec.id.to_string();
        self.emit(EventKind::Container, action, id, container.meta.project, attributes);
    }

    /// Kept events from `since` (inclusive), when that is given, then those that come, without a gap or a double.
    pub async fn follow(&self, since: Option<Timestamp>) -> Feed {
        let (mut past, live, begins) = {
            let ring = self.0.ring.lock();
            let past: Vec<_> = match since {
                Some(since) => ring.events.iter().filter(|e| e.at >= since).cloned().collect(),
                None => Vec::new(),
            };
            (past, self.0.feed.subscribe(), ring.next - ring.events.len() as u64)
        };
        if let (Some(since), Some(journal)) = (since, &self.0.journal) {
            let mut older = journal.read(begins, move |e| e.at >= since).await;
            older.append(&mut past);
            past = older;
        }
        Feed { past: past.into_iter(), live }
    }

    /// Counts something that is no event of the API.
    pub(crate) fn count(&self, kind: EventKind, action: &str) {
        *self.0.counts.lock().entry((kind, action.to_owned())).or_default() += 1;
    }

    /// How many of each kind and action there were since the start.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<(EventKind, String), u64> {
        self.0.counts.lock().clone()
    }

    /// Watchers at the moment.
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.0.feed.receiver_count()
    }
}

/// Docker's name of a network's driver.
fn driver(kind: NetworkKind) -> &'static str {
    match kind {
        NetworkKind::Bridge => "bridge",
        NetworkKind::Host => "host",
        NetworkKind::None | NetworkKind::Config => "null",
        NetworkKind::Macvlan => "macvlan",
        NetworkKind::Ipvlan => "ipvlan",
        NetworkKind::Overlay => "overlay",
        NetworkKind::Routed => "routed",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weft_base::FakeClock;
    use weft_model::default_project;

    use super::*;

    fn drain(mut feed: Feed) -> Vec<String> {
        std::iter::from_fn(|| feed.ready()).map(|e| e.action.clone()).collect()
    }

    #[tokio::test]
    async fn replay_and_feed_meet_without_gap_or_double() {
        let start = Timestamp::from_unix(1000, 0).unwrap();
        let clock = FakeClock::at(start);
        let dir = tempfile::tempdir().unwrap();
        let open = || EventLog::open(Arc::new(clock.clone()), &dir.path().join("events.log")).unwrap();
        let emit = |log: &EventLog, n: usize| {
            log.emit(EventKind::Volume, format!("e{n}"), "v", default_project(), BTreeMap::new());
            clock.advance(Duration::from_secs(1));
        };
        let names = |range: std::ops::Range<usize>| range.map(|n| format!("e{n}")).collect::<Vec<_>>();
        let at = |n: usize| Some(start.plus(Duration::from_secs(n as u64)));
        let log = open();
        (0..KEPT + 10).for_each(|n| emit(&log, n));
        let feed = log.follow(at(0)).await;
        emit(&log, KEPT + 10);
        assert_eq!(drain(feed), names(0..KEPT + 11), "disk, ring and feed meet");
        assert_eq!(drain(log.follow(at(KEPT + 5)).await), names(KEPT + 5..KEPT + 11));
        assert!(drain(log.follow(None).await).is_empty());
        drop(log);
        let log = open();
        emit(&log, KEPT + 11);
        assert_eq!(drain(log.follow(at(KEPT)).await), names(KEPT..KEPT + 12), "an earlier daemon's too");
    }
}
