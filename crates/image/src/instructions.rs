//! Dockerfile instructions that `commit` and `import` take as `--change`: `CMD`, `ENTRYPOINT`, `ENV`, `EXPOSE`, `LABEL`, `USER`,
//! `VOLUME`, `WORKDIR`, `STOPSIGNAL`, `ONBUILD`, `HEALTHCHECK` (Dockerfile reference; moby `builder/dockerfile/builder.go`,
//! `validCommitCommands`).

use serde_json::json;

use crate::{
    config::{Health, RunConfig},
    error::{ImageError, Result},
};

fn invalid(text: impl Into<String>) -> ImageError {
    ImageError::Invalid(text.into())
}

/// Applies one instruction, such as `CMD ["sh"]` or `ENV A=b`.
pub fn apply(config: &mut RunConfig, line: &str) -> Result<()> {
    let line = line.trim();
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let word = word.to_ascii_uppercase();
    if rest.is_empty() {
        return Err(invalid(format!("{word} requires at least one argument")));
    }
    match word.as_str() {
        "CMD" => {
            config.cmd = Some(command(config, rest));
        }
        "ENTRYPOINT" => config.entrypoint = Some(command(config, rest)),
        "ENV" => {
            for (key, value) in pairs(rest, true)? {
                let prefix = format!("{key}=");
                config.env.retain(|e| !e.starts_with(&prefix));
                config.env.push(format!("{key}={value}"));
            }
        }
        "LABEL" => config.labels.extend(pairs(rest, true)?),
        "EXPOSE" => {
            for port in rest.split_whitespace() {
                expose(config, port)?;
            }
        }
        "USER" => config.user = rest.to_owned(),
        "VOLUME" => {
            let list =
                json_words(rest).unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect());
            for volume in list {
                if volume.trim().is_empty() {
                    return Err(invalid("VOLUME specified can not be an empty string"));
                }
                config.volumes.insert(volume, json!({}));
            }
        }
        "WORKDIR" => {
            let old = if config.working_dir.is_empty() { "/" } else { &config.working_dir };
            config.working_dir = std::path::Path::new(old).join(rest).display().to_string();
        }
        "STOPSIGNAL" => config.stop_signal = rest.to_owned(),
        "ONBUILD" => {
            let inner = rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            match inner.as_str() {
                "ONBUILD" => return Err(invalid("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")),
                "FROM" | "MAINTAINER" => {
                    return Err(invalid(format!("{inner} isn't allowed as an ONBUILD trigger")));
                }
                _ => config.on_build.push(rest.to_owned()),
            }
        }
        "HEALTHCHECK" => config.healthcheck = Some(health(rest)?),
        _ => return Err(invalid(format!("{word} is not a valid change command"))),
    }
    Ok(())
}

fn json_words(text: &str) -> Option<Vec<String>> {
    if text.starts_with('[') { serde_json::from_str(text).ok() } else { None }
}

/// The exec form as it is, the shell form in the image's shell.
fn command(config: &RunConfig, text: &str) -> Vec<String> {
    json_words(text).unwrap_or_else(|| {
        let mut words = config.shell.clone().unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
        words.push(text.to_owned());
        words
    })
}

fn expose(config: &mut RunConfig, text: &str) -> Result<()> {
    let bad = || invalid(format!("invalid containerPort: {text}"));
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(invalid(format!("invalid proto: {protocol}")));
    }
    let (from, to) = ports.split_once('-').unwrap_or((ports, ports));
    let (from, to): (u16, u16) = (from.parse().map_err(|_| bad())?, to.parse().map_err(|_| bad())?);
    if from > to {
        return Err(bad());
    }
    for port in from..=to {
        config.exposed_ports.insert(format!("{port}/{protocol}"), json!({}));
    }
    Ok(())
}

/// Words with quotes and backslashes undone.
fn split_words(text: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => {
                let next = chars.next().unwrap_or('\\');
                if quote.is_some() && !matches!(next, '"' | '\\' | '$') {
                    word.get_or_insert_default().push('\\');
                }
                word.get_or_insert_default().push(next);
            }
            (c, Some(q)) if c == q => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(invalid(format!("unexpected end of statement while looking for matching quote: {text}")));
    }
    words.extend(word);
    Ok(words)
}

/// `A=b "C=d e"`, or the old form `A b c`.
fn pairs(text: &str, old_form: bool) -> Result<Vec<(String, String)>> {
    let first = text.split_whitespace().next().unwrap_or_default();
    if old_form && !first.contains('=') {
        let (key, value) = text
            .split_once(char::is_whitespace)
            .ok_or_else(|| invalid(format!("{text} must have two arguments")))?;
        return Ok(vec![(key.to_owned(), split_words(value.trim())?.join(" "))]);
    }
    split_words(text)?
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some(("", _)) => Err(invalid("names can not be blank")),
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => Err(invalid(format!(
                "Syntax error - can't find = in {word:?}. Must be of the form: name=value"
            ))),
        })
        .collect()
}

fn health(text: &str) -> Result<Health> {
    let mut health = Health::default();
    let mut rest = text;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = option.split_once(char::is_whitespace).unwrap_or((option, ""));
        let (key, value) =
            option.split_once('=').ok_or_else(|| invalid(format!("missing value of --{option}")))?;
        match key {
            "interval" => health.interval = duration(value)?,
            "timeout" => health.timeout = duration(value)?,
            "start-period" => health.start_period = duration(value)?,
            "start-interval" => health.start_interval = duration(value)?,
            "retries" => {
                health.retries = value.parse().map_err(|_| invalid(format!("invalid retries: {value}")))?
            }
            _ => return Err(invalid(format!("Unknown flag: {key}"))),
        }
        rest = after.trim_start();
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let command = command.trim();
    health.test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if command.is_empty() => vec!["NONE".into()],
        "CMD" if command.is_empty() => return Err(invalid("Missing command after HEALTHCHECK CMD")),
        "CMD" => match json_words(command) {
            Some(words) => std::iter::once("CMD".into()).chain(words).collect(),
            None => vec!["CMD-SHELL".into(), command.into()],
        },
        other => return Err(invalid(format!("Unknown type in HEALTHCHECK: {other}"))),
    };
    Ok(health)
}

/// Go's durations (`1m30s`, `500ms`) as nanoseconds.
fn duration(text: &str) -> Result<i64> {
    let bad = || invalid(format!("invalid duration {text:?}"));
    let (mut sum, mut rest) = (0f64, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |i| i + digits);
        let unit = match &rest[digits..unit_end] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(bad()),
        };
        sum += number * unit;
        rest = &rest[unit_end..];
    }
    if text.is_empty() || sum > 9e18 {
        return Err(bad());
    }
    #[expect(clippy::cast_possible_truncation, reason = "checked above")]
    Ok(sum as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_change_the_configuration() {
        let mut c = RunConfig::default();
        for line in [
            r#"CMD ["a", "b c"]"#,
            "ENTRYPOINT run it",
            r#"ENV A=1 B="two words" C=x\ y"#,
            "env A 3 4",
            "EXPOSE 80 53/udp 8000-8001",
            "LABEL k=v",
            r#"VOLUME ["/data"]"#,
            "WORKDIR /a",
            "WORKDIR b",
            "USER me",
            "STOPSIGNAL SIGINT",
            "ONBUILD RUN x",
            "HEALTHCHECK --interval=1m30s --retries=2 CMD curl x",
        ] {
            apply(&mut c, line).unwrap();
        }
        assert_eq!(c.cmd.unwrap(), ["a", "b c"]);
        assert_eq!(c.entrypoint.unwrap(), ["/bin/sh", "-c", "run it"]);
        assert_eq!(c.env, ["B=two words", "C=x y", "A=3 4"]);
        assert_eq!(c.exposed_ports.keys().collect::<Vec<_>>(), ["53/udp", "80/tcp", "8000/tcp", "8001/tcp"]);
        assert_eq!(
            (c.working_dir.as_str(), c.user.as_str(), c.stop_signal.as_str()),
            ("/a/b", "me", "SIGINT")
        );
        let health = c.healthcheck.unwrap();
        assert_eq!((health.interval, health.retries), (90_000_000_000, 2));
        assert_eq!(health.test, ["CMD-SHELL", "curl x"]);
    }

    #[test]
    fn nonsense_is_refused() {
        for line in
            ["", "RUN x", "CMD", "ENV =x", "EXPOSE x", "LABEL 'a=b", "HEALTHCHECK x", "ONBUILD FROM a"]
        {
            assert!(apply(&mut RunConfig::default(), line).is_err(), "{line}");
        }
    }
}
