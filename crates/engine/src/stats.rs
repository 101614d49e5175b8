//! What running containers use: samples in memory, taken once a second while somebody asks.
//!
//! Docker's one-shot stats take two seconds because each request samples anew. Here the last two samples are kept: a request answers
//! at once with what is there (taking one on the spot where none is fresh, compared with the [baseline](crate::baseline)
//! that is kept of every running container), and streams share one sampler for each container.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::watch;
use weft_base::Timestamp;
use weft_model::ContainerId;

use crate::{
    Engine, EngineError, Result,
    baseline::Baselines,
    cgroup::{Hierarchies, Usage, machine_memory, online_cpus, system_cpu_time},
    engine::Inner,
    error::blocking,
};

/// Between two samples.
const EVERY: Duration = Duration::from_secs(1);
/// A sample older than this is not shown as the present.
const FRESH: Duration = Duration::from_millis(1500);
/// The sampler's own last sample is the one before only if it is no older than this.
const IN_A_ROW: Duration = Duration::from_secs(5);

/// Counters of one network interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceUsage {
    /// Bytes, packets, errors, drops received.
    pub rx: [u64; 4],
    /// Bytes, packets, errors, drops sent.
    pub tx: [u64; 4],
}

/// What a container used at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// When.
    pub at: Option<Timestamp>,
    /// Its cgroup.
    pub usage: Usage,
    /// CPU time of the whole machine, nanoseconds.
    pub system_cpu: u64,
    /// CPUs online.
    pub online_cpus: u32,
    /// Bytes of memory of the machine, for containers without a limit.
    pub machine_memory: u64,
    /// Interfaces of its network namespace but loopback.
    pub interfaces: BTreeMap<String, InterfaceUsage>,
}

/// Two samples in a row; the older one is `None` at the first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pair {
    /// The one before.
    pub before: Option<Arc<Sample>>,
    /// The newest; a sample with `at` absent when the container does not run.
    pub now: Arc<Sample>,
}

/// Samples of all containers that somebody asked about.
pub(crate) struct Sampler {
    hierarchies: Option<Arc<Hierarchies>>,
    kept: Mutex<HashMap<ContainerId, watch::Sender<Pair>>>,
    pub baselines: Baselines,
}

impl Sampler {
    pub fn new() -> Self {
        let hierarchies = Hierarchies::detect().inspect_err(|error| {
            tracing::warn!(%error, "cgroups cannot be found: there will be no statistics");
        });
        Self { hierarchies: hierarchies.ok(), kept: Mutex::default(), baselines: Baselines::default() }
    }

    pub fn forget(&self, id: ContainerId) {
        self.kept.lock().remove(&id);
        self.baselines.forget(id);
    }

    pub fn hierarchies(&self) -> Result<&Arc<Hierarchies>> {
        let none = || EngineError::Unsupported("cgroups are not mounted".into());
        self.hierarchies.as_ref().ok_or_else(none)
    }
}

/// A stream of samples, one a second.
pub struct StatsStream {
    samples: watch::Receiver<Pair>,
    first: bool,
}

impl StatsStream {
    /// The next sample; `None` when the container is gone.
    pub async fn next(&mut self) -> Option<Pair> {
        if !std::mem::take(&mut self.first) {
            self.samples.changed().await.ok()?;
        }
        Some(self.samples.borrow_and_update().clone())
    }
}

impl Engine {
    /// What the container uses, at once. One that does not run answers with an empty sample.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn stats_once(&self, id: ContainerId) -> Result<Pair> {
        let feed = self.0.samples(id).await?;
        let last = feed.borrow().clone();
        let now = self.0.clock.now();
        if last.now.at.is_some_and(|at| now.since(at) < FRESH) {
            return Ok(last);
        }
        self.0.take_sample(id).await?;
        Ok(feed.borrow().clone())
    }

    /// A sample now, then one each second for as long as the container exists.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn stats(&self, id: ContainerId) -> Result<StatsStream> {
        self.stats_once(id).await?;
        let samples = self.0.samples(id).await?;
        Ok(StatsStream { samples, first: true })
    }
}

impl Inner {
    /// The feed of a container; its sampler runs while anybody listens.
    async fn samples(self: &Arc<Self>, id: ContainerId) -> Result<watch::Receiver<Pair>> {
        self.cell(id).await?;
        let mut kept = self.sampler.kept.lock();
        if let Some(feed) = kept.get(&id).filter(|feed| feed.receiver_count() > 0) {
            return Ok(feed.subscribe());
        }
        let feed = kept.entry(id).or_insert_with(|| watch::channel(Pair::default()).0);
        let receiver = feed.subscribe();
        let weak = Arc::downgrade(self);
        self.tasks.spawn(async move {
            loop {
                tokio::time::sleep(EVERY).await;
                let Some(inner) = weak.upgrade() else { return };
                {
                    let kept = inner.sampler.kept.lock();
                    if kept.get(&id).is_none_or(|feed| feed.receiver_count() == 0) {
                        return;
                    }
                }
                if let Err(error) = inner.take_sample(id).await {
                    tracing::debug!(container = %id, %error, "no sample");
                }
            }
        });
        Ok(receiver)
    }

    async fn take_sample(&self, id: ContainerId) -> Result<()> {
        let container = self.container(id).await?;
        let sample = if container.status.state.is_alive() {
            let cgroup = self.sampler.hierarchies()?.cgroup(&self.cgroup(&container));
            let (pid, at) = (container.status.pid, self.clock.now());
            blocking(move || {
                let cgroup = cgroup.map_err(|e| EngineError::Internal(weft_base::chain(&e)))?;
                Ok(Sample {
                    at: Some(at),
                    // It may end this moment; then it uses nothing.
                    usage: cgroup.usage().unwrap_or_default(),
                    system_cpu: system_cpu_time(),
                    online_cpus: online_cpus(),
                    machine_memory: machine_memory(),
                    interfaces: interfaces(&format!("/proc/{pid}/net/dev")),
                })
            })
            .await?
        } else {
            Sample::default()
        };
        let baseline = sample.at.and_then(|at| self.sampler.baselines.before(id, at));
        let kept = self.sampler.kept.lock();
        if let Some(feed) = kept.get(&id) {
            feed.send_modify(|pair| {
                let before = std::mem::replace(&mut pair.now, Arc::new(sample));
                pair.before = choose(before, baseline, &pair.now);
            });
        }
        Ok(())
    }
}

/// The sample to compare `now` with: the last one where samples follow each other, else the baseline. One of an earlier run,
/// whose counters stand higher, is none.
fn choose(last: Arc<Sample>, baseline: Option<Arc<Sample>>, now: &Sample) -> Option<Arc<Sample>> {
    let at = now.at?;
    let earlier = |s: &Arc<Sample>| s.at.is_some() && s.usage.cpu.total <= now.usage.cpu.total;
    let recent = last.at.is_some_and(|before| at.since(before) <= IN_A_ROW);
    Some(last).filter(|s| recent && earlier(s)).or(baseline.filter(earlier))
}

fn interfaces(path: &str) -> BTreeMap<String, InterfaceUsage> {
    parse_dev(&std::fs::read_to_string(path).unwrap_or_default())
}

/// `/proc/net/dev` (proc(5)).
fn parse_dev(text: &str) -> BTreeMap<String, InterfaceUsage> {
    let mut found = BTreeMap::new();
    for line in text.lines().skip(2) {
        let Some((name, rest)) = line.split_once(':') else { continue };
        let n: Vec<u64> = rest.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        if let ([a, b, c, d, ..], Some([e, f, g, h])) = (&n[..], n.get(8..12)) {
            let usage = InterfaceUsage { rx: [*a, *b, *c, *d], tx: [*e, *f, *g, *h] };
            if name.trim() != "lo" {
                found.insert(name.trim().to_owned(), usage);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_compared_with_one_of_the_same_run() {
        let sample = |secs: i64, cpu: u64| {
            let mut sample = Sample { at: Timestamp::from_unix(secs, 0), ..Sample::default() };
            sample.usage.cpu.total = cpu;
            Arc::new(sample)
        };
        let none = || Arc::new(Sample::default());
        let now = sample(100, 50);
        assert_eq!(choose(none(), None, &now), None);
        assert_eq!(choose(none(), Some(sample(90, 40)), &now), Some(sample(90, 40)));
        assert_eq!(choose(sample(99, 49), Some(sample(90, 40)), &now), Some(sample(99, 49)));
        assert_eq!(choose(sample(10, 1), Some(sample(90, 40)), &now), Some(sample(90, 40)), "long ago");
        assert_eq!(choose(sample(99, 70), Some(sample(99, 0)), &now), Some(sample(99, 0)), "an earlier run");
        assert_eq!(choose(sample(99, 1), None, &none()), None, "it does not run");
    }

    #[test]
    fn interface_counters() {
        let text = "Inter-| Receive\n face |bytes\n    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n";
        let found = parse_dev(text);
        assert_eq!(found.len(), 1);
        assert_eq!(found["eth0"], InterfaceUsage { rx: [1, 2, 3, 4], tx: [5, 6, 7, 8] });
    }
}
