//! How many queries may be under way to other servers. Each holds a socket and a little memory until it is answered or
//! given up, so there is a bound for all containers together; and one that asks for thousands of names must not take
//! the others' places, so each has some of its own and a bound of its own.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places that each container has for itself, whatever the others do.
const OWN: usize = 64;
/// Places beyond those, for all containers together.
const SHARED: usize = 4096;

/// All places.
pub(crate) struct Quota {
    /// Of one container.
    most: usize,
    shared: Arc<Semaphore>,
}

/// Those of one container.
pub(crate) struct Share {
    own: Arc<Semaphore>,
    more: Arc<Semaphore>,
    shared: Arc<Semaphore>,
}

/// One place; free again when it is dropped.
pub(crate) struct Place {
    _own: OwnedSemaphorePermit,
    _shared: Option<OwnedSemaphorePermit>,
}

impl Quota {
    /// Allows each container `most` at a time.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, shared: Arc::new(Semaphore::new(SHARED)) }
    }

    pub(crate) fn share(&self) -> Share {
        let own = self.most.min(OWN);
        Share {
            own: Arc::new(Semaphore::new(own)),
            more: Arc::new(Semaphore::new(self.most - own)),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl Share {
    /// A place, if there is one now.
    pub(crate) fn take(&self) -> Option<Place> {
        if let Ok(own) = Arc::clone(&self.own).try_acquire_owned() {
            return Some(Place { _own: own, _shared: None });
        }
        let more = Arc::clone(&self.more).try_acquire_owned().ok()?;
        let shared = Arc::clone(&self.shared).try_acquire_owned().ok()?;
        Some(Place { _own: more, _shared: Some(shared) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(share: &Share) -> Vec<Place> {
        std::iter::from_fn(|| share.take()).collect()
    }

    #[test]
    fn nobody_takes_the_places_of_others() {
        let quota = Quota::new(1024);
        let greedy: Vec<Share> = (0..5).map(|_| quota.share()).collect();
        let mut held: Vec<Vec<Place>> = greedy.iter().map(all).collect();
        let counts: Vec<usize> = held.iter().map(Vec::len).collect();
        assert_eq!(counts, [1024, 1024, 1024, 1024, OWN + SHARED - 4 * (1024 - OWN)]);
        let modest = quota.share();
        assert_eq!(all(&modest).len(), OWN, "its own are there");
        // What one gives back another may have.
        held.remove(0);
        assert_eq!(all(&modest).len(), 1024);
        assert_eq!(all(&Quota::new(3).share()).len(), 3);
    }
}
