//! One watch's place in the history: etcd's answers in, whole revisions in their order out.
//!
//! `next` is the lowest revision that may still have to be told. It grows with each revision that is handed on, and with
//! etcd's progress notifications (every ten minutes by default, told in order with the events), so that a quiet watch
//! is not told `Compacted` for changes of others.
//!
//! Two faults of etcd before 3.4.37 and 3.5.21 are kept away by where and how it asks:
//!
//! - A watch from exactly the revision of a compaction lacks the removals of that revision (etcd 19179). So each asks from
//!   one revision earlier than it needs, which etcd refuses in that case, and drops what is older.
//! - Progress that is asked for by the client may be told before the events (etcd 15220). So nobody asks.

use weft_store::{Batch, Event};

use crate::{
    convert::{item, revision, signed, unsigned},
    keys::Keys,
    open::SCHEMA_KEY,
    proto::{self, EventType},
};

/// A place in the history.
#[derive(Debug)]
pub(crate) struct Cursor {
    next: u64,
    /// The last revision of a split answer, which may go on in the next part.
    held: Option<Batch>,
}

impl Cursor {
    /// A watch of everything from revision `next` on.
    pub(crate) fn new(next: u64) -> Self {
        Self { next: next.max(1), held: None }
    }

    /// The lowest revision that may still have to be told.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The revision to ask a member for; what a broken stream left unfinished is forgotten, it comes again.
    pub(crate) fn ask(&mut self) -> i64 {
        self.held = None;
        // 0 would mean "from now on"; before revision 1 there is nothing.
        signed(self.next.saturating_sub(1).max(1))
    }

    /// The revisions that an answer completes.
    pub(crate) fn take(&mut self, keys: &Keys, answer: &proto::WatchResponse) -> Vec<Batch> {
        let mut batches: Vec<Batch> = self.held.take().into_iter().collect();
        for (at, event) in answer.events.iter().filter_map(|e| event_of(keys, e)) {
            if at < self.next {
                continue;
            }
            match batches.last_mut().filter(|b| b.revision == at) {
                Some(batch) => batch.events.push(event),
                None => batches.push(Batch { revision: at, events: vec![event] }),
            }
        }
        if answer.fragment {
            self.held = batches.pop();
        }
        if let Some(last) = batches.last() {
            self.next = last.revision + 1;
        } else if answer.events.is_empty() && !answer.created && !answer.canceled && !answer.fragment {
            self.next = self.next.max(revision(answer.header.as_ref()) + 1);
        }
        batches.retain(|b| !b.events.is_empty());
        batches
    }
}

fn event_of(keys: &Keys, event: &proto::Event) -> Option<(u64, Event)> {
    let kv = event.kv.as_ref()?;
    let at = unsigned(kv.mod_revision);
    let event = if event.kind == i32::from(EventType::Delete) {
        Event::Delete { key: keys.strip(&kv.key), revision: at }
    } else {
        Event::Put(item(keys, kv))
    };
    // The store's own key is no record.
    (event.key() != SCHEMA_KEY).then_some((at, event))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(revisions: &[u64], header: u64, fragment: bool) -> proto::WatchResponse {
        let event = |(n, r): (usize, &u64)| proto::Event {
            kind: 0,
            kv: Some(proto::KeyValue {
                key: format!("/p/{n}").into(),
                mod_revision: signed(*r),
                ..Default::default()
            }),
        };
        proto::WatchResponse {
            header: Some(proto::Header { revision: signed(header), ..Default::default() }),
            events: revisions.iter().enumerate().map(event).collect(),
            fragment,
            ..Default::default()
        }
    }

    /// What came out, as revision and number of events.
    fn fed(cursor: &mut Cursor, answer: &proto::WatchResponse) -> Vec<(u64, usize)> {
        cursor.take(&Keys::new("/p"), answer).iter().map(|b| (b.revision, b.events.len())).collect()
    }

    #[test]
    fn events_become_whole_revisions_and_old_ones_are_dropped() {
        let mut cursor = Cursor::new(5);
        assert_eq!(cursor.ask(), 4);
        assert_eq!(fed(&mut cursor, &answer(&[4, 5, 5, 7], 9, false)), [(5, 2), (7, 1)]);
        assert_eq!((cursor.next(), cursor.ask()), (8, 7));
        assert_eq!(fed(&mut cursor, &answer(&[7], 9, false)), []);
        assert_eq!(cursor.next(), 8, "what is dropped moves nothing");
    }

    #[test]
    fn a_revision_in_two_parts_is_handed_on_once_and_whole() {
        let mut cursor = Cursor::new(1);
        assert_eq!(cursor.ask(), 1);
        assert_eq!(fed(&mut cursor, &answer(&[2, 3], 9, true)), [(2, 1)]);
        assert_eq!(fed(&mut cursor, &answer(&[3, 3], 9, true)), []);
        assert_eq!(fed(&mut cursor, &answer(&[3, 4], 9, false)), [(3, 4), (4, 1)]);
        assert_eq!(cursor.next(), 5);
    }

    #[test]
    fn a_break_between_two_parts_begins_the_revision_again() {
        let mut cursor = Cursor::new(1);
        assert_eq!(fed(&mut cursor, &answer(&[2, 3], 9, true)), [(2, 1)]);
        assert_eq!(cursor.ask(), 2);
        assert_eq!(fed(&mut cursor, &answer(&[2, 3, 3], 9, false)), [(3, 2)]);
    }

    #[test]
    fn progress_moves_on_and_what_only_looks_like_it_does_not() {
        let mut cursor = Cursor::new(3);
        let created = proto::WatchResponse { created: true, ..answer(&[], 20, false) };
        let cancelled = proto::WatchResponse { canceled: true, ..answer(&[], 20, false) };
        for other in [created, cancelled] {
            fed(&mut cursor, &other);
            assert_eq!(cursor.next(), 3);
        }
        fed(&mut cursor, &answer(&[], 10, false));
        assert_eq!(cursor.next(), 11);
        fed(&mut cursor, &answer(&[], 9, false));
        assert_eq!(cursor.next(), 11, "progress never goes back");
    }

    #[test]
    fn the_stores_own_key_is_not_told() {
        let mut cursor = Cursor::new(1);
        let mut with_schema = answer(&[2], 2, false);
        with_schema.events[0].kv.as_mut().unwrap().key = "/p/weft/schema".into();
        assert_eq!(fed(&mut cursor, &with_schema), []);
    }
}
