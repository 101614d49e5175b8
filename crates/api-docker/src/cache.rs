//! Answers kept for as long as they are true: until anything is written, and for a second, because they tell ages.
//!
//! Monitoring asks for the same list again and again. Rendering it anew costs far more than to send it.

use std::sync::Arc;

use axum::body::Bytes;
use parking_lot::Mutex;
use weft_base::Timestamp;
use weft_cloud::{Caller, Mark};
use weft_model::ProjectId;

use crate::ApiVersion;

/// Answers kept at a time; the oldest goes.
const KEPT: usize = 16;

/// What an answer depends on besides what is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// Whose resources, and whether all are seen.
    pub sees: (ProjectId, bool),
    pub version: ApiVersion,
    pub query: String,
}

impl Question {
    pub(crate) fn new(caller: &Caller, version: ApiVersion, query: Option<String>) -> Self {
        Self { sees: (caller.project, caller.admin), version, query: query.unwrap_or_default() }
    }
}

#[derive(Debug, Default)]
struct Kept<M> {
    /// The stores' mark and the second they are true for.
    moment: (M, i64),
    answers: Vec<(Question, Bytes)>,
}

/// Kept answers of one resource, true for a mark `M` of what they were made of; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers<M = Mark>(Arc<Mutex<Kept<M>>>);

impl<M: Copy + PartialEq> Answers<M> {
    /// The answer to `question` at `mark` of the stores, if it is known.
    pub(crate) fn get(&self, mark: M, now: Timestamp, question: &Question) -> Option<Bytes> {
        let kept = self.0.lock();
        if kept.moment != (mark, now.unix_secs()) {
            return None;
        }
        kept.answers.iter().find(|(q, _)| q == question).map(|(_, answer)| answer.clone())
    }

    /// Keeps what was answered; `mark` was read before anything else was.
    pub(crate) fn keep(&self, mark: M, now: Timestamp, question: Question, answer: Bytes) {
        let mut kept = self.0.lock();
        let moment = (mark, now.unix_secs());
        if kept.moment != moment {
            *kept = Kept { moment, answers: Vec::new() };
        }
        if kept.answers.len() >= KEPT {
            kept.answers.remove(0);
        }
        kept.answers.push((question, answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_true_for_one_mark_and_one_second() {
        let answers = Answers::default();
        let caller = Caller::local_administrator("test");
        let ask = |query: &str| Question::new(&caller, ApiVersion::v1(41), Some(query.to_owned()));
        let at = |secs| Timestamp::from_unix(secs, 7).unwrap();
        answers.keep(5, at(1), ask("all=1"), Bytes::from_static(b"[]"));
        assert_eq!(answers.get(5, at(1), &ask("all=1")), Some(Bytes::from_static(b"[]")));
        for (mark, secs, query) in [(5, 1, ""), (6, 1, "all=1"), (5, 2, "all=1")] {
            assert_eq!(answers.get(mark, at(secs), &ask(query)), None, "{mark} {secs} {query}");
        }
        for n in 0..2 * KEPT {
            answers.keep(6, at(1), ask(&n.to_string()), Bytes::new());
        }
        assert_eq!(answers.0.lock().answers.len(), KEPT);
    }
}
