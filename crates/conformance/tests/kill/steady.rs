//! Containers that must not notice that their daemon dies, and the visitors of the published one.
//!
//! The visitors come from outside the sandbox, over its one wire: a new connection every few milliseconds, and one
//! connection that stays open over all kills. A lost SYN is sent again after a second, so a connection that takes
//! longer than that counts as a lost request.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weft_testkit::Sandbox;

use crate::api::Api;
use crate::ledger::Container;
use crate::workers::{known, log_lines};

/// Shorter than the first retransmission of a SYN (RFC 6298: one second).
const CONNECT: Duration = Duration::from_millis(900);
/// An answer that takes longer is lost; a busy machine may be slow.
const ANSWER: Duration = Duration::from_secs(10);

/// Leaves a mark in a namespace, and looks for it: who runs keeps its namespace, who is started again has a new one.
const MARK: &str = "ip route add 10.88.0.0/24 dev eth0";
const MARKED: &str = "ip route | grep -q 10.88.0.0";

/// The containers, by name.
const NAMES: [&str; 4] = ["web", "logger", "healthy", "always"];

/// The steady containers and their visitors.
pub struct Steady {
    first: Vec<(&'static str, Container)>,
    restarts: AtomicU64,
    stop: Arc<AtomicBool>,
    visitors: Vec<JoinHandle<Visits>>,
}

#[derive(Default)]
struct Visits {
    answered: u64,
    slowest: Duration,
    lost: Vec<String>,
}

fn made(api: &Api, path: &str, body: &Value, status: u16) {
    let answer = api.post(path, body).unwrap();
    assert_eq!(answer.status, status, "{path}: {}", answer.text());
}

fn container(api: &Api, name: &str, script: &str, more: Value) {
    let mut body =
        json!({"Image": "busybox", "Cmd": ["sh", "-c", script], "HostConfig": {"NetworkMode": "steady"}});
    for (key, value) in more.as_object().into_iter().flatten() {
        match value.as_object().filter(|_| key == "HostConfig") {
            Some(host) => body["HostConfig"].as_object_mut().unwrap().extend(host.clone()),
            None => body[key] = value.clone(),
        }
    }
    made(api, &format!("/containers/create?name={name}"), &body, 201);
    let answer = api.call("POST", &format!("/containers/{name}/start"), None).unwrap();
    assert_eq!(answer.status, 204, "{name}: {}", answer.text());
}

impl Steady {
    pub fn start(api: &Api, sandbox: &Sandbox) -> Self {
        made(api, "/networks/create", &json!({"Name": "steady"}), 201);
        let ports = json!({"80/tcp": [{"HostPort": "18080"}], "7/tcp": [{"HostPort": "18007"}]});
        let web =
            "mkdir /www; echo welcome > /www/index.html; nc -ll -p 7 -e cat & exec httpd -f -p 80 -h /www";
        container(api, "web", web, json!({"HostConfig": {"PortBindings": ports}}));
        let logger = "i=0; while :; do echo line $i; i=$((i+1)); usleep 3000; done";
        container(api, "logger", logger, json!({}));
        let check = json!({"Test": ["CMD", "true"], "Interval": 300_000_000, "Timeout": 20_000_000_000_i64,
            "Retries": 3});
        container(api, "healthy", "sleep 100000", json!({"Healthcheck": check}));
        let always = json!({"HostConfig": {"RestartPolicy": {"Name": "always"}, "CapAdd": ["NET_ADMIN"]}});
        container(api, "always", &format!("{MARK}; while {MARKED}; do sleep 0.3; done"), always.clone());
        let again = format!("{MARKED} && echo an earlier one; {MARK} && echo a new one; sleep 0.2; exit 6");
        container(api, "again", &again, always);
        let policy = json!({"HostConfig": {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}}});
        container(api, "thrice", "exit 6", policy);
        wait(api, "healthy", |seen| seen["State"]["Health"]["Status"] == "healthy");
        wait(api, "thrice", |seen| seen["State"]["Status"] == "exited" && seen["RestartCount"] == 2);

        let first = NAMES.map(|name| (name, known(api, name).0)).into();
        let stop = Arc::new(AtomicBool::new(false));
        let at = |port| SocketAddr::from((sandbox.address(), port));
        let (web, echo) = (at(18080), at(18007));
        let begun = Instant::now();
        while visit(web).is_err() || TcpStream::connect_timeout(&echo, CONNECT).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the published ports do not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        let visitors = vec![
            visitor(&stop, Duration::from_millis(4), move || visit(web)),
            visitor(&stop, Duration::from_millis(4), move || visit(web)),
            stayer(&stop, echo),
        ];
        Self { first, restarts: AtomicU64::new(0), stop, visitors }
    }

    /// How the containers differ from what they were, in words.
    pub fn differences(&self, api: &Api) -> Vec<String> {
        let mut out = Vec::new();
        for (name, before) in &self.first {
            let (now, seen) = known(api, name);
            if now != *before || now.running.is_none() {
                out.push(format!("{name}: {before:?} became {now:?}"));
            }
            if seen["RestartCount"] != 0 {
                out.push(format!("{name}: restarted {} times", seen["RestartCount"]));
            }
        }
        let health = &known(api, "healthy").1["State"]["Health"];
        if health["Status"] != "healthy" || health["FailingStreak"] != 0 || health["Log"][0].is_null() {
            out.push(format!("health is not kept: {health}"));
        }
        let thrice = known(api, "thrice").1;
        if thrice["RestartCount"] != 2
            || thrice["State"]["ExitCode"] != 6
            || thrice["State"]["Status"] != "exited"
        {
            out.push(format!("thrice: {} {}", thrice["RestartCount"], thrice["State"]));
        }
        let again = known(api, "again").1["RestartCount"].as_u64().unwrap_or(0);
        if again < self.restarts.swap(again, Ordering::SeqCst) {
            out.push(format!("again: its count of restarts went back to {again}"));
        }
        out
    }

    /// Ends the visits and reads the log; panics with what was lost. Says how many visits there were.
    pub fn finish(self, api: &Api) -> String {
        assert!(self.restarts.load(Ordering::SeqCst) > 2, "the failing container is not restarted any more");
        self.stop.store(true, Ordering::SeqCst);
        let (mut answered, mut slowest) = (0, Duration::ZERO);
        for visitor in self.visitors {
            let visits = visitor.join().unwrap();
            assert!(visits.lost.is_empty(), "{} requests lost: {:#?}", visits.lost.len(), visits.lost);
            answered += visits.answered;
            slowest = slowest.max(visits.slowest);
        }
        for name in ["logger", "again"] {
            let stopped = api.call("POST", &format!("/containers/{name}/stop?t=0"), None).unwrap();
            assert_eq!(stopped.status, 204, "{name}: {}", stopped.text());
        }
        let runs = log_lines(&api.get("/containers/again/logs?stdout=1&stderr=1").body);
        assert!(runs.len() > 2 && runs.iter().all(|line| line == "a new one"), "{runs:#?}");
        let lines = log_lines(&api.get("/containers/logger/logs?stdout=1&stderr=1").body);
        for (number, line) in lines.iter().enumerate() {
            assert_eq!(*line, format!("line {number}"), "of {} lines", lines.len());
        }
        assert!(lines.len() > 100, "{} lines", lines.len());
        format!("{answered} requests answered (slowest {slowest:?}), {} log lines whole", lines.len())
    }
}

fn wait(api: &Api, name: &str, want: impl Fn(&Value) -> bool) {
    let begun = Instant::now();
    loop {
        let (_, seen) = known(api, name);
        if want(&seen) {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{name}: {} {}",
            seen["RestartCount"],
            seen["State"]
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Visits again and again on a thread of its own.
fn visitor(
    stop: &Arc<AtomicBool>,
    pause: Duration,
    mut visit: impl FnMut() -> std::io::Result<()> + Send + 'static,
) -> JoinHandle<Visits> {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let mut visits = Visits::default();
        while !stop.load(Ordering::SeqCst) {
            let begun = Instant::now();
            match visit() {
                Ok(()) => visits.answered += 1,
                Err(error) => visits.lost.push(format!("after {:?}: {error}", begun.elapsed())),
            }
            visits.slowest = visits.slowest.max(begun.elapsed());
            std::thread::sleep(pause);
        }
        visits
    })
}

/// One request on a connection of its own.
fn visit(at: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&at, CONNECT)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.") && answer.ends_with("welcome\n") {
        return Ok(());
    }
    Err(std::io::Error::other(format!("another answer: {answer:?}")))
}

/// Speaks over one connection that stays.
fn stayer(stop: &Arc<AtomicBool>, at: SocketAddr) -> JoinHandle<Visits> {
    let mut stream = TcpStream::connect_timeout(&at, ANSWER).unwrap();
    stream.set_read_timeout(Some(ANSWER)).unwrap();
    visitor(stop, Duration::from_millis(10), move || {
        let mut answer = [0; 5];
        stream.write_all(b"still")?;
        stream.read_exact(&mut answer)?;
        if answer == *b"still" { Ok(()) } else { Err(std::io::Error::other("another echo")) }
    })
}
