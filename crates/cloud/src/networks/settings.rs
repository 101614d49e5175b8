//! Networks that are only settings, for others to be made from: who uses them, and that they are there.

use weft_model::{Network, NetworkKind};
use weft_store::Stored;

use crate::{Caller, Cloud, CloudError, Result};

impl Cloud {
    /// The network of settings of that name.
    ///
    /// # Errors
    /// There is none.
    pub async fn network_settings(&self, caller: &Caller, name: &str) -> Result<Stored<Network>> {
        let missing = || CloudError::Missing(format!("configuration network {name:?} does not exist"));
        let found = match self.network_find(caller, name).await {
            Err(CloudError::NotFound { .. }) => return Err(missing()),
            found => found?,
        };
        if found.spec.kind == NetworkKind::Config { Ok(found) } else { Err(missing()) }
    }

    /// Refuses when networks were made from these settings.
    pub(super) async fn settings_unused(&self, network: &Network) -> Result<()> {
        if network.spec.kind != NetworkKind::Config {
            return Ok(());
        }
        let name = network.spec.name.as_str();
        if self.0.networks.list_shared().await?.iter().any(|n| n.spec.config_from == name) {
            let text = format!("error while removing network: configuration network {name:?} is in use");
            return Err(CloudError::Forbidden(text));
        }
        Ok(())
    }
}
