//! The smallest HTTP/1.1 request over a unix or TCP socket: enough to ask a daemon whether it is there.
//!
//! Not a client: one request, `Connection: close`, the whole answer in memory, no TLS.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// `GET path` over a unix socket; returns the status code and the body.
pub fn get_unix(socket: &Path, path: &str) -> Result<(u16, String)> {
    let stream = UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    exchange(stream, path)
}

/// `GET path` over TCP; `address` is `host:port`.
pub fn get_tcp(address: &str, path: &str) -> Result<(u16, String)> {
    let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    exchange(stream, path)
}

fn exchange(mut stream: impl Read + Write, path: &str) -> Result<(u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status =
        text.split_whitespace().nth(1).and_then(|word| word.parse().ok()).context("no HTTP status")?;
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    Ok((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn status_and_body_are_split() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let mut seen = [0; 512];
            let read = peer.read(&mut seen).unwrap();
            peer.write_all(b"HTTP/1.1 404 Not Found\r\nA: b\r\n\r\ngone").unwrap();
            String::from_utf8_lossy(&seen[..read]).into_owned()
        });
        assert_eq!(get_unix(&path, "/x").unwrap(), (404, "gone".to_owned()));
        assert!(server.join().unwrap().starts_with("GET /x HTTP/1.1\r\n"));
    }
}
