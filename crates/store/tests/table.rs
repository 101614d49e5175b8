//! Typed tables, transactions over kinds, unique names.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests say what they expect")]

use std::sync::Arc;

use futures_util::StreamExt;
use weft_base::{Name, SystemClock};
use weft_model::{Labels, Volume, VolumeSpec, default_project};
use weft_store::{
    Change, Changes, Conflict, Embedded, IndexKey, Kv, Op, Options, Request, Stored, Stores, Table, Txn,
};

fn store() -> (tempfile::TempDir, Arc<dyn Kv>, Stores) {
    let dir = tempfile::tempdir().unwrap();
    let kv: Arc<dyn Kv> =
        Arc::new(Embedded::open(dir.path().join("store.redb"), Options::default()).unwrap());
    (dir, Arc::clone(&kv), Stores::single(kv))
}

fn volume(name: &str) -> Volume {
    let spec = VolumeSpec {
        name: Name::new(name).unwrap(),
        driver: "local".into(),
        options: std::collections::BTreeMap::new(),
        anonymous: false,
    };
    Volume::new(default_project(), weft_base::Clock::now(&SystemClock), Labels::new(), spec)
}

fn names(list: &[Stored<Volume>]) -> Vec<&str> {
    list.iter().map(|s| s.spec.name.as_str()).collect()
}

async fn next(changes: &mut Changes<Volume>) -> String {
    match changes.next().await.unwrap().unwrap() {
        Change::Put(s) => format!("{} {}", s.spec.name, s.status.populated),
        Change::Gone(key) => format!("-{key}"),
    }
}

/// What others write does not make a list anew, and a list that is kept is that of now.
#[tokio::test]
async fn a_list_is_kept_while_its_kind_is_quiet() {
    let (_dir, kv, stores) = store();
    let (table, writer): (Table<Volume>, Table<Volume>) = (Table::new(&stores), Table::new(&stores));
    writer.create(&volume("a")).await.unwrap();
    let elsewhere = async |n: usize| {
        let (key, value) = (format!("/weft/v1/other/{n}").into(), "x".into());
        kv.txn(Request::always(vec![Op::Put { key, value, lease: None }])).await.unwrap();
    };
    let first = table.list_shared().await.unwrap();
    for n in 0..20 {
        elsewhere(n).await;
        assert!(Arc::ptr_eq(&first, &table.list_shared().await.unwrap()), "copied for nothing");
    }
    writer.create(&volume("b")).await.unwrap();
    assert_eq!(names(&table.list_shared().await.unwrap()), ["a", "b"]);
    // More changes than the store has at hand, the one that counts first.
    writer.create(&volume("c")).await.unwrap();
    for n in 0..300 {
        elsewhere(n).await;
    }
    assert_eq!(names(&table.list_shared().await.unwrap()), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_record_lives() {
    let (_dir, _kv, stores) = store();
    let table: Table<Volume> = Table::new(&stores);
    let other: Table<Volume> = Table::new(&stores);
    let (list, mut changes) = other.follow().await.unwrap();
    assert!(list.is_empty());

    let made = table.create(&volume("b")).await.unwrap();
    table.create(&volume("a")).await.unwrap();
    assert_eq!(table.create(&volume("a")).await.unwrap_err().conflict(), Some(&Conflict::Exists));
    for table in [&table, &other] {
        assert_eq!(names(&table.list().await.unwrap()), ["a", "b"]);
        assert_eq!(table.get("b").await.unwrap().unwrap().revision, made.revision);
    }

    let changed = table.update("b", |v| !std::mem::replace(&mut v.status.populated, true)).await.unwrap();
    assert!(changed.revision > made.revision && changed.status.populated);
    let same = other.update("b", |_| false).await.unwrap();
    assert_eq!(same.revision, changed.revision, "nothing changed, nothing written");
    assert!(other.list().await.unwrap()[1].status.populated);

    let late = other.replace(&made.value, made.revision).await.unwrap_err();
    assert!(matches!(late.conflict(), Some(Conflict::Changed { .. })), "{late}");
    other.replace(&made.value, changed.revision).await.unwrap();
    assert!(!table.get("b").await.unwrap().unwrap().status.populated);

    assert!(table.delete("b").await.unwrap());
    assert!(!table.delete("b").await.unwrap());
    assert_eq!(table.get("b").await.unwrap().map(|s| s.revision), None);
    assert_eq!(names(&other.list().await.unwrap()), ["a"]);
    let gone = table.update("b", |_| true).await.unwrap_err();
    assert_eq!(gone.conflict(), Some(&Conflict::Missing));
    for expected in ["b false", "a false", "b true", "b false", "-b"] {
        assert_eq!(next(&mut changes).await, expected);
    }
}

#[tokio::test]
async fn values_are_readable_json_with_their_schema() {
    let (_dir, kv, stores) = store();
    Table::new(&stores).create(&volume("a")).await.unwrap();
    let item = kv.get(b"/weft/v1/volume/a").await.unwrap().unwrap();
    assert!(item.value.starts_with(br#"{"v":1,"meta":{"#), "{:?}", item.value);
}

#[tokio::test]
async fn names_are_claimed_with_their_records_or_not_at_all() {
    let (_dir, kv, stores) = store();
    let table: Table<Volume> = Table::new(&stores);
    let web = IndexKey::of::<Volume>("web");
    let revision = Txn::new(&stores).claim(&web, "one").create(&volume("one")).commit().await.unwrap();
    assert_eq!(kv.revision().await.unwrap(), revision);
    assert_eq!(web.lookup(&stores).await.unwrap().as_deref(), Some("one"));

    let taken = Txn::new(&stores).create(&volume("two")).claim(&web, "two").commit().await.unwrap_err();
    assert_eq!(taken.conflict(), Some(&Conflict::Claimed { owner: "one".into() }), "{taken}");
    assert!(table.get("two").await.unwrap().is_none(), "nothing of a failed transaction stays");
    let foreign = Txn::new(&stores).release(&web, "two").commit().await.unwrap_err();
    assert_eq!(foreign.conflict(), Some(&Conflict::Claimed { owner: "one".into() }));

    let stale =
        Txn::new(&stores).delete_at::<Volume>("one", revision - 1).release(&web, "one").commit().await;
    assert!(matches!(stale.unwrap_err().conflict(), Some(Conflict::Changed { .. })));
    Txn::new(&stores).delete_at::<Volume>("one", revision).release(&web, "one").commit().await.unwrap();
    assert_eq!(web.lookup(&stores).await.unwrap(), None);
    let missing = Txn::new(&stores).release(&web, "one").commit().await.unwrap_err();
    assert_eq!(missing.conflict(), Some(&Conflict::Missing));
    let missing =
        Txn::new(&stores).expect_exists::<Volume>("one").put(&volume("x")).commit().await.unwrap_err();
    assert_eq!(missing.conflict(), Some(&Conflict::Missing));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_updates_are_all_kept() {
    let (_dir, _kv, stores) = store();
    let table: Table<Volume> = Table::new(&stores);
    table.create(&volume("a")).await.unwrap();
    let writers = (0..20).map(|n| {
        let table = table.clone();
        tokio::spawn(async move {
            for i in 0..5 {
                let add = |v: &mut Volume| v.meta.labels.insert(format!("{n}-{i}"), String::new()).is_none();
                table.update("a", add).await.unwrap();
            }
        })
    });
    for done in futures_util::future::join_all(writers).await {
        done.unwrap();
    }
    assert_eq!(table.get("a").await.unwrap().unwrap().meta.labels.len(), 100);
}

#[tokio::test]
async fn a_broken_record_is_named() {
    let (_dir, kv, stores) = store();
    let table: Table<Volume> = Table::new(&stores);
    let op = Op::put("/weft/v1/volume/bad", "{\"v\":1}");
    kv.txn(Request::always(vec![op])).await.unwrap();
    for error in [table.list().await.unwrap_err(), table.get("bad").await.unwrap_err()] {
        assert!(error.to_string().contains("/weft/v1/volume/bad"), "{error}");
    }
}
