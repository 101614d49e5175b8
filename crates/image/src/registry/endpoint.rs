//! Where a registry is: from the domain of a reference to base URLs, in the order in which they are tried. Pure.
//!
//! ```text
//! docker.io        pull: each mirror, then https://registry-1.docker.io; push: only that
//! insecure host    https without checking certificates, then http
//! any other host   https
//! ```

use std::net::IpAddr;

use ipnet::IpNet;

use super::error::{RegistryError, Result};

/// The domain of Docker Hub in references.
pub(super) const HUB: &str = "docker.io";
const HUB_API: &str = "registry-1.docker.io";

/// One way to reach a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// `scheme://host[:port][/prefix]` without a slash at the end.
    pub base: String,
    /// Certificates are not checked.
    pub insecure: bool,
}

/// Equivalent ways to one registry, tried until one answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Site {
    /// Ways in order.
    pub endpoints: Vec<Endpoint>,
    /// A mirror: any failure leads to the next site, and credentials are not shown to it.
    pub mirror: bool,
}

/// What is insecure, read once.
#[derive(Clone, Debug, Default)]
pub(super) struct Insecure {
    hosts: Vec<String>,
    nets: Vec<IpNet>,
}

impl Insecure {
    /// Reads the configured list.
    pub fn parse(list: &[String]) -> Result<Self> {
        let mut out = Self::default();
        for text in list {
            let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).unwrap_or(text);
            let host = host.trim_end_matches('/');
            if let Ok(net) = host.parse::<IpNet>() {
                out.nets.push(net);
            } else if host.is_empty() || host.contains('/') {
                return Err(RegistryError::Invalid(format!(
                    "insecure registry {text} is not valid: invalid host \"{host}\""
                )));
            } else {
                out.hosts.push(host.to_ascii_lowercase());
            }
        }
        Ok(out)
    }

    /// Whether addresses decide for a host of this name.
    pub fn wants_addresses(&self) -> bool {
        !self.nets.is_empty()
    }

    /// Whether `domain` (`host[:port]`), which has these addresses, is insecure.
    pub fn holds(&self, domain: &str, addresses: &[IpAddr]) -> bool {
        let domain = domain.to_ascii_lowercase();
        let host = host_of(&domain);
        if self.hosts.iter().any(|h| *h == domain || h == host) || host == "localhost" {
            return true;
        }
        let literal = host.parse::<IpAddr>().ok();
        let inside = |ip: &IpAddr| ip.is_loopback() || self.nets.iter().any(|n| n.contains(ip));
        literal.iter().chain(addresses).any(inside)
    }
}

/// The host without port and brackets.
pub(super) fn host_of(domain: &str) -> &str {
    if let Some(rest) = domain.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    domain.rsplit_once(':').map_or(domain, |(host, _)| host)
}

/// The sites of `domain`; `mirrors` serve Docker Hub alone and only pulls.
pub(super) fn sites(
    domain: &str,
    mirrors: &[String],
    insecure: &Insecure,
    addresses: &[IpAddr],
) -> Vec<Site> {
    let mut out = Vec::new();
    if domain == HUB {
        for mirror in mirrors {
            let base = mirror.trim_end_matches('/').to_owned();
            let base = if base.contains("://") { base } else { format!("https://{base}") };
            let authority = base.split("://").nth(1).and_then(|r| r.split('/').next()).unwrap_or("");
            let insecure = insecure.holds(authority, &[]);
            out.push(Site { endpoints: vec![Endpoint { base, insecure }], mirror: true });
        }
        let base = format!("https://{HUB_API}");
        out.push(Site { endpoints: vec![Endpoint { base, insecure: false }], mirror: false });
        return out;
    }
    let weak = insecure.holds(domain, addresses);
    let mut endpoints = vec![Endpoint { base: format!("https://{domain}"), insecure: weak }];
    if weak {
        endpoints.push(Endpoint { base: format!("http://{domain}"), insecure: true });
    }
    out.push(Site { endpoints, mirror: false });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bases(domain: &str, mirrors: &[&str], insecure: &[&str], addresses: &[&str]) -> Vec<String> {
        let own = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let insecure = Insecure::parse(&own(insecure)).unwrap();
        let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        let sites = sites(domain, &own(mirrors), &insecure, &addresses);
        let text = |e: &Endpoint| format!("{}{}", e.base, if e.insecure { " !" } else { "" });
        sites.iter().flat_map(|s| s.endpoints.iter().map(text)).collect()
    }

    #[test]
    fn where_registries_are() {
        assert_eq!(bases("docker.io", &[], &[], &[]), ["https://registry-1.docker.io"]);
        assert_eq!(
            bases("docker.io", &["http://127.0.0.1:5000/", "https://m.example"], &[], &[]),
            ["http://127.0.0.1:5000 !", "https://m.example", "https://registry-1.docker.io"]
        );
        assert_eq!(
            bases("r.example", &["https://m"], &[], &["127.9.9.9"]),
            ["https://r.example !", "http://r.example !"]
        );
        for (domain, insecure, weak) in [
            ("r.example:5000", vec![], false),
            ("r.example:5000", vec!["r.example:5000"], true),
            ("r.example:5000", vec!["r.example"], true),
            ("r.example:5001", vec!["r.example:5000"], false),
            ("127.3.2.1:1", vec![], true),
            ("localhost:1", vec![], true),
            ("[::1]:1", vec![], true),
            ("10.1.2.3", vec!["10.0.0.0/8"], true),
            ("11.1.2.3", vec!["10.0.0.0/8"], false),
        ] {
            assert_eq!(bases(domain, &[], &insecure, &[]).len() == 2, weak, "{domain} {insecure:?}");
        }
        assert!(Insecure::parse(&["a/b".into()]).is_err());
    }
}
