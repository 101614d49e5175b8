//! Query strings the way dockerd reads them.
//!
//! Booleans are lenient (anything but empty, `0`, `no`, `false`, `none` is true); filters are JSON maps
//! `{"label": ["a"]}` or, from old clients, `{"label": {"a": true}}`.

use std::collections::{BTreeMap, BTreeSet};

use axum::{extract::FromRequestParts, http::request::Parts};
use weft_base::{Clock, SystemClock, Timestamp};
use weft_cloud::Platform;

use crate::ApiVersion;
use crate::error::{ApiError, Result};

/// The parameters of a request, by name; a name may come several times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    fn parse(query: &str) -> Result<Self> {
        serde_urlencoded::from_str(query)
            .map(Self)
            .map_err(|e| ApiError::bad_request(format!("malformed query: {e}")))
    }

    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The first value of `name` that is not empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|v| !v.is_empty())
    }

    /// All values of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// A boolean; absent is false.
    pub fn flag(&self, name: &str) -> bool {
        self.flag_or(name, false)
    }

    /// A boolean with a default for when it is absent.
    pub fn flag_or(&self, name: &str, default: bool) -> bool {
        self.get(name).map_or(default, |v| {
            !matches!(v.trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
        })
    }

    /// A whole number; absent or empty is `None`.
    pub fn number(&self, name: &str) -> Result<Option<i64>> {
        match self.text(name) {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                ApiError::bad_request(format!("strconv.Atoi: parsing {text:?}: invalid syntax"))
            }),
        }
    }

    /// Platforms as JSON objects, which come with API version `since`; older clients' are not looked at.
    pub fn platforms(&self, name: &str, version: ApiVersion, since: u16) -> Result<Vec<Platform>> {
        if version < ApiVersion::v1(since) {
            return Ok(Vec::new());
        }
        self.all(name).filter(|text| !text.is_empty()).map(platform).collect()
    }

    /// At most one of them. `several` says what is wrong with more.
    pub fn platform(
        &self,
        name: &str,
        version: ApiVersion,
        since: u16,
        several: &str,
    ) -> Result<Option<Platform>> {
        let mut all = self.platforms(name, version, since)?;
        match all.len() {
            0 | 1 => Ok(all.pop()),
            _ => Err(ApiError::bad_request(several.to_owned())),
        }
    }

    /// The `filters` parameter.
    pub fn filters(&self) -> Result<Filters> {
        self.text("filters").map_or_else(|| Ok(Filters::default()), Filters::parse)
    }
}

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

/// Filters: for each key the wanted values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filters(BTreeMap<String, BTreeSet<String>>);

impl Filters {
    /// Reads either JSON form.
    pub fn parse(text: &str) -> Result<Self> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Values {
            List(BTreeSet<String>),
            Map(BTreeMap<String, bool>),
        }
        let raw: BTreeMap<String, Values> = serde_json::from_str(text).map_err(|_| {
            let syntax = crate::fold::explain(text.as_bytes());
            let shape = || "filters are an object of lists: {\"label\":[\"a=b\"]}".to_owned();
            ApiError::bad_request(format!("invalid filter: {}", syntax.unwrap_or_else(shape)))
        })?;
        let values = raw.into_iter().map(|(key, values)| match values {
            Values::List(list) => (key, list),
            Values::Map(map) => (key, map.into_iter().filter(|(_, on)| *on).map(|(v, _)| v).collect()),
        });
        Ok(Self(values.collect()))
    }

    /// Adds a wanted value.
    pub fn add(&mut self, key: &str, value: &str) {
        self.0.entry(key.to_owned()).or_default().insert(value.to_owned());
    }

    /// Refuses keys that are not among `known`.
    pub fn accept(&self, known: &[&str]) -> Result<()> {
        match self.0.keys().find(|k| !known.contains(&k.as_str())) {
            Some(key) => Err(ApiError::bad_request(format!("invalid filter '{key}'"))),
            None => Ok(()),
        }
    }

    /// The values of `key`; empty when it is absent.
    pub fn values<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> {
        self.0.get(key).into_iter().flatten().map(String::as_str)
    }

    /// Whether `key` was given.
    pub fn has(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|v| !v.is_empty())
    }

    /// True when `key` is absent or one of its values satisfies `test`.
    pub fn any(&self, key: &str, test: impl FnMut(&str) -> bool) -> bool {
        !self.has(key) || self.values(key).any(test)
    }

    /// Docker's label filter: every `key` or `key=value` must be among `labels`.
    pub fn labels(&self, key: &str, labels: &BTreeMap<String, String>) -> bool {
        self.values(key).all(|want| match want.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|v| v == value),
            None => labels.contains_key(want),
        })
    }

    /// The values of `key` as pairs; a value without `=` has an empty second part.
    pub fn pairs(&self, key: &str) -> BTreeMap<String, String> {
        let pair = |v: &str| {
            let (name, value) = v.split_once('=').unwrap_or((v, ""));
            (name.to_owned(), value.to_owned())
        };
        self.values(key).map(pair).collect()
    }

    /// A boolean filter such as `dangling=true`.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>> {
        if !self.has(key) {
            return Ok(None);
        }
        let on = self.values(key).any(|v| matches!(v, "1" | "true" | "True"));
        let off = self.values(key).any(|v| matches!(v, "0" | "false" | "False"));
        match (on, off) {
            (true, false) => Ok(Some(true)),
            (false, true) => Ok(Some(false)),
            _ => Err(ApiError::bad_request(format!(
                "invalid filter '{key}={:?}'",
                self.values(key).collect::<Vec<_>>()
            ))),
        }
    }
}

/// `{"os": "linux", "architecture": "arm64"}` (moby `httputils.DecodePlatform`).
fn platform(text: &str) -> Result<Platform> {
    let bad = |why: String| ApiError::bad_request(why);
    let found: Platform =
        serde_json::from_str(text).map_err(|e| bad(format!("failed to parse platform: {e}")))?;
    match (found.os.is_empty(), found.architecture.is_empty(), found.variant.is_empty()) {
        (false, false, _) => Ok(found),
        (true, true, false) => {
            Err(bad("optional platform fields provided, but OS and Architecture are missing".into()))
        }
        _ => Err(bad("both OS and Architecture must be provided".into())),
    }
}

/// The `until` filter of prunes: a moment before which things must have been made.
pub(crate) fn until(filters: &Filters) -> Result<Option<Timestamp>> {
    let mut values = filters.values("until");
    let Some(text) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::bad_request("more than one until filter specified".into()));
    }
    moment(text, SystemClock.now()).map(Some)
}

/// A moment: Unix seconds with an optional fraction, RFC 3339, or a Go duration before `now`.
pub(crate) fn moment(text: &str, now: Timestamp) -> Result<Timestamp> {
    let invalid = || ApiError::bad_request(format!("invalid timestamp: {text:?}"));
    if let Some(at) = Timestamp::parse_rfc3339(text) {
        return Ok(at);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if let Ok(secs) = whole.parse::<i64>()
        && fraction.bytes().all(|b| b.is_ascii_digit())
    {
        let nanos: u32 = format!("{fraction:0<9}")[..9].parse().map_err(|_| invalid())?;
        return Timestamp::from_unix(secs, nanos).ok_or_else(invalid);
    }
    if let Some(ago) = duration(text) {
        let nanos = now.unix_nanos().saturating_sub(ago);
        let (secs, rest) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
        return Timestamp::from_unix(secs, u32::try_from(rest).unwrap_or(0)).ok_or_else(invalid);
    }
    // Dates without an offset are UTC here: the daemon has no client's time zone.
    for suffix in ["Z", ":00Z", "T00:00:00Z"] {
        if let Some(at) = Timestamp::parse_rfc3339(&format!("{text}{suffix}")) {
            return Ok(at);
        }
    }
    Err(invalid())
}

/// A Go duration such as `1h30m` or `1.5s`, in nanoseconds.
fn duration(text: &str) -> Option<i64> {
    const UNITS: [(&str, f64); 6] =
        [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let factor = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        total += number.parse::<f64>().ok()? * factor;
        rest = tail;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a float cast saturates, and durations are far smaller"
    )]
    (!text.is_empty()).then_some(total as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_lenient() {
        for (query, expected) in [
            ("a=1", true),
            ("a=true", true),
            ("a=x", true),
            ("a=0", false),
            ("a=False", false),
            ("a", false),
            ("", false),
        ] {
            assert_eq!(Params::parse(query).unwrap().flag("a"), expected, "{query}");
        }
    }

    #[test]
    fn platforms() {
        let read = |json: &str| platform(json).map(|p| p.to_string()).map_err(|e| e.message().to_owned());
        assert_eq!(read(r#"{"os":"linux","architecture":"arm","variant":"v7"}"#), Ok("linux/arm/v7".into()));
        for (json, text) in [
            ("{}", "both OS and Architecture must be provided"),
            (r#"{"os":"linux"}"#, "both OS and Architecture must be provided"),
            (r#"{"variant":"v7"}"#, "optional platform fields provided, but OS and Architecture are missing"),
        ] {
            assert_eq!(read(json), Err(text.to_owned()), "{json}");
        }
        assert!(read("linux/amd64").unwrap_err().starts_with("failed to parse platform: "));
        let two = Params::parse("platform=%7B%22os%22:%22linux%22%7D&platform=x").unwrap();
        assert_eq!(two.platforms("platform", ApiVersion::v1(47), 48).unwrap(), []);
        assert!(two.platforms("platform", ApiVersion::v1(48), 48).is_err());
    }

    #[test]
    fn moments() {
        let now = Timestamp::from_unix(10_000, 0).unwrap();
        for (text, expected) in [
            ("100", Some((100, 0))),
            ("100.5", Some((100, 500_000_000))),
            ("1970-01-01T00:01:40Z", Some((100, 0))),
            ("1970-01-01T00:01:40", Some((100, 0))),
            ("1h", Some((6400, 0))),
            ("1m30s", Some((9910, 0))),
            ("1x", None),
            ("yesterday", None),
        ] {
            let got = moment(text, now).ok();
            assert_eq!(got, expected.and_then(|(s, n)| Timestamp::from_unix(s, n)), "{text}");
        }
    }

    #[test]
    fn both_filter_forms() {
        let list = Filters::parse(r#"{"label":["a=b","c"]}"#).unwrap();
        assert_eq!(list, Filters::parse(r#"{"label":{"a=b":true,"c":true,"d":false}}"#).unwrap());
        assert!(list.labels("label", &[("a".into(), "b".into()), ("c".into(), String::new())].into()));
        assert!(!list.labels("label", &[("a".into(), "x".into())].into()));
        assert!(Filters::parse("[1]").is_err());
        assert!(list.accept(&["name"]).is_err());
    }
}
