//! Single values as Docker's client reads them.

use std::{collections::BTreeMap, fs};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::failure::usage;

/// `64m`, `1.5g`, `1024`: powers of 1024.
pub fn bytes(text: &str) -> Result<i64, String> {
    let wrong = || format!("invalid size: '{text}'");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let unit = lower[digits.len()..].trim();
    let unit = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(unit);
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return Err(wrong()),
    };
    decimal(digits, 1_i64 << shift).ok_or_else(wrong)
}

/// As [`bytes`], and -1 for no limit.
pub fn bytes_or_unlimited(text: &str) -> Result<i64, String> {
    if text == "-1" { Ok(-1) } else { bytes(text) }
}

/// `1.5` as billionths of a CPU.
pub fn cpus(text: &str) -> Result<i64, String> {
    decimal(text, 1_000_000_000).ok_or_else(|| format!("invalid number of CPUs: '{text}'"))
}

/// A decimal number times `factor`, rounded down, without floating point.
fn decimal(text: &str, factor: i64) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let fraction: String = fraction.chars().take(12).collect();
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    i64::try_from(whole * i128::from(factor) + part * i128::from(factor) / scale).ok()
}

/// Go's durations (`1m30s`, `500ms`) in nanoseconds.
pub fn seconds(text: &str) -> Result<i64, String> {
    let wrong = || format!("invalid duration: '{text}'");
    if text == "0" {
        return Ok(0);
    }
    let (mut rest, mut total) = (text, 0_i64);
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (value, after) = rest.split_at(number);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let factor = match &after[..unit_end] {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(wrong()),
        };
        total = total.checked_add(decimal(value, factor).ok_or_else(wrong)?).ok_or_else(wrong)?;
        rest = &after[unit_end..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

/// `KEY=VALUE` words as a map; a word without `=` has an empty value.
#[must_use]
pub fn map(words: &[String]) -> BTreeMap<String, String> {
    words
        .iter()
        .map(|w| w.split_once('=').unwrap_or((w, "")))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

/// The lines of files that set something, without comments and empty ones.
fn lines(files: &[String]) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let useful = |l: &&str| !l.is_empty() && !l.starts_with('#');
        for line in text.lines().map(str::trim_start).filter(useful) {
            let name = line.split('=').next().unwrap_or(line);
            if name.is_empty() || name.contains(char::is_whitespace) {
                return Err(usage(format!("{file}: '{name}' is not a name")));
            }
            all.push(line.to_owned());
        }
    }
    Ok(all)
}

/// The environment of `--env-file` and `--env`: a name alone takes our value over, or nothing.
pub fn environment(files: &[String], words: &[String]) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    for word in lines(files)?.iter().chain(words) {
        match word.split_once('=') {
            Some(("", _)) => return Err(usage(format!("invalid environment variable: {word}"))),
            Some(_) => all.push(word.clone()),
            None => all.extend(std::env::var(word).ok().map(|value| format!("{word}={value}"))),
        }
    }
    Ok(all)
}

/// The labels of `--label-file` and `--label`.
pub fn labels(files: &[String], words: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut all = lines(files)?;
    all.extend_from_slice(words);
    Ok(map(&all))
}

/// `no`, `on-failure:3`.
pub fn restart_policy(text: &str) -> anyhow::Result<Value> {
    let (name, count) = text.split_once(':').unwrap_or((text, ""));
    let count: i64 = if count.is_empty() {
        0
    } else {
        count
            .parse()
            .map_err(|_| usage(format!("--restart {text}: the number of tries must be an integer")))?
    };
    Ok(json!({"Name": name, "MaximumRetryCount": count}))
}

/// `nofile=1024:2048`.
pub fn ulimit(text: &str) -> anyhow::Result<Value> {
    let wrong = || usage(format!("invalid ulimit argument: {text}"));
    let (name, values) = text.split_once('=').ok_or_else(wrong)?;
    let number = |t: &str| if t == "unlimited" { Ok(-1) } else { t.parse::<i64>().map_err(|_| wrong()) };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if hard != -1 && (soft > hard || soft == -1) {
        return Err(usage(format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )));
    }
    Ok(json!({"Name": name, "Soft": soft, "Hard": hard}))
}

/// `/dev/x:/dev/y:rw`.
pub fn device(text: &str) -> anyhow::Result<Value> {
    let mode = |t: &str| !t.is_empty() && t.chars().all(|c| "rwm".contains(c));
    let parts: Vec<&str> = text.split(':').collect();
    let (host, inside, permissions) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, second] if mode(second) => (host, host, second),
        [host, inside] => (host, inside, "rwm"),
        [host, inside, permissions] if mode(permissions) => (host, inside, permissions),
        _ => return Err(usage(format!("invalid device specification: {text}"))),
    };
    Ok(json!({"PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": permissions}))
}

/// `/dev/sda:1mb` with `value` reading the number.
pub fn rate(text: &str, value: impl Fn(&str) -> Result<i64, String>) -> anyhow::Result<(String, i64)> {
    let (path, rate) = text.rsplit_once(':').ok_or_else(|| usage(format!("bad format: {text}")))?;
    let rate = value(rate).map_err(|e| usage(format!("{text}: {e}")))?;
    Ok((path.to_owned(), rate))
}

/// An integer, for [`rate`].
pub fn integer(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("invalid number: '{text}'"))
}

/// `all`, `2`, `device=0,1`, `driver=nvidia,count=1,capabilities=…`.
pub fn gpus(text: &str) -> anyhow::Result<Value> {
    let mut request = json!({"Driver": "", "Count": 0, "Capabilities": [["gpu"]]});
    for part in text.split(',') {
        match part.split_once('=') {
            None if part == "all" => request["Count"] = json!(-1),
            None => request["Count"] = json!(integer(part).map_err(usage)?),
            Some(("driver", driver)) => request["Driver"] = json!(driver),
            Some(("count", "all")) => request["Count"] = json!(-1),
            Some(("count", count)) => request["Count"] = json!(integer(count).map_err(usage)?),
            Some(("device", id)) => request["DeviceIDs"] = json!([id]),
            Some((key, _)) => return Err(usage(format!("--gpus: unexpected key '{key}'"))),
        }
    }
    Ok(request)
}

/// `seccomp=FILE` becomes the content of the file, as the API wants it.
pub fn security_option(text: &str) -> anyhow::Result<String> {
    let (name, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
    if name != "seccomp" || ["unconfined", "builtin", ""].contains(&value) {
        return Ok(text.to_owned());
    }
    let profile =
        fs::read_to_string(value).with_context(|| format!("reading the seccomp profile {value}"))?;
    let profile: Value =
        serde_json::from_str(&profile).with_context(|| format!("reading the seccomp profile {value}"))?;
    Ok(format!("seccomp={profile}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_durations_and_shares() {
        for (text, expected) in [
            ("0", 0),
            ("1024", 1024),
            ("1k", 1024),
            ("1.5g", 1_610_612_736),
            ("64MB", 64 << 20),
            ("2GiB", 2 << 30),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "m", "1x", "-1", "1.2.3", "1e3"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert_eq!(bytes_or_unlimited("-1"), Ok(-1));
        assert_eq!(
            (cpus("0.1"), cpus("2"), cpus(".5")),
            (Ok(100_000_000), Ok(2_000_000_000), Ok(500_000_000))
        );
        for (text, expected) in
            [("1s", 1_000_000_000), ("1m30s", 90_000_000_000), ("1.5ms", 1_500_000), ("0", 0)]
        {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in ["", "1", "s", "1y", "1s2"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn files_of_variables() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env").display().to_string();
        fs::write(&path, "# comment\n\n A=1=2\nWEFT_TEST_NOT_SET\n").unwrap();
        assert_eq!(environment(std::slice::from_ref(&path), &["B=".into()]).unwrap(), ["A=1=2", "B="]);
        fs::write(&path, "A B=1\n").unwrap();
        assert!(environment(&[path], &[]).is_err());
        assert!(environment(&[], &["=x".into()]).is_err());
    }
}
