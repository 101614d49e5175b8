//! Signals by the names and numbers that people write.

/// Names of `signal(7)` on Linux, by number from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// The text is no signal.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid signal: {0}")]
pub struct SignalError(pub String);

/// `TERM`, `SIGTERM`, `15`, `RTMIN+3`, in any case; empty means `SIGTERM`.
///
/// # Errors
/// Anything else, and 0.
pub fn parse(text: &str) -> Result<i32, SignalError> {
    let bad = || SignalError(text.to_owned());
    if text.is_empty() {
        return Ok(libc::SIGTERM);
    }
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=RTMAX).contains(&number) { Ok(number) } else { Err(bad()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(at) = NAMES.iter().position(|n| *n == name) {
        return i32::try_from(at + 1).map_err(|_| bad());
    }
    let alias = match name {
        "CLD" => Some(libc::SIGCHLD),
        "POLL" => Some(libc::SIGIO),
        "IOT" => Some(libc::SIGABRT),
        "RTMIN" => Some(RTMIN),
        "RTMAX" => Some(RTMAX),
        _ => None,
    };
    let offset = |base: i32, sign: i32, rest: &str| rest.parse::<i32>().ok().map(|n| base + sign * n);
    let real_time = name
        .strip_prefix("RTMIN+")
        .and_then(|n| offset(RTMIN, 1, n))
        .or_else(|| name.strip_prefix("RTMAX-").and_then(|n| offset(RTMAX, -1, n)))
        .filter(|n| (RTMIN..=RTMAX).contains(n));
    alias.or(real_time).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn every_way_of_writing() {
        for (text, number) in [
            ("", 15),
            ("TERM", 15),
            ("sigkill", 9),
            ("9", 9),
            ("SIGWINCH", 28),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("CLD", 17),
            ("SYS", 31),
        ] {
            assert_eq!(parse(text), Ok(number), "{text}");
        }
        for text in ["0", "65", "-1", "FOO", "RTMIN+31", "SIG"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
