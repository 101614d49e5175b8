//! CPU counters of every running container, read now and then, so that the first question about one has something to
//! compare with.
//!
//! A share of CPU needs two readings with time between them. Docker's daemon takes the second after it was asked, one or two seconds
//! later. Here the first is there already: of the start (when the counter was zero), then of a sweep every ten seconds
//! that reads two small files for each container and nothing else. The two newest are kept, because one that is only
//! milliseconds old would compare noise: the machine's own counter moves in ticks of 10 ms.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use weft_base::Timestamp;
use weft_model::ContainerId;

use crate::{
    cgroup::{Usage, online_cpus, system_cpu_time},
    engine::Inner,
    error::blocking,
    stats::Sample,
};

/// Between two sweeps.
const EVERY: Duration = Duration::from_secs(10);
/// Compared with a younger reading, a share of CPU is noise.
const OLD_ENOUGH: Duration = Duration::from_secs(1);

/// The newest readings of each running container: at most two, the older first.
#[derive(Default)]
pub(crate) struct Baselines(Mutex<HashMap<ContainerId, [Option<Arc<Sample>>; 2]>>);

impl Baselines {
    /// A run began: what was read of an earlier one means nothing any more.
    pub fn begin(&self, id: ContainerId, sample: Sample) {
        self.0.lock().insert(id, [None, Some(Arc::new(sample))]);
    }

    pub fn forget(&self, id: ContainerId) {
        self.0.lock().remove(&id);
    }

    fn note(&self, id: ContainerId, sample: Sample) {
        let mut all = self.0.lock();
        let kept = all.entry(id).or_default();
        kept[0] = kept[1].replace(Arc::new(sample));
    }

    /// What to compare a reading of `now` with: the newest that is old enough, else the oldest there is.
    pub fn before(&self, id: ContainerId, now: Timestamp) -> Option<Arc<Sample>> {
        let all = self.0.lock();
        let [older, newer] = all.get(&id)?;
        let fits = |s: &&Arc<Sample>| s.at.is_some_and(|at| now.since(at) >= OLD_ENOUGH);
        newer.as_ref().filter(fits).or(older.as_ref()).or(newer.as_ref()).cloned()
    }
}

fn cpu_only(at: Timestamp, usage: Usage) -> Sample {
    Sample {
        at: Some(at),
        usage,
        system_cpu: system_cpu_time(),
        online_cpus: online_cpus(),
        ..Sample::default()
    }
}

impl Inner {
    /// The first reading of a run, in the background.
    pub(crate) fn begin_baseline(self: &Arc<Self>, id: ContainerId) {
        let (me, at) = (Arc::clone(self), self.clock.now());
        self.tasks.spawn(async move {
            let read = blocking(move || Ok(cpu_only(at, Usage::default()))).await;
            if let Ok(sample) = read {
                me.sampler.baselines.begin(id, sample);
            }
        });
    }

    async fn sweep_baselines(&self) -> crate::Result<()> {
        let Ok(hierarchies) = self.sampler.hierarchies().cloned() else { return Ok(()) };
        let all = self.containers.list_shared().await?;
        let alive = all.iter().filter(|c| c.status.state.is_alive());
        let wanted: Vec<_> = alive.map(|c| (c.spec.id, self.cgroup(c))).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let at = self.clock.now();
        let read = blocking(move || {
            let read = |(id, path): (ContainerId, String)| {
                let cpu = hierarchies.cgroup(&path).ok()?.cpu_time()?;
                let mut usage = Usage::default();
                usage.cpu.total = cpu;
                Some((id, cpu_only(at, usage)))
            };
            Ok(wanted.into_iter().filter_map(read).collect::<Vec<_>>())
        });
        for (id, sample) in read.await? {
            self.sampler.baselines.note(id, sample);
        }
        Ok(())
    }
}

/// Sweeps for as long as the engine lives; the first time at once, for containers that an earlier daemon started.
pub(crate) fn keep(inner: &Arc<Inner>) {
    let weak = Arc::downgrade(inner);
    inner.tasks.spawn(async move {
        loop {
            let Some(inner) = weak.upgrade() else { return };
            if let Err(error) = inner.sweep_baselines().await {
                tracing::debug!(error = weft_base::chain(&error), "no baseline of statistics");
            }
            drop(inner);
            tokio::time::sleep(EVERY).await;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_that_is_old_enough() {
        let start = Timestamp::from_unix(1000, 0).unwrap();
        let at = |millis: u64| start.plus(Duration::from_millis(millis));
        let sample = |millis: u64| Sample { at: Some(at(millis)), ..Sample::default() };
        let (id, kept) = (ContainerId::new(), Baselines::default());
        assert!(kept.before(id, at(0)).is_none());
        kept.begin(id, sample(0));
        let seen = |now: u64| kept.before(id, at(now)).and_then(|s| s.at);
        assert_eq!(seen(100), Some(at(0)), "the only one, though young");
        kept.note(id, sample(10_000));
        assert_eq!(seen(10_200), Some(at(0)));
        assert_eq!(seen(11_000), Some(at(10_000)));
        kept.note(id, sample(20_000));
        assert_eq!(seen(20_200), Some(at(10_000)));
        kept.begin(id, sample(21_000));
        assert_eq!(seen(21_100), Some(at(21_000)), "an earlier run is forgotten");
        kept.forget(id);
        assert_eq!(seen(30_000), None);
    }
}
