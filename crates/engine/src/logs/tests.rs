//! Writer and reader together, over real files: rotation, compression, crashes, following.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use tokio::sync::watch;
use weft_base::Timestamp;
use weft_model::LogConfig;

use super::{LogEntry, LogFacts, LogQuery, LogReader, LogSink, Stream, reader, writer};

fn config(driver: &str, options: &[(&str, &str)]) -> LogConfig {
    let options: BTreeMap<_, _> = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    LogConfig { driver: driver.to_owned(), options }
}

fn facts() -> LogFacts {
    LogFacts { id: "ab".repeat(32), name: "web".into(), ..LogFacts::default() }
}

fn open(config: &LogConfig, dir: &Path) -> Box<dyn LogSink> {
    writer::open(config, dir, &facts()).unwrap()
}

fn at(i: u64) -> Timestamp {
    Timestamp::from_unix(1_700_000_000 + i64::try_from(i).unwrap(), 0).unwrap()
}

fn put(sink: &mut dyn LogSink, numbers: std::ops::Range<u64>) {
    for i in numbers {
        let stream = if i % 10 == 3 { Stream::Stderr } else { Stream::Stdout };
        sink.write(stream, format!("line number {i} <with> \"marks\"\n").as_bytes(), at(i)).unwrap();
    }
}

async fn reader(config: &LogConfig, dir: &Path, query: LogQuery) -> LogReader {
    reader::open(config, dir, &facts().id, query, watch::channel(true).1).await.unwrap()
}

async fn all(config: &LogConfig, dir: &Path, query: LogQuery) -> Vec<LogEntry> {
    let mut reader = reader(config, dir, query).await;
    let mut seen = Vec::new();
    while let Some(batch) = reader.next_batch().await.unwrap() {
        assert!(!batch.is_empty());
        seen.extend(batch);
    }
    seen
}

/// `1-5,9`: thousands of numbers, in a form that a failure can show.
fn ranges(numbers: &[u64]) -> String {
    let mut out: Vec<(u64, u64)> = Vec::new();
    for n in numbers {
        match out.last_mut() {
            Some((_, last)) if *last + 1 == *n => *last = *n,
            _ => out.push((*n, *n)),
        }
    }
    out.iter().map(|(a, b)| format!("{a}-{b}")).collect::<Vec<_>>().join(",")
}

fn numbers(entries: &[LogEntry]) -> Vec<u64> {
    let number = |e: &LogEntry| {
        let text = String::from_utf8(e.line.to_vec()).unwrap();
        text.split(' ').nth(2).unwrap().parse().unwrap()
    };
    entries.iter().map(number).collect()
}

const ROTATED: [(&str, &str); 2] = [("max-size", "20k"), ("max-file", "4")];

/// Waits until all rotated files are compressed.
fn settle(sink: &mut dyn LogSink, dir: &Path) {
    settle_while(dir, || sink.flush().unwrap());
}

fn settle_while(dir: &Path, mut go_on: impl FnMut()) {
    for _ in 0..500 {
        go_on();
        let names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        let plain =
            |n: &str| n.ends_with(".1") || n.ends_with(".2") || n.ends_with(".3") || n.ends_with(".tmp");
        if !names.iter().any(|n| plain(n.to_str().unwrap())) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("rotated files stay uncompressed in {}", dir.display());
}

#[tokio::test]
async fn rotated_and_compressed_files_are_read_as_one() {
    for driver in ["json-file", "local"] {
        let dir = tempfile::tempdir().unwrap();
        let config = config(driver, &ROTATED);
        let mut sink = open(&config, dir.path());
        put(&mut *sink, 0..3000);
        settle(&mut *sink, dir.path());
        let seen = numbers(&all(&config, dir.path(), LogQuery::default()).await);
        let first = seen[0];
        assert!(first > 0, "{driver}: the oldest lines were dropped");
        assert_eq!(ranges(&seen), format!("{first}-2999"), "{driver}");
        let files = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(files, 4, "{driver}");
        let packed = fs::read_dir(dir.path())
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().ends_with(".gz"));
        assert_eq!(packed.count(), 3, "{driver}");
        for wanted in [0, 1, 7, 150, 400, 100_000] {
            let query = LogQuery { tail: Some(wanted), ..LogQuery::default() };
            let got = numbers(&all(&config, dir.path(), query).await);
            let expected: Vec<_> = (first.max(3000 - wanted.min(3000))..3000).collect();
            assert_eq!(ranges(&got), ranges(&expected), "{driver} {wanted}");
        }
        sink.close().unwrap();
    }
}

#[tokio::test]
async fn what_waits_at_the_end_is_compressed_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let config = config("json-file", &ROTATED);
    let mut sink = open(&config, dir.path());
    // Faster than a child compresses, so that some wait.
    put(&mut *sink, 0..3000);
    sink.close().unwrap();
    settle_while(dir.path(), || ());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
    let seen = numbers(&all(&config, dir.path(), LogQuery::default()).await);
    assert_eq!(ranges(&seen), format!("{}-2999", seen[0]));
    // The next writer may come while the last one's child works.
    for _ in 0..5 {
        let mut sink = open(&config, dir.path());
        put(&mut *sink, 0..1000);
        sink.close().unwrap();
    }
    settle_while(dir.path(), || ());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
    assert_eq!(
        all(&config, dir.path(), LogQuery { tail: Some(300), ..LogQuery::default() }).await.len(),
        300
    );
}

#[tokio::test]
async fn times_and_streams_select() {
    for driver in ["json-file", "local"] {
        let dir = tempfile::tempdir().unwrap();
        let config = config(driver, &[("labels", "none")]);
        let mut sink = open(&config, dir.path());
        put(&mut *sink, 0..100);
        sink.close().unwrap();
        for (query, expected) in [
            (LogQuery { since: Some(at(90)), ..LogQuery::default() }, (90..100).collect::<Vec<_>>()),
            (LogQuery { until: Some(at(4)), ..LogQuery::default() }, (0..5).collect()),
            (LogQuery { stdout: false, ..LogQuery::default() }, (0..10).map(|i| i * 10 + 3).collect()),
            (
                LogQuery { stderr: false, tail: Some(8), ..LogQuery::default() },
                vec![92, 94, 95, 96, 97, 98, 99],
            ),
        ] {
            assert_eq!(
                numbers(&all(&config, dir.path(), query.clone()).await),
                expected,
                "{driver} {query:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_log_is_followed_across_rotations_until_its_end() {
    for driver in ["json-file", "local"] {
        let dir = tempfile::tempdir().unwrap();
        // No compression: the reader may be slower than the writer, but never by three files here.
        let config = config(driver, &[("max-size", "200k"), ("max-file", "50"), ("compress", "false")]);
        let mut sink = open(&config, dir.path());
        put(&mut *sink, 0..50);
        sink.flush().unwrap();
        let (end, ended) = watch::channel(false);
        let query = LogQuery { follow: true, tail: Some(10), ..LogQuery::default() };
        let mut reader = reader::open(&config, dir.path(), &facts().id, query, ended).await.unwrap();
        let writer = std::thread::spawn(move || {
            let mut sink = sink;
            for i in 0..100 {
                put(&mut *sink, 50 + i * 100..150 + i * 100);
                sink.flush().unwrap();
            }
            sink.write(Stream::Stdout, b"line number 10050 unfinished", at(10_050)).unwrap();
            sink.close().unwrap();
            end.send(true).unwrap();
        });
        let mut seen = Vec::new();
        while let Some(batch) = reader.next_batch().await.unwrap() {
            seen.extend(batch);
        }
        tokio::task::spawn_blocking(|| writer.join().unwrap()).await.unwrap();
        assert!(seen.last().unwrap().partial);
        assert_eq!(ranges(&numbers(&seen)), "40-10050", "{driver}");
        assert!(fs::read_dir(dir.path()).unwrap().count() > 2, "{driver}: it was rotated");
    }
}

#[tokio::test]
async fn following_ends_at_a_time_and_may_begin_before_the_first_line() {
    let dir = tempfile::tempdir().unwrap();
    let config = config("json-file", &[]);
    let (_end, ended) = watch::channel(false);
    let query = LogQuery { follow: true, until: Some(at(5)), ..LogQuery::default() };
    let mut reader = reader::open(&config, dir.path(), &facts().id, query, ended).await.unwrap();
    let mut sink = open(&config, dir.path());
    put(&mut *sink, 0..9);
    sink.flush().unwrap();
    let mut seen = Vec::new();
    while let Some(batch) = reader.next_batch().await.unwrap() {
        seen.extend(batch);
    }
    assert!(seen.len() <= 6, "nothing behind the time");
}

#[tokio::test]
async fn a_torn_file_is_read_and_written_on() {
    for driver in ["json-file", "local"] {
        let dir = tempfile::tempdir().unwrap();
        let config = config(driver, &[]);
        let mut sink = open(&config, dir.path());
        put(&mut *sink, 0..10);
        sink.close().unwrap();
        let path = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
        let torn = numbers(&all(&config, dir.path(), LogQuery::default()).await);
        assert_eq!(torn, (0..9).collect::<Vec<_>>(), "{driver}");
        let query = || LogQuery { tail: Some(2), ..LogQuery::default() };
        let last = numbers(&all(&config, dir.path(), query()).await);
        assert_eq!(last, [7, 8], "{driver}");
        let mut sink = open(&config, dir.path());
        put(&mut *sink, 20..22);
        sink.close().unwrap();
        let seen = numbers(&all(&config, dir.path(), LogQuery::default()).await);
        assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6, 7, 8, 20, 21], "{driver}");
    }
}

#[tokio::test]
async fn attributes_come_back() {
    for driver in ["json-file", "local"] {
        let dir = tempfile::tempdir().unwrap();
        let config = config(driver, &[("tag", "{{.Name}}")]);
        let mut sink = open(&config, dir.path());
        put(&mut *sink, 0..3);
        sink.close().unwrap();
        let seen = all(&config, dir.path(), LogQuery { tail: Some(2), ..LogQuery::default() }).await;
        assert_eq!(seen.len(), 2);
        for entry in seen {
            assert_eq!(entry.attrs.unwrap().get("tag").map(String::as_str), Some("web"), "{driver}");
        }
    }
}

#[tokio::test]
async fn drivers_that_keep_nothing_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let off: &[(&str, &str)] = &[("cache-disabled", "true")];
    for (driver, options) in [("none", &[][..]), ("syslog", off), ("journald", off)] {
        let config = config(driver, options);
        let opened =
            reader::open(&config, dir.path(), &facts().id, LogQuery::default(), watch::channel(true).1).await;
        let error = opened.err().unwrap().to_string();
        assert_eq!(error, "configured logging driver does not support reading");
    }
}

#[tokio::test]
async fn what_is_sent_away_is_read_from_its_copy() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = format!("udp://{}", receiver.local_addr().unwrap());
    for mode in ["blocking", "non-blocking"] {
        let config = config("syslog", &[("syslog-address", address.as_str()), ("mode", mode)]);
        let dir = dir.path().join(mode);
        fs::create_dir(&dir).unwrap();
        let mut sink = open(&config, &dir);
        put(&mut *sink, 0..50);
        sink.close().unwrap();
        assert_eq!(all(&config, &dir, LogQuery::default()).await.len(), 50, "{mode}");
        let mut packet = [0; 2048];
        assert!(receiver.recv(&mut packet).unwrap() > 0, "it was sent, too");
    }
}

#[test]
fn one_file_only_is_truncated_at_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let config = config("json-file", &[("max-size", "10k")]);
    let mut sink = open(&config, dir.path());
    put(&mut *sink, 0..1000);
    sink.close().unwrap();
    let files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap()).collect();
    assert_eq!(files.len(), 1);
    assert!(files[0].metadata().unwrap().len() <= 10_200);
}

#[test]
fn remains_of_a_killed_compression_are_swept() {
    let dir = tempfile::tempdir().unwrap();
    let name = writer::json_path(dir.path(), &facts().id);
    for suffix in ["99.gz.tmp", "98.gz.done"] {
        fs::write(format!("{}.{suffix}", name.display()), "x").unwrap();
    }
    open(&config("json-file", &[]), dir.path()).close().unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
