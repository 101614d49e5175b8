//! Figures of this host for monitoring: how much there is of everything, what happened, what running containers use.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use weft_engine::Sample;
use weft_model::{Container, ContainerId, EventKind, RunState};

use crate::{Action, Caller, Cloud, Result};

/// Containers measured at the same time.
const AT_ONCE: usize = 16;
/// A container whose cgroup does not answer within this is left out.
const PATIENCE: Duration = Duration::from_secs(2);

/// The figures at one moment.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// How many containers are in which state; every state is there.
    pub containers: BTreeMap<&'static str, usize>,
    /// Images.
    pub images: usize,
    /// Networks.
    pub networks: usize,
    /// Volumes.
    pub volumes: usize,
    /// Events since the daemon started, by kind and action.
    pub events: BTreeMap<(EventKind, String), u64>,
    /// Running containers.
    pub running: Vec<ContainerFigures>,
}

/// What one running container uses.
#[derive(Clone, Debug)]
pub struct ContainerFigures {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// The image, as written.
    pub image: String,
    /// The newest sample.
    pub sample: Arc<Sample>,
}

impl Cloud {
    /// Everything that is counted. Samples younger than two seconds are used again.
    pub async fn figures(&self, caller: &Caller) -> Result<Figures> {
        caller.authorise(Action::Host, caller.project)?;
        let states = [
            RunState::Created,
            RunState::Running,
            RunState::Paused,
            RunState::Restarting,
            RunState::Removing,
            RunState::Exited,
            RunState::Dead,
        ];
        let mut figures = Figures {
            containers: states.iter().map(|s| (s.as_str(), 0)).collect(),
            images: self.images().list().await?.len(),
            networks: self.0.networks.list_shared().await?.len(),
            volumes: self.0.volumes.list_shared().await?.len(),
            events: self.engine().events().counts(),
            running: Vec::new(),
        };
        let all = self.0.containers.list_shared().await?;
        for container in all.iter() {
            *figures.containers.entry(container.status.state.as_str()).or_default() += 1;
        }
        let mut running: Vec<Arc<Container>> = Vec::new();
        running.extend(all.iter().filter(|c| c.status.state.is_alive()).map(|c| Arc::clone(&c.value)));
        let measured = stream::iter(running).map(|c| self.clone().measure(c)).buffer_unordered(AT_ONCE);
        figures.running = measured.filter_map(std::future::ready).collect().await;
        figures.running.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(figures)
    }

    async fn measure(self, container: Arc<Container>) -> Option<ContainerFigures> {
        let id = container.spec.id;
        let pair = tokio::time::timeout(PATIENCE, self.engine().stats_once(id)).await.ok()?.ok()?;
        let (name, image) = (container.spec.name.to_string(), container.spec.image.reference.clone());
        Some(ContainerFigures { id, name, image, sample: pair.now })
    }
}
