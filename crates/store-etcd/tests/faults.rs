//! What may happen to the cluster and to the way there, and what is told of it.
#![allow(clippy::unwrap_used, reason = "helpers of tests say what they expect")]

mod common;

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use common::{PATIENCE, SLACK, next, open, put, put_at_last, quick, shown, try_put, value};
use tokio::time::Duration;
use weft_store::{Hold, Keeper, Kv, Op, Request, StoreError};
use weft_store_etcd::Etcd;
use weft_testkit::{EtcdSetup, Relay, Wire, etcd};

const KEY: &str = "/weft/v1/a/b";

/// Waits until a lease stands as `wanted`.
async fn until(keeper: &Keeper, wanted: Hold) {
    let mut hold = keeper.hold();
    let seen = tokio::time::timeout(PATIENCE, hold.wait_for(|h| *h == wanted)).await;
    assert!(seen.is_ok(), "the lease is {:?}, not {wanted:?}", *keeper.hold().borrow());
}

/// A member that is stopped holds its connections and says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_cluster_hangs_nobody_and_watches_go_on_after_it() {
    let cluster = etcd::Etcd::single().unwrap();
    let kv = open(&cluster.endpoints()).await;
    let mut watch = kv.watch(b"/weft/v1/", 0).await.unwrap();
    put(&kv, KEY, "before").await;
    assert_eq!(shown(&next(&mut watch).await.unwrap()), [format!("{KEY}=before")]);
    cluster.pause(0).unwrap();
    let begun = Instant::now();
    let written = try_put(&kv, KEY, "lost").await;
    assert!(matches!(written, Err(StoreError::Unknown { doing: "write", .. })), "{written:?}");
    assert!(begun.elapsed() < quick().request + SLACK);
    let begun = Instant::now();
    let read = kv.get(KEY.as_bytes()).await;
    assert!(matches!(read, Err(StoreError::Unavailable { .. })), "{read:?}");
    let written = try_put(&kv, KEY, "never").await;
    assert!(matches!(written, Err(StoreError::Unavailable { .. })), "it did not go out: {written:?}");
    assert!(begun.elapsed() < 2 * quick().request + SLACK);
    // Once it has been away for long, nobody waits for it any more.
    tokio::time::sleep(quick().request).await;
    let begun = Instant::now();
    assert!(kv.range(b"/").await.is_err() && kv.lease(Duration::from_secs(5)).await.is_err());
    assert!(kv.watch(b"/", 0).await.is_err() && kv.revision().await.is_err());
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    cluster.resume(0).unwrap();
    put_at_last(&kv, KEY, "after").await;
    // What was called lost may have been carried out; what was called unavailable was not.
    let mut told = Vec::new();
    while told.last() != Some(&format!("{KEY}=after")) {
        told.extend(shown(&next(&mut watch).await.unwrap()));
    }
    told.retain(|t| *t != format!("{KEY}=lost"));
    assert_eq!(told, [format!("{KEY}=after")]);
}

/// The request arrives, the answer does not: only reading tells what became of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_told_as_unknown_and_leases_are_not_made_twice() {
    let cluster = etcd::Etcd::single().unwrap();
    let wire = Relay::to(&cluster.endpoints()).unwrap();
    let kv = open(&wire.address()).await;
    put(&kv, KEY, "1").await;
    wire.set(Wire::Deaf);
    let written = try_put(&kv, KEY, "2").await;
    assert!(matches!(written, Err(StoreError::Unknown { .. })), "{written:?}");
    assert!(written.unwrap_err().to_string().contains("may have been carried out, or still be"));
    let there = open(&cluster.endpoints()).await;
    assert_eq!(value(&there, KEY).await.as_deref(), Some("2"), "it was carried out");
    // Healed within the time of a call: a lease whose first answer was lost is asked for again by its number.
    wire.set(Wire::Whole);
    put_at_last(&kv, KEY, "3").await;
    wire.set(Wire::Deaf);
    let (lease, ()) = tokio::join!(kv.lease(Duration::from_secs(600)), async {
        tokio::time::sleep(Duration::from_millis(900)).await;
        wire.set(Wire::Whole);
    });
    let lease = lease.unwrap();
    let leases = cluster.ctl(&["lease", "list"]).unwrap();
    assert!(leases.contains("found 1 leases") && leases.contains(&format!("{:016x}", lease.0)), "{leases}");
}

/// `kill -9` of the only member under load, again and again: nothing acknowledged is lost, and a watch tells each change
/// once and in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_member_loses_nothing_and_a_watch_misses_nothing() {
    let mut cluster = etcd::Etcd::single().unwrap();
    let kv = Arc::new(open(&cluster.endpoints()).await);
    let mut watch = kv.watch(b"/weft/v1/n/", 0).await.unwrap();
    let writer = tokio::spawn({
        let kv = Arc::clone(&kv);
        async move {
            let (mut acked, mut unknown) = (Vec::new(), Vec::new());
            let begun = Instant::now();
            for n in 0u32.. {
                match try_put(&*kv, &format!("/weft/v1/n/{n:06}"), "x").await {
                    Ok(revision) => acked.push((n, revision)),
                    Err(StoreError::Unknown { .. }) => unknown.push(n),
                    Err(StoreError::Unavailable { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
                if begun.elapsed() > Duration::from_secs(8) {
                    break;
                }
            }
            (acked, unknown)
        }
    });
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(900)).await;
        cluster.kill(0).unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.restart(0).unwrap();
    }
    let (acked, unknown) = writer.await.unwrap();
    assert!(acked.len() > 50, "{} acknowledged", acked.len());
    put_at_last(&*kv, "/weft/v1/n/end", "x").await;
    let (mut told, mut last) = (Vec::new(), 0);
    loop {
        let batch = next(&mut watch).await.unwrap();
        assert!(batch.revision > last, "revision {} after {last}", batch.revision);
        last = batch.revision;
        assert_eq!(batch.events.len(), 1);
        let key = String::from_utf8_lossy(batch.events[0].key()).into_owned();
        let name = key.rsplit('/').next().unwrap().to_owned();
        if name == "end" {
            break;
        }
        told.push((name.parse::<u32>().unwrap(), batch.revision));
    }
    let known: Vec<_> = told.iter().filter(|(n, _)| !unknown.contains(n)).copied().collect();
    assert_eq!(known, acked, "each acknowledged change is told once, with its revision");
    let there = kv.range(b"/weft/v1/n/").await.unwrap().items.len();
    assert_eq!(there, told.len() + 1);
}

/// History that goes while the watch is cut off is told as gone; history that stays is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_while_cut_off_is_told_or_told_to_be_compacted() {
    let cluster = etcd::Etcd::single().unwrap();
    let wire = Relay::to(&cluster.endpoints()).unwrap();
    let (kv, there) = (open(&wire.address()).await, open(&cluster.endpoints()).await);
    let mut watch = kv.watch(b"/weft/v1/", 0).await.unwrap();
    for compacted in [false, true] {
        put(&there, KEY, "1").await;
        assert_eq!(shown(&next(&mut watch).await.unwrap()), [format!("{KEY}=1")]);
        wire.set(Wire::Cut);
        // The reader finds out by this call, long before the connection would.
        assert!(kv.get(KEY.as_bytes()).await.is_err());
        put(&there, KEY, "2").await;
        let last = there.txn(Request::always(vec![Op::delete(KEY)])).await.unwrap().revision;
        if compacted {
            there.compact(last).await.unwrap();
        }
        wire.set(Wire::Whole);
        if compacted {
            let outcome = next(&mut watch).await;
            assert!(matches!(outcome, Err(StoreError::Compacted { .. })), "{outcome:?}");
        } else {
            assert_eq!(shown(&next(&mut watch).await.unwrap()), [format!("{KEY}=2")]);
            assert_eq!(shown(&next(&mut watch).await.unwrap()), [format!("-{KEY}")]);
        }
    }
    assert!(matches!(next(&mut watch).await, Err(StoreError::Closed)), "the error is the last word");
}

/// etcd 19179: of the revision that is compacted, its removals are gone as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_from_the_very_revision_of_a_compaction_is_refused() {
    let cluster = etcd::Etcd::single().unwrap();
    let kv = open(&cluster.endpoints()).await;
    put(&kv, KEY, "1").await;
    let gone = kv.txn(Request::always(vec![Op::delete(KEY)])).await.unwrap().revision;
    cluster.ctl(&["compact", "--physical", &gone.to_string()]).unwrap();
    let mut watch = kv.watch(b"/weft/v1/", gone).await.unwrap();
    let outcome = next(&mut watch).await;
    assert!(
        matches!(outcome, Err(StoreError::Compacted { asked, compacted })
        if asked == gone && compacted == gone),
        "{outcome:?}"
    );
}

/// Progress that etcd tells by itself moves a quiet watch over what others changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_watch_is_not_told_that_others_changes_are_compacted() {
    let arguments = vec!["--experimental-watch-progress-notify-interval=200ms".to_owned()];
    let cluster = etcd::Etcd::start(EtcdSetup { arguments, ..EtcdSetup::default() }).unwrap();
    let wire = Relay::to(&cluster.endpoints()).unwrap();
    let (kv, there) = (open(&wire.address()).await, open(&cluster.endpoints()).await);
    let mut watch = kv.watch(b"/weft/v1/quiet/", 0).await.unwrap();
    for n in 0..20 {
        put(&there, "/weft/v1/loud/a", &n.to_string()).await;
    }
    let last = there.revision().await.unwrap();
    let waited = tokio::time::timeout(Duration::from_secs(2), watch.next()).await;
    assert!(waited.is_err(), "nothing happened here: {waited:?}");
    assert!(watch.reached() >= last, "at {}, the store at {last}", watch.reached());
    wire.set(Wire::Cut);
    assert!(kv.get(KEY.as_bytes()).await.is_err());
    there.compact(last).await.unwrap();
    wire.set(Wire::Whole);
    put(&there, "/weft/v1/quiet/a", "1").await;
    assert_eq!(shown(&next(&mut watch).await.unwrap()), ["/weft/v1/quiet/a=1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_kept_over_a_restart_and_its_loss_is_told() {
    let mut cluster = etcd::Etcd::single().unwrap();
    let kv: Arc<dyn Kv> = Arc::new(open(&cluster.endpoints()).await);
    let keeper = Keeper::start(Arc::clone(&kv), Duration::from_secs(3)).await.unwrap();
    let put = Op::Put { key: KEY.into(), value: "x".into(), lease: Some(keeper.lease()) };
    kv.txn(Request::always(vec![put])).await.unwrap();
    for _ in 0..2 {
        cluster.kill(0).unwrap();
        cluster.restart(0).unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(*keeper.hold().borrow(), Hold::Held);
    assert!(kv.get(KEY.as_bytes()).await.unwrap().is_some());
    // Silent for longer than it lives: nobody knows. A cluster that was stopped itself did not count the time.
    cluster.pause(0).unwrap();
    until(&keeper, Hold::Overdue).await;
    cluster.resume(0).unwrap();
    let mut hold = keeper.hold();
    let settled = hold.wait_for(|h| *h != Hold::Overdue);
    let settled = *tokio::time::timeout(PATIENCE, settled).await.unwrap().unwrap();
    // If it lived on, it ends now.
    if settled == Hold::Held {
        cluster.ctl(&["lease", "revoke", &format!("{:x}", keeper.lease().0)]).unwrap();
        until(&keeper, Hold::Lost).await;
    }
    assert!(kv.get(KEY.as_bytes()).await.unwrap().is_none());
    let again = Keeper::adopt(Arc::clone(&kv), keeper.lease()).await;
    assert!(matches!(again.err(), Some(StoreError::NoLease { .. })));
    // One that is let go ends by itself.
    let keeper = Keeper::start(Arc::clone(&kv), Duration::from_secs(2)).await.unwrap();
    let lease = keeper.lease();
    drop(keeper);
    let begun = Instant::now();
    while kv.keepalive(lease).await.is_ok() {
        // Each look renews it: so look seldom.
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(begun.elapsed() < PATIENCE);
    }
}

async fn three() -> (etcd::Etcd, Arc<Etcd>) {
    let cluster = etcd::Etcd::start(EtcdSetup { members: 3, ..EtcdSetup::default() }).unwrap();
    let kv = Arc::new(open(&cluster.endpoints()).await);
    (cluster, kv)
}

/// Whatever happens to one of three members, calls go on and a watch tells all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_do_without_any_one_of_them() {
    let (mut cluster, kv) = three().await;
    let mut watch = kv.watch(b"/weft/v1/", 0).await.unwrap();
    let (mut acked, mut unknown) = (Vec::new(), BTreeSet::new());
    for round in 0..4 {
        let leader = cluster.leader().unwrap();
        // The leader, and every other time one that only follows.
        let victim = if round % 2 == 0 { leader } else { (leader + 1) % 3 };
        // Killed, or stopped so that nothing of it is heard.
        if round < 2 {
            cluster.kill(victim).unwrap()
        } else {
            cluster.pause(victim).unwrap()
        }
        let (begun, mut done) = (Instant::now(), 0);
        for n in 0.. {
            let value = format!("{round}.{n}");
            match try_put(&*kv, KEY, &value).await {
                Ok(revision) => {
                    acked.push((revision, format!("{KEY}={value}")));
                    done += 1;
                }
                Err(StoreError::Unknown { .. }) => drop(unknown.insert(format!("{KEY}={value}"))),
                Err(StoreError::Unavailable { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            if done == 5 {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{value} after {:?}", begun.elapsed());
        }
        if round < 2 {
            cluster.restart(victim).unwrap()
        } else {
            cluster.resume(victim).unwrap()
        }
        cluster.wait().unwrap();
    }
    // Each acknowledged write is told once, with its revision; of the unknown ones each is told once or never, and where a
    // stopped member carried it out when it went on, later than what was written after it.
    let (mut told, last) = (Vec::new(), acked.last().unwrap().0);
    while told.last().is_none_or(|(revision, _)| *revision < last) {
        let batch = next(&mut watch).await.unwrap();
        told.extend(shown(&batch).into_iter().map(|change| (batch.revision, change)));
    }
    assert!(told.is_sorted_by(|a, b| a.0 < b.0), "{told:?}");
    let changes: BTreeSet<_> = told.iter().map(|(_, change)| change).collect();
    assert_eq!(changes.len(), told.len(), "nothing is told twice: {told:?}");
    told.retain(|(_, change)| !unknown.contains(change));
    assert_eq!(told, acked);
}

/// Without a majority there is an error in time, and afterwards all is as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_answers_nothing_and_comes_back() {
    let (mut cluster, kv) = three().await;
    put(&*kv, KEY, "1").await;
    cluster.kill(0).unwrap();
    cluster.kill(1).unwrap();
    let begun = Instant::now();
    let read = kv.get(KEY.as_bytes()).await;
    assert!(matches!(read, Err(StoreError::Unavailable { .. })), "{read:?}");
    assert!(begun.elapsed() < quick().request + SLACK);
    cluster.restart(0).unwrap();
    put_at_last(&*kv, KEY, "2").await;
    assert_eq!(value(&*kv, KEY).await.as_deref(), Some("2"));
}

/// What one host wrote by one member is what another one reads by another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_are_never_older_than_a_write_that_was_acknowledged() {
    let (cluster, _) = three().await;
    let mut hosts = Vec::new();
    for n in 0..3 {
        hosts.push(open(&cluster.endpoint(n)).await);
    }
    for n in 0..60 {
        let revision = put(&hosts[n % 3], KEY, &n.to_string()).await;
        let reader = &hosts[(n + 1) % 3];
        let compares = vec![weft_store::Compare::unchanged(KEY, revision)];
        let asked = Request { compares, ..Request::default() };
        assert!(
            reader.txn(asked).await.unwrap().succeeded,
            "a transaction without steps reads the present, too"
        );
        let (read, listed) = tokio::join!(value(reader, KEY), reader.range(b"/weft/v1/"));
        assert_eq!(read, Some(n.to_string()));
        assert!(listed.unwrap().revision >= revision);
        assert!(reader.revision().await.unwrap() >= revision);
        let mut watch = reader.watch(b"/weft/v1/", 0).await.unwrap();
        let later = put(&hosts[(n + 2) % 3], KEY, "later").await;
        assert_eq!(next(&mut watch).await.unwrap().revision, later, "a watch from now begins now");
    }
}

/// A daemon that starts before its cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_may_be_started_before_its_cluster() {
    let mut cluster = etcd::Etcd::single().unwrap();
    cluster.kill(0).unwrap();
    let kv = Etcd::start(common::config(&format!("etcd://{}", cluster.endpoints())), quick());
    let read = kv.get(KEY.as_bytes()).await;
    assert!(matches!(read, Err(StoreError::Unavailable { .. })), "{read:?}");
    assert!(matches!(kv.reach(), weft_store_etcd::Reach::Down { .. }));
    let mut watch = kv.watch(b"/weft/v1/", 1).await.unwrap();
    cluster.restart(0).unwrap();
    put_at_last(&kv, KEY, "1").await;
    assert_eq!(shown(&next(&mut watch).await.unwrap()), [format!("{KEY}=1")]);
    assert!(matches!(kv.reach(), weft_store_etcd::Reach::Up { .. }));
}

/// Nobody asks for anything while the wire is cut: the connection itself finds out, and the watch goes on by another member.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_watch_finds_out_that_its_wire_is_cut() {
    let cluster = etcd::Etcd::single().unwrap();
    let wire = Relay::to(&cluster.endpoints()).unwrap();
    let (by_wire, ping) = (wire.address(), Duration::from_secs(6));
    let address = format!("etcd://{by_wire},{}", cluster.endpoints());
    let kv = loop {
        let options = weft_store_etcd::Options { ping, ..quick() };
        let kv = Etcd::connect(common::config(&address), options).await.unwrap();
        if matches!(kv.reach(), weft_store_etcd::Reach::Up { endpoint } if endpoint == by_wire) {
            break kv;
        }
    };
    let mut watch = kv.watch(b"/weft/v1/", 0).await.unwrap();
    let there = open(&cluster.endpoints()).await;
    put(&there, KEY, "1").await;
    assert_eq!(shown(&next(&mut watch).await.unwrap()), [format!("{KEY}=1")]);
    wire.set(Wire::Cut);
    put(&there, KEY, "2").await;
    let begun = Instant::now();
    assert_eq!(shown(&next(&mut watch).await.unwrap()), [format!("{KEY}=2")]);
    assert!(begun.elapsed() < ping + quick().attempt + SLACK, "{:?}", begun.elapsed());
}

/// IPv6, and a way that takes its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_way_over_ipv6() {
    let cluster = etcd::Etcd::single().unwrap();
    let wire = Relay::at("[::1]:0", &cluster.endpoints()).unwrap();
    let kv = open(&wire.address()).await;
    wire.delay(Duration::from_millis(150));
    let mut watch = kv.watch(b"/weft/v1/", 0).await.unwrap();
    for n in 0..5 {
        put(&kv, KEY, &n.to_string()).await;
        assert_eq!(shown(&next(&mut watch).await.unwrap()), [format!("{KEY}={n}")]);
        assert_eq!(value(&kv, KEY).await, Some(n.to_string()));
    }
    let lease = kv.lease(Duration::from_secs(5)).await.unwrap();
    kv.keepalive(lease).await.unwrap();
}
