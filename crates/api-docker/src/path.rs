//! Names with slashes in paths: `/images/a/b:c/json`.
//!
//! Docker's paths carry repository names unescaped between a prefix and a verb. The router wants one
//! segment, so the slashes within the name are percent-encoded before routing and decoded with the segment.

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

/// Encodes the slashes of names in `path`.
pub(crate) fn encode_names(path: &str) -> String {
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
    use super::encode_names;

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
        ] {
            assert_eq!(encode_names(path), expected, "{path}");
        }
    }
}
