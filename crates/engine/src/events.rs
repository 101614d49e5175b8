//! What happened, for whoever watches: a ring of the last events and a live feed.
//!
//! Docker's `events` with `since` first replays and then follows without a gap: [`EventLog::follow`] takes both from under
//! one lock. The ring is memory only, as Docker's; a restart of the daemon forgets it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::broadcast;
use weft_base::{Clock, Timestamp};
use weft_model::{Container, Event, EventKind, ProjectId};

/// Events kept for replay (Docker keeps 256).
const KEPT: usize = 4096;
/// A watcher that is further behind loses the oldest.
const FEED: usize = 4096;

/// The log of events; cheap to clone.
#[derive(Clone)]
pub struct EventLog(Arc<Inner>);

struct Inner {
    ring: Mutex<VecDeque<Arc<Event>>>,
    feed: broadcast::Sender<Arc<Event>>,
    clock: Arc<dyn Clock>,
    counts: Mutex<BTreeMap<(EventKind, String), u64>>,
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
    /// An empty log.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let inner = Inner {
            ring: Mutex::new(VecDeque::new()),
            feed: broadcast::channel(FEED).0,
            clock,
            counts: Mutex::default(),
        };
        Self(Arc::new(inner))
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
        if ring.len() == KEPT {
            ring.pop_front();
        }
        ring.push_back(Arc::clone(&event));
        // No watcher is no error.
        let _ = self.0.feed.send(event);
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

    /// Events from now on.
    #[must_use]
    pub fn subscribe(&self) -> Feed {
        Feed { past: Vec::new().into_iter(), live: self.0.feed.subscribe() }
    }

    /// Kept events from `since` (inclusive) to `until` (exclusive), oldest first.
    #[must_use]
    pub fn replay(&self, since: Option<Timestamp>, until: Option<Timestamp>) -> Vec<Arc<Event>> {
        pick(&self.0.ring.lock(), since, until)
    }

    /// Kept events from `since`, then those that come, without a gap or a double.
    #[must_use]
    pub fn follow(&self, since: Option<Timestamp>) -> Feed {
        let ring = self.0.ring.lock();
        let past = if since.is_some() { pick(&ring, since, None) } else { Vec::new() };
        Feed { past: past.into_iter(), live: self.0.feed.subscribe() }
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

fn pick(ring: &VecDeque<Arc<Event>>, since: Option<Timestamp>, until: Option<Timestamp>) -> Vec<Arc<Event>> {
    let wanted = |e: &&Arc<Event>| since.is_none_or(|s| e.at >= s) && until.is_none_or(|u| e.at < u);
    ring.iter().filter(wanted).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weft_base::FakeClock;
    use weft_model::default_project;

    use super::*;

    #[tokio::test]
    async fn replay_and_feed_meet_without_gap_or_double() {
        let start = Timestamp::from_unix(1000, 0).unwrap();
        let clock = FakeClock::at(start);
        let log = EventLog::new(Arc::new(clock.clone()));
        let emit = |n: usize| {
            log.emit(EventKind::Volume, format!("e{n}"), "v", default_project(), BTreeMap::new());
            clock.advance(Duration::from_secs(1));
        };
        (0..KEPT + 3).for_each(emit);
        assert_eq!(log.replay(None, None).len(), KEPT);
        let since = start.plus(Duration::from_secs(KEPT as u64 + 1));
        let mut feed = log.follow(Some(since));
        emit(KEPT + 3);
        let mut seen = Vec::new();
        while let Some(event) = feed.ready() {
            seen.push(event.action.clone());
        }
        assert_eq!(seen, [format!("e{}", KEPT + 1), format!("e{}", KEPT + 2), format!("e{}", KEPT + 3)]);
        let until = since.plus(Duration::from_secs(1));
        assert_eq!(log.replay(Some(since), Some(until)).len(), 1);
    }
}
