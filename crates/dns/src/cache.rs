//! Answers of upstream servers, kept for as long as they hold (RFC 1035 section 7.4, RFC 2308 for negative ones).
//!
//! An answer is found by who was asked and by the bytes of the query: its flags, question (without case) and EDNS
//! size, but not its identifier. So what comes from here is what the server itself would have said to that very
//! query, only older. Queries with EDNS options (cookies, client subnets) and answers that are cut, failures or
//! without a lifetime are not kept.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::wire::{self, HEADER};

/// Answers kept; the oldest gives way. About 4 MB at the most that is common.
const MOST: usize = 8192;
/// Largest answer that is kept.
const LARGEST: usize = 4096;
/// Longest time that one is kept: a host that changes its mind is believed within this.
const LONGEST: u32 = 3600;
/// The same for negative ones (RFC 2308 section 5 allows up to three hours).
const LONGEST_NEGATIVE: u32 = 900;
/// NXDOMAIN.
const NO_NAME: u8 = 3;

/// What an answer is found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(Arc<[u8]>);

impl Key {
    /// The key of `query` to `whom`; `None` when its answer must not be shared.
    pub(crate) fn new(whom: &str, query: &[u8]) -> Option<Self> {
        let plain = wire::plain(query)?;
        let mut bytes = Vec::with_capacity(query.len() + whom.len());
        bytes.extend_from_slice(&query[2..]);
        // The name alone: types and classes are numbers.
        bytes[HEADER - 2..plain.end - 6].make_ascii_lowercase();
        bytes.extend_from_slice(whom.as_bytes());
        Some(Self(bytes.into()))
    }
}

struct Entry {
    answer: Box<[u8]>,
    lifetimes: Box<[usize]>,
    born: Instant,
    life: Duration,
}

/// The answers. Shared by all containers: who asks makes no difference, whom it is asked of does.
#[derive(Default)]
pub(crate) struct Cache(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    entries: HashMap<Key, Entry>,
    /// Keys by age. One that was replaced stands here twice; the earlier place then ends the later answer, which is
    /// asked for again.
    order: VecDeque<Key>,
}

impl Cache {
    /// The answer to `query`, with its own identifier and question and with lifetimes as they are at `now`.
    pub(crate) fn get(&self, key: &Key, query: &[u8], now: Instant) -> Option<Vec<u8>> {
        let kept = self.0.lock();
        let entry = kept.entries.get(key)?;
        let age = now.saturating_duration_since(entry.born);
        if age >= entry.life {
            return None;
        }
        let mut answer = entry.answer.to_vec();
        wire::grow_old(&mut answer, &entry.lifetimes, u32::try_from(age.as_secs()).unwrap_or(u32::MAX));
        drop(kept);
        let end = wire::question_end(query)?;
        answer[..2].copy_from_slice(&query[..2]);
        answer.get_mut(HEADER..end)?.copy_from_slice(&query[HEADER..end]);
        Some(answer)
    }

    /// Keeps `answer`, if it may be kept.
    pub(crate) fn put(&self, key: Key, answer: &[u8], now: Instant) {
        let Some((life, lifetimes)) = life(answer) else { return };
        let mut kept = self.0.lock();
        while kept.order.len() >= MOST
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.entries.remove(&oldest);
        }
        kept.order.push_back(key.clone());
        let entry = Entry { answer: answer.into(), lifetimes: lifetimes.into(), born: now, life };
        kept.entries.insert(key, entry);
    }

    /// How many there are, dead ones among them.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().entries.len()
    }
}

/// How long an answer holds, and where its lifetimes are; `None` when it must not be kept.
fn life(answer: &[u8]) -> Option<(Duration, Vec<usize>)> {
    let (flags, code) = (*answer.get(2)?, answer.get(3)? & 0x0f);
    let cut = flags & 0x02 != 0;
    if cut || answer.len() > LARGEST || !matches!(code, 0 | NO_NAME) {
        return None;
    }
    let found = wire::lifetimes(answer)?;
    // NXDOMAIN may follow an alias: then both the alias and the name's absence must hold.
    let seconds = match (found.answers, found.negative) {
        (Some(positive), _) if code == 0 => positive.min(LONGEST),
        (Some(positive), Some(negative)) => positive.min(negative).min(LONGEST_NEGATIVE),
        (None, Some(negative)) => negative.min(LONGEST_NEGATIVE),
        _ => return None,
    };
    (seconds > 0).then(|| (Duration::from_secs(seconds.into()), found.at))
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
