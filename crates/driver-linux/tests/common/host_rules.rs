//! Rules of the host, and connections that live through their changes.

use std::{
    io::{Read, Write},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use weft_model::Protocol::{Tcp, Udp};

use super::{Host, serve_tcp, serve_udp, spawn};

/// Runs a tool with rules on its standard input; what it says.
pub fn feed(program: &str, args: &[&str], rules: &str) -> String {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub fn nft(rules: &str) -> String {
    feed("nft", &["-f", "-"], rules)
}

pub fn listed(args: &[&str]) -> String {
    feed("nft", args, "")
}

/// One segment, one container `10.1.0.2` that serves TCP 80 and UDP 53.
pub fn furnished() -> (Host, std::path::PathBuf) {
    let mut host = Host::new();
    let red = host.segment(1, &["10.1.0.1/24", "fd01::1/64"]);
    let a = host.container(1, red, &["10.1.0.2/24", "fd01::2/64"]);
    host.publish(Tcp, "0.0.0.0", 8080, "10.1.0.2", 80);
    host.publish(Tcp, "0.0.0.0", 8081, "10.1.0.2", 80);
    host.publish(Tcp, "::", 8080, "fd01::2", 80);
    host.publish(Udp, "0.0.0.0", 53, "10.1.0.2", 53);
    host.converge();
    host.assert_settled();
    serve_tcp(&a, "0.0.0.0:80");
    serve_tcp(&a, "[fd01::2]:80");
    serve_udp(&a, "0.0.0.0:53");
    (host, a)
}

/// A connection that its server keeps open; told whether it ended.
pub struct Held(std::sync::mpsc::Receiver<bool>);

/// From `lan` to the container by a published port of `host`, which has the same number inside. The client sends every 50 ms, for two seconds at most.
pub fn held(container: &Path, lan: &Path, host: &'static str, port: u16) -> Held {
    let (ready, wait) = std::sync::mpsc::channel();
    let serving = ready.clone();
    spawn(container, move || {
        let listener = std::net::TcpListener::bind(("::", port)).unwrap();
        serving.send(()).unwrap();
        drop(serving);
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"x").unwrap();
        while stream.read(&mut [0; 16]).is_ok_and(|n| n > 0) {}
    });
    wait.recv().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    spawn(lan, move || {
        // A busy machine may take longer for a new neighbour than the kernel asks for one.
        let begun = std::time::Instant::now();
        let mut stream = loop {
            match std::net::TcpStream::connect((host, port)) {
                Ok(stream) => break stream,
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(10), "{error}"),
            }
        };
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 1);
        ready.send(()).unwrap();
        let ended = (0..40).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            stream.write_all(b"x").is_err()
        });
        let _ = tell.send(ended);
    });
    wait.recv().unwrap();
    Held(told)
}

impl Held {
    pub fn ended(self) -> bool {
        self.0.recv().unwrap()
    }
}
