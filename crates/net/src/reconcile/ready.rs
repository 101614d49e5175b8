//! Waiting for the reconciler: until what was written to the store is so on the machine, or why it cannot be.

use std::{path::PathBuf, sync::Arc};

use weft_model::{ContainerId, NetworkId, PortId};

use super::{Net, Ready};
use crate::NetError;

impl Net {
    /// Waits until the container's sandbox and all its ports are as the store has them now; answers the
    /// namespace's path.
    ///
    /// # Errors
    /// [`NetError::NoSandbox`] when the store's container has none of its own or is not wanted to run,
    /// [`NetError::DataPlane`] with the driver's reason.
    pub async fn sandbox_ready(&self, container: ContainerId) -> Result<PathBuf, NetError> {
        let addressed = |ready: &Ready| !ready.pending.values().any(|owner| *owner == container);
        match self.settled_when(addressed).await?.sandboxes.get(&container) {
            Some(Ok(())) => Ok(self.sandbox_path(container)),
            Some(Err(why)) => Err(NetError::DataPlane(why.clone())),
            None => Err(NetError::NoSandbox { container }),
        }
    }

    /// Waits until a network is as the store has it now, so that a create can fail where its bridge cannot be
    /// made. Kinds without a bridge are ready at once.
    ///
    /// # Errors
    /// [`NetError::DataPlane`] with the driver's reason.
    pub async fn network_ready(&self, network: NetworkId) -> Result<(), NetError> {
        let ready = self.settled().await?;
        data_plane(ready.networks.get(&network).unwrap_or(&ready.general))
    }

    /// Waits until what the store no longer has of a network was taken down (or tried to be).
    ///
    /// # Errors
    /// [`NetError::DataPlane`] when the reconciler does not get to it.
    pub async fn network_gone(&self, _network: NetworkId) -> Result<(), NetError> {
        self.settled().await.map(drop)
    }

    /// Waits until these ports are as the store has them now.
    ///
    /// # Errors
    /// [`NetError::DataPlane`] with the first one's reason.
    pub async fn ports_ready(&self, ports: &[PortId]) -> Result<(), NetError> {
        if ports.is_empty() {
            return Ok(());
        }
        let addressed = |ready: &Ready| !ports.iter().any(|id| ready.pending.contains_key(id));
        let ready = self.settled_when(addressed).await?;
        let first = ports.iter().find_map(|id| ready.ports.get(id));
        data_plane(first.unwrap_or(&ready.general))
    }

    /// Waits until the host was brought to what the store has now, or was tried to be: whose fault something is, its record says.
    pub async fn looked(&self) {
        if let Err(error) = self.settled().await {
            tracing::warn!(error = weft_base::chain(&error), "the network was not looked at");
        }
    }

    /// Waits until these ports, which the store no longer has, were taken down (or tried to be).
    ///
    /// # Errors
    /// [`NetError::DataPlane`] when the reconciler does not get to it.
    pub async fn ports_gone(&self, ports: &[PortId]) -> Result<(), NetError> {
        if ports.is_empty() { Ok(()) } else { self.settled().await.map(drop) }
    }

    /// Waits for a run that saw all that was written before this call.
    pub(super) async fn settled(&self) -> Result<Arc<Ready>, NetError> {
        self.settled_when(|_| true).await
    }

    /// The same, and until `also` holds.
    async fn settled_when(&self, also: impl Fn(&Ready) -> bool) -> Result<Arc<Ready>, NetError> {
        let asked = self.0.stores.mark().await?;
        let mut ready = self.0.ready.subscribe();
        if !ready.borrow().mark.covers(asked) {
            self.0.wake.wake();
        }
        let wait = ready.wait_for(|ready| ready.mark.covers(asked) && also(ready));
        match tokio::time::timeout(self.0.config.patience, wait).await {
            Ok(Ok(seen)) => Ok(Arc::clone(&seen)),
            Ok(Err(_)) => Err(NetError::DataPlane("the network reconciler has ended".into())),
            Err(_) => {
                let seconds = self.0.config.patience.as_secs();
                Err(NetError::DataPlane(format!("the network was not ready within {seconds} s")))
            }
        }
    }
}

pub(super) fn data_plane(why: &str) -> Result<(), NetError> {
    if why.is_empty() { Ok(()) } else { Err(NetError::DataPlane(why.to_owned())) }
}
