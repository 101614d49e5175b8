//! One registry reached: its challenge is known, every request is authorised, and refused or broken ones that may
//! succeed later are tried again.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url, header};
use weft_base::Backoff;

use super::{
    auth::{Ask, Tokens, basic},
    challenge::{Challenge, challenges},
    endpoint::{Endpoint, Site},
    error::{RegistryError, Result, is_transient, refusal},
    transport::{Clients, authority, explain, verb},
    types::{Credentials, RegistryOptions},
};

/// What all sessions of one operation share.
pub(super) struct Shared {
    pub clients: Clients,
    pub tokens: Arc<Tokens>,
    pub options: Arc<RegistryOptions>,
}

/// See the module.
pub(super) struct Session {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    host: String,
    client: Client,
    challenges: Vec<Challenge>,
    credentials: Option<Credentials>,
}

impl Session {
    /// The first way of `site` that answers `GET /v2/`.
    pub async fn open(shared: &Arc<Shared>, site: &Site, credentials: Option<&Credentials>) -> Result<Self> {
        let mut last = RegistryError::Unexpected("no endpoint".into());
        for endpoint in &site.endpoints {
            match Self::ping(shared, endpoint, credentials.filter(|_| !site.mirror)).await {
                Ok(session) => return Ok(session),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn ping(
        shared: &Arc<Shared>,
        endpoint: &Endpoint,
        credentials: Option<&Credentials>,
    ) -> Result<Self> {
        let url = Url::parse(&format!("{}/v2/", endpoint.base)).map_err(|e| {
            RegistryError::Invalid(format!("invalid registry endpoint {}: {e}", endpoint.base))
        })?;
        let host = authority(&url);
        let client = shared.clients.get(&host, endpoint.insecure)?;
        let response = match client.get(url.clone()).timeout(Duration::from_secs(60)).send().await {
            Ok(response) => response,
            Err(error) => return Err(explain(&Method::GET, &url, &error).await),
        };
        let challenges = match response.status() {
            StatusCode::UNAUTHORIZED => challenges(response.headers()),
            _ => Vec::new(),
        };
        let (shared, endpoint) = (Arc::clone(shared), endpoint.clone());
        Ok(Self { shared, endpoint, host, client, challenges, credentials: credentials.cloned() })
    }

    pub fn options(&self) -> &RegistryOptions {
        &self.shared.options
    }

    /// A URL below `/v2/`, or the one that an answer's `Location` or `Link` names.
    pub fn url(&self, path: &str) -> Result<Url> {
        let base = format!("{}/v2/{path}", self.endpoint.base);
        Url::parse(&base).map_err(|e| RegistryError::Invalid(format!("invalid URL {base}: {e}")))
    }

    /// The challenge of `scheme`.
    pub fn challenge(&self, scheme: &str) -> Option<&Challenge> {
        self.challenges.iter().find(|c| c.scheme == scheme)
    }

    pub fn ask<'a>(&'a self, challenge: &'a Challenge, scopes: &'a [String], offline: bool) -> Ask<'a> {
        let insecure = self.endpoint.insecure.then_some(self.host.as_str());
        let credentials = self.credentials.as_ref();
        Ask { clients: &self.shared.clients, insecure, challenge, scopes, credentials, offline }
    }

    /// The value of `Authorization`, if the registry asks for any.
    async fn authorization(
        &self,
        scopes: &[String],
        method: &Method,
        url: &Url,
        fresh: bool,
    ) -> Result<Option<String>> {
        if let Some(Credentials::RegistryToken(token)) = &self.credentials {
            return Ok(Some(format!("Bearer {token}")));
        }
        if let Some(challenge) = self.challenge("bearer") {
            let token = self.shared.tokens.get(&self.ask(challenge, scopes, false), fresh).await;
            return match token {
                Ok(token) => Ok(Some(format!("Bearer {token}"))),
                Err(cause) => Err(unauthorised(method, url, cause)),
            };
        }
        if self.challenge("basic").is_some() {
            return match &self.credentials {
                Some(Credentials::Basic { username, password }) => Ok(Some(basic(username, password))),
                _ => Err(RegistryError::NoCredentials { method: verb(method), url: url.to_string() }),
            };
        }
        Ok(None)
    }

    /// Sends what `make` prepares; answers whatever the registry answers, after tries for what may pass by itself.
    pub async fn send(
        &self,
        scopes: &[String],
        method: Method,
        url: &Url,
        make: impl Fn(RequestBuilder) -> Result<RequestBuilder> + Send + Sync,
    ) -> Result<Response> {
        self.tries(scopes, method, url, self.options().attempts, make).await
    }

    /// Sends it without second tries (but with a fresh token).
    pub async fn send_once(
        &self,
        scopes: &[String],
        method: Method,
        url: &Url,
        make: impl Fn(RequestBuilder) -> Result<RequestBuilder> + Send + Sync,
    ) -> Result<Response> {
        self.tries(scopes, method, url, 1, make).await
    }

    async fn tries(
        &self,
        scopes: &[String],
        method: Method,
        url: &Url,
        attempts: u32,
        make: impl Fn(RequestBuilder) -> Result<RequestBuilder> + Send + Sync,
    ) -> Result<Response> {
        let options = self.options();
        let mut backoff = Backoff::new(options.retry_floor, options.retry_ceiling);
        // Authorisation is for the registry's own host; uploads may be sent elsewhere.
        let host = authority(url);
        let ours = host == self.host;
        let client = if ours { self.client.clone() } else { self.shared.clients.get(&host, false)? };
        let (mut tries, mut fresh) = (1, false);
        loop {
            let mut request = make(client.request(method.clone(), url.clone()))?;
            if ours && let Some(value) = self.authorization(scopes, &method, url, fresh).await? {
                request = request.header(header::AUTHORIZATION, value);
            }
            let pause = match request.send().await {
                Ok(response) if response.status() == StatusCode::UNAUTHORIZED && ours && !fresh => {
                    // The token may have been withdrawn; a basic password does not become right by itself.
                    if self.challenge("bearer").is_none() {
                        return Ok(response);
                    }
                    fresh = true;
                    continue;
                }
                Ok(response) if is_transient(response.status().as_u16()) && tries < attempts => {
                    let wait = retry_after(&response).map(|d| d.min(options.retry_ceiling));
                    wait.unwrap_or_else(|| backoff.next_delay())
                }
                Ok(response) => return Ok(response),
                Err(error) => {
                    let told = explain(&method, url, &error).await;
                    if tries >= attempts || !told.transient() || error.is_connect() {
                        return Err(told);
                    }
                    backoff.next_delay()
                }
            };
            tries += 1;
            tracing::debug!(%url, ?pause, tries, "registry request is tried again");
            tokio::time::sleep(pause).await;
        }
    }

    /// The same, and an answer that is no success is an error.
    pub async fn call(
        &self,
        scopes: &[String],
        method: Method,
        url: &Url,
        make: impl Fn(RequestBuilder) -> Result<RequestBuilder> + Send + Sync,
    ) -> Result<Response> {
        let response = self.send(scopes, method.clone(), url, make).await?;
        if response.status().is_success() { Ok(response) } else { Err(refused(response, &method, url).await) }
    }

    /// Reads a document of at most `limit` bytes.
    pub async fn document(
        &self,
        scopes: &[String],
        url: &Url,
        accept: &str,
        limit: usize,
    ) -> Result<(Bytes, String)> {
        let accept = |r: RequestBuilder| Ok(r.header(header::ACCEPT, accept));
        let mut tries = 1;
        loop {
            let response = self.call(scopes, Method::GET, url, accept).await?;
            let text = |v: &header::HeaderValue| v.to_str().unwrap_or("").to_owned();
            let kind = response.headers().get(header::CONTENT_TYPE).map(text).unwrap_or_default();
            match read_body(response, limit, &Method::GET, url).await {
                Ok(body) => return Ok((body, kind)),
                Err(error) if error.transient() && tries < self.options().attempts => tries += 1,
                Err(error) => return Err(error),
            }
            tokio::time::sleep(self.options().retry_floor).await;
        }
    }
}

/// What a refused token means for the request that it was for.
pub(super) fn unauthorised(method: &Method, url: &Url, cause: RegistryError) -> RegistryError {
    RegistryError::Authorize { method: verb(method), url: url.to_string(), cause: Box::new(cause) }
}

/// Seconds of `Retry-After`.
fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// Makes an error of an answer.
pub(super) async fn refused(response: Response, method: &Method, url: &Url) -> RegistryError {
    let status = response.status().as_u16();
    let found = challenges(response.headers());
    let body = read_body(response, 1 << 20, method, url).await.unwrap_or_default();
    let bearer = found.iter().find(|c| c.scheme == "bearer");
    refusal(status, bearer.and_then(|c| Some((c.get("error")?, c.get("error_description")))), &body)
}

/// Reads an answer's body of at most `limit` bytes.
pub(super) async fn read_body(
    mut response: Response,
    limit: usize,
    method: &Method,
    url: &Url,
) -> Result<Bytes> {
    let mut body = bytes::BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= limit => body.extend_from_slice(&chunk),
            Ok(Some(_)) => {
                return Err(RegistryError::Unexpected(format!(
                    "answer to {} {url} is over {limit} bytes",
                    verb(method)
                )));
            }
            Ok(None) => return Ok(body.freeze()),
            Err(error) => return Err(explain(method, url, &error).await),
        }
    }
}
