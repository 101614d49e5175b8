//! Legacy links: the names they give (`parent/alias`), and removing one.
//!
//! A link is a line in the parent's record, `target[:alias]`. The name that it gives its target is derived from there each time;
//! nothing else has to be kept true.

use std::collections::HashMap;

use weft_model::{Container, ContainerId, Link};
use weft_store::Stored;

use crate::{Action, Caller, Cloud, CloudError, Kind, Result};

/// The names that the links of all containers give, by the container that is named: `/parent/alias`.
pub(super) fn given(all: &[Stored<Container>]) -> HashMap<ContainerId, Vec<String>> {
    let mut given: HashMap<ContainerId, Vec<String>> = HashMap::new();
    for parent in all.iter().filter(|c| !c.spec.links.is_empty()) {
        for written in &parent.spec.links {
            let link = Link::parse(written);
            if let Some(child) = all.iter().find(|c| link.means(c)) {
                given.entry(child.spec.id).or_default().push(format!("/{}/{}", parent.spec.name, link.alias));
            }
        }
    }
    given
}

/// Those that link to a container by the name it had, as they are now that it is called otherwise. Links by id stay.
pub(super) fn renamed(all: &[Stored<Container>], child: &Container, old: &str) -> Vec<(Container, u64)> {
    let by_name = |written: &String| Link::parse(written).target == old;
    let parents = all.iter().filter(|c| c.spec.id != child.spec.id && c.spec.links.iter().any(by_name));
    let rename = |parent: &Stored<Container>| {
        let mut changed = Container::clone(parent);
        for written in changed.spec.links.iter_mut().filter(|written| by_name(written)) {
            *written = Link::parse(written).renamed(child.spec.name.as_str());
        }
        changed.meta.generation += 1;
        (changed, parent.revision)
    };
    parents.map(rename).collect()
}

impl Cloud {
    /// The container that `parent/alias` means, with the parent and the link as written there.
    pub(super) async fn link_find(
        &self,
        caller: &Caller,
        text: &str,
    ) -> Result<Option<(Stored<Container>, Stored<Container>, String)>> {
        let Some((parent, alias)) = text.trim_start_matches('/').split_once('/') else { return Ok(None) };
        let all = self.0.containers.list_shared().await?;
        let mine = || all.iter().filter(|c| caller.sees(c.meta.project));
        let parent = Link { target: parent, alias };
        let Some(parent) = mine().find(|c| parent.means(c)) else { return Ok(None) };
        let Some(written) = parent.spec.links.iter().find(|l| Link::parse(l).alias == alias) else {
            return Ok(None);
        };
        let found = mine().find(|c| Link::parse(written).means(c));
        Ok(found.map(|child| (child.clone(), parent.clone(), written.clone())))
    }

    /// Takes a link away by the name it gives; both containers stay.
    pub(super) async fn link_remove(&self, caller: &Caller, text: &str) -> Result<()> {
        if !text.trim_start_matches('/').contains('/') {
            self.container_find(caller, text).await?;
            return Err(CloudError::Conflict(
                "Conflict, cannot remove the default link name of the container".into(),
            ));
        }
        let found = self.link_find(caller, text).await?;
        let (_, parent, written) = found.ok_or_else(|| CloudError::not_found(Kind::Container, text))?;
        caller.authorise(Action::Write, parent.meta.project)?;
        let id = parent.spec.id;
        let stored = self
            .0
            .containers
            .update(&id, |c| {
                let before = c.spec.links.len();
                c.spec.links.retain(|l| *l != written);
                c.meta.generation += 1;
                c.spec.links.len() != before
            })
            .await?;
        if stored.status.state.is_alive() {
            self.engine().refresh_names(id).await?;
        }
        Ok(())
    }
}
