//! Figures for monitoring: a histogram that many threads fill, and Prometheus' text format (version 0.0.4).
//!
//! There is no registry: whoever has figures keeps them as plain numbers, and they are put into text when somebody
//! asks. Names and units follow Prometheus' conventions: base units, `_total` for what only grows.

use std::{
    fmt::{Display, Write as _},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Upper bounds, in seconds, that suit requests and commits alike.
pub const SECONDS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Durations, counted by size.
#[derive(Debug)]
pub struct Histogram {
    /// One for each bound, and one for what is larger.
    counts: [AtomicU64; SECONDS.len() + 1],
    nanos: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: std::array::from_fn(|_| AtomicU64::new(0)), nanos: AtomicU64::new(0) }
    }
}

/// What a histogram holds at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// How many fell below each bound of [`SECONDS`] but not below the one before; the last are larger than all.
    pub counts: Vec<u64>,
    /// Their sum in seconds.
    pub sum: f64,
}

impl Histogram {
    /// Counts one.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = SECONDS.iter().position(|bound| seconds <= *bound).unwrap_or(SECONDS.len());
        if let Some(count) = self.counts.get(at) {
            count.fetch_add(1, Relaxed);
        }
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// What it holds now.
    #[must_use]
    pub fn read(&self) -> Distribution {
        let counts = self.counts.iter().map(|c| c.load(Relaxed)).collect();
        Distribution { counts, sum: Duration::from_nanos(self.nanos.load(Relaxed)).as_secs_f64() }
    }
}

/// What a family of samples is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// Names and values of a sample's labels.
pub type Labels<'a> = [(&'a str, &'a str)];

/// The text being written. Samples of a family follow its head without another family between.
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// Begins a family.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One sample of the family just begun.
    pub fn sample(&mut self, name: &str, labels: &Labels<'_>, value: impl Display) {
        self.0.push_str(name);
        if !labels.is_empty() {
            self.0.push('{');
            for (at, (label, value)) in labels.iter().enumerate() {
                let comma = if at == 0 { "" } else { "," };
                let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                let _ = write!(self.0, "{comma}{label}=\"{value}\"");
            }
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// The samples of one distribution.
    pub fn distribution(&mut self, name: &str, labels: &Labels<'_>, seen: &Distribution) {
        let mut total = 0;
        let bounds = SECONDS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        for (count, bound) in seen.counts.iter().zip(bounds) {
            total += count;
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.sample(&format!("{name}_bucket"), &labels, total);
        }
        self.sample(&format!("{name}_sum"), labels, seen.sum);
        self.sample(&format!("{name}_count"), labels, total);
    }

    /// The whole text.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_as_prometheus_reads_it() {
        let histogram = Histogram::default();
        for ms in [1, 2, 20_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let mut text = Exposition::default();
        text.family("a_seconds", Kind::Histogram, "How\nlong.");
        text.distribution("a_seconds", &[("k", "v\"\\")], &histogram.read());
        text.single("b", Kind::Gauge, "B.", 1.5);
        let text = text.into_text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], ["# HELP a_seconds How\\nlong.", "# TYPE a_seconds histogram"]);
        for line in [
            r#"a_seconds_bucket{k="v\"\\",le="0.0005"} 0"#,
            r#"a_seconds_bucket{k="v\"\\",le="0.001"} 1"#,
            r#"a_seconds_bucket{k="v\"\\",le="0.0025"} 2"#,
            r#"a_seconds_bucket{k="v\"\\",le="10"} 2"#,
            r#"a_seconds_bucket{k="v\"\\",le="+Inf"} 3"#,
            r#"a_seconds_sum{k="v\"\\"} 20.003"#,
            r#"a_seconds_count{k="v\"\\"} 3"#,
            "b 1.5",
        ] {
            assert!(lines.contains(&line), "{line} in\n{text}");
        }
    }
}
