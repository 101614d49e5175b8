//! One subject's host: a sandbox with its daemon, the client, and a server in the world outside.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::time::Duration;

use weft_testkit::{Daemon, DaemonOptions, ImageSpec, Sandbox, Subject, busybox_archive};

use crate::normal::Normal;

/// Whether a program is there.
pub fn has(program: &str) -> bool {
    let script = format!("command -v {program} >/dev/null");
    Command::new("sh").args(["-c", &script]).status().is_ok_and(|status| status.success())
}

/// Dropped in this order: what runs in the sandbox before the sandbox.
pub struct Host {
    pub daemon: Daemon,
    pub normal: Normal,
    /// Where the server outside listens; it tells each client its address.
    pub outside: SocketAddr,
    pub sandbox: Sandbox,
}

impl Host {
    /// A host that has the image `busybox`.
    pub fn new(subject: Subject) -> Self {
        let sandbox = Sandbox::new().unwrap();
        let daemon = Daemon::start(&sandbox, subject, "d", DaemonOptions::default()).unwrap();
        let own =
            vec![(sandbox.address().to_string(), "HOST"), (sandbox.outside_address().to_string(), "OUTSIDE")];
        let outside = serve((sandbox.outside_address(), 0).into());
        let host = Self { daemon, normal: Normal { own }, outside, sandbox };
        let archive = host.sandbox.dir().join("busybox.tar");
        busybox_archive(&ImageSpec::tagged("busybox:latest"), &archive).unwrap();
        host.docker(&["load", "-q", "-i", archive.to_str().unwrap()]);
        host
    }

    /// A client command that must succeed; its standard output.
    pub fn docker(&self, args: &[&str]) -> String {
        let output = self.client(args);
        let error = String::from_utf8_lossy(&output.stderr);
        let name = self.daemon.subject().name();
        assert!(output.status.success(), "{name}: docker {args:?}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A client command, whatever comes of it.
    pub fn client(&self, args: &[&str]) -> Output {
        self.daemon.docker().args(args).output().unwrap()
    }

    /// A shell command in a container, both outputs together, made alike.
    pub fn sees(&self, container: &str, script: &str) -> String {
        let output = self.client(&["exec", container, "sh", "-c", &format!("{{ {script}\n}} 2>&1")]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        self.normal.lines(&(text + &String::from_utf8_lossy(&output.stderr)))
    }

    /// A shell command on the host itself.
    pub fn on_host(&self, script: &str) -> String {
        let output = self.sandbox.command("sh").args(["-c", script]).output().unwrap();
        self.normal.lines(&String::from_utf8_lossy(&output.stdout))
    }

    /// What a web server at a port of the host tells a client outside; `no` where there is none.
    pub fn seen_outside(&self, port: u16) -> String {
        let at = SocketAddr::from((self.sandbox.address(), port));
        let get = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(2))?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text.rsplit("\r\n\r\n").next().unwrap_or_default().trim().to_owned())
        };
        get().unwrap_or_else(|_| "no".to_owned())
    }
}

/// A web server that tells its clients their address, until the test ends.
fn serve(at: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(at).unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (mut stream, peer) in
            listener.incoming().flatten().filter_map(|s| Some((s.try_clone().ok()?, s.peer_addr().ok()?)))
        {
            let mut request = [0u8; 1024];
            let _ = stream.read(&mut request);
            let _ = write!(stream, "HTTP/1.0 200 OK\r\n\r\n{}\n", peer.ip());
        }
    });
    at
}
