//! One list out of two stores.

use std::sync::Arc;

use parking_lot::Mutex;
use weft_model::Resource;

use super::Stored;

type Shared<R> = Arc<[Stored<R>]>;

/// The union of two lists, kept until one of them changes.
pub(super) struct Union<R>(Mutex<Option<[Shared<R>; 3]>>);

impl<R> Default for Union<R> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<R: Resource> Union<R> {
    /// Both lists as one, in key order.
    pub(super) fn of(&self, one: Shared<R>, other: Shared<R>) -> Shared<R> {
        if other.is_empty() {
            return one;
        }
        let mut kept = self.0.lock();
        if let Some([a, b, both]) = &*kept
            && Arc::ptr_eq(a, &one)
            && Arc::ptr_eq(b, &other)
        {
            return Arc::clone(both);
        }
        let mut both: Vec<_> = one.iter().chain(other.iter()).cloned().collect();
        both.sort_by_cached_key(|stored| stored.key());
        let both: Shared<R> = both.into();
        *kept = Some([one, other, Arc::clone(&both)]);
        both
    }
}
