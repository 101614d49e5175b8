//! Two stores, one for each scope: where records go, what a table of both shows, what a transaction refuses.
#![allow(clippy::unwrap_used, reason = "helpers of tests say what they expect")]

use std::sync::Arc;

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use weft_model::{Resource, Scope};
use weft_store::{
    Change, Conflict, Embedded, IndexKey, Kv, Mark, Options, StoreError, Stores, Table, Txn, reconcile::Loop,
};

/// A kind that lies in both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Web {
    name: String,
    wide: bool,
    threads: u32,
}

impl Resource for Web {
    const KIND: &'static str = "web";
    const SCOPE: Scope = Scope::Host;
    const SCOPES: &'static [Scope] = &[Scope::Host, Scope::Cluster];
    fn key(&self) -> String {
        self.name.clone()
    }
    fn scope(&self) -> Scope {
        if self.wide { Scope::Cluster } else { Scope::Host }
    }
}

/// A kind of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Rule {
    name: String,
}

impl Resource for Rule {
    const KIND: &'static str = "rule";
    const SCOPE: Scope = Scope::Cluster;
    fn key(&self) -> String {
        self.name.clone()
    }
}

fn web(name: &str, wide: bool) -> Web {
    Web { name: name.into(), wide, threads: 0 }
}

fn rule(name: &str) -> Rule {
    Rule { name: name.into() }
}

struct World {
    host: Arc<dyn Kv>,
    cluster: Arc<dyn Kv>,
    stores: Stores,
    _dir: tempfile::TempDir,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str| -> Arc<dyn Kv> {
        Arc::new(Embedded::open(dir.path().join(name), Options::default()).unwrap())
    };
    let (host, cluster) = (open("host"), open("cluster"));
    let stores = Stores::new(Arc::clone(&host), Arc::clone(&cluster));
    World { host, cluster, stores, _dir: dir }
}

async fn keys(kv: &Arc<dyn Kv>) -> Vec<String> {
    let items = kv.range(b"/weft/v1/").await.unwrap().items;
    items.iter().map(|item| String::from_utf8_lossy(&item.key[9..]).into_owned()).collect()
}

async fn names(table: &Table<Web>) -> Vec<String> {
    table.list().await.unwrap().iter().map(|web| web.name.clone()).collect()
}

#[tokio::test]
async fn each_record_lies_in_its_scope_and_a_table_shows_both() {
    let w = world();
    let (webs, rules) = (Table::<Web>::new(&w.stores), Table::<Rule>::new(&w.stores));
    assert!(w.stores.are_two());
    for (name, wide) in [("c", false), ("b", true), ("a", false)] {
        webs.create(&web(name, wide)).await.unwrap();
    }
    rules.create(&rule("r")).await.unwrap();
    assert_eq!(keys(&w.host).await, ["web/a", "web/c"]);
    assert_eq!(keys(&w.cluster).await, ["rule/r", "web/b"]);
    assert_eq!(names(&webs).await, ["a", "b", "c"]);
    let (one, other) = (webs.list_shared().await.unwrap(), webs.list_shared().await.unwrap());
    assert!(Arc::ptr_eq(&one, &other), "nothing changed, nothing copied");

    let changed = webs.update("b", |w| std::mem::replace(&mut w.threads, 7) != 7).await.unwrap();
    assert_eq!(webs.get("b").await.unwrap().unwrap().threads, 7);
    assert_eq!(webs.list().await.unwrap()[1].threads, 7);
    webs.replace(&web("b", true), changed.revision).await.unwrap();
    assert!(webs.delete("b").await.unwrap() && webs.delete("c").await.unwrap());
    assert!(!webs.delete("b").await.unwrap());
    assert_eq!(names(&webs).await, ["a"]);
    let missing = webs.update("b", |_| true).await.unwrap_err();
    assert_eq!(missing.conflict(), Some(&Conflict::Missing));
}

#[tokio::test]
async fn changes_of_both_are_heard() {
    let w = world();
    let table = Table::<Web>::new(&w.stores);
    table.create(&web("a", false)).await.unwrap();
    table.create(&web("b", true)).await.unwrap();
    let (list, mut changes) = table.follow().await.unwrap();
    assert_eq!(list.len(), 2);
    for (name, wide) in [("c", true), ("d", false)] {
        table.create(&web(name, wide)).await.unwrap();
        match changes.next().await.unwrap().unwrap() {
            Change::Put(put) => assert_eq!(put.name, name),
            Change::Gone(key) => panic!("{key} is gone"),
        }
    }
    let (runs, mut ran) = tokio::sync::mpsc::unbounded_channel();
    let long = std::time::Duration::from_secs(3600);
    let task = tokio::spawn(Loop::new("test").every(long).watching(&table).run(move || {
        let runs = runs.clone();
        let table = table.clone();
        async move {
            runs.send(table.list().await?.len()).ok();
            Ok::<_, StoreError>(())
        }
    }));
    for (wide, expected) in [(true, 5), (false, 6)] {
        Table::new(&w.stores).create(&web(&format!("new{expected}"), wide)).await.unwrap();
        while ran.recv().await.unwrap() != expected {}
    }
    task.abort();
}

#[tokio::test]
async fn a_transaction_is_of_one_scope() {
    let w = world();
    let two = Txn::new(&w.stores).create(&web("a", false)).create(&rule("r")).commit().await;
    assert!(two.unwrap_err().to_string().contains("both scopes"));
    // On one store, too: what would be wrong in a cluster is found on a single host.
    let single = Stores::single(Arc::clone(&w.host));
    let two = Txn::new(&single).create(&web("a", false)).create(&rule("r")).commit().await;
    assert!(two.unwrap_err().to_string().contains("both scopes"));
    let unsaid = Txn::new(&w.stores).delete::<Web>("a").commit().await;
    assert!(unsaid.unwrap_err().to_string().contains("in which scope"));
    let blind = Txn::new(&w.stores).put(&rule("r")).commit().await;
    assert!(blind.unwrap_err().to_string().contains("without a condition"));
    assert!(keys(&w.host).await.is_empty() && keys(&w.cluster).await.is_empty());

    let name = IndexKey::of::<Web>("a");
    Txn::new(&w.stores).create(&web("a", true)).claim(&name, "a").commit().await.unwrap();
    assert_eq!(keys(&w.cluster).await, ["index/web/a", "web/a"]);
    assert_eq!(name.lookup(&w.stores).await.unwrap().as_deref(), Some("a"));
    let gone = Txn::new(&w.stores).within(Scope::Cluster).release(&name, "a").delete::<Web>("a");
    gone.commit().await.unwrap();
    assert!(keys(&w.cluster).await.is_empty());
}

#[tokio::test]
async fn a_mark_covers_what_was_written_in_either_scope_before() {
    let w = world();
    assert!(w.stores.mark().await.unwrap().covers(Mark::default()));
    let table = Table::<Web>::new(&w.stores);
    let mut before = w.stores.mark().await.unwrap();
    for wide in [true, false] {
        table.create(&web(if wide { "a" } else { "b" }, wide)).await.unwrap();
        let after = w.stores.mark().await.unwrap();
        assert!(after.covers(before) && !before.covers(after));
        before = after;
    }
}
