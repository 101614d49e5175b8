//! HTTP clients: one for each host of one operation, with that host's certificates, so that nothing is kept while idle.
//! Failures are told in the words of Go's `net/http`, which Docker's users know and scripts match.

use std::{
    collections::HashMap,
    error::Error,
    io::ErrorKind,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use parking_lot::Mutex;
use reqwest::{Certificate, Client, Identity, Method, NoProxy, Proxy, Url};

use super::{
    endpoint::host_of,
    error::{RegistryError, Result},
};

/// Clients by host and whether certificates are checked.
pub(super) struct Clients {
    certs: PathBuf,
    proxies: [String; 3],
    made: Mutex<HashMap<(String, bool), Client>>,
}

impl Clients {
    pub fn new(certs: PathBuf, proxies: [String; 3]) -> Self {
        Self { certs, proxies, made: Mutex::default() }
    }

    /// The client for `authority` (`host[:port]`).
    pub fn get(&self, authority: &str, insecure: bool) -> Result<Client> {
        let key = (authority.to_owned(), insecure);
        if let Some(client) = self.made.lock().get(&key) {
            return Ok(client.clone());
        }
        let client = build(&self.certs, &proxies(&self.proxies)?, authority, insecure)?;
        self.made.lock().insert(key, client.clone());
        Ok(client)
    }
}

/// `host[:port]` of a URL.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or("");
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn build(certs: &Path, proxies: &[Proxy], authority: &str, insecure: bool) -> Result<Client> {
    let (roots, identity) = certificates(&certs.join(authority))?;
    let host = host_of(authority);
    let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let start = || {
        let mut builder = Client::builder()
            .user_agent(concat!("weft/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(30))
            .tcp_keepalive(Duration::from_secs(30))
            .tcp_user_timeout(Duration::from_secs(120))
            .pool_max_idle_per_host(8)
            .referer(false);
        // As Go: loopback is never asked of a proxy.
        if local {
            builder = builder.no_proxy();
        } else {
            builder = proxies.iter().cloned().fold(builder, reqwest::ClientBuilder::proxy);
        }
        if let Some(identity) = &identity {
            builder = builder.identity(identity.clone());
        }
        builder
    };
    let made = if insecure {
        start().tls_danger_accept_invalid_certs(true).build()
    } else {
        // A machine without any system roots still has those that were configured.
        start().tls_certs_merge(roots.clone()).build().or_else(|_| start().tls_certs_only(roots).build())
    };
    made.map_err(|e| {
        RegistryError::Unexpected(format!("preparing TLS for {authority}: {}", weft_base::chain(&e)))
    })
}

/// The configured proxies; none where the environment decides.
fn proxies([http, https, none]: &[String; 3]) -> Result<Vec<Proxy>> {
    let bad = |e: reqwest::Error| RegistryError::Unexpected(format!("proxy: {}", weft_base::chain(&e)));
    let mut all = Vec::new();
    if !http.is_empty() {
        all.push(Proxy::http(http).map_err(bad)?);
    }
    if !https.is_empty() {
        all.push(Proxy::https(https).map_err(bad)?);
    }
    Ok(all.into_iter().map(|p| p.no_proxy(NoProxy::from_string(none))).collect())
}

/// CA certificates (`*.crt`) and the first client certificate (`*.cert` with its `*.key`) of a directory.
fn certificates(dir: &Path) -> Result<(Vec<Certificate>, Option<Identity>)> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok((Vec::new(), None)) };
    let bad = |path: &Path, why: String| RegistryError::Unexpected(format!("{}: {why}", path.display()));
    let read = |path: &Path| std::fs::read(path).map_err(|e| bad(path, e.to_string()));
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    let (mut roots, mut identity) = (Vec::new(), None);
    for path in &paths {
        let show = |p: &Path| p.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match path.extension().and_then(|e| e.to_str()) {
            Some("crt") => {
                let found = Certificate::from_pem_bundle(&read(path)?);
                roots.extend(found.map_err(|e| bad(path, weft_base::chain(&e).to_string()))?);
            }
            Some("cert") => {
                let key = path.with_extension("key");
                if !key.exists() {
                    let (key, cert) = (show(&key), show(path));
                    return Err(RegistryError::Unexpected(format!(
                        "missing key {key} for client certificate {cert}. CA certificates must use the extension .crt"
                    )));
                }
                let mut pem = read(&key)?;
                pem.push(b'\n');
                pem.extend(read(path)?);
                let found =
                    Identity::from_pem(&pem).map_err(|e| bad(path, weft_base::chain(&e).to_string()))?;
                identity.get_or_insert(found);
            }
            Some("key") if !path.with_extension("cert").exists() => {
                let (key, cert) = (show(path), show(&path.with_extension("cert")));
                return Err(RegistryError::Unexpected(format!(
                    "missing client certificate {cert} for key {key}"
                )));
            }
            _ => {}
        }
    }
    Ok((roots, identity))
}

/// `Get`, `Head`, `Put`, as Go writes methods in errors.
pub(super) fn verb(method: &Method) -> String {
    let text = method.as_str();
    format!("{}{}", &text[..1], text[1..].to_ascii_lowercase())
}

/// Tells why a request got no answer.
pub(super) async fn explain(method: &Method, url: &Url, error: &reqwest::Error) -> RegistryError {
    let (why, transient) = match reason(url, error) {
        Reason::Dial(what) => (format!("dial tcp {}: {what}", address(url).await), true),
        Reason::Lookup => (format!("dial tcp: lookup {}: no such host", url.host_str().unwrap_or("")), true),
        Reason::Final(why) => (why, false),
        Reason::Passing(why) => (why, true),
    };
    RegistryError::Request { method: verb(method), url: url.to_string(), why, transient }
}

enum Reason {
    Dial(&'static str),
    Lookup,
    Final(String),
    Passing(String),
}

const X509: &str = "tls: failed to verify certificate: x509: certificate";

fn reason(url: &Url, error: &reqwest::Error) -> Reason {
    let (mut texts, mut kinds) = (Vec::new(), Vec::new());
    let mut link: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(this) = link {
        texts.push(this.to_string());
        kinds.extend(this.downcast_ref::<std::io::Error>().map(std::io::Error::kind));
        link = this.source();
    }
    let has = |needle: &str| texts.iter().any(|t| t.contains(needle));
    if has("InvalidContentType") {
        return Reason::Final("http: server gave HTTP response to HTTPS client".into());
    }
    if has("UnknownIssuer") || has("CaUsedAsEndEntity") {
        return Reason::Final(format!("{X509} signed by unknown authority"));
    }
    if has("Expired") || has("certificate expired") {
        return Reason::Final(format!("{X509} has expired or is not yet valid"));
    }
    if has("NotValidForName") || has("not valid for") {
        return Reason::Final(format!("{X509} is not valid for {}", url.host_str().unwrap_or("")));
    }
    if let Some(alert) = texts.iter().find_map(|t| t.strip_prefix("received fatal alert: ")) {
        return Reason::Final(format!("remote error: tls: {}", alert_text(alert)));
    }
    if error.is_connect() {
        if has("dns error") || has("failed to lookup") {
            return Reason::Lookup;
        }
        let what = kinds.iter().find_map(|kind| match kind {
            ErrorKind::ConnectionRefused => Some("connect: connection refused"),
            ErrorKind::HostUnreachable => Some("connect: no route to host"),
            ErrorKind::NetworkUnreachable => Some("connect: network is unreachable"),
            ErrorKind::TimedOut => Some("i/o timeout"),
            _ => None,
        });
        if let Some(what) = what.or_else(|| error.is_timeout().then_some("i/o timeout")) {
            return Reason::Dial(what);
        }
    }
    let why = match kinds.last() {
        Some(ErrorKind::ConnectionReset) => "read: connection reset by peer".to_owned(),
        Some(ErrorKind::UnexpectedEof) => "EOF".to_owned(),
        _ if has("connection closed before message completed") => "EOF".to_owned(),
        _ if error.is_timeout() => "net/http: timeout awaiting response headers".to_owned(),
        _ => texts.pop().unwrap_or_default(),
    };
    if error.is_builder() || error.is_redirect() { Reason::Final(why) } else { Reason::Passing(why) }
}

/// An alert's name (RFC 8446 section 6) in the words of Go's `crypto/tls`.
fn alert_text(name: &str) -> String {
    match name {
        "UnknownCA" => "unknown certificate authority".into(),
        "CertificateExpired" => "expired certificate".into(),
        "CertificateRevoked" => "revoked certificate".into(),
        "CertificateUnknown" => "unknown certificate".into(),
        "ProtocolVersion" => "protocol version not supported".into(),
        other => {
            let apart = |c: char| {
                if c.is_ascii_uppercase() { format!(" {}", c.to_ascii_lowercase()) } else { c.into() }
            };
            other.chars().map(apart).collect::<String>().trim_start().to_owned()
        }
    }
}

/// The address that was dialled: the first that the name has.
async fn address(url: &Url) -> String {
    let (host, port) = (url.host_str().unwrap_or(""), url.port_or_known_default().unwrap_or(443));
    let bare = host.trim_matches(['[', ']']);
    match tokio::net::lookup_host((bare, port)).await.ok().and_then(|mut a| a.next()) {
        Some(address) => address.to_string(),
        None => format!("{host}:{port}"),
    }
}
