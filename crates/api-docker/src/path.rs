//! Names with slashes in paths: `/images/a/b:c/json`.
//!
//! Docker's paths carry repository names unescaped between a prefix and a verb. The router wants one
//! segment, so the slashes within the name are percent-encoded before routing and decoded with the segment.

use std::borrow::Cow;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Bytes that are no UTF-8 as the replacement character: nothing has such a name, and people read it in the answer.
pub(crate) fn readable(path: &str) -> Cow<'_, str> {
    let bytes = percent_decode_str(path).collect::<Vec<u8>>();
    if std::str::from_utf8(&bytes).is_ok() {
        return Cow::Borrowed(path);
    }
    let segment = |text: &str| {
        let decoded = percent_decode_str(text);
        match decoded.clone().decode_utf8() {
            Ok(_) => text.to_owned(),
            Err(_) => utf8_percent_encode(&decoded.decode_utf8_lossy(), NON_ALPHANUMERIC).to_string(),
        }
    };
    Cow::Owned(path.split('/').map(segment).collect::<Vec<_>>().join("/"))
}

/// The path without `//`, `.` and `..`, as Go's routers have it; none when it is so already.
pub(crate) fn clean(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let slash = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    let clean = format!("/{}{slash}", parts.join("/"));
    (clean != path).then_some(clean)
}

/// Paths under `/images/` whose second segment is a verb, not a name.
const IMAGE_VERBS: &[&str] = &["json", "create", "search", "load", "get", "prune"];
/// Verbs that follow a name.
const SUFFIXES: &[&str] = &[
    "/json",
    "/history",
    "/push",
    "/tag",
    "/get",
    "/attestations",
    "/enable",
    "/disable",
    "/upgrade",
    "/set",
];

/// What follows a container's name.
const CONTAINER_VERBS: &[&str] = &[
    "archive",
    "attach",
    "changes",
    "checkpoints",
    "copy",
    "exec",
    "export",
    "json",
    "kill",
    "logs",
    "pause",
    "rename",
    "resize",
    "restart",
    "start",
    "stats",
    "stop",
    "top",
    "unpause",
    "update",
    "wait",
];

/// `/containers/parent/alias…`: a container by the name that a link gives it.
fn encode_link(path: &str) -> Option<String> {
    let rest = path.strip_prefix("/containers/")?.trim_start_matches('/');
    let (parent, behind) = rest.split_once('/')?;
    let (alias, tail) = behind.split_once('/').map_or((behind, None), |(alias, tail)| (alias, Some(tail)));
    if alias.is_empty() || CONTAINER_VERBS.contains(&alias) {
        return None;
    }
    let tail = tail.map(|t| format!("/{t}")).unwrap_or_default();
    Some(format!("/containers/{parent}%2F{alias}{tail}"))
}

/// Encodes the slashes of names in `path`.
pub(crate) fn encode_names(path: &str) -> String {
    if let Some(encoded) = encode_link(path) {
        return encoded;
    }
    for prefix in ["/images/", "/distribution/", "/plugins/"] {
        let Some(rest) = path.strip_prefix(prefix) else { continue };
        if prefix == "/images/" && IMAGE_VERBS.contains(&rest) {
            break;
        }
        let (name, suffix) = SUFFIXES
            .iter()
            .find_map(|s| rest.strip_suffix(s).filter(|n| !n.is_empty()).map(|n| (n, *s)))
            .unwrap_or((rest, ""));
        return format!("{prefix}{}{suffix}", name.replace('/', "%2F"));
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::{clean, encode_names, readable};

    #[test]
    fn paths_are_cleaned_as_by_go() {
        for (path, expected) in [
            ("/", None),
            ("/v1.41/info", None),
            ("/v1.41/info/", None),
            ("/v1.41/containers/../info", Some("/v1.41/info")),
            ("//v1.41//info/", Some("/v1.41/info/")),
            ("/../../info", Some("/info")),
            ("/a/./b", Some("/a/b")),
            ("/..", Some("/")),
        ] {
            assert_eq!(clean(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        assert_eq!(readable("/containers/a%2Fb/json"), "/containers/a%2Fb/json");
        assert_eq!(readable("/v1.41/containers/%ff-a/json"), "/v1.41/containers/%EF%BF%BD%2Da/json");
    }

    #[test]
    fn only_the_name_is_encoded() {
        for (path, expected) in [
            ("/images/json", "/images/json"),
            ("/images/a/json", "/images/a/json"),
            ("/images/h:5/a/b:c/json", "/images/h:5%2Fa%2Fb:c/json"),
            ("/images/a/b", "/images/a%2Fb"),
            ("/images/get", "/images/get"),
            ("/images/a/b/get", "/images/a%2Fb/get"),
            ("/distribution/a/b/json", "/distribution/a%2Fb/json"),
            ("/containers/a/json", "/containers/a/json"),
            ("/containers/a/attach/ws", "/containers/a/attach/ws"),
            ("/containers/json", "/containers/json"),
            ("/containers/a", "/containers/a"),
            ("/containers/a/db", "/containers/a%2Fdb"),
            ("/containers//a/db", "/containers/a%2Fdb"),
            ("/containers/a/db/json", "/containers/a%2Fdb/json"),
            ("/containers/a/db/attach/ws", "/containers/a%2Fdb/attach/ws"),
        ] {
            assert_eq!(encode_names(path), expected, "{path}");
        }
    }
}
