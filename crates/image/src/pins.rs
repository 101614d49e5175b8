//! What must not be collected right now.
//!
//! A blob or layer that is being used but is not yet named by a record is held by a [`Pin`]. A collection runs
//! beside uploads: it first calls [`Pins::watch`], then lists the records, then removes what neither a record named
//! nor anybody held **at any time since the watch began**. A record written after the listing was held before
//! its pin fell, so that no order of events loses content.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parking_lot::Mutex;
use weft_model::Digest;

#[derive(Default)]
struct State {
    held: HashMap<Digest, usize>,
    watches: HashMap<u64, HashSet<Digest>>,
    next: u64,
}

/// The set of held digests of one store.
#[derive(Clone, Default)]
pub(crate) struct Pins(Arc<Mutex<State>>);

/// Holds one digest while it lives.
#[must_use = "content is held only while the pin lives"]
pub struct Pin {
    pins: Pins,
    digest: Digest,
}

/// A running collection's memory of what was held.
pub(crate) struct Watch {
    pins: Pins,
    key: u64,
}

impl Pins {
    pub fn pin(&self, digest: Digest) -> Pin {
        let mut state = self.0.lock();
        *state.held.entry(digest).or_default() += 1;
        for seen in state.watches.values_mut() {
            seen.insert(digest);
        }
        Pin { pins: self.clone(), digest }
    }

    pub fn watch(&self) -> Watch {
        let mut state = self.0.lock();
        let key = state.next;
        state.next += 1;
        let held = state.held.keys().copied().collect();
        state.watches.insert(key, held);
        Watch { pins: self.clone(), key }
    }
}

impl Watch {
    /// Runs `remove` unless the digest was held since the watch began; nobody can pin it meanwhile.
    pub fn unless_held<T>(&self, digest: &Digest, remove: impl FnOnce() -> T) -> Option<T> {
        let state = self.pins.0.lock();
        let held = state.watches.get(&self.key).is_some_and(|seen| seen.contains(digest));
        if held { None } else { Some(remove()) }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.pins.0.lock().watches.remove(&self.key);
    }
}

impl Pin {
    /// What is held.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl Clone for Pin {
    fn clone(&self) -> Self {
        self.pins.pin(self.digest)
    }
}

impl std::fmt::Debug for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pin({})", self.digest)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.pins.0.lock();
        if let Some(count) = state.held.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                state.held.remove(&self.digest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_remembers_what_was_held_and_let_go() {
        let pins = Pins::default();
        let [a, b, c] = [1, 2, 3].map(|n| Digest::from_sha256([n; 32]));
        let held = pins.pin(a);
        let watch = pins.watch();
        drop(held);
        drop(pins.pin(b));
        for (digest, removable) in [(a, false), (b, false), (c, true)] {
            assert_eq!(watch.unless_held(&digest, || ()).is_some(), removable);
        }
        drop(watch);
        assert!(pins.watch().unless_held(&a, || ()).is_some());
    }
}
