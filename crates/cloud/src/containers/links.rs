//! Legacy links: the names they give (`parent/alias`), and removing one.
//!
//! A link is a line in the parent's record, `target[:alias]`. The name that it gives its target is derived from there each time;
//! nothing else has to be kept true.

use std::collections::HashMap;

use weft_model::{Container, ContainerId};
use weft_store::Stored;

use crate::{Action, Caller, Cloud, CloudError, Kind, Result};

/// Target and alias of a link as written.
fn parts(written: &str) -> (&str, &str) {
    let (target, alias) = written.split_once(':').unwrap_or((written, written));
    (target.trim_start_matches('/'), alias.rsplit('/').next().unwrap_or(alias))
}

fn names(target: &str, container: &Container) -> bool {
    let id = container.spec.id.to_string();
    container.spec.name.as_str() == target || (!target.is_empty() && id.starts_with(target))
}

/// The names that the links of all containers give, by the container that is named: `/parent/alias`.
pub(super) fn given(all: &[Stored<Container>]) -> HashMap<ContainerId, Vec<String>> {
    let mut given: HashMap<ContainerId, Vec<String>> = HashMap::new();
    for parent in all.iter().filter(|c| !c.spec.links.is_empty()) {
        for written in &parent.spec.links {
            let (target, alias) = parts(written);
            if let Some(child) = all.iter().find(|c| names(target, c)) {
                given.entry(child.spec.id).or_default().push(format!("/{}/{alias}", parent.spec.name));
            }
        }
    }
    given
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
        let Some(parent) = mine().find(|c| names(parent, c)) else { return Ok(None) };
        let Some(written) = parent.spec.links.iter().find(|l| parts(l).1 == alias) else { return Ok(None) };
        let found = mine().find(|c| names(parts(written).0, c));
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

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn links_as_people_write_them() {
        for (written, expected) in
            [("db", ("db", "db")), ("/db:sql", ("db", "sql")), ("db:/web/sql", ("db", "sql"))]
        {
            assert_eq!(parts(written), expected);
        }
    }
}
