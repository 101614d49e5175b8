//! Tokens: from a bearer challenge and credentials to an `Authorization` header, kept until shortly before they expire.
//!
//! Source: distribution `docs/spec/auth/{token,oauth,jwt,scope}.md`.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use base64::Engine as _;
use parking_lot::Mutex;
use reqwest::{Method, Url, header};
use serde::Deserialize;

use super::{
    challenge::{Challenge, challenges},
    error::{RegistryError, Result, refusal},
    transport::{Clients, authority, explain, verb},
    types::Credentials,
};

/// Longer answers of token servers are not read.
const LIMIT: usize = 1 << 20;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    realm: String,
    service: String,
    scopes: Vec<String>,
    credentials: Option<Credentials>,
}

/// Tokens that are still good; shared by all operations.
#[derive(Default)]
pub(super) struct Tokens(Mutex<HashMap<Key, (String, Instant)>>);

/// What a token server answers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    token: String,
    access_token: String,
    refresh_token: String,
    expires_in: Option<u64>,
}

/// How to ask.
pub(super) struct Ask<'a> {
    pub clients: &'a Clients,
    /// Certificates of the registry are not checked; then neither are those of a token server on the same host.
    pub insecure: Option<&'a str>,
    pub challenge: &'a Challenge,
    pub scopes: &'a [String],
    pub credentials: Option<&'a Credentials>,
    /// Ask for a refresh token too (a login).
    pub offline: bool,
}

pub(super) fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}")))
}

impl Tokens {
    /// The token for `ask`, from memory or the token server; `fresh` does not look into memory.
    pub async fn get(&self, ask: &Ask<'_>, fresh: bool) -> Result<String> {
        let key = Key {
            realm: ask.challenge.get("realm").unwrap_or("").to_owned(),
            service: ask.challenge.get("service").unwrap_or("").to_owned(),
            scopes: ask.scopes.to_vec(),
            credentials: ask.credentials.cloned(),
        };
        let now = Instant::now();
        if !fresh
            && let Some((token, until)) = self.0.lock().get(&key)
            && *until > now
        {
            return Ok(token.clone());
        }
        let answer = fetch(ask).await?;
        let token = if answer.token.is_empty() { answer.access_token } else { answer.token };
        // The specification's default is 60 seconds; a tenth is kept for clocks and travel.
        let life = Duration::from_secs(answer.expires_in.unwrap_or(60).clamp(1, 24 * 3600));
        let mut memory = self.0.lock();
        memory.retain(|_, (_, until)| *until > now);
        memory.insert(key, (token.clone(), now + life * 9 / 10));
        Ok(token)
    }
}

/// Logs in at a token server; answers the refresh token if it gives one.
pub(super) async fn log_in(ask: &Ask<'_>) -> Result<Option<String>> {
    let answer = fetch(ask).await?;
    Ok(Some(answer.refresh_token).filter(|t| !t.is_empty()))
}

async fn fetch(ask: &Ask<'_>) -> Result<Answer> {
    let realm = ask.challenge.get("realm").unwrap_or("");
    let mut url = Url::parse(realm)
        .ok()
        .filter(|u| matches!(u.scheme(), "http" | "https"))
        .ok_or_else(|| RegistryError::Unexpected(format!("invalid auth challenge realm: \"{realm}\"")))?;
    let host = authority(&url);
    let client = ask.clients.get(&host, ask.insecure == Some(host.as_str()))?;
    let service = ask.challenge.get("service").unwrap_or("");
    let request = if let Some(Credentials::IdentityToken(refresh)) = ask.credentials {
        let mut form = Url::parse("form:").map_err(|e| RegistryError::Unexpected(e.to_string()))?;
        form.query_pairs_mut()
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", service)
            .append_pair("client_id", "docker")
            .append_pair("scope", &ask.scopes.join(" "))
            .append_pair("refresh_token", refresh);
        client
            .post(url.clone())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.query().unwrap_or("").to_owned())
    } else {
        let mut query = url.query_pairs_mut();
        if let Some(Credentials::Basic { username, .. }) = ask.credentials {
            query.append_pair("account", username);
        }
        if ask.offline {
            query.append_pair("client_id", "docker").append_pair("offline_token", "true");
        }
        for scope in ask.scopes {
            query.append_pair("scope", scope);
        }
        if !service.is_empty() {
            query.append_pair("service", service);
        }
        drop(query);
        let mut request = client.get(url.clone());
        if let Some(Credentials::Basic { username, password }) = ask.credentials {
            request = request.header(header::AUTHORIZATION, basic(username, password));
        }
        request
    };
    let method = if matches!(ask.credentials, Some(Credentials::IdentityToken(_))) {
        Method::POST
    } else {
        Method::GET
    };
    let sent = request.timeout(Duration::from_secs(60)).send().await;
    let response = match sent {
        Ok(response) => response,
        Err(error) => return Err(explain(&method, &url, &error).await),
    };
    let status = response.status();
    let found = challenges(response.headers());
    let body = super::session::read_body(response, LIMIT, &method, &url).await?;
    if !status.is_success() {
        let bearer = found.iter().find(|c| c.scheme == "bearer");
        let error = bearer.and_then(|c| Some((c.get("error")?, c.get("error_description"))));
        return Err(refusal(status.as_u16(), error, &body));
    }
    let answer: Answer = serde_json::from_slice(&body)
        .map_err(|e| RegistryError::Unexpected(format!("unable to decode token response: {e}")))?;
    if answer.token.is_empty() && answer.access_token.is_empty() {
        let (verb, why) = (verb(&method), "authorization server did not include a token in the response");
        return Err(RegistryError::Request {
            method: verb,
            url: url.to_string(),
            why: why.into(),
            transient: false,
        });
    }
    Ok(answer)
}
