//! The two ends of HTTP/1.1 that these tests need: one request to a server in the sandbox, and a server of one closure.
//!
//! Bodies have a length, a connection carries one request: nothing that a test must say about more.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use weft_testkit::Sandbox;

/// What came in.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The values of a parameter of the query, or of a form in the body.
    pub fn all(&self, name: &str) -> Vec<String> {
        let query = self.target.split_once('?').map(|(_, q)| q.to_owned()).unwrap_or_default();
        let form = String::from_utf8_lossy(&self.body).into_owned();
        let text = if self.method == "POST" { form } else { query };
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(n, _)| *n == name).map(|(_, v)| unescape(v)).collect()
    }

    pub fn one(&self, name: &str) -> Option<String> {
        self.all(name).into_iter().next()
    }
}

fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let pair = [bytes.next().unwrap(), bytes.next().unwrap()];
                out.push(u8::from_str_radix(std::str::from_utf8(&pair).unwrap(), 16).unwrap());
            }
            other => out.push(other),
        }
    }
    String::from_utf8(out).unwrap()
}

/// What goes out.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(status: u16, value: &serde_json::Value) -> Self {
        let headers = vec![("content-type".into(), "application/json".into())];
        Self { status, headers, body: value.to_string().into_bytes() }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn value(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// The first line and the headers of a message; `None` when the peer closed before one began.
fn head(from: &mut impl BufRead) -> Option<(String, Vec<(String, String)>)> {
    let mut first = String::new();
    if from.read_line(&mut first).ok()? == 0 {
        return None;
    }
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line).ok()?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => return Some((first.trim_end().to_owned(), headers)),
        }
    }
}

fn length(headers: &[(String, String)]) -> Option<usize> {
    headers.iter().find(|(n, _)| n == "content-length").and_then(|(_, v)| v.parse().ok())
}

fn chunked(from: &mut impl BufRead) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line).unwrap();
        let size = usize::from_str_radix(line.trim(), 16).unwrap();
        let mut piece = vec![0; size + 2];
        from.read_exact(&mut piece).unwrap();
        if size == 0 {
            return out;
        }
        out.extend_from_slice(&piece[..size]);
    }
}

/// One request over a connection that is there.
pub fn exchange(
    mut stream: impl Read + Write,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Reply {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{text}\r\n").as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut reader = BufReader::new(stream);
    let (first, headers) = head(&mut reader).expect("an answer");
    let status = first.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    let mut body = Vec::new();
    if headers.iter().any(|(n, v)| n == "transfer-encoding" && v == "chunked") {
        body = chunked(&mut reader);
    } else if method != "HEAD" {
        reader.read_to_end(&mut body).unwrap();
    }
    Reply { status, headers, body }
}

/// One request to `address` in the sandbox.
pub fn call(sandbox: &Sandbox, address: &str, method: &str, target: &str, kind: &str, body: &[u8]) -> Reply {
    let stream = sandbox.inside(|| TcpStream::connect(address)).unwrap().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    exchange(stream, method, target, &[("Content-Type", kind)], body)
}

/// A listener in the sandbox's network.
pub fn listen(sandbox: &Sandbox, address: &str) -> TcpListener {
    sandbox.inside(|| TcpListener::bind(address)).unwrap().unwrap()
}

/// Answers with `answer` for as long as the process lives.
pub fn serve(listener: TcpListener, answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || one(stream, &*answer));
        }
    });
}

fn one(stream: TcpStream, answer: &dyn Fn(&Request) -> Reply) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (first, headers) = head(&mut reader)?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let mut body = vec![0; length(&headers).unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let reply = answer(&Request { method, target, headers, body });
    let mut text = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    if length(&reply.headers).is_none() {
        text.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    for (name, value) in &reply.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut stream = stream;
    stream.write_all(format!("{text}\r\n").as_bytes()).ok()?;
    stream.write_all(&reply.body).ok()
}
