//! A small client of the Docker API: HTTP/1 over a unix socket or TCP, one connection for each request.
//!
//! Requests go to the unversioned paths, which every daemon answers in the newest version it speaks; that saves the
//! question for the version. Answers are read tolerantly.

mod endpoint;
mod frames;
mod json_stream;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

pub use endpoint::{DEFAULT_RUN, Endpoint};
pub use frames::{Channel, Frames};
pub use json_stream::JsonStream;

/// What a daemon refuses, in its words.
#[derive(Debug, thiserror::Error)]
#[error("Error response from daemon: {message}")]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// Its text.
    pub message: String,
}

/// The status of the daemon's refusal, if `error` is one.
#[must_use]
pub fn status_of(error: &anyhow::Error) -> Option<StatusCode> {
    error.downcast_ref::<ApiError>().map(|e| e.status)
}

/// A body going out.
pub type Body = BoxBody<Bytes, std::io::Error>;

/// Both directions of a hijacked connection.
pub type Upgraded = TokioIo<hyper::upgrade::Upgraded>;

/// An answer whose body is still to be read.
pub type Answer = Response<Incoming>;

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A request being put together.
pub struct Call<'a> {
    client: &'a Client,
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    body: Body,
}

/// Talks to one daemon.
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: Endpoint,
}

impl Client {
    /// A client of the daemon at `endpoint`. Nothing is connected yet.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }

    /// Where the daemon is.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// A request for `path`, whose variable parts are percent-encoded already (see [`segment`]).
    pub fn call(&self, method: Method, path: impl Into<String>) -> Call<'_> {
        let body = Full::default().map_err(|never| match never {}).boxed();
        Call { client: self, method, path: path.into(), query: Vec::new(), headers: HeaderMap::new(), body }
    }

    /// `GET`.
    pub fn get(&self, path: impl Into<String>) -> Call<'_> {
        self.call(Method::GET, path)
    }

    /// `POST`.
    pub fn post(&self, path: impl Into<String>) -> Call<'_> {
        self.call(Method::POST, path)
    }

    /// `DELETE`.
    pub fn delete(&self, path: impl Into<String>) -> Call<'_> {
        self.call(Method::DELETE, path)
    }

    async fn connect(&self) -> anyhow::Result<Box<dyn Io>> {
        let cannot = || {
            format!(
                "cannot connect to the daemon at {}. Is it running? Start it with: weft up --detach",
                self.endpoint
            )
        };
        Ok(match &self.endpoint {
            Endpoint::Unix(path) => {
                Box::new(tokio::net::UnixStream::connect(path).await.with_context(cannot)?)
            }
            Endpoint::Tcp(address) => {
                let stream = tokio::net::TcpStream::connect(address).await.with_context(cannot)?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        })
    }
}

impl Call<'_> {
    /// Adds a query parameter.
    #[must_use]
    pub fn query(mut self, key: &str, value: impl ToString) -> Self {
        self.query.push((key.to_owned(), value.to_string()));
        self
    }

    /// Adds a query parameter unless its value is empty.
    #[must_use]
    pub fn query_some(self, key: &str, value: Option<impl ToString>) -> Self {
        match value.map(|v| v.to_string()) {
            Some(value) if !value.is_empty() => self.query(key, value),
            _ => self,
        }
    }

    /// Adds `key=1` when `on`.
    #[must_use]
    pub fn flag(self, key: &str, on: bool) -> Self {
        if on { self.query(key, 1) } else { self }
    }

    /// Adds a header.
    pub fn header(mut self, name: &'static str, value: &str) -> anyhow::Result<Self> {
        self.headers.insert(name, value.parse().with_context(|| format!("header {name}"))?);
        Ok(self)
    }

    /// A JSON body.
    #[must_use]
    pub fn json(mut self, value: &Value) -> Self {
        self.headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        self.body = Full::from(value.to_string()).map_err(|never| match never {}).boxed();
        self
    }

    /// A body that is read while it is sent: an archive.
    #[must_use]
    pub fn stream(
        mut self,
        body: impl Stream<Item = std::io::Result<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        self.headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/x-tar"));
        self.body = StreamBody::new(body.map_ok(Frame::data)).boxed();
        self
    }

    fn uri(&self) -> String {
        let query: Vec<String> =
            self.query.iter().map(|(k, v)| format!("{}={}", segment(k), segment(v))).collect();
        if query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, query.join("&")) }
    }

    async fn raw(self) -> anyhow::Result<Answer> {
        if lacks_name(&self.path) {
            return Err(crate::failure::usage("invalid name or ID: value is empty"));
        }
        let uri = self.uri();
        let io = self.client.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::builder()
            .method(self.method)
            .uri(uri)
            .header(header::HOST, "weft")
            .header(header::USER_AGENT, concat!("weft/", env!("CARGO_PKG_VERSION")))
            .body(self.body)?;
        request.headers_mut().extend(self.headers);
        sender.send_request(request).await.context("talking to the daemon")
    }

    /// Sends it; an answer that is an error becomes [`ApiError`].
    pub async fn send(self) -> anyhow::Result<Answer> {
        let answer = self.raw().await?;
        let status = answer.status();
        if status.is_client_error() || status.is_server_error() {
            let body = answer.into_body().collect().await.context("reading the daemon's answer")?.to_bytes();
            return Err(ApiError { status, message: message_of(&body, status) }.into());
        }
        Ok(answer)
    }

    /// Sends it and reads the answer as JSON; an empty answer is null.
    pub async fn fetch<T: DeserializeOwned>(self) -> anyhow::Result<T> {
        let path = self.path.clone();
        let body = self.send().await?.into_body().collect().await.context("reading the daemon's answer")?;
        let bytes = body.to_bytes();
        let bytes = if bytes.is_empty() { Bytes::from_static(b"null") } else { bytes };
        serde_json::from_slice(&bytes).with_context(|| format!("reading the daemon's answer to {path}"))
    }

    /// Sends it for its effect.
    pub async fn done(self) -> anyhow::Result<()> {
        self.send().await?.into_body().collect().await.context("reading the daemon's answer")?;
        Ok(())
    }

    /// Sends it and takes the connection over (`attach`, `exec`).
    pub async fn hijack(mut self) -> anyhow::Result<(Answer, Upgraded)> {
        self.headers.insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
        self.headers.insert(header::UPGRADE, header::HeaderValue::from_static("tcp"));
        let mut answer = self.send().await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(anyhow!("the daemon did not hand the connection over (status {})", answer.status()));
        }
        let upgraded = hyper::upgrade::on(&mut answer).await.context("taking the connection over")?;
        Ok((answer, TokioIo::new(upgraded)))
    }
}

/// Whether a name that is part of a path was empty: a router would answer that it has no such page.
fn lacks_name(path: &str) -> bool {
    match path.strip_prefix("/images/") {
        // Names of images have slashes of their own.
        Some(image) => image.is_empty() || image.starts_with('/'),
        None => path.contains("//") || path.len() > 1 && path.ends_with('/'),
    }
}

/// The text of a refusal: `{"message": …}`, or the body as it is.
fn message_of(body: &[u8], status: StatusCode) -> String {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let text = json.as_ref().and_then(|v| v["message"].as_str()).map(str::to_owned);
    let text = text.unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned());
    if text.is_empty() { status.to_string() } else { text }
}

/// `text` as one path segment or query part: everything but unreserved characters is percent-encoded.
#[must_use]
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The name of an image within a path: as [`segment`], but slashes and colons stay, as Docker's clients write them.
#[must_use]
pub fn image_path(name: &str) -> String {
    name.split('/')
        .map(|part| segment(part).replace("%3A", ":").replace("%40", "@"))
        .collect::<Vec<_>>()
        .join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_names_do_not_come_to_a_router() {
        for path in ["/networks/", "/networks//connect", "/v1/policies/", "/images/", "/images//json"] {
            assert!(lacks_name(path), "{path}");
        }
        for path in ["/", "/networks", "/networks/a", "/networks/a/connect", "/images/h/a//b/json"] {
            assert!(!lacks_name(path), "{path}");
        }
    }

    #[test]
    fn names_are_escaped_for_their_place() {
        for (text, expected) in
            [("a b", "a%20b"), ("h:5/x", "h%3A5%2Fx"), ("ä", "%C3%A4"), ("a.b-c_d~", "a.b-c_d~")]
        {
            assert_eq!(segment(text), expected);
        }
        assert_eq!(image_path("h:5/a/b@sha256:0 ?"), "h:5/a/b@sha256:0%20%3F");
    }

    #[test]
    fn refusals_are_read_from_json_text_or_status() {
        let status = StatusCode::NOT_FOUND;
        for (body, expected) in [
            (r#"{"message":"No such container: x"}"#, "No such container: x"),
            ("plain\n", "plain"),
            ("", "404 Not Found"),
        ] {
            assert_eq!(message_of(body.as_bytes(), status), expected);
        }
    }
}
