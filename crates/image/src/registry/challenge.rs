//! `WWW-Authenticate` headers (RFC 9110 section 11.6.1): pure.

use std::collections::BTreeMap;

use http::HeaderMap;

/// One challenge: the scheme in lower case, and its parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Challenge {
    pub scheme: String,
    pub parameters: BTreeMap<String, String>,
}

impl Challenge {
    pub fn get(&self, key: &str) -> Option<&str> {
        self.parameters.get(key).map(String::as_str)
    }
}

/// All challenges of an answer.
pub(super) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let values = headers.get_all(http::header::WWW_AUTHENTICATE).iter();
    values.filter_map(|v| v.to_str().ok()).flat_map(parse).collect()
}

/// Reads one header, which may hold several challenges; what cannot be read ends it.
fn parse(text: &str) -> Vec<Challenge> {
    let mut out: Vec<Challenge> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        if end == 0 {
            return out;
        }
        let word = &rest[..end];
        rest = rest[end..].trim_start_matches([' ', '\t']);
        if let Some(value) = rest.strip_prefix('=').filter(|_| !out.is_empty()) {
            let (value, after) = value_of(value.trim_start_matches([' ', '\t']));
            rest = after;
            if let Some(challenge) = out.last_mut() {
                challenge.parameters.insert(word.to_ascii_lowercase(), value);
            }
        } else {
            out.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: BTreeMap::new() });
        }
    }
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c)
}

/// A quoted string or a token, and what follows it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (value, &quoted[at + 1..]),
            _ => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read() {
        let show = |text: &str| {
            let one = |c: &Challenge| {
                let pairs: Vec<_> = c.parameters.iter().map(|(k, v)| format!("{k}={v}")).collect();
                format!("{}({})", c.scheme, pairs.join(";"))
            };
            parse(text).iter().map(one).collect::<Vec<_>>().join(" ")
        };
        for (text, expected) in [
            (
                r#"Bearer realm="https://a/t",service="s",scope="repository:x:pull,push""#,
                "bearer(realm=https://a/t;scope=repository:x:pull,push;service=s)",
            ),
            (r#"Basic realm="a \"b\"""#, r#"basic(realm=a "b")"#),
            (
                r#"Basic realm=x, Bearer realm="y" , error="invalid_token""#,
                "basic(realm=x) bearer(error=invalid_token;realm=y)",
            ),
            ("Negotiate, Basic", "negotiate() basic()"),
            (r#"Bearer realm="open"#, "bearer(realm=open)"),
            ("", ""),
            ("=,\"", ""),
        ] {
            assert_eq!(show(text), expected, "{text}");
        }
    }
}
