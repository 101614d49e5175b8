//! One log line for each request, and the id that joins it to everything the request caused.

use std::sync::atomic::{AtomicU64, Ordering};

/// Identifies one request in the logs: unique within this daemon's life.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

static NEXT: AtomicU64 = AtomicU64::new(1);

impl RequestId {
    /// The next id.
    #[must_use]
    pub fn next() -> Self {
        Self(format!("r{}", NEXT.fetch_add(1, Ordering::Relaxed)))
    }
}
