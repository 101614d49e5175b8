//! `cargo run --release -p weft-bench --example store [DIR]`: commits per second and latency by writers, range and list of
//! 1,000 records, memory.

use std::{
    collections::BTreeMap,
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use weft_base::{Clock, Name, SystemClock};
use weft_model::{Labels, Volume, VolumeSpec, default_project};
use weft_store::{Embedded, Kv, Op, Options, Request, StoreError, Stores, Table};

const RUN: Duration = Duration::from_secs(2);

async fn writers(kv: &Arc<dyn Kv>, count: usize) -> Result<(usize, Duration, Duration), StoreError> {
    let tasks = (0..count).map(|w| {
        let kv = Arc::clone(kv);
        tokio::spawn(async move {
            let (start, mut taken, mut n) = (Instant::now(), Vec::new(), 0u64);
            while start.elapsed() < RUN {
                let one = Instant::now();
                let op = Op::put(format!("/bench/{w}/{}", n % 50), vec![b'x'; 1000]);
                kv.txn(Request::always(vec![op])).await?;
                taken.push(one.elapsed());
                n += 1;
            }
            Ok::<_, StoreError>(taken)
        })
    });
    let mut all = Vec::new();
    for task in futures_util::future::join_all(tasks).await {
        all.extend(task.map_err(|e| StoreError::backend("run a writer", e))??);
    }
    all.sort_unstable();
    Ok((all.len(), all[all.len() / 2], all[all.len() * 99 / 100]))
}

fn pss() -> String {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    text.lines().find(|l| l.starts_with("Pss:")).unwrap_or("Pss: ?").to_owned()
}

fn average(start: Instant, times: u32) -> Duration {
    start.elapsed() / times
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let base = std::env::args().nth(1).unwrap_or_else(|| ".".into());
    let dir = tempfile::tempdir_in(base)?;
    let path = dir.path().join("store.redb");
    let mut out = std::io::stdout();
    writeln!(out, "nothing open: {}", pss())?;
    let kv: Arc<dyn Kv> = Arc::new(Embedded::open(&path, Options::default())?);
    writeln!(out, "open, empty: {}", pss())?;
    let table: Table<Volume> = Table::new(&Stores::single(Arc::clone(&kv)));
    for n in 0..1000 {
        let name = Name::new(format!("volume-{n:04}"))?;
        let spec = VolumeSpec { name, driver: "local".into(), options: BTreeMap::new(), anonymous: false };
        table.create(&Volume::new(default_project(), SystemClock.now(), Labels::new(), spec)).await?;
    }
    writeln!(out, "1000 records: {}", pss())?;
    for count in [1, 8, 64] {
        let (n, median, p99) = writers(&kv, count).await?;
        let rate = n as f64 / RUN.as_secs_f64();
        writeln!(out, "{count:>3} writers: {rate:>8.0} txn/s, median {median:?}, p99 {p99:?}")?;
    }
    let start = Instant::now();
    for _ in 0..1000 {
        kv.range(b"/weft/v1/volume/").await?;
    }
    writeln!(out, "range of 1000: {:?}", average(start, 1000))?;
    let start = Instant::now();
    for _ in 0..1000 {
        table.list().await?;
    }
    writeln!(out, "list of 1000, unchanged: {:?}", average(start, 1000))?;
    let (start, mut listing) = (Instant::now(), Duration::ZERO);
    for _ in 0..200 {
        kv.txn(Request::always(vec![Op::put("/bench/x", "x")])).await?;
        let one = Instant::now();
        table.list().await?;
        listing += one.elapsed();
    }
    writeln!(
        out,
        "list of 1000 after a write: {:?} (write: {:?})",
        listing / 200,
        (start.elapsed() - listing) / 200
    )?;
    let start = Instant::now();
    for _ in 0..100_000 {
        table.get("volume-0500").await?;
    }
    writeln!(out, "get: {:?}", average(start, 100_000))?;
    writeln!(out, "at the end: {}, file {} bytes", pss(), std::fs::metadata(&path)?.len())?;
    drop(table);
    drop(kv);
    let start = Instant::now();
    let kv = Embedded::open(&path, Options::default())?;
    writeln!(out, "open again: {:?}, {} keys", start.elapsed(), kv.range(b"").await?.items.len())?;
    Ok(())
}
