//! A TCP proxy before a registry: counts bytes, remembers requests, is slow, cuts connections, answers in the registry's
//! place. What it counted proves how much a transfer moved.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weft_testkit::Sandbox;

use crate::http::listen;

/// Which bytes a cut waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the registry.
    Down,
    /// To the registry.
    Up,
}

#[derive(Default)]
struct State {
    requests: Mutex<Vec<String>>,
    cuts: Mutex<Vec<(Way, u64)>>,
    answers: Mutex<Vec<(String, String)>>,
    down: AtomicU64,
    up: AtomicU64,
    /// Bytes a second, each way and connection; 0 for as fast as it goes.
    rate: AtomicU64,
}

/// See the module.
pub struct Proxy {
    state: Arc<State>,
}

impl Proxy {
    /// Listens on `127.0.0.1:port` of the sandbox, in front of `to` (`host:port`).
    pub fn start(sandbox: &Sandbox, port: u16, to: &str) -> Self {
        let listener = listen(sandbox, &format!("127.0.0.1:{port}"));
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let to = to.to_owned();
        // This thread lives in the sandbox's network, and so do its connections.
        let net = std::fs::File::open(format!("/proc/{}/ns/net", sandbox.init_pid())).unwrap();
        std::thread::spawn(move || {
            nix::sched::setns(net, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            accept(&listener, &to, &shared);
        });
        Self { state }
    }

    /// Cuts the connection on which, counted over all from now on, the `bytes`-th byte passes.
    pub fn cut(&self, way: Way, bytes: u64) {
        self.state.cuts.lock().unwrap().push((way, bytes));
    }

    /// Cuts that were not reached.
    pub fn uncut(&self) -> usize {
        self.state.cuts.lock().unwrap().len()
    }

    /// Answers the next request whose first line contains `part` by itself, with this status line and these headers.
    pub fn answer(&self, part: &str, head: &str) {
        self.state.answers.lock().unwrap().push((part.to_owned(), head.to_owned()));
    }

    pub fn unanswered(&self) -> usize {
        self.state.answers.lock().unwrap().len()
    }

    pub fn slow(&self, bytes_a_second: u64) {
        self.state.rate.store(bytes_a_second, Ordering::Relaxed);
    }

    /// Bytes from and to the registry since the last [`Proxy::forget`].
    pub fn moved(&self) -> (u64, u64) {
        (self.state.down.load(Ordering::Relaxed), self.state.up.load(Ordering::Relaxed))
    }

    pub fn forget(&self) {
        self.state.down.store(0, Ordering::Relaxed);
        self.state.up.store(0, Ordering::Relaxed);
        self.state.requests.lock().unwrap().clear();
    }

    /// Heads of the requests that came with `part` in their first line.
    pub fn requests(&self, part: &str) -> Vec<String> {
        let all = self.state.requests.lock().unwrap();
        all.iter().filter(|r| r.lines().next().is_some_and(|l| l.contains(part))).cloned().collect()
    }
}

fn accept(listener: &TcpListener, to: &str, state: &Arc<State>) {
    for client in listener.incoming().flatten() {
        let Ok(server) = TcpStream::connect(to) else { continue };
        let pair = |s: &TcpStream| s.try_clone().unwrap();
        let (c, s, up) = (pair(&client), pair(&server), Arc::clone(state));
        std::thread::spawn(move || copy(c, s, Way::Up, &up));
        let down = Arc::clone(state);
        std::thread::spawn(move || copy(server, client, Way::Down, &down));
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, way: Way, state: &State) {
    let mut buffer = vec![0; 32 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let mut piece = &buffer[..n];
        if way == Way::Up && !state.pass(&String::from_utf8_lossy(piece), &mut from) {
            break;
        }
        let cut = state.count(way, piece.len() as u64);
        if let Some(left) = cut {
            piece = &piece[..usize::try_from(left).unwrap()];
        }
        if to.write_all(piece).is_err() || cut.is_some() {
            break;
        }
        let pause = (piece.len() as u64 * 1_000_000_000).checked_div(state.rate.load(Ordering::Relaxed));
        std::thread::sleep(Duration::from_nanos(pause.unwrap_or(0)));
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

impl State {
    /// Remembers a request; `false` when it was answered here.
    fn pass(&self, text: &str, client: &mut TcpStream) -> bool {
        let methods = ["GET ", "HEAD ", "POST ", "PUT ", "PATCH ", "DELETE "];
        if !methods.iter().any(|m| text.starts_with(m)) {
            return true;
        }
        let head = text.split("\r\n\r\n").next().unwrap_or_default().to_owned();
        let first = head.lines().next().unwrap_or_default().to_owned();
        self.requests.lock().unwrap().push(head);
        let mut answers = self.answers.lock().unwrap();
        let Some(place) = answers.iter().position(|(part, _)| first.contains(part.as_str())) else {
            return true;
        };
        let (_, head) = answers.remove(place);
        let _ = client.write_all(
            format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes(),
        );
        false
    }

    /// Counts a piece; how much of it may pass, if a cut falls into it.
    fn count(&self, way: Way, n: u64) -> Option<u64> {
        let mut cuts = self.cuts.lock().unwrap();
        let mut allowed = n;
        let mut cut = false;
        if let Some(place) = cuts.iter().position(|(w, _)| *w == way) {
            if cuts[place].1 < n {
                allowed = cuts[place].1;
                cut = true;
                cuts.remove(place);
            } else {
                cuts[place].1 -= n;
            }
        }
        let counter = if way == Way::Up { &self.up } else { &self.down };
        counter.fetch_add(allowed, Ordering::Relaxed);
        cut.then_some(allowed)
    }
}
