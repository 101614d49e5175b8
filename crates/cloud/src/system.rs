//! Use cases around the host itself: facts, events, disk usage.

use std::sync::Arc;

use weft_base::Timestamp;
use weft_engine::events::Feed;
use weft_model::{Event, EventKind};

use crate::{
    Action, Caller, Cloud, ContainerView, HostFacts, ImageDetail, ImageView, Result, VolumeUsage, VolumeView,
};

/// Which kinds of things disk usage is asked of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageKinds {
    /// Containers.
    pub containers: bool,
    /// Images.
    pub images: bool,
    /// Volumes.
    pub volumes: bool,
}

/// What takes room on the disk.
#[derive(Clone, Debug, Default)]
pub struct DiskUsage {
    /// Bytes of all layers, each counted once.
    pub layers: u64,
    /// Containers with their sizes.
    pub containers: Vec<ContainerView>,
    /// Images with their sizes.
    pub images: Vec<ImageView>,
    /// Volumes with their sizes.
    pub volumes: Vec<VolumeView>,
}

impl Cloud {
    /// Facts about this host.
    pub fn host(&self, caller: &Caller) -> Result<Arc<HostFacts>> {
        caller.authorise(Action::Read, caller.project)?;
        Ok(Arc::clone(&self.0.host.read()))
    }

    /// Shows other facts from now on: the daemon has read its configuration again.
    pub fn host_reloaded(&self, caller: &Caller, facts: HostFacts) -> Result<()> {
        caller.authorise(Action::Host, caller.project)?;
        let (id, attributes) = (facts.id.to_string(), [("name".to_owned(), facts.name.clone())].into());
        *self.0.host.write() = Arc::new(facts);
        self.engine().events().emit(EventKind::Daemon, "reload", id, caller.project, attributes);
        Ok(())
    }

    /// Stops all containers for the end of this daemon, without anybody having asked for one; see
    /// [`weft_engine::Engine::close`].
    pub async fn containers_close(&self, caller: &Caller, seconds: i64) -> Result<usize> {
        caller.authorise(Action::Host, caller.project)?;
        Ok(self.engine().close(seconds).await)
    }

    /// Kept events since `since`, when that is given, and those that come. Only the caller's.
    pub async fn events(
        &self,
        caller: &Caller,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<EventFeed> {
        caller.authorise(Action::Read, caller.project)?;
        let log = self.engine().events();
        // An end alone asks for the past as well.
        let from = since.or_else(|| until.and_then(|_| Timestamp::from_unix(0, 0)));
        Ok(EventFeed { feed: log.follow(from).await, caller: caller.clone() })
    }

    /// What takes room on the disk.
    pub async fn disk_usage(&self, caller: &Caller, kinds: UsageKinds) -> Result<DiskUsage> {
        caller.authorise(Action::Read, caller.project)?;
        let mut usage = DiskUsage::default();
        if kinds.containers {
            usage.containers = self.container_list(caller, true).await?;
        }
        if kinds.images {
            let detail = ImageDetail { shared: true, containers: true, targets: false };
            usage.images = self.image_list(caller, detail).await?;
            usage.layers = self.images().disk_usage().await?.layers_size;
        }
        if kinds.volumes {
            usage.volumes = self.volume_list(caller).await?;
            for view in &mut usage.volumes {
                let usage = self.engine().volumes().usage(view.volume.spec.name.as_str()).await;
                let bytes = usage.ok().and_then(|u| i64::try_from(u.size).ok()).unwrap_or(-1);
                view.usage = Some(VolumeUsage { users: view.users, bytes });
            }
        }
        Ok(usage)
    }
}

/// Events as they come, for one caller.
pub struct EventFeed {
    feed: Feed,
    caller: Caller,
}

impl EventFeed {
    /// The next event; `None` when the daemon ends.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        loop {
            let event = self.feed.next().await?;
            if self.caller.sees(event.project) {
                return Some(event);
            }
        }
    }

    /// The next event that is there already.
    pub fn ready(&mut self) -> Option<Arc<Event>> {
        std::iter::from_fn(|| self.feed.ready()).find(|event| self.caller.sees(event.project))
    }
}
