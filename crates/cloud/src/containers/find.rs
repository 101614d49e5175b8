//! Finding a container by what people write: its id, its name, or the beginning of its id.

use weft_model::{Container, ContainerId};
use weft_store::{IndexKey, Stored};

use crate::{Caller, Cloud, CloudError, Kind, Result};

impl Cloud {
    /// The container that `text` means to `caller`. An id wins over a name, a name over a prefix of an id.
    pub async fn container_find(&self, caller: &Caller, text: &str) -> Result<Stored<Container>> {
        let missing = || CloudError::not_found(Kind::Container, text);
        if text.is_empty() {
            return Err(CloudError::Invalid("invalid name or ID supplied: \"\"".into()));
        }
        let table = &self.0.containers;
        if let Ok(id) = text.parse::<ContainerId>()
            && let Some(found) = table.get(&id).await?
        {
            return if caller.sees(found.meta.project) { Ok(found) } else { Err(missing()) };
        }
        let name = text.strip_prefix('/').unwrap_or(text);
        if !name.is_empty()
            && let Some(id) = IndexKey::of::<Container>(name).lookup(self.stores()).await?
            && let Some(found) = table.get(id.as_str()).await?
            && caller.sees(found.meta.project)
        {
            return Ok(found);
        }
        if name.contains('/') {
            let found = self.link_find(caller, name).await?;
            return found.map(|(child, ..)| child).ok_or_else(missing);
        }
        if !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(missing());
        }
        let all = table.list_shared().await?;
        let mut fitting =
            all.iter().filter(|c| caller.sees(c.meta.project) && c.spec.id.to_string().starts_with(text));
        match (fitting.next(), fitting.next()) {
            (Some(one), None) => Ok(one.clone()),
            (Some(_), Some(_)) => Err(CloudError::Ambiguous { name: text.to_owned() }),
            (None, _) => Err(missing()),
        }
    }
}
