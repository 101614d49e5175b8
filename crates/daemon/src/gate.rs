//! Where engine and net meet in process: the engine waits for a container's network namespace.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use weft_base::chain;
use weft_engine::NetGate;
use weft_model::{Container, ContainerId, NetworkMode};
use weft_net::Net;
use weft_store::Table;

use crate::resolver::Resolver;

/// [`Net`] seen by the engine.
pub(crate) struct Gate {
    pub net: Net,
    pub resolver: Arc<Resolver>,
    pub containers: Table<Container>,
}

#[async_trait]
impl NetGate for Gate {
    async fn ready(&self, id: ContainerId) -> Result<Option<PathBuf>, String> {
        let container = self.containers.get(&id).await.map_err(|e| chain(&e))?;
        let own =
            container.is_some_and(|c| matches!(c.spec.network, NetworkMode::Attached | NetworkMode::None));
        if !own {
            return Ok(None);
        }
        let path = self.net.sandbox_ready(id).await.map_err(|e| chain(&e))?;
        // Names answer before the first process asks.
        self.resolver.attach(id).await.map_err(|e| chain(&e))?;
        Ok(Some(path))
    }

    fn names(&self) -> bool {
        self.resolver.is_on()
    }
}
