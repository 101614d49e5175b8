//! A plain file from any web server (`docker import http://…`), with the proxies and certificates that registries are
//! reached with. Texts: moby `builder/remotecontext/remote.go`.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, Response, Url};

use super::{
    RegistryClient,
    error::{RegistryError, Result},
    session::read_body,
    transport::{authority, explain},
};

/// Longer explanations of a server are not repeated.
const LIMIT: usize = 64 << 10;

/// A file on its way.
pub struct Fetch {
    /// Its address.
    pub url: String,
    /// Its length, if the server says it.
    pub total: Option<u64>,
    response: Response,
    at: Url,
    stall: Duration,
}

impl RegistryClient {
    /// Asks for the file at `source`; without a scheme `http` is meant.
    ///
    /// # Errors
    /// `Invalid` for what is no URL, `Remote` when the server refuses or has no address, `Request` without an answer.
    pub async fn fetch(&self, source: &str) -> Result<Fetch> {
        let url = if source.contains("://") { source.to_owned() } else { format!("http://{source}") };
        let at = Url::parse(&url).map_err(|e| RegistryError::Invalid(format!("parse \"{url}\": {e}")))?;
        let failed = |why: String| RegistryError::Request {
            method: "Get".into(),
            url: url.clone(),
            why,
            transient: false,
        };
        if !matches!(at.scheme(), "http" | "https") {
            return Err(failed(format!("unsupported protocol scheme \"{}\"", at.scheme())));
        }
        let shared = self.shared();
        let client = shared.clients.get(&authority(&at), false)?;
        let stall = shared.options.stall;
        let sent = tokio::time::timeout(stall, client.get(at.clone()).send()).await;
        let response = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(unanswered(explain(&Method::GET, &at, &error).await)),
            Err(_) => return Err(failed("net/http: timeout awaiting response headers".into())),
        };
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            let body = read_body(response, LIMIT, &Method::GET, &at).await.unwrap_or_default();
            let body = String::from_utf8_lossy(&body).trim().to_owned();
            let message = format!("failed to GET {url} with status {status}: {body}");
            return Err(RegistryError::Remote { status: status.as_u16(), message });
        }
        Ok(Fetch { total: response.content_length(), url, response, at, stall })
    }
}

/// A name that nobody has is not found, as at dockerd.
fn unanswered(error: RegistryError) -> RegistryError {
    match &error {
        RegistryError::Request { why, .. } if why.ends_with("no such host") => {
            RegistryError::Remote { status: 404, message: weft_base::chain(&error) }
        }
        _ => error,
    }
}

impl Fetch {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// `Request` when the transfer breaks, or brings nothing for a minute.
    pub async fn piece(&mut self) -> Result<Option<Bytes>> {
        match tokio::time::timeout(self.stall, self.response.chunk()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(error)) => Err(explain(&Method::GET, &self.at, &error).await),
            Err(_) => Err(RegistryError::Request {
                method: "Get".into(),
                url: self.url.clone(),
                why: "i/o timeout".into(),
                transient: true,
            }),
        }
    }
}
