//! Time as a value: a wall-clock [`Timestamp`] and a [`Clock`] that tests can hold still.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, SecondsFormat, TimeZone, Utc};
use parking_lot::Mutex;

/// A moment in UTC with nanoseconds, written as RFC 3339 (`2026-01-02T03:04:05.678901234Z`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(DateTime::UNIX_EPOCH);

    /// A moment from seconds and nanoseconds since the Unix epoch; `None` outside chrono's range.
    #[must_use]
    pub fn from_unix(secs: i64, nanos: u32) -> Option<Self> {
        Utc.timestamp_opt(secs, nanos).single().map(Self)
    }

    /// Seconds since the Unix epoch.
    #[must_use]
    pub fn unix_secs(self) -> i64 {
        self.0.timestamp()
    }

    /// Nanoseconds since the Unix epoch (saturating at the ends of `i64`).
    #[must_use]
    pub fn unix_nanos(self) -> i64 {
        self.0.timestamp_nanos_opt().unwrap_or(i64::MAX)
    }

    /// RFC 3339 with trailing zeros of the fraction removed, as Go's `RFC3339Nano` writes it.
    #[must_use]
    pub fn rfc3339_nano(self) -> String {
        let text = self.0.to_rfc3339_opts(SecondsFormat::Nanos, true);
        match text.split_once('.') {
            Some((whole, fraction)) => {
                let digits = fraction.trim_end_matches('Z').trim_end_matches('0');
                if digits.is_empty() { format!("{whole}Z") } else { format!("{whole}.{digits}Z") }
            }
            None => text,
        }
    }

    /// RFC 3339 with all nine digits of the fraction: every moment has the same width.
    #[must_use]
    pub fn rfc3339_nanos(self) -> String {
        self.0.to_rfc3339_opts(SecondsFormat::Nanos, true)
    }

    /// Reads RFC 3339 text in any offset.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        DateTime::parse_from_rfc3339(text).ok().map(|t| Self(t.with_timezone(&Utc)))
    }

    /// The time from `earlier` to this moment, zero when it lies in the future.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        (self.0 - earlier.0).to_std().unwrap_or_default()
    }

    /// This moment moved later by `by`.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0 + by)
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.rfc3339_nano())
    }
}

/// Where the present comes from.
pub trait Clock: Send + Sync + 'static {
    /// The wall-clock time.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp(Utc::now())
    }
}

/// A clock that moves only when a test moves it.
#[derive(Clone, Debug)]
pub struct FakeClock(Arc<Mutex<Timestamp>>);

impl FakeClock {
    /// A clock standing at `start`.
    #[must_use]
    pub fn at(start: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(start)))
    }

    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock();
        *now = now.plus(by);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        *self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_lose_trailing_zeros_as_in_go() {
        let at = |nanos| Timestamp::from_unix(1_700_000_000, nanos).map(Timestamp::rfc3339_nano);
        assert_eq!(at(0).as_deref(), Some("2023-11-14T22:13:20Z"));
        assert_eq!(at(120_000_000).as_deref(), Some("2023-11-14T22:13:20.12Z"));
        assert_eq!(at(1).as_deref(), Some("2023-11-14T22:13:20.000000001Z"));
    }
}
