//! The hosts of the cluster.

use std::{collections::HashSet, sync::Arc};

use weft_model::{Host, HostId};

use crate::{Caller, Cloud, CloudError, Kind, Result};

/// A host as others see it.
#[derive(Clone, Debug)]
pub struct HostView {
    /// Its record.
    pub host: Arc<Host>,
    /// Its daemon was heard of lately.
    pub alive: bool,
    /// It is the one that was asked.
    pub here: bool,
}

impl Cloud {
    /// All hosts, by name.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn host_list(&self, _caller: &Caller) -> Result<Vec<HostView>> {
        let alive = self.0.alive.list_shared().await?;
        let alive: HashSet<HostId> = alive.iter().map(|sign| sign.host).collect();
        let here = self.0.parts.host.id;
        let hosts = self.0.hosts.list_shared().await?;
        let view = |host: &Arc<Host>| HostView {
            alive: host.spec.id == here || alive.contains(&host.spec.id),
            here: host.spec.id == here,
            host: Arc::clone(host),
        };
        let mut all: Vec<HostView> = hosts.iter().map(|stored| view(&stored.value)).collect();
        all.sort_by(|a, b| a.host.spec.name.cmp(&b.host.spec.name));
        Ok(all)
    }

    /// The host that `text` means: its id, its name, or the beginning of its id.
    ///
    /// # Errors
    /// None, or several.
    pub async fn host_view(&self, caller: &Caller, text: &str) -> Result<HostView> {
        let all = self.host_list(caller).await?;
        let exact = |v: &&HostView| v.host.spec.name == text || v.host.spec.id.to_string() == text;
        if let Some(found) = all.iter().find(exact) {
            return Ok(found.clone());
        }
        let mut begins =
            all.iter().filter(|v| !text.is_empty() && v.host.spec.id.to_string().starts_with(text));
        match (begins.next(), begins.next()) {
            (Some(found), None) => Ok(found.clone()),
            (Some(_), Some(_)) => {
                Err(CloudError::Invalid(format!("several hosts begin with {text}: give more of the id")))
            }
            (None, _) => Err(CloudError::not_found(Kind::Host, text)),
        }
    }
}
