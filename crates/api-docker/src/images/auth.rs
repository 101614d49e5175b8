//! Credentials that a client sends along: `X-Registry-Auth`, base64url of JSON.

use axum::http::HeaderMap;
use base64::{Engine, engine::general_purpose};
use serde::Deserialize;
use weft_cloud::Credentials;

use crate::error::{ApiError, Result};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase", default)]
struct AuthConfig {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

/// What the header says; `None` when it is absent or says nothing.
pub(crate) fn credentials(headers: &HeaderMap) -> Result<Option<Credentials>> {
    let Some(value) = headers.get("x-registry-auth").and_then(|v| v.to_str().ok()).filter(|v| !v.is_empty())
    else {
        return Ok(None);
    };
    let json = decode(value)
        .ok_or_else(|| ApiError::bad_request("invalid X-Registry-Auth header: it is not base64".into()))?;
    if json.trim_ascii().is_empty() {
        return Ok(None);
    }
    let config: AuthConfig = serde_json::from_slice(&json)
        .map_err(crate::fold::Error::from)
        .and_then(crate::fold::from_value)
        .map_err(|e| ApiError::bad_request(format!("invalid X-Registry-Auth header: {e}")))?;
    Ok(config.credentials())
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    general_purpose::URL_SAFE_NO_PAD
        .decode(text)
        .or_else(|_| general_purpose::STANDARD_NO_PAD.decode(text))
        .ok()
}

impl AuthConfig {
    fn credentials(mut self) -> Option<Credentials> {
        if self.username.is_empty()
            && let Some(pair) = decode(&self.auth).and_then(|b| String::from_utf8(b).ok())
            && let Some((user, password)) = pair.split_once(':')
        {
            (self.username, self.password) = (user.to_owned(), password.to_owned());
        }
        if !self.registrytoken.is_empty() {
            return Some(Credentials::RegistryToken(self.registrytoken));
        }
        if !self.identitytoken.is_empty() {
            return Some(Credentials::IdentityToken(self.identitytoken));
        }
        (!self.username.is_empty())
            .then_some(Credentials::Basic { username: self.username, password: self.password })
    }
}

/// Body of `POST /auth`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase", default)]
pub(crate) struct LogIn {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
    registrytoken: String,
    pub serveraddress: String,
}

impl LogIn {
    pub(crate) fn credentials(self) -> Option<Credentials> {
        let LogIn { username, password, auth, identitytoken, registrytoken, .. } = self;
        AuthConfig { username, password, auth, identitytoken, registrytoken }.credentials()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Credentials>> {
        let mut headers = HeaderMap::new();
        headers.insert("x-registry-auth", text.parse().unwrap());
        credentials(&headers)
    }

    #[test]
    fn forms_that_clients_send() {
        let encode = |s: &str| general_purpose::URL_SAFE.encode(s);
        let basic = Credentials::Basic { username: "u".into(), password: "p".into() };
        assert_eq!(read(&encode(r#"{"username":"u","password":"p"}"#)).unwrap(), Some(basic.clone()));
        let auth = general_purpose::STANDARD.encode("u:p");
        assert_eq!(read(&encode(&format!(r#"{{"auth":"{auth}"}}"#))).unwrap(), Some(basic));
        assert_eq!(read(&encode("{}")).unwrap(), None);
        assert!(read("%%%").is_err());
    }
}
