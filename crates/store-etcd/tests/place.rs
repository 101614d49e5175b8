//! Where a store may be, and where not: schema, prefix, addresses.
#![allow(clippy::unwrap_used, reason = "helpers of tests say what they expect")]

mod common;

use std::time::Instant;

use common::{SLACK, open, put, quick, refused, shown, value};
use weft_store::{Kv, Op, Request, StoreError};
use weft_store_etcd::Reach;
use weft_testkit::etcd::Etcd;

fn all_keys(cluster: &Etcd) -> String {
    cluster.ctl(&["get", "", "--from-key"]).unwrap()
}

#[tokio::test]
async fn what_is_not_wefts_is_refused_and_nothing_is_written() {
    let cluster = Etcd::single().unwrap();
    for (key, value) in [
        ("/foreign/config", "x"),
        ("/newer/weft/schema", r#"{"v":2,"store":"x","more":1}"#),
        ("/odd/weft/schema", "hello"),
        ("/weft/v1/host/x", "{}"),
    ] {
        cluster.ctl(&["put", key, value]).unwrap();
    }
    let before = all_keys(&cluster);
    let at = |prefix: &str| format!("{}{prefix}", cluster.endpoints());
    let foreign = refused(&at("/foreign")).await;
    assert!(matches!(foreign, StoreError::Foreign { .. }), "{foreign}");
    assert!(foreign.to_string().contains("it holds /foreign/config"), "{foreign}");
    let newer = refused(&at("/newer")).await;
    assert!(matches!(newer, StoreError::NewerStore { found: 2, known: 1, .. }), "{newer}");
    assert!(newer.to_string().contains("made by a newer Weft"), "{newer}");
    let odd = refused(&at("/odd")).await;
    assert!(matches!(odd, StoreError::Foreign { .. }), "{odd}");
    let bare = refused(&at("")).await;
    assert!(bare.to_string().contains("it holds /weft/v1/host/x"), "{bare}");
    assert_eq!(all_keys(&cluster), before);
    // Beside all that there is room.
    put(&open(&at("/ours")).await, "/weft/v1/host/x", "1").await;
}

#[tokio::test]
async fn hosts_that_come_at_once_make_one_store() {
    let cluster = Etcd::single().unwrap();
    let address = format!("{}/p", cluster.endpoints());
    let stores = futures_util::future::join_all((0..12).map(|_| open(&address))).await;
    put(&stores[0], "/weft/v1/a/b", "1").await;
    for store in &stores {
        assert_eq!(value(store, "/weft/v1/a/b").await.as_deref(), Some("1"));
    }
    let schema = cluster.ctl(&["get", "/p/weft/schema", "-w", "json"]).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    assert_eq!(schema["kvs"][0]["version"], 1, "it was written once");
}

#[tokio::test]
async fn prefixes_do_not_see_one_another_and_nobody_sees_the_schema_key() {
    let cluster = Etcd::single().unwrap();
    let at = |prefix: &str| format!("{}{prefix}", cluster.endpoints());
    let (a, ab, bare) = (open(&at("/a")).await, open(&at("/ab")).await, open(&at("")).await);
    let mut watch = a.watch(b"", 1).await.unwrap();
    put(&ab, "/weft/v1/k", "ab").await;
    put(&bare, "/weft/v1/k", "bare").await;
    put(&a, "/weft/v1/k", "a").await;
    assert_eq!(shown(&common::next(&mut watch).await.unwrap()), ["/weft/v1/k=a"]);
    for (store, expected) in [(&a, "a"), (&ab, "ab"), (&bare, "bare")] {
        let items = store.range(b"/weft/").await.unwrap().items;
        let found: Vec<_> = items.iter().map(|i| (&i.key[..], &i.value[..])).collect();
        assert_eq!(found, [(&b"/weft/v1/k"[..], expected.as_bytes())]);
    }
    for ops in [
        vec![Op::put("/weft/schema", "x")],
        vec![Op::delete("/weft/schema")],
        vec![Op::DeleteRange { prefix: "/weft/".into() }],
        vec![Op::put("no-slash", "x")],
    ] {
        let outcome = a.txn(Request::always(ops)).await;
        assert!(matches!(outcome, Err(StoreError::Invalid { .. })), "{outcome:?}");
    }
}

#[tokio::test]
async fn nobody_there_is_told_in_time_with_each_members_reason() {
    let begun = Instant::now();
    let error = refused("127.0.0.1:1,[::1]:1").await;
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    let text = error.to_string();
    for part in ["127.0.0.1:1: ", "[::1]:1: ", "refused"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(begun.elapsed() < quick().request + SLACK);
}

/// Something that is no etcd: an HTTP/1 server, and one that says nothing.
#[tokio::test]
async fn a_stranger_at_the_address_is_told_in_time() {
    let http = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = http.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in http.incoming().flatten() {
            std::io::Write::write_all(&mut &client, b"HTTP/1.1 400 Bad Request\r\n\r\n").ok();
        }
    });
    for address in [address, silent.local_addr().unwrap()] {
        let begun = Instant::now();
        let error = refused(&address.to_string()).await;
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        assert!(begun.elapsed() < quick().request + SLACK, "{error}");
    }
}

/// Two clusters in one address: the second never takes over.
#[tokio::test]
async fn a_member_of_another_cluster_does_not_take_over() {
    let (mut one, other) = (Etcd::single().unwrap(), Etcd::single().unwrap());
    drop(open(&other.endpoints()).await);
    let kv = open(&one.endpoints()).await;
    put(&kv, "/weft/v1/a", "1").await;
    drop(kv);
    let kv = open(&format!("{},{}", one.endpoints(), other.endpoints())).await;
    // Whichever was reached first is the store; the other one is not.
    let Reach::Up { endpoint } = kv.reach() else { panic!("{:?}", kv.reach()) };
    let mut other = other;
    if endpoint == one.endpoints() {
        one.kill(0).unwrap()
    } else {
        other.kill(0).unwrap()
    }
    let error = loop {
        match kv.get(b"/weft/v1/a").await {
            Err(error @ StoreError::Replaced { .. }) => break error,
            Err(StoreError::Unavailable { .. }) => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(error.to_string().contains("cluster") && error.to_string().contains("answers, not"), "{error}");
}

#[tokio::test]
async fn a_cluster_that_was_wiped_is_not_taken_for_the_store() {
    let mut cluster = Etcd::single().unwrap();
    let kv = open(&cluster.endpoints()).await;
    for n in 0..5 {
        put(&kv, "/weft/v1/a", &n.to_string()).await;
    }
    cluster.kill(0).unwrap();
    cluster.wipe(0).unwrap();
    cluster.restart(0).unwrap();
    cluster.wait().unwrap();
    let begun = Instant::now();
    let error = loop {
        match kv.get(b"/weft/v1/a").await {
            Err(error @ StoreError::Replaced { .. }) => break error,
            Err(StoreError::Unavailable { .. }) if begun.elapsed() < common::PATIENCE => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(error.to_string().contains("was wiped"), "{error}");
    let refused = common::try_put(&kv, "/weft/v1/a", "x").await;
    assert!(matches!(refused, Err(StoreError::Replaced { .. })), "{refused:?}");
    assert!(!all_keys(&cluster).contains("/weft"), "nothing was written");
}
