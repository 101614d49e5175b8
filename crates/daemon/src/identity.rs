//! Who this host is: its id, kept where nobody else writes, and its record, where all hosts look for each other.

use anyhow::{Context, bail};
use weft_base::{Clock, SystemClock};
use weft_model::{Host, HostId, HostSpec, Identity, Labels, default_project};
use weft_store::{Conflict, IndexKey, Stores, Table, Txn};

/// Finds out who this host is, or decides it at the first start in its root directory; tells the others, and claims its name.
///
/// # Errors
/// Another host has the name: then nothing is written. A store that fails.
pub(crate) async fn of_host(stores: &Stores, name: &str) -> anyhow::Result<HostId> {
    let own = Table::<Identity>::new(stores);
    let kept = own.list().await?.first().map(|identity| identity.id);
    let id = match kept {
        Some(id) => id,
        None => earlier(stores).await?.unwrap_or_else(HostId::new),
    };
    if let Some(other) = IndexKey::of::<Host>(name).lookup(stores).await?
        && other != id.to_string()
    {
        return taken(name, &other);
    }
    if kept.is_none() {
        own.create(&Identity { id }).await.context("writing down who this host is")?;
    }
    introduce(stores, id, name).await?;
    Ok(id)
}

/// The id of a store that is older than [`Identity`]: its only host, for no cluster has such a store.
async fn earlier(stores: &Stores) -> anyhow::Result<Option<HostId>> {
    if stores.are_two() {
        return Ok(None);
    }
    Ok(Table::<Host>::new(stores).list().await?.first().map(|host| host.spec.id))
}

/// Writes the host's record with the name it has now; the name is claimed in the same transaction.
async fn introduce(stores: &Stores, id: HostId, name: &str) -> anyhow::Result<()> {
    let table = Table::<Host>::new(stores);
    let wanted = IndexKey::of::<Host>(name);
    loop {
        let claimed = wanted.lookup(stores).await?.is_some();
        let txn = match table.get(&id).await? {
            Some(known) if known.spec.name == name && known.status.version == VERSION && claimed => {
                return Ok(());
            }
            Some(known) => {
                let mut host = Host::clone(&known);
                let before = IndexKey::of::<Host>(&known.spec.name);
                let mut txn = Txn::new(stores);
                if known.spec.name != name {
                    name.clone_into(&mut host.spec.name);
                    host.meta.generation += 1;
                    if before.lookup(stores).await?.is_some_and(|holder| holder == id.to_string()) {
                        txn = txn.release(&before, &id);
                    }
                }
                VERSION.clone_into(&mut host.status.version);
                txn.update(&host, known.revision)
            }
            None => {
                let spec = HostSpec { id, name: name.to_owned() };
                let mut host = Host::new(default_project(), SystemClock.now(), Labels::new(), spec);
                VERSION.clone_into(&mut host.status.version);
                Txn::new(stores).create(&host)
            }
        };
        let txn = if claimed { txn } else { txn.claim(&wanted, &id) };
        match txn.commit().await {
            Ok(_) => return Ok(()),
            Err(error) => match error.conflict() {
                Some(Conflict::Claimed { owner }) if *owner != id.to_string() => return taken(name, owner),
                // An earlier attempt whose answer was lost, or somebody who drains or forgets this host: look again.
                Some(_) => {}
                None => return Err(error).context("writing down who this host is"),
            },
        }
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn taken<T>(name: &str, owner: &str) -> anyhow::Result<T> {
    bail!(
        "a host named {name} is in the cluster already (id {owner}): give this one another name with --name, or make the cluster \
         forget that one"
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weft_model::{Resource, Scope};
    use weft_store::{Embedded, Kv, Options};

    use super::*;

    struct World {
        dir: tempfile::TempDir,
        cluster: Arc<dyn Kv>,
    }

    fn open(dir: &tempfile::TempDir, name: &str) -> Arc<dyn Kv> {
        Arc::new(Embedded::open(dir.path().join(name), Options::default()).unwrap())
    }

    impl World {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let cluster = open(&dir, "cluster");
            Self { dir, cluster }
        }

        fn host(&self, name: &str) -> Stores {
            Stores::new(open(&self.dir, name), Arc::clone(&self.cluster))
        }

        async fn names(&self, stores: &Stores) -> Vec<String> {
            let hosts = Table::<Host>::new(stores).list().await.unwrap();
            let mut names: Vec<_> = hosts.iter().map(|host| host.spec.name.clone()).collect();
            names.sort();
            names
        }
    }

    #[tokio::test]
    async fn a_host_is_the_same_at_each_start_and_may_be_renamed() {
        let w = World::new();
        let stores = w.host("one");
        let id = of_host(&stores, "one").await.unwrap();
        assert_eq!(of_host(&stores, "one").await.unwrap(), id);
        assert_eq!(of_host(&stores, "uno").await.unwrap(), id);
        assert_eq!(w.names(&stores).await, ["uno"]);
        assert_eq!(IndexKey::of::<Host>("one").lookup(&stores).await.unwrap(), None);
        // The name it gave up is free for another.
        let other = w.host("other");
        assert_ne!(of_host(&other, "one").await.unwrap(), id);
        assert_eq!(w.names(&other).await, ["one", "uno"]);
        // Its record forgotten by the cluster, it introduces itself anew.
        Table::<Host>::new(&stores).delete(&id).await.unwrap();
        assert_eq!(of_host(&stores, "uno").await.unwrap(), id);
        assert_eq!(w.names(&stores).await, ["one", "uno"]);
    }

    #[tokio::test]
    async fn two_hosts_of_one_name_are_refused_and_nothing_is_written() {
        let w = World::new();
        let (one, two) = (w.host("one"), w.host("two"));
        let id = of_host(&one, "web").await.unwrap();
        let before = w.cluster.revision().await.unwrap();
        let refused = of_host(&two, "web").await.unwrap_err().to_string();
        assert!(
            refused.starts_with(&format!("a host named web is in the cluster already (id {id})")),
            "{refused}"
        );
        assert_eq!(w.cluster.revision().await.unwrap(), before);
        assert!(two.of(Scope::Host).range(b"").await.unwrap().items.is_empty());
        assert_ne!(of_host(&two, "db").await.unwrap(), id);
        let refused = of_host(&two, "web").await.unwrap_err().to_string();
        assert!(refused.contains("already"), "{refused}");
        assert_eq!(w.names(&one).await, ["db", "web"]);
    }

    #[tokio::test]
    async fn a_store_from_before_keeps_its_id() {
        let dir = tempfile::tempdir().unwrap();
        let stores = Stores::single(open(&dir, "store"));
        let spec = HostSpec { id: HostId::new(), name: "old".into() };
        let host = Host::new(default_project(), SystemClock.now(), Labels::new(), spec);
        Table::new(&stores).create(&host).await.unwrap();
        assert_eq!(of_host(&stores, "old").await.unwrap(), host.spec.id);
        assert_eq!(of_host(&stores, "old").await.unwrap(), host.spec.id);
        let holder = IndexKey::of::<Host>("old").lookup(&stores).await.unwrap();
        assert_eq!(holder, Some(host.spec.id.to_string()));
        assert_eq!(Identity { id: host.spec.id }.scope(), Scope::Host);
    }
}
