//! What `--log-driver` and `--log-opt` may say.
//!
//! Docker checks the names of options when a container is made, and their values when it starts; so do
//! [`validate`] and [`check`], with the texts its users know. Where nothing is said, Weft rotates at 20 MB,
//! keeps five files and compresses the older ones (Docker keeps one file for ever).

use std::collections::BTreeMap;

use weft_model::LogConfig;

use super::{attrs, syslog, types::LogFacts};

type Options = BTreeMap<String, String>;

/// Why a log configuration is refused; the texts are Docker's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LogOptionError {
    /// No such driver.
    #[error("logger: no log driver named '{0}' is registered")]
    Driver(String),
    /// `mode` is neither `blocking` nor `non-blocking`.
    #[error("logger: logging mode not supported: {0}")]
    Mode(String),
    /// `max-buffer-size` without `mode=non-blocking`.
    #[error("logger: max-buffer-size option is only supported with 'mode=non-blocking'")]
    BufferMode,
    /// Not an option of a driver.
    #[error("unknown log opt '{option}' for {driver} log driver")]
    Unknown {
        /// The option.
        option: String,
        /// The driver.
        driver: String,
    },
    /// Not an option of the `local` driver (which Docker says differently).
    #[error("unknown log opt '{0}' for log driver local")]
    UnknownLocal(String),
    /// Not a size.
    #[error("invalid size: '{0}'")]
    Size(String),
    /// Not a number.
    #[error("strconv.Atoi: parsing {0:?}: invalid syntax")]
    Number(String),
    /// Not a boolean.
    #[error("strconv.ParseBool: parsing {0:?}: invalid syntax")]
    Bool(String),
    /// A value outside what makes sense.
    #[error("{0}")]
    Value(String),
}

/// How files are rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileOptions {
    /// Bytes after which a file is full; `None` for no limit.
    pub max_size: Option<u64>,
    /// Files kept, the current one among them.
    pub max_files: u32,
    /// Compress those that are full.
    pub compress: bool,
}

const COMMON: [&str; 11] = [
    "env",
    "env-regex",
    "labels",
    "labels-regex",
    "tag",
    "mode",
    "max-buffer-size",
    CACHE_DISABLED,
    "cache-max-size",
    "cache-max-file",
    "cache-compress",
];
const CACHE_DISABLED: &str = "cache-disabled";
/// Bytes that wait at most where `mode=non-blocking` says nothing.
const BUFFER: u64 = 1_000_000;
const FILE: [&str; 3] = ["max-size", "max-file", "compress"];

/// Checks driver and names of options, as Docker does when a container is made.
pub fn validate(config: &LogConfig) -> Result<(), LogOptionError> {
    let options = &config.options;
    if config.driver == "none" {
        return Ok(());
    }
    let mode = options.get("mode").map_or("", String::as_str);
    if !matches!(mode, "" | "blocking" | "non-blocking") {
        return Err(LogOptionError::Mode(mode.to_owned()));
    }
    if let Some(size) = options.get("max-buffer-size") {
        if mode != "non-blocking" {
            return Err(LogOptionError::BufferMode);
        }
        parse_ram(size)?;
    }
    if let Some(value) = options.get(CACHE_DISABLED).filter(|v| !v.is_empty()) {
        let bad = |_| LogOptionError::Value(format!("invalid value for option {CACHE_DISABLED}: {value}"));
        parse_bool(value).map_err(bad)?;
    }
    let own: &[&str] = match config.driver.as_str() {
        "json-file" | "local" => &FILE,
        "journald" => &[],
        "syslog" => &syslog::OPTIONS,
        other => return Err(LogOptionError::Driver(other.to_owned())),
    };
    let unknown = options.keys().find(|k| !own.contains(&k.as_str()) && !COMMON.contains(&k.as_str()));
    match unknown {
        Some(option) if config.driver == "local" => Err(LogOptionError::UnknownLocal(option.clone())),
        Some(option) => {
            Err(LogOptionError::Unknown { option: option.clone(), driver: config.driver.clone() })
        }
        None if config.driver == "syslog" => syslog::Target::parse(options).map(drop),
        None => Ok(()),
    }
}

/// Checks values of options too, as Docker does when a container starts.
pub fn check(config: &LogConfig, facts: &LogFacts) -> Result<(), LogOptionError> {
    validate(config)?;
    match config.driver.as_str() {
        "json-file" => drop(json_file(&config.options)?),
        "local" => drop(local(&config.options)?),
        "none" => return Ok(()),
        _ => drop(cache(config)?),
    }
    attrs::collect(&config.options, facts)?;
    attrs::tag(&config.options, facts, "").map(drop)
}

/// Options of `json-file`.
pub(super) fn json_file(options: &Options) -> Result<FileOptions, LogOptionError> {
    let size = options.get("max-size").map(|s| parse_size(s)).transpose()?;
    if size == Some(0) {
        return Err(LogOptionError::Value("max-size must be a positive number".into()));
    }
    let files = options.get("max-file").map(|n| parse_count(n)).transpose()?;
    if files.is_some_and(|n| n < 1) {
        return Err(LogOptionError::Value("max-file cannot be less than 1".into()));
    }
    let compress = options.get("compress").map(|b| parse_bool(b)).transpose()?;
    let resolved = resolve(size, files, compress);
    if compress == Some(true) && resolved.max_files < 2 {
        return Err(LogOptionError::Value(
            "compress cannot be true when max-file is less than 2 or max-size is not set".into(),
        ));
    }
    Ok(resolved)
}

/// Options of `local`.
pub(super) fn local(options: &Options) -> Result<FileOptions, LogOptionError> {
    let named = |name: &str, e: LogOptionError| {
        let value = options.get(name).map_or("", String::as_str);
        LogOptionError::Value(format!("invalid value for {name}: {value}: {e}"))
    };
    let size =
        options.get("max-size").map(|s| parse_size(s)).transpose().map_err(|e| named("max-size", e))?;
    let files =
        options.get("max-file").map(|n| parse_count(n)).transpose().map_err(|e| named("max-file", e))?;
    if files.is_some_and(|n| n < 0) {
        return Err(LogOptionError::Value("max-file must not be negative".into()));
    }
    let compress = options
        .get("compress")
        .map(|b| parse_bool(b))
        .transpose()
        .map_err(|e| LogOptionError::Value(format!("invalid boolean value for compress: {e}")))?;
    let max_files = u32::try_from(files.unwrap_or(5)).unwrap_or(u32::MAX).max(1);
    let compress = compress.unwrap_or(true);
    if compress && max_files < 2 {
        return Err(LogOptionError::Value("compression cannot be enabled when max file count is 1".into()));
    }
    Ok(FileOptions { max_size: Some(size.filter(|s| *s > 0).unwrap_or(DEFAULT_SIZE)), max_files, compress })
}

/// Options of the copy that is kept here for reading, of drivers that cannot be read back; `None` for the other drivers and
/// where it is not wanted.
pub(super) fn cache(config: &LogConfig) -> Result<Option<FileOptions>, LogOptionError> {
    if !is_cached(config) {
        return Ok(None);
    }
    let own =
        config.options.iter().filter_map(|(k, v)| Some((k.strip_prefix("cache-")?.to_owned(), v.clone())));
    local(&own.collect()).map(Some)
}

/// Whether a copy of the log is kept in the `local` form, because the driver itself cannot be read back.
pub(super) fn is_cached(config: &LogConfig) -> bool {
    let disabled = config.options.get(CACHE_DISABLED).is_some_and(|v| parse_bool(v).unwrap_or(false));
    matches!(config.driver.as_str(), "journald" | "syslog") && !disabled
}

/// Bytes that may wait for the driver; `None` for a driver that is waited for.
pub(super) fn buffer(options: &Options) -> Result<Option<u64>, LogOptionError> {
    if options.get("mode").is_none_or(|mode| mode != "non-blocking") {
        return Ok(None);
    }
    options.get("max-buffer-size").map_or(Ok(BUFFER), |size| parse_ram(size)).map(Some)
}

const DEFAULT_SIZE: u64 = 20_000_000;

/// Fills what was not said. A size alone means one file, as in Docker.
fn resolve(size: Option<u64>, files: Option<i64>, compress: Option<bool>) -> FileOptions {
    let default_files = if size.is_some() { 1 } else { 5 };
    let max_files = u32::try_from(files.unwrap_or(default_files)).unwrap_or(u32::MAX);
    FileOptions {
        max_size: Some(size.unwrap_or(DEFAULT_SIZE)),
        max_files,
        compress: compress.unwrap_or(max_files > 1),
    }
}

fn parse_count(text: &str) -> Result<i64, LogOptionError> {
    text.parse().map_err(|_| LogOptionError::Number(text.to_owned()))
}

/// A boolean in Go's spellings.
pub(crate) fn parse_bool(text: &str) -> Result<bool, LogOptionError> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(LogOptionError::Bool(text.to_owned())),
    }
}

/// A size in decimal units (`10m` is 10,000,000), as log options have it.
fn parse_size(text: &str) -> Result<u64, LogOptionError> {
    parse_units(text, 1e3)
}

/// A size in binary units (`1m` is 1,048,576), as buffers have it.
fn parse_ram(text: &str) -> Result<u64, LogOptionError> {
    parse_units(text, 1024.0)
}

fn parse_units(text: &str, kilo: f64) -> Result<u64, LogOptionError> {
    let bad = || LogOptionError::Size(text.to_owned());
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..split].parse().map_err(|_| bad())?;
    let unit = text[split..].trim_start().to_ascii_lowercase();
    let factor: f64 = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 1.0,
        "k" => kilo,
        "m" => kilo.powi(2),
        "g" => kilo.powi(3),
        "t" => kilo.powi(4),
        "p" => kilo.powi(5),
        _ => return Err(bad()),
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked; sizes are small")]
    (number >= 0.0 && number * factor < 1e18).then_some((number * factor) as u64).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(driver: &str, options: &[(&str, &str)]) -> LogConfig {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        LogConfig { driver: driver.to_owned(), options }
    }

    fn text(result: Result<(), LogOptionError>) -> String {
        result.err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn names_are_checked_with_dockers_texts() {
        for (driver, options, expected) in [
            ("json-file", &[("max-size", "1m"), ("labels", "a"), ("mode", "non-blocking")][..], ""),
            ("none", &[("anything", "1")], ""),
            ("json-file", &[("x", "1")], "unknown log opt 'x' for json-file log driver"),
            ("local", &[("x", "1")], "unknown log opt 'x' for log driver local"),
            ("journald", &[("max-size", "1")], "unknown log opt 'max-size' for journald log driver"),
            ("splunk", &[], "logger: no log driver named 'splunk' is registered"),
            ("json-file", &[("mode", "x")], "logger: logging mode not supported: x"),
            (
                "json-file",
                &[("max-buffer-size", "4m")],
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
            ),
            ("syslog", &[("syslog-facility", "x")], "invalid syslog facility"),
            ("syslog", &[("cache-max-size", "1m"), ("cache-disabled", "false")], ""),
            ("json-file", &[("cache-disabled", "x")], "invalid value for option cache-disabled: x"),
        ] {
            assert_eq!(text(validate(&config(driver, options))), expected, "{driver} {options:?}");
        }
    }

    #[test]
    fn values_are_checked_with_dockers_texts() {
        for (driver, options, expected) in [
            ("json-file", &[("max-size", "0")][..], "max-size must be a positive number"),
            ("json-file", &[("max-size", "x")], "invalid size: 'x'"),
            ("json-file", &[("max-file", "0")], "max-file cannot be less than 1"),
            ("json-file", &[("max-file", "x")], "strconv.Atoi: parsing \"x\": invalid syntax"),
            (
                "json-file",
                &[("compress", "true"), ("max-size", "1m")],
                "compress cannot be true when max-file is less than 2 or max-size is not set",
            ),
            ("local", &[("max-file", "1")], "compression cannot be enabled when max file count is 1"),
        ] {
            let got = text(check(&config(driver, options), &LogFacts::default()));
            assert_eq!(got, expected, "{driver} {options:?}");
        }
    }

    #[test]
    fn the_copy_and_the_buffer() {
        let cached = |driver: &str, o: &[(&str, &str)]| cache(&config(driver, o)).unwrap();
        assert_eq!(cached("json-file", &[]), None);
        assert_eq!(cached("syslog", &[("cache-disabled", "true")]), None);
        let own = [("cache-max-size", "1m"), ("cache-max-file", "2"), ("cache-compress", "false")];
        let wanted = FileOptions { max_size: Some(1_000_000), max_files: 2, compress: false };
        assert_eq!(cached("journald", &own), Some(wanted));
        let buffer = |o: &[(&str, &str)]| buffer(&config("local", o).options).unwrap();
        assert_eq!(buffer(&[]), None);
        assert_eq!(buffer(&[("mode", "non-blocking")]), Some(1_000_000));
        assert_eq!(buffer(&[("mode", "non-blocking"), ("max-buffer-size", "4m")]), Some(4 << 20));
    }

    #[test]
    fn what_is_not_said_is_rotated_and_compressed() {
        let of = |o: &[(&str, &str)]| json_file(&config("json-file", o).options).unwrap();
        let file = |size, files, compress| FileOptions { max_size: Some(size), max_files: files, compress };
        assert_eq!(of(&[]), file(20_000_000, 5, true));
        assert_eq!(of(&[("max-size", "10k")]), file(10_000, 1, false));
        assert_eq!(of(&[("max-size", "1.5m"), ("max-file", "3")]), file(1_500_000, 3, true));
        assert_eq!(
            of(&[("max-size", "1g"), ("max-file", "3"), ("compress", "0")]),
            file(1_000_000_000, 3, false)
        );
    }
}
