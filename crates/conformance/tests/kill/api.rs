//! The Docker API over its socket, with the one distinction that matters here: a request that was certainly not
//! taken (the connection was refused) is sent again; one whose answer was cut off may have been carried out or not.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

/// Longest wait for an answer: a request that hangs is a failure of its own.
const PATIENCE: Duration = Duration::from_secs(40);

/// Where to ask; cheap to clone.
#[derive(Clone)]
pub struct Api {
    socket: PathBuf,
}

/// A whole answer.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Lost {
    /// Nobody listens: it was not taken.
    Refused,
    /// The connection ended before the answer did.
    Cut(String),
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim().to_owned()
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Api {
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// One request.
    pub fn call(&self, method: &str, path: &str, body: Option<&[u8]>) -> Result<Answer, Lost> {
        let mut stream = UnixStream::connect(&self.socket).map_err(|_| Lost::Refused)?;
        let cut = |error: std::io::Error| Lost::Cut(format!("{method} {path}: {error}"));
        stream.set_read_timeout(Some(PATIENCE)).map_err(cut)?;
        let body = body.unwrap_or_default();
        let kind = if body.first() == Some(&b'{') { "application/json" } else { "application/x-tar" };
        let head = format!(
            "{method} /v1.43{path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: {kind}\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).map_err(cut)?;
        read_answer(BufReader::new(stream)).map_err(cut)
    }

    /// A request with a JSON body.
    pub fn post(&self, path: &str, body: &Value) -> Result<Answer, Lost> {
        self.call("POST", path, Some(body.to_string().as_bytes()))
    }

    /// A request that changes nothing, sent until it is answered.
    pub fn get(&self, path: &str) -> Answer {
        for _ in 0..3_000 {
            if let Ok(answer) = self.call("GET", path, None) {
                return answer;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("GET {path}: no answer within 30 s")
    }
}

fn read_answer(mut stream: impl BufRead) -> std::io::Result<Answer> {
    let cut = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let mut line = String::new();
    let (mut status, mut length, mut chunked) = (0, None, false);
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(cut());
        }
        let text = line.trim().to_ascii_lowercase();
        if text.is_empty() {
            break;
        }
        if status == 0 {
            status = text.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or_else(cut)?;
        } else if let Some(value) = text.strip_prefix("content-length:") {
            length = value.trim().parse::<usize>().ok();
        } else if let Some(value) = text.strip_prefix("transfer-encoding:") {
            chunked = value.contains("chunked");
        }
    }
    let mut body = Vec::new();
    if chunked {
        read_chunks(&mut stream, &mut body)?;
    } else if let Some(length) = length {
        body.resize(length, 0);
        stream.read_exact(&mut body)?;
    } else if !matches!(status, 204 | 304) {
        stream.read_to_end(&mut body)?;
    }
    Ok(Answer { status, body })
}

fn read_chunks(stream: &mut impl BufRead, body: &mut Vec<u8>) -> std::io::Result<()> {
    let cut = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(|_| cut())?;
        let at = body.len();
        body.resize(at + size, 0);
        stream.read_exact(&mut body[at..])?;
        stream.read_line(&mut String::new())?;
        if size == 0 {
            return Ok(());
        }
    }
}

/// Percent-encodes what may not stand in a query.
pub fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}
