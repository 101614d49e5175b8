//! `policy ls --filter`: which policies are meant. Of one key any value, of several keys each; what no policy can match is refused
//! as Docker refuses it, so that a slip of the pen does not look like "there are none".

use serde_json::{Map, Value};

use crate::{
    failure::usage,
    output::human::{list, text},
};

/// Whether a policy matches.
pub(super) fn matches(view: &Value, filters: &Map<String, Value>) -> anyhow::Result<bool> {
    let spec = &view["policy"]["spec"];
    let mut all = true;
    for (key, wanted) in filters {
        let mut any = false;
        for value in list(wanted).iter().filter_map(Value::as_str) {
            let invalid = || usage(format!("invalid filter '{key}={value}'"));
            any |= match key.as_str() {
                "id" if is_hex(value) => text(spec, "id").starts_with(value),
                "from" | "to" => End::parse(value).ok_or_else(invalid)?.is(view, key),
                "network" if !value.is_empty() => {
                    ["from", "to"].into_iter().any(|end| End::Network(value).is(view, end))
                }
                "action" if matches!(value, "allow" | "deny") => text(spec, "action") == value,
                "protocol" if matches!(value, "tcp" | "udp" | "sctp" | "icmp") => {
                    text(spec, "protocol") == value
                }
                "protocol" if value == "all" => spec["protocol"].is_null(),
                "dangling" => {
                    let dangling = !list(&view["missing"]).is_empty();
                    match value {
                        "true" | "1" => dangling,
                        "false" | "0" => !dangling,
                        _ => return Err(invalid()),
                    }
                }
                "id" | "network" | "action" | "protocol" => return Err(invalid()),
                _ => return Err(usage(format!("invalid filter '{key}'"))),
            };
        }
        all &= any;
    }
    Ok(all)
}

/// An end, as people name it.
enum End<'a> {
    /// `any`, `outside`, `host`, `label=…`: as it is listed.
    Listed(&'a str),
    /// A container's name, its id, or the beginning of that.
    Container(&'a str),
    /// The same of a network.
    Network(&'a str),
}

impl<'a> End<'a> {
    fn parse(value: &'a str) -> Option<Self> {
        match value.split_once('=') {
            None if matches!(value, "any" | "outside" | "host") => Some(Self::Listed(value)),
            None if !value.is_empty() => Some(Self::Container(value)),
            Some(("name" | "id", of)) if !of.is_empty() => Some(Self::Container(of)),
            Some(("network", of)) if !of.is_empty() => Some(Self::Network(of)),
            Some(("label", of)) if !of.is_empty() && !of.starts_with('=') => Some(Self::Listed(value)),
            _ => None,
        }
    }

    /// Whether this end (`from`, `to`) of a policy is it.
    fn is(&self, view: &Value, end: &str) -> bool {
        let listed = text(view, end);
        let named = |kind: &str, wanted: &str| {
            let id = text(view, if end == "from" { "from_id" } else { "to_id" });
            listed.strip_prefix(kind).is_some_and(|name| {
                name == wanted.trim_start_matches('/') || (is_hex(wanted) && id.starts_with(wanted))
            })
        };
        match self {
            Self::Listed(value) => listed == *value,
            Self::Container(wanted) => named("name=", wanted),
            Self::Network(wanted) => named("network=", wanted),
        }
    }
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(filters: Value) -> Result<bool, String> {
        let view = json!({
            "policy": {"spec": {"id": "ab".repeat(32), "action": "deny", "protocol": "tcp"}},
            "from": "network=web", "from_id": "1f".repeat(32), "to": "name=db", "to_id": "0123456789abcdef".repeat(4),
            "missing": [],
        });
        matches(&view, filters.as_object().unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn ends_are_found_by_name_and_by_id() {
        for (key, value, expected) in [
            ("network", "web", true),
            ("network", "1f1f1f1f1f1f", true),
            ("network", "1f", true),
            ("network", "f1", false),
            ("network", "db", false),
            ("from", "network=web", true),
            ("from", "network=1f1f", true),
            ("from", "web", false),
            ("from", "name=web", false),
            ("to", "db", true),
            ("to", "/db", true),
            ("to", "name=db", true),
            ("to", "0123456789ab", true),
            ("to", "id=0123", true),
            ("to", "name=0123456789ab", true),
            ("to", "network=0123", false),
            ("to", "any", false),
            ("to", "label=tier", false),
            ("protocol", "all", false),
            ("id", "abab", true),
        ] {
            assert_eq!(check(json!({key: [value]})), Ok(expected), "{key}={value}");
        }
        // The id of a container that is not there is nobody's.
        let early = json!({"to": "name=later", "to_id": null});
        let by = json!({"to": ["0123"]});
        assert!(!matches(&early, by.as_object().unwrap()).unwrap());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (key, value) in [
            ("action", "x"),
            ("action", ""),
            ("protocol", "ipx"),
            ("from", ""),
            ("to", "tier=db"),
            ("to", "label="),
            ("to", "name="),
            ("network", ""),
            ("id", "web"),
        ] {
            assert_eq!(check(json!({key: [value]})), Err(format!("invalid filter '{key}={value}'")));
        }
        for key in ["direction", "port"] {
            assert_eq!(check(json!({key: ["x"]})), Err(format!("invalid filter '{key}'")));
        }
    }
}
