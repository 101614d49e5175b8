//! What every backend of [`Kv`] must do, as one suite; a backend's tests call [`run_all`].
//!
//! The suite works under the prefix `/contract/` only and assumes nothing about where revisions start, so that it
//! runs on a shared cluster as well. It fails by panic, with the name of the case in the message.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    Batch, Cmp, Compare, Event, Item, Kv, LeaseId, MAX_OPS, MAX_VALUE, Op, OpResult, Request, Response,
    StoreError, Target, Watch,
};

/// Longest wait for something that must come; no case waits this long unless it fails.
const PATIENCE: Duration = Duration::from_secs(30);

type Outcome = Result<(), StoreError>;

/// Runs every case on a store that `make` gives (the same one again, or a new one).
///
/// # Panics
/// When a case fails.
pub async fn run_all<F, T>(make: F)
where
    F: Fn() -> T,
    T: Future<Output = Arc<dyn Kv>>,
{
    macro_rules! cases {
        ($($case:ident),* $(,)?) => {$({
            let name = stringify!($case);
            let prefix = format!("/contract/{name}/");
            let t = Subject { kv: make().await, prefix };
            let outcome = async {
                t.kv.txn(Request::always(vec![Op::DeleteRange { prefix: t.prefix.clone().into() }])).await?;
                $case(&t).await
            };
            if let Err(error) = outcome.await {
                panic!("{name}: {}", weft_base::chain(&error));
            }
        })*};
    }
    cases! {
        put_get_delete, versions_and_revisions, a_txn_is_one_revision, range_is_by_prefix_and_ordered,
        compares, the_other_branch, steps_see_earlier_steps, empty_writes_keep_the_revision, limits,
        many_writers_one_counter, read_your_writes, watch_from_now, watch_from_a_revision, watch_is_whole_and_ordered,
        slow_watch_misses_nothing, watch_is_by_prefix, watch_of_the_future, compaction, lease_ends,
        lease_kept_alive, lease_revoked, put_moves_between_leases, unknown_lease,
    }
}

struct Subject {
    kv: Arc<dyn Kv>,
    prefix: String,
}

impl Subject {
    fn key(&self, name: &str) -> Bytes {
        format!("{}{name}", self.prefix).into()
    }
    fn set(&self, name: &str, value: &str) -> Op {
        Op::put(self.key(name), value.to_owned())
    }
    async fn always(&self, then: Vec<Op>) -> Result<Response, StoreError> {
        self.kv.txn(Request::always(then)).await
    }
    async fn put(&self, name: &str, value: &str) -> Result<u64, StoreError> {
        Ok(self.always(vec![self.set(name, value)]).await?.revision)
    }
    async fn delete(&self, name: &str) -> Result<Response, StoreError> {
        self.always(vec![Op::delete(self.key(name))]).await
    }
    async fn get(&self, name: &str) -> Result<Option<Item>, StoreError> {
        self.kv.get(&self.key(name)).await
    }
    async fn value(&self, name: &str) -> Result<Option<String>, StoreError> {
        Ok(self.get(name).await?.map(|i| String::from_utf8_lossy(&i.value).into_owned()))
    }
    async fn watch(&self, from: u64) -> Result<Watch, StoreError> {
        self.kv.watch(self.prefix.as_bytes(), from).await
    }
    async fn put_leased(&self, name: &str, lease: LeaseId) -> Result<Response, StoreError> {
        let value = Bytes::from_static(b"x");
        self.always(vec![Op::Put { key: self.key(name), value, lease: Some(lease) }]).await
    }
    /// The batch's changes as `name=value` and `-name`.
    fn shown(&self, batch: &Batch) -> Vec<String> {
        let name = |key: &Bytes| String::from_utf8_lossy(&key[self.prefix.len()..]).into_owned();
        let one = |event: &Event| match event {
            Event::Put(item) => format!("{}={}", name(&item.key), String::from_utf8_lossy(&item.value)),
            Event::Delete { key, .. } => format!("-{}", name(key)),
        };
        batch.events.iter().map(one).collect()
    }
}

async fn next(watch: &mut Watch) -> Result<Batch, StoreError> {
    match tokio::time::timeout(PATIENCE, watch.next()).await {
        Ok(batch) => batch,
        Err(_) => panic!("a watch did not tell of a change within {PATIENCE:?}"),
    }
}

async fn put_get_delete(t: &Subject) -> Outcome {
    assert_eq!(t.value("a").await?, None);
    t.put("a", "1").await?;
    assert_eq!(t.value("a").await?.as_deref(), Some("1"));
    t.put("a", "").await?;
    assert_eq!(t.value("a").await?.as_deref(), Some(""));
    assert_eq!(t.delete("a").await?.results, [OpResult::Deleted(1)]);
    assert_eq!(t.value("a").await?, None);
    assert_eq!(t.delete("a").await?.results, [OpResult::Deleted(0)]);
    let binary = Bytes::from_static(b"\0\xff\n");
    t.always(vec![Op::put(t.key("b"), binary.clone())]).await?;
    assert_eq!(t.get("b").await?.map(|i| i.value), Some(binary));
    Ok(())
}

async fn versions_and_revisions(t: &Subject) -> Outcome {
    let first = t.put("a", "1").await?;
    let second = t.put("a", "2").await?;
    assert!(second > first);
    assert!(t.kv.revision().await? >= second);
    let seen = t.get("a").await?.map(|i| (i.create_revision, i.mod_revision, i.version, i.lease));
    assert_eq!(seen, Some((first, second, 2, None)));
    t.delete("a").await?;
    let again = t.put("a", "3").await?;
    let seen = t.get("a").await?.map(|i| (i.create_revision, i.mod_revision, i.version));
    assert_eq!(seen, Some((again, again, 1)), "a key made again starts anew");
    Ok(())
}

async fn a_txn_is_one_revision(t: &Subject) -> Outcome {
    t.put("old", "x").await?;
    let r = t.always(vec![t.set("a", "1"), Op::delete(t.key("old")), t.set("b", "2")]).await?;
    assert!(r.succeeded);
    for name in ["a", "b"] {
        assert_eq!(t.get(name).await?.map(|i| i.mod_revision), Some(r.revision), "{name}");
    }
    assert_eq!(r.results, [OpResult::Put, OpResult::Deleted(1), OpResult::Put]);
    Ok(())
}

async fn range_is_by_prefix_and_ordered(t: &Subject) -> Outcome {
    for name in ["b/2", "a", "b/1", "b/10", "b", "c", "b0"] {
        t.put(name, name).await?;
    }
    let range = t.kv.range(&t.key("b/")).await?;
    let names: Vec<_> = range.items.iter().map(|i| i.value.clone()).collect();
    assert_eq!(names, ["b/1", "b/10", "b/2"]);
    assert!(range.items.iter().all(|i| i.mod_revision <= range.revision));
    assert!(t.kv.range(&t.key("d")).await?.items.is_empty());
    let r = t.always(vec![Op::DeleteRange { prefix: t.key("b/") }]).await?;
    assert_eq!(r.results, [OpResult::Deleted(3)]);
    assert_eq!(t.kv.range(t.prefix.as_bytes()).await?.items.len(), 4);
    Ok(())
}

async fn compares(t: &Subject) -> Outcome {
    let created = t.put("a", "m").await?;
    let changed = t.put("a", "m").await?;
    let value = |v: &'static str| Target::Value(Bytes::from_static(v.as_bytes()));
    use Cmp::{Equal, Greater, Less, NotEqual};
    let on_present = [
        (Equal, Target::Version(2), true),
        (Equal, Target::Version(1), false),
        (NotEqual, Target::Version(1), true),
        (Less, Target::Version(3), true),
        (Less, Target::Version(2), false),
        (Greater, Target::Version(1), true),
        (Greater, Target::Version(2), false),
        (Equal, Target::CreateRevision(created), true),
        (Greater, Target::CreateRevision(created), false),
        (NotEqual, Target::CreateRevision(0), true),
        (Equal, Target::ModRevision(changed), true),
        (Equal, Target::ModRevision(created), false),
        (Less, Target::ModRevision(changed + 1), true),
        (Equal, value("m"), true),
        (Equal, value("n"), false),
        (NotEqual, value("n"), true),
        (Less, value("n"), true),
        (Greater, value("lll"), true),
        (Greater, value("m"), false),
    ];
    let on_missing = [
        (Equal, Target::Version(0), true),
        (Greater, Target::Version(0), false),
        (Equal, Target::CreateRevision(0), true),
        (Equal, Target::ModRevision(0), true),
        (Less, Target::ModRevision(1), true),
        (Equal, value(""), false),
        (NotEqual, value("x"), false),
    ];
    for (name, cases) in [("a", &on_present[..]), ("missing", &on_missing[..])] {
        for (cmp, target, expected) in cases {
            let compares = vec![Compare { key: t.key(name), cmp: *cmp, target: target.clone() }];
            let r = t.kv.txn(Request { compares, ..Request::default() }).await?;
            assert_eq!(r.succeeded, *expected, "{name}: {cmp:?} {target:?}");
        }
    }
    Ok(())
}

async fn the_other_branch(t: &Subject) -> Outcome {
    t.put("a", "1").await?;
    let request = |compares| Request {
        compares,
        then: vec![t.set("then", "x")],
        otherwise: vec![t.set("otherwise", "x"), Op::get(t.key("a"))],
    };
    let r = t.kv.txn(request(vec![Compare::exists(t.key("a")), Compare::missing(t.key("a"))])).await?;
    assert!(!r.succeeded, "one failed condition is enough");
    assert!(matches!(&r.results[1], OpResult::Items(items) if items[0].value == "1"), "{:?}", r.results);
    assert_eq!((t.value("then").await?, t.value("otherwise").await?.is_some()), (None, true));
    let r = t.kv.txn(request(vec![Compare::value(t.key("a"), "1")])).await?;
    assert!(r.succeeded && t.value("then").await?.is_some());
    Ok(())
}

async fn steps_see_earlier_steps(t: &Subject) -> Outcome {
    t.put("a", "0").await?;
    t.put("gone", "0").await?;
    let ops = vec![
        t.set("a", "1"),
        t.set("b", "1"),
        Op::delete(t.key("gone")),
        Op::get(t.key("a")),
        Op::Range { prefix: t.prefix.clone().into() },
    ];
    let r = t.always(ops).await?;
    assert!(matches!(&r.results[3], OpResult::Items(items) if items[0].value == "1"), "{:?}", r.results);
    let OpResult::Items(items) = &r.results[4] else { panic!("a range gave {:?}", r.results[4]) };
    let values: Vec<_> = items.iter().map(|i| (i.value.clone(), i.mod_revision)).collect();
    assert_eq!(values, [(Bytes::from("1"), r.revision), (Bytes::from("1"), r.revision)]);
    Ok(())
}

async fn empty_writes_keep_the_revision(t: &Subject) -> Outcome {
    t.put("a", "1").await?;
    // Another user of a shared cluster may write meanwhile, so the key's own history is looked at.
    let mut watch = t.watch(0).await?;
    t.delete("missing").await?;
    t.always(vec![Op::get(t.key("a"))]).await?;
    t.always(vec![]).await?;
    let last = t.put("a", "2").await?;
    let batch = next(&mut watch).await?;
    assert_eq!((batch.revision, t.shown(&batch)), (last, vec!["a=2".to_owned()]));
    Ok(())
}

async fn limits(t: &Subject) -> Outcome {
    let many = |n: usize| (0..n).map(|i| t.set(&i.to_string(), "x")).collect::<Vec<_>>();
    t.always(many(MAX_OPS)).await?;
    t.always(vec![Op::put(t.key("big"), vec![b'x'; t.kv.max_value()])]).await?;
    assert!(t.kv.max_value() >= MAX_VALUE);
    let refused = [
        many(MAX_OPS + 1),
        vec![Op::put(t.key("big"), vec![b'x'; t.kv.max_value() + 1])],
        vec![t.set("twice", "1"), t.set("twice", "2")],
        vec![t.set("twice", "1"), Op::delete(t.key("twice"))],
        vec![t.set("twice/1", "1"), Op::DeleteRange { prefix: t.key("twice/") }],
        vec![Op::put(Bytes::new(), "x")],
    ];
    for ops in refused {
        let shown: String = format!("{:?}", ops.last()).chars().take(200).collect();
        let outcome = t.always(ops).await;
        assert!(
            matches!(outcome, Err(StoreError::Invalid { .. } | StoreError::TooLarge { .. })),
            "{shown}: {outcome:?}"
        );
    }
    assert_eq!(t.value("twice").await?, None);
    Ok(())
}

async fn many_writers_one_counter(t: &Subject) -> Outcome {
    const WRITERS: usize = 16;
    const EACH: usize = 10;
    t.put("n", "0").await?;
    let writers = (0..WRITERS).map(|_| {
        let (kv, key) = (Arc::clone(&t.kv), t.key("n"));
        tokio::spawn(async move {
            let mut done = 0;
            while done < EACH {
                let Some(item) = kv.get(&key).await? else { panic!("the counter is gone") };
                let n: usize = String::from_utf8_lossy(&item.value).parse().unwrap_or(0);
                let compares = vec![Compare::unchanged(key.clone(), item.mod_revision)];
                let then = vec![Op::put(key.clone(), (n + 1).to_string())];
                done += usize::from(kv.txn(Request { compares, then, otherwise: vec![] }).await?.succeeded);
            }
            Ok::<_, StoreError>(())
        })
    });
    for writer in futures_util::future::join_all(writers).await {
        writer.map_err(|e| StoreError::backend("run a writer", e))??;
    }
    assert_eq!(t.value("n").await?, Some((WRITERS * EACH).to_string()), "no update is lost");
    assert_eq!(t.get("n").await?.map(|i| i.version), Some((WRITERS * EACH + 1) as u64));
    Ok(())
}

async fn read_your_writes(t: &Subject) -> Outcome {
    for n in 0..50 {
        let n = n.to_string();
        t.put("a", &n).await?;
        assert_eq!(t.value("a").await?.as_deref(), Some(&n[..]));
    }
    Ok(())
}

async fn watch_from_now(t: &Subject) -> Outcome {
    t.put("a", "before").await?;
    let mut watch = t.watch(0).await?;
    t.put("a", "1").await?;
    t.delete("a").await?;
    assert_eq!(t.shown(&next(&mut watch).await?), ["a=1"]);
    assert_eq!(t.shown(&next(&mut watch).await?), ["-a"]);
    Ok(())
}

async fn watch_from_a_revision(t: &Subject) -> Outcome {
    let first = t.put("a", "1").await?;
    t.put("a", "2").await?;
    t.delete("a").await?;
    let list = t.kv.range(t.prefix.as_bytes()).await?;
    let mut all = t.watch(first).await?;
    let mut since = t.watch(list.revision + 1).await?;
    t.put("b", "3").await?;
    assert_eq!(since.reached(), list.revision);
    for expected in ["a=1", "a=2", "-a", "b=3"] {
        let batch = next(&mut all).await?;
        assert_eq!((t.shown(&batch), all.reached()), (vec![expected.to_owned()], batch.revision));
    }
    assert_eq!(t.shown(&next(&mut since).await?), ["b=3"], "a list and a watch have no gap and no overlap");
    Ok(())
}

async fn watch_is_whole_and_ordered(t: &Subject) -> Outcome {
    let mut watch = t.watch(0).await?;
    t.put("old", "x").await?;
    let r = t.always(vec![t.set("b", "1"), t.set("a", "2"), Op::delete(t.key("old"))]).await?;
    assert_eq!(t.shown(&next(&mut watch).await?), ["old=x"]);
    let batch = next(&mut watch).await?;
    let mut shown = t.shown(&batch);
    shown.sort();
    assert_eq!((batch.revision, shown), (r.revision, vec!["-old".into(), "a=2".into(), "b=1".into()]));
    for event in &batch.events {
        match event {
            Event::Put(item) => assert_eq!((item.mod_revision, item.version), (r.revision, 1)),
            Event::Delete { revision, .. } => assert_eq!(*revision, r.revision),
        }
    }
    Ok(())
}

async fn slow_watch_misses_nothing(t: &Subject) -> Outcome {
    const CHANGES: usize = 900;
    let mut watch = t.watch(0).await?;
    for chunk in 0..CHANGES / 100 {
        let writes = (0..100).map(|n| {
            let value = (chunk * 100 + n).to_string();
            async move { t.put(&format!("k{n}"), &value).await }
        });
        futures_util::future::try_join_all(writes).await?;
    }
    let (mut seen, mut last) = (std::collections::BTreeSet::new(), 0);
    while seen.len() < CHANGES {
        let batch = next(&mut watch).await?;
        assert!(batch.revision > last, "revisions go up");
        last = batch.revision;
        for shown in t.shown(&batch) {
            assert!(seen.insert(shown.clone()), "{shown} came twice");
        }
    }
    Ok(())
}

async fn watch_is_by_prefix(t: &Subject) -> Outcome {
    let mut watch = t.kv.watch(&t.key("in/"), 0).await?;
    t.put("out", "x").await?;
    t.always(vec![t.set("in/a", "1"), t.set("out", "y")]).await?;
    t.put("in", "x").await?;
    t.delete("in/a").await?;
    assert_eq!(t.shown(&next(&mut watch).await?), ["in/a=1"]);
    assert_eq!(t.shown(&next(&mut watch).await?), ["-in/a"]);
    Ok(())
}

async fn watch_of_the_future(t: &Subject) -> Outcome {
    let now = t.put("a", "1").await?;
    let mut watch = t.watch(now + 2).await?;
    t.put("a", "2").await?;
    t.put("a", "3").await?;
    let batch = next(&mut watch).await?;
    assert!(batch.revision >= now + 2, "revision {} came although {} was asked", batch.revision, now + 2);
    Ok(())
}

async fn compaction(t: &Subject) -> Outcome {
    let first = t.put("a", "1").await?;
    t.put("b", "1").await?;
    t.delete("b").await?;
    let last = t.put("a", "2").await?;
    t.kv.compact(last).await?;
    t.kv.compact(last).await?;
    assert_eq!(t.value("a").await?.as_deref(), Some("2"), "the present is never compacted");
    let outcome = match t.watch(first).await {
        Ok(mut watch) => next(&mut watch).await.map(|b| t.shown(&b)),
        Err(error) => Err(error),
    };
    assert!(matches!(outcome, Err(StoreError::Compacted { .. })), "{outcome:?}");
    let mut watch = t.watch(last + 1).await?;
    t.put("a", "3").await?;
    assert_eq!(t.shown(&next(&mut watch).await?), ["a=3"]);
    let future = t.kv.revision().await? + 1_000_000;
    let outcome = t.kv.compact(future).await;
    assert!(matches!(outcome, Err(StoreError::Invalid { .. })), "{outcome:?}");
    Ok(())
}

async fn lease_ends(t: &Subject) -> Outcome {
    let mut watch = t.watch(0).await?;
    let lease = t.kv.lease(Duration::from_secs(1)).await?;
    t.put_leased("a", lease).await?;
    t.put_leased("b", lease).await?;
    t.put("stays", "x").await?;
    assert_eq!(t.get("a").await?.and_then(|i| i.lease), Some(lease));
    for _ in 0..3 {
        next(&mut watch).await?;
    }
    let batch = next(&mut watch).await?;
    let mut gone = t.shown(&batch);
    gone.sort();
    assert_eq!(gone, ["-a", "-b"], "all keys of a lease end in one revision");
    assert!(t.value("stays").await?.is_some());
    let outcome = t.kv.keepalive(lease).await;
    assert!(matches!(outcome, Err(StoreError::NoLease { .. })), "{outcome:?}");
    Ok(())
}

async fn lease_kept_alive(t: &Subject) -> Outcome {
    let kept = t.kv.lease(Duration::from_secs(2)).await?;
    let control = t.kv.lease(Duration::from_secs(2)).await?;
    t.put_leased("kept", kept).await?;
    t.put_leased("control", control).await?;
    // As long as the other lives this one must, and beyond it, because it is renewed all the time.
    while t.value("control").await?.is_some() {
        assert!(t.kv.keepalive(kept).await? >= Duration::from_secs(2));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(t.value("kept").await?.is_some());
    t.kv.revoke(kept).await
}

async fn lease_revoked(t: &Subject) -> Outcome {
    let lease = t.kv.lease(Duration::from_secs(600)).await?;
    let other = t.kv.lease(Duration::from_secs(600)).await?;
    assert_ne!(lease, other);
    t.put_leased("a", lease).await?;
    t.put_leased("b", other).await?;
    t.kv.revoke(lease).await?;
    assert_eq!(t.value("a").await?, None);
    assert!(t.value("b").await?.is_some());
    t.kv.revoke(other).await?;
    assert_eq!(t.value("b").await?, None);
    let outcome = t.kv.revoke(lease).await;
    assert!(matches!(outcome, Err(StoreError::NoLease { .. })), "{outcome:?}");
    Ok(())
}

async fn put_moves_between_leases(t: &Subject) -> Outcome {
    let one = t.kv.lease(Duration::from_secs(600)).await?;
    let two = t.kv.lease(Duration::from_secs(600)).await?;
    t.put_leased("moved", one).await?;
    t.put_leased("freed", one).await?;
    t.put_leased("again", one).await?;
    t.put_leased("moved", two).await?;
    t.put("freed", "x").await?;
    t.delete("again").await?;
    t.put("again", "x").await?;
    t.kv.revoke(one).await?;
    for name in ["moved", "freed", "again"] {
        assert!(t.value(name).await?.is_some(), "{name} had left the lease");
    }
    t.kv.revoke(two).await?;
    assert_eq!(t.value("moved").await?, None);
    Ok(())
}

async fn unknown_lease(t: &Subject) -> Outcome {
    let lease = LeaseId(0x7fff_ffff_ffff_fff0);
    let outcome = t.put_leased("a", lease).await;
    assert!(matches!(outcome, Err(StoreError::NoLease { .. })), "{outcome:?}");
    assert_eq!(t.value("a").await?, None);
    let outcome = t.kv.keepalive(lease).await;
    assert!(matches!(outcome, Err(StoreError::NoLease { .. })), "{outcome:?}");
    Ok(())
}
