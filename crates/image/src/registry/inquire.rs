//! Questions to a registry that fetch no image: log in, inspect, search.

use std::time::Duration;

use reqwest::{Method, Url, header};
use weft_model::Reference;

use super::{
    RegistryClient,
    auth::{basic, log_in},
    endpoint::{Endpoint, HUB},
    error::{RegistryError, Result},
    manifest::{Document, parse},
    platform::Platform,
    pull::sha256,
    session::{Session, read_body, unauthorised},
    transport::{authority, explain},
    types::{Credentials, Distribution, Found},
};
use crate::config::ImageConfig;

const HUB_SEARCH: &str = "https://index.docker.io";

/// The registry's domain in what `docker login` sends: a URL (old ones end in `/v1/`) or a host.
fn domain_of(server: &str) -> String {
    let bare = server.trim().trim_start_matches("https://").trim_start_matches("http://");
    let host = bare.split('/').next().unwrap_or("");
    match host {
        "" | "index.docker.io" | "registry-1.docker.io" => HUB.to_owned(),
        other => other.to_owned(),
    }
}

impl RegistryClient {
    /// Tries credentials at a registry; answers the identity token if the registry gives one.
    ///
    /// # Errors
    /// `LogIn` or `Refused` when they are wrong, `Request` when there is no answer.
    pub async fn check_login(&self, server: &str, credentials: &Credentials) -> Result<Option<String>> {
        let domain = domain_of(server);
        let shared = self.shared();
        let sites = self.sites(&domain, false).await;
        let site = sites.first().ok_or_else(|| RegistryError::Unexpected("no endpoint".into()))?;
        let session = Session::open(&shared, site, Some(credentials)).await?;
        let url = session.url("")?;
        let token = match session.challenge("bearer") {
            Some(challenge) if !matches!(credentials, Credentials::RegistryToken(_)) => {
                let token = log_in(&session.ask(challenge, &[], true)).await;
                token.map_err(|cause| {
                    RegistryError::LogInRefused(unauthorised(&Method::GET, &url, cause).into())
                })?
            }
            _ => None,
        };
        let response = session.send(&[], Method::GET, &url, Ok).await?;
        if response.status().is_success() {
            return Ok(token);
        }
        let status = response.status().to_string();
        Err(RegistryError::LogIn { url: url.to_string(), status })
    }

    /// What a registry has under a name, without fetching it.
    pub async fn distribution(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<Distribution> {
        let reference = reference.clone().or_latest();
        let shared = self.shared();
        let mut last = RegistryError::Unexpected("no endpoint".into());
        for site in self.sites(&reference.domain, true).await {
            let result = match Session::open(&shared, &site, credentials).await {
                Ok(session) => inspect(&session, &reference).await.map_err(|e| e.for_pull(&reference)),
                Err(error) => Err(error),
            };
            match result {
                Err(error) if site.mirror => last = error,
                other => return other,
            }
        }
        Err(last)
    }

    /// Searches Docker Hub, or the registry that the term begins with (`host:port/term`), by the first version of the
    /// search API, which is the only one.
    ///
    /// # Errors
    /// `Unsupported` for a registry that has no search, `Invalid` for a limit out of 1 to 100.
    pub async fn search(
        &self,
        term: &str,
        limit: usize,
        credentials: Option<&Credentials>,
    ) -> Result<Vec<Found>> {
        if !(1..=100).contains(&limit) {
            return Err(RegistryError::Invalid(format!("limit {limit} is outside the range of [1, 100]")));
        }
        if term.contains("://") {
            return Err(RegistryError::Invalid(format!(
                "invalid repository name: repository name ({term}) should not have a scheme"
            )));
        }
        let (domain, term) = match term.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
                (domain_of(first), rest)
            }
            _ => (HUB.to_owned(), term),
        };
        let endpoints = if domain == HUB {
            vec![Endpoint { base: HUB_SEARCH.to_owned(), insecure: false }]
        } else {
            self.sites(&domain, false).await.into_iter().flat_map(|s| s.endpoints).collect()
        };
        let shared = self.shared();
        let mut last = RegistryError::Unexpected("no endpoint".into());
        for endpoint in &endpoints {
            let mut url = Url::parse(&format!("{}/v1/search", endpoint.base)).map_err(|e| {
                RegistryError::Invalid(format!("invalid registry endpoint {}: {e}", endpoint.base))
            })?;
            url.query_pairs_mut().append_pair("q", term).append_pair("n", &limit.to_string());
            let client = shared.clients.get(&authority(&url), endpoint.insecure)?;
            let mut request = client.get(url.clone()).timeout(Duration::from_secs(60));
            if let Some(Credentials::Basic { username, password }) = credentials {
                request = request.header(header::AUTHORIZATION, basic(username, password));
            }
            match request.send().await {
                Ok(response) => return results(response, &url, &domain).await,
                Err(error) => last = explain(&Method::GET, &url, &error).await,
            }
        }
        Err(last)
    }
}

async fn results(response: reqwest::Response, url: &Url, domain: &str) -> Result<Vec<Found>> {
    #[derive(serde::Deserialize)]
    struct Page {
        results: Vec<Found>,
    }
    let status = response.status().as_u16();
    let body = read_body(response, 4 << 20, &Method::GET, url).await?;
    match status {
        200..300 => {}
        404 => {
            let why = format!("registry {domain} has no search: Unexpected status code {status}");
            return Err(RegistryError::Unsupported(why));
        }
        _ => return Err(RegistryError::Unexpected(format!("Unexpected status code {status}"))),
    }
    let page: Page = serde_json::from_slice(&body).map_err(|e| match body.trim_ascii_start().first() {
        None => RegistryError::Unexpected("EOF".into()),
        // As Go says it.
        Some(first) if *first != b'{' => RegistryError::Unexpected(format!(
            "invalid character '{}' looking for beginning of value",
            first.escape_ascii()
        )),
        Some(_) => RegistryError::Unexpected(format!("answer to a search cannot be read: {e}")),
    })?;
    Ok(page.results)
}

async fn inspect(session: &Session, reference: &Reference) -> Result<Distribution> {
    let scopes = [format!("repository:{}:pull", reference.path)];
    let wanted = reference.pick.digest;
    let tag = reference.pick.tag.clone();
    let pick = wanted.map_or_else(|| tag.unwrap_or_else(|| "latest".into()), |d| d.to_string());
    let (bytes, kind) = session.manifest(&scopes, &reference.path, &pick, wanted).await?;
    let (document, media_type) = parse(&bytes, &kind, &reference.familiar())?;
    let platforms = match document {
        Document::Index(entries) => entries.into_iter().filter_map(|e| e.platform).collect(),
        Document::Image(manifest) => {
            let config = session.blob(&scopes, &reference.path, manifest.config.digest, 16 << 20).await?;
            let config = ImageConfig::parse(&config)?;
            let ImageConfig { os, architecture, variant, .. } = config;
            vec![Platform { os, architecture, variant }]
        }
    };
    Ok(Distribution { media_type, digest: sha256(&bytes), size: bytes.len() as u64, platforms })
}
