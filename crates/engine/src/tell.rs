//! Events that go with a run: its networks connected and disconnected, its volumes mounted and unmounted.
//!
//! Docker tells them between its own events of the container: connect and mount before `start`, disconnect and unmount after
//! `die`. The networks are those of the record, also `host` and `none`, which are networks to Docker's users.

use weft_base::chain;
use weft_model::{Container, EventKind, NetworkKind, NetworkMode, Propagation};

use crate::engine::Inner;

impl Inner {
    /// Networks are connected and volumes mounted.
    pub(crate) async fn tell_up(&self, container: &Container) {
        self.tell_networks(container, "connect").await;
        for mount in container.status.mounts.iter().filter(|m| m.kind == "volume") {
            let propagation = match mount.propagation {
                Propagation::RPrivate => "",
                other => other.as_str(),
            };
            let attributes = [
                ("driver", mount.driver.clone()),
                ("container", container.spec.id.to_string()),
                ("destination", mount.target.clone()),
                ("read/write", mount.rw.to_string()),
                ("propagation", propagation.to_owned()),
            ];
            self.tell_volume(container, &mount.name, "mount", attributes);
        }
    }

    /// And the same gone again.
    pub(crate) async fn tell_down(&self, container: &Container) {
        self.tell_networks(container, "disconnect").await;
        for mount in container.status.mounts.iter().filter(|m| m.kind == "volume") {
            let attributes = [("driver", mount.driver.clone()), ("container", container.spec.id.to_string())];
            self.tell_volume(container, &mount.name, "unmount", attributes);
        }
    }

    fn tell_volume<const N: usize>(
        &self,
        container: &Container,
        name: &str,
        action: &str,
        attributes: [(&str, String); N],
    ) {
        let attributes = attributes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        self.events.emit(EventKind::Volume, action, name, container.meta.project, attributes);
    }

    async fn tell_networks(&self, container: &Container, action: &str) {
        let all = match self.networks.list_shared().await {
            Ok(all) => all,
            Err(error) => {
                tracing::warn!(error = chain(&error), "networks cannot be listed for their events");
                return;
            }
        };
        let spec = &container.spec;
        let of_kind =
            |kind: NetworkKind| all.iter().filter(move |n| n.spec.predefined && n.spec.kind == kind);
        let found: Vec<_> = match spec.network {
            NetworkMode::Host => of_kind(NetworkKind::Host).collect(),
            NetworkMode::None => of_kind(NetworkKind::None).collect(),
            NetworkMode::Container(_) => Vec::new(),
            NetworkMode::Attached => {
                spec.attachments.iter().filter_map(|a| all.iter().find(|n| n.spec.id == a.network)).collect()
            }
        };
        for network in found {
            self.events.network(network, action, Some(spec.id));
        }
    }
}
