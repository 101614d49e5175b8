//! What the resolver did, counted: plain numbers, read when somebody asks for metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use weft_base::metrics::Distribution;

use crate::wire::{HEADER, question_end, u16_at};

/// Types of records that are counted by name (RFC 1035, 3596, 2782, 9460); all others are `other`.
pub const KINDS: [(u16, &str); 7] =
    [(1, "A"), (28, "AAAA"), (12, "PTR"), (33, "SRV"), (15, "MX"), (16, "TXT"), (65, "HTTPS")];

/// What the resolver did since the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DnsStats {
    /// Queries answered from the model.
    pub answered: u64,
    /// Queries that others must answer.
    pub forwarded: u64,
    /// Of these, those that the cache answered.
    pub cached: u64,
    /// Of these, those that no server answered.
    pub failed: u64,
    /// Of these, those that were not asked for, since too many were under way.
    pub refused: u64,
    /// Packets that were no queries.
    pub dropped: u64,
    /// Containers with a resolver.
    pub containers: u64,
    /// Questions by type, in the order of [`KINDS`], the others last.
    pub kinds: [u64; KINDS.len() + 1],
    /// Answers by code (RFC 1035 section 4.1.1): no error, malformed, failure, no such name, not implemented, refused;
    /// the others last.
    pub codes: [u64; 7],
    /// Servers that did not answer in time.
    pub silent: u64,
    /// From query to answer, of upstream servers.
    pub upstream: Distribution,
    /// Answers in the cache.
    pub kept: u64,
}

/// The numbers that grow.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) answered: AtomicU64,
    pub(crate) forwarded: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) dropped: AtomicU64,
    kinds: [AtomicU64; KINDS.len() + 1],
    codes: [AtomicU64; 7],
}

impl Counters {
    /// Counts a packet of a container that is a query.
    pub(crate) fn question(&self, packet: &[u8]) {
        let kind = question_end(packet).and_then(|end| u16_at(packet, end - 4));
        let at = KINDS.iter().position(|(known, _)| Some(*known) == kind).unwrap_or(KINDS.len());
        self.kinds[at].fetch_add(1, Relaxed);
    }

    /// Counts what is sent back.
    pub(crate) fn answer(&self, packet: &[u8]) {
        if packet.len() >= HEADER {
            let code = usize::from(packet[3] & 0x0f);
            self.codes[code.min(self.codes.len() - 1)].fetch_add(1, Relaxed);
        }
    }

    /// Counts an answer without an error.
    pub(crate) fn success(&self) {
        self.codes[0].fetch_add(1, Relaxed);
    }

    pub(crate) fn read(&self) -> DnsStats {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        DnsStats {
            answered: read(&self.answered),
            forwarded: read(&self.forwarded),
            failed: read(&self.failed),
            refused: read(&self.refused),
            dropped: read(&self.dropped),
            kinds: std::array::from_fn(|at| read(&self.kinds[at])),
            codes: std::array::from_fn(|at| read(&self.codes[at])),
            ..DnsStats::default()
        }
    }
}
