//! Transactions a second and how long a watch takes to tell, on a fresh one-member etcd, beside etcd's own figures.
//!
//! `cargo run --release -p weft-store-etcd --example figures [SECONDS]`
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for developers")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use weft_store::{Kv, Op, Request};
use weft_store_etcd::{Config, Etcd, Options};
use weft_testkit::etcd;

async fn put(kv: &Etcd, key: String) -> u64 {
    let op = Op::put(key, vec![b'x'; 300]);
    kv.txn(Request::always(vec![op])).await.unwrap().revision
}

fn shown(name: &str, mut times: Vec<Duration>, within: Duration) {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1000.0;
    let rate = times.len() as f64 / within.as_secs_f64();
    println!("{name:<34} {rate:>8.0}/s   p50 {:>7.2} ms   p99 {:>7.2} ms", at(50), at(99));
}

async fn writers(kv: &Arc<Etcd>, count: usize, long: Duration) {
    let begun = Instant::now();
    let all = (0..count).map(|writer| {
        let kv = Arc::clone(kv);
        tokio::spawn(async move {
            let mut times = Vec::new();
            while begun.elapsed() < long {
                let asked = Instant::now();
                put(&kv, format!("/weft/v1/bench/{writer}")).await;
                times.push(asked.elapsed());
            }
            times
        })
    });
    let times = futures_util::future::join_all(all).await.into_iter().flat_map(Result::unwrap).collect();
    shown(&format!("txn, {count} at a time"), times, begun.elapsed());
}

/// From asking for a write to its news on each of `watches` watches; the last one counts.
async fn watching(kv: &Arc<Etcd>, watches: usize, long: Duration) {
    let mut all = Vec::new();
    for _ in 0..watches {
        all.push(kv.watch(b"/weft/v1/told/", 0).await.unwrap());
    }
    let (begun, mut times) = (Instant::now(), Vec::new());
    while begun.elapsed() < long {
        let asked = Instant::now();
        let write = put(kv, "/weft/v1/told/a".to_owned());
        let (_, ()) = tokio::join!(write, async {
            for watch in &mut all {
                watch.next().await.unwrap();
            }
        });
        times.push(asked.elapsed());
    }
    shown(&format!("write told on {watches} watches"), times, begun.elapsed());
}

#[tokio::main]
async fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(5);
    let long = Duration::from_secs(seconds);
    let cluster = etcd::Etcd::single().unwrap();
    let config: Config = format!("etcd://{}", cluster.endpoints()).parse().unwrap();
    let kv = Arc::new(Etcd::connect(config, Options::default()).await.unwrap());
    for count in [1, 16, 128] {
        writers(&kv, count, long).await;
    }
    for watches in [1, 100, 1000] {
        watching(&kv, watches, long).await;
    }
    let begun = Instant::now();
    let mut reads = Vec::new();
    while begun.elapsed() < long {
        let asked = Instant::now();
        kv.get(b"/weft/v1/bench/0").await.unwrap();
        reads.push(asked.elapsed());
    }
    shown("get, linearizable", reads, begun.elapsed());
    println!("\netcdctl check perf --load=m (its own client, fixed rate, a minute):");
    let check = std::process::Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &cluster.endpoint(0), "check", "perf", "--load=m"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&check.stdout).into_owned();
    for line in text.lines().filter(|l| l.contains("PASS") || l.contains("FAIL")) {
        println!("  {}", line.trim());
    }
}
