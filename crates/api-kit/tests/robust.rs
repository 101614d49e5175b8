//! Clients that misbehave, over a real socket: slow ones, silent ones, greedy ones, and ones that go away.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    http::StatusCode,
    routing::{get, post},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use weft_api_kit::{ListenUri, Listener, ServeOptions, body_channel, serve};
use weft_base::Tasks;

/// Counts what is under way.
#[derive(Clone, Default)]
struct Running(Arc<AtomicUsize>);

struct Mark(Running);

impl Running {
    fn mark(&self) -> Mark {
        self.0.fetch_add(1, Ordering::SeqCst);
        Mark(self.clone())
    }

    async fn comes_to(&self, wanted: usize) {
        let begun = Instant::now();
        while self.0.load(Ordering::SeqCst) != wanted {
            assert!(
                begun.elapsed() < Duration::from_secs(5),
                "{} run, not {wanted}",
                self.0.load(Ordering::SeqCst)
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Bed {
    path: PathBuf,
    running: Running,
    tasks: Tasks,
    _dir: tempfile::TempDir,
}

impl Bed {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let running = Running::default();
        let (waits, streams) = (running.clone(), running.clone());
        let face = Router::new()
            .route("/ping", get(|| async { "pong" }))
            .route("/refuse", post(|| async { (StatusCode::BAD_REQUEST, "no such thing") }))
            .route("/eat", post(|body: axum::body::Bytes| async move { body.len().to_string() }))
            .route(
                "/slow",
                get(|| async {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    "done"
                }),
            )
            .route(
                "/wait",
                get(move || {
                    let mark = waits.mark();
                    async move {
                        std::future::pending::<()>().await;
                        drop(mark);
                    }
                }),
            )
            .route(
                "/stream",
                get(move || {
                    let mark = streams.mark();
                    async move {
                        let (sender, body) = body_channel();
                        tokio::spawn(async move {
                            sender.send("first\n").await;
                            sender.closed().await;
                            drop(mark);
                        });
                        body
                    }
                }),
            );
        let listener = Listener::bind(&ListenUri::Unix(path.clone())).await.unwrap();
        let tasks = Tasks::new();
        let options = ServeOptions { header_timeout: Duration::from_millis(300), ..ServeOptions::default() };
        serve(listener, face, options, &tasks);
        Self { path, running, tasks, _dir: dir }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.path).await.unwrap()
    }

    /// Sends a request and reads all of the answer; it must come within two seconds.
    async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        read_all(&mut stream).await
    }

    async fn ping(&self) {
        let answer = self.ask("GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("pong"), "{answer}");
    }
}

async fn read_all(stream: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut bytes)).await;
    read.expect("an answer within two seconds").ok();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn headers_that_trickle_are_cut_off() {
    let bed = Bed::new().await;
    let mut stream = bed.connect().await;
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < Duration::from_secs(5) && stream.write_all(b"G").await.is_ok() {
        sent += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "{sent} bytes were taken");
    assert!(begun.elapsed() >= Duration::from_millis(250));
    let mut silent = bed.connect().await;
    assert_eq!(read_all(&mut silent).await, "", "one that never speaks is cut off as well");
    bed.ping().await;
    bed.tasks.stop().await;
}

#[tokio::test]
async fn headers_that_never_end_are_refused() {
    let bed = Bed::new().await;
    for head in [
        format!("GET /ping HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "a".repeat(2 << 20)),
        format!("GET /ping HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-Many: a\r\n".repeat(200_000)),
        format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(2 << 20)),
    ] {
        let (mut read, mut write) = bed.connect().await.into_split();
        let sender = tokio::spawn(async move { write.write_all(head.as_bytes()).await });
        let mut answer = Vec::new();
        tokio::time::timeout(Duration::from_secs(2), read.read_to_end(&mut answer)).await.unwrap().ok();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let refused = ["HTTP/1.1 431 ", "HTTP/1.1 414 "].iter().any(|status| answer.starts_with(status));
        assert!(refused, "{answer:?}");
        let _ = sender.await.unwrap();
    }
    for noise in ["\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\r\n\r\n\r\n: : :\r\n\r\n"] {
        let answer = bed.ask(noise).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{noise:?}: {answer:?}");
    }
    bed.ping().await;
}

#[tokio::test]
async fn a_thousand_idle_connections_are_no_burden() {
    // Fewer where the limit of open files says so: both ends are in this process.
    let bed = Bed::new().await;
    let mut idle = Vec::new();
    while idle.len() < 1000 {
        match UnixStream::connect(&bed.path).await {
            Ok(stream) => idle.push(stream),
            Err(_) => break,
        }
    }
    assert!(idle.len() >= 200, "only {} connections", idle.len());
    idle.truncate(idle.len() - 20);
    let begun = Instant::now();
    bed.ping().await;
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_early_refusal_reaches_a_client_that_still_sends() {
    let bed = Bed::new().await;
    let mut stream = bed.connect().await;
    let size = 64 << 20;
    let head = format!("POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    // As Docker's client: it writes until it sees an answer, and takes a failed write for the answer.
    let (mut read, mut write) = stream.into_split();
    let writer = tokio::spawn(async move {
        let piece = vec![0; 64 << 10];
        for _ in 0..16 {
            write.write_all(&piece).await?;
        }
        std::io::Result::Ok(write)
    });
    let mut answer = vec![0; 1000];
    let n = tokio::time::timeout(Duration::from_secs(2), read.read(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer[..n]);
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    writer.await.unwrap().expect("what is sent meanwhile is taken");
}

#[tokio::test]
async fn a_body_that_never_ends_holds_nothing_but_itself() {
    let bed = Bed::new().await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut stream = bed.connect().await;
        stream.write_all(b"POST /eat HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx").await.unwrap();
        slow.push(stream);
    }
    bed.ping().await;
    // One that ends early gets no made-up answer of success.
    let mut cut = bed.connect().await;
    cut.write_all(b"POST /eat HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx").await.unwrap();
    cut.shutdown().await.unwrap();
    let answer = read_all(&mut cut).await;
    assert!(!answer.contains(" 200 "), "{answer}");
}

#[tokio::test]
async fn what_a_vanished_client_waited_for_ends() {
    let bed = Bed::new().await;
    let mut clients = Vec::new();
    for path in ["/wait", "/stream"] {
        for _ in 0..20 {
            let mut stream = bed.connect().await;
            stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
            clients.push(stream);
        }
    }
    bed.running.comes_to(40).await;
    drop(clients);
    bed.running.comes_to(0).await;
    bed.ping().await;
}

#[tokio::test]
async fn a_client_that_has_said_all_is_answered() {
    let bed = Bed::new().await;
    for (request, body) in [
        ("GET /ping HTTP/1.0\r\n\r\n", "pong"),
        ("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n", "done"),
        ("POST /eat HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "3"),
    ] {
        for _ in 0..50 {
            let mut stream = bed.connect().await;
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let answer = read_all(&mut stream).await;
            assert!(answer.contains(" 200 ") && answer.ends_with(body), "{request}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_half_closed_client_that_vanishes_is_noticed() {
    let bed = Bed::new().await;
    let mut stream = bed.connect().await;
    stream.write_all(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    bed.running.comes_to(1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    bed.running.comes_to(1).await;
    drop(stream);
    bed.running.comes_to(0).await;
}
