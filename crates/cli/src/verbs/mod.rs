//! The daily verbs, over the Docker API: one file for each group, each verb a struct of flags and one function.

pub mod attach;
pub mod cp;
pub mod events;
pub mod exec;
pub mod explain;
mod graph;
pub mod host;
pub mod images;
pub mod inspect;
mod keys;
pub mod life;
mod limit;
pub mod login;
pub mod logs;
pub mod metrics;
mod netstats;
pub mod network;
mod network_set;
pub mod policy;
mod prune;
pub mod ps;
pub mod run;
mod session;
pub mod start;
pub mod stats;
pub mod status;
pub mod stop_daemon;
pub mod system;
mod terminal;
pub mod top;
pub mod volume;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::failure::usage;

/// The path of a container's endpoint.
fn container(name: &str, verb: &str) -> String {
    format!("/containers/{}{verb}", crate::client::segment(name))
}

/// `--filter key=value` words as the API's JSON.
fn filters(words: &[String]) -> anyhow::Result<Option<String>> {
    let mut map: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for word in words {
        let (key, value) = word
            .split_once('=')
            .ok_or_else(|| usage(format!("invalid filter {word:?}: KEY=VALUE is expected")))?;
        map.entry(key.trim().to_ascii_lowercase()).or_default().push(value.trim().to_owned());
    }
    Ok((!map.is_empty()).then(|| json!(map).to_string()))
}

/// Times for `--since` and `--until`: seconds since 1970, RFC 3339, a date, or a duration before now.
fn moment(text: &str) -> Result<String, String> {
    if let Ok(nanoseconds) = crate::create::values::seconds(text) {
        let at = chrono::Utc::now() - chrono::Duration::nanoseconds(nanoseconds);
        return Ok(format!("{}.{:09}", at.timestamp(), at.timestamp_subsec_nanos()));
    }
    if text.split('.').all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit())) {
        return Ok(text.to_owned());
    }
    let zoned = chrono::DateTime::parse_from_rfc3339(text).map(|t| t.to_utc());
    let local = |format: &str| {
        chrono::NaiveDateTime::parse_from_str(text, format).ok()?.and_local_timezone(chrono::Local).earliest()
    };
    let day = || chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    let at = zoned
        .ok()
        .or_else(|| local("%Y-%m-%dT%H:%M:%S%.f").map(|t| t.to_utc()))
        .or_else(|| local("%Y-%m-%dT%H:%M").map(|t| t.to_utc()))
        .or_else(|| Some(day()?.and_local_timezone(chrono::Local).earliest()?.to_utc()))
        .ok_or_else(|| format!("'{text}' is no time: try 10m, 2024-01-31T12:00:00 or seconds since 1970"))?;
    Ok(format!("{}.{:09}", at.timestamp(), at.timestamp_subsec_nanos()))
}

/// Warnings of an answer, for the person.
fn warn(answer: &Value) {
    for warning in crate::output::human::list(&answer["Warnings"]) {
        crate::output::note(format!("WARNING: {}", warning.as_str().unwrap_or("")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_gather_values_by_key() {
        let words = ["status=running".into(), "label=a=b".into(), "Status=exited".into()];
        let text = filters(&words).unwrap().unwrap();
        assert_eq!(text, r#"{"label":["a=b"],"status":["running","exited"]}"#);
        assert_eq!(filters(&[]).unwrap(), None);
        assert!(filters(&["x".into()]).is_err());
    }

    #[test]
    fn times_are_read() {
        assert_eq!(moment("1700000000").as_deref(), Ok("1700000000"));
        assert_eq!(moment("1700000000.5").as_deref(), Ok("1700000000.5"));
        assert_eq!(moment("1970-01-01T00:01:00Z").as_deref(), Ok("60.000000000"));
        assert!(moment("10m").unwrap().contains('.'));
        assert!(moment("2024-01-31").is_ok() && moment("2024-01-31T12:00").is_ok());
        assert!(moment("yesterday").is_err());
    }
}
