//! Policy between endpoints: who may begin a connection to whom, by protocol and port.
//!
//! A deny wins over an allow, whatever their order. Without either, a connection passes, unless one of its ends is on a
//! network that is closed by default ([`crate::NetworkSpec::closed`]) and the other is not the host: as with Kubernetes'
//! network policies, a node always reaches its own pods. Answers belong to their connection.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{NetworkId, Policy, PolicyId, PortRange, Resource, Scope};

/// Which endpoints. Written `any`, `outside`, `host`, `name=web`, `label=tier`, `label=tier=db`, `network=<id>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    /// Every endpoint, and what is outside. Not the host: who means it names it, or a deny would cut off health checks and
    /// whoever runs the machine.
    Any,
    /// What is no endpoint of a container and not the host.
    Outside,
    /// The host itself, by whichever address; containers without a network namespace of their own are part of it.
    Host,
    /// The container of that name.
    Name(String),
    /// Containers with a label, and with that value if one is given.
    Label(String, Option<String>),
    /// Endpoints on a network.
    Network(NetworkId),
}

/// The text selects nothing that there can be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "invalid selector {text:?}: any, outside, host, a container, name=NAME, id=ID, label=KEY[=VALUE] or network=NETWORK is \
     expected"
)]
pub struct SelectorError {
    /// What was written.
    pub text: String,
}

impl FromStr for Selector {
    type Err = SelectorError;
    /// Networks by their whole id: whoever takes names looks them up before.
    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let bad = || SelectorError { text: text.to_owned() };
        match text.split_once('=') {
            None if text == "any" => Ok(Self::Any),
            None if text == "outside" => Ok(Self::Outside),
            None if text == "host" => Ok(Self::Host),
            Some(("name", name)) if !name.is_empty() => {
                Ok(Self::Name(name.trim_start_matches('/').to_owned()))
            }
            Some(("label", label)) => match label.split_once('=') {
                Some((key, value)) if !key.is_empty() => {
                    Ok(Self::Label(key.to_owned(), Some(value.to_owned())))
                }
                None if !label.is_empty() => Ok(Self::Label(label.to_owned(), None)),
                _ => Err(bad()),
            },
            Some(("network", id)) => id.parse().map(Self::Network).map_err(|_| bad()),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => write!(f, "any"),
            Self::Outside => write!(f, "outside"),
            Self::Host => write!(f, "host"),
            Self::Name(name) => write!(f, "name={name}"),
            Self::Label(key, None) => write!(f, "label={key}"),
            Self::Label(key, Some(value)) => write!(f, "label={key}={value}"),
            Self::Network(id) => write!(f, "network={id}"),
        }
    }
}
impl Serialize for Selector {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Protocols that a policy can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// ICMP and `ICMPv6`, but for what finds neighbours.
    Icmp,
}

impl PolicyProtocol {
    /// Numbers of IP protocols (IANA).
    #[must_use]
    pub fn numbers(self) -> &'static [u8] {
        match self {
            Self::Tcp => &[6],
            Self::Udp => &[17],
            Self::Sctp => &[132],
            Self::Icmp => &[1, 58],
        }
    }
}

impl fmt::Display for PolicyProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
            Self::Icmp => "icmp",
        })
    }
}

impl FromStr for PolicyProtocol {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            "icmp" => Ok(Self::Icmp),
            _ => Err(format!("invalid proto: {text}")),
        }
    }
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyAction {
    /// It passes where isolation lets it.
    Allow,
    /// Its packets are dropped.
    Deny,
}

impl fmt::Display for PolicyAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Allow { "allow" } else { "deny" })
    }
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySpec {
    /// Identity.
    pub id: PolicyId,
    /// Who begins.
    pub from: Selector,
    /// Who is reached.
    pub to: Selector,
    /// Protocol; all when absent.
    #[serde(default)]
    pub protocol: Option<PolicyProtocol>,
    /// Ports reached; all when absent, and only of protocols that have ports.
    #[serde(default)]
    pub ports: Option<PortRange>,
    /// What becomes of it.
    pub action: PolicyAction,
}

impl PolicySpec {
    /// Whether another policy says the same.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        let words = |p: &'_ Self| (p.protocol, p.ports, p.action);
        words(self) == words(other) && self.from == other.from && self.to == other.to
    }
}

/// Nothing is said of a policy but by its host's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStatus {}

impl Resource for Policy {
    const KIND: &'static str = "policy";
    const SCOPE: Scope = Scope::Cluster;
    fn key(&self) -> String {
        self.spec.id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_shown_as_they_are_read() {
        let network = format!("network={}", "ab".repeat(32));
        for text in
            ["any", "outside", "host", "name=web", "label=tier", "label=tier=", "label=tier=db=x", &network]
        {
            assert_eq!(text.parse::<Selector>().unwrap().to_string(), text);
        }
        for bad in ["", "all", "name=", "label=", "label==x", "network=web", "tier=db", "any=1"] {
            let error = bad.parse::<Selector>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("invalid selector {bad:?}: ")), "{error}");
        }
    }
}
