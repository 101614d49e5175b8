//! Which process a number means: a process id together with its start time, so that a recycled id is never taken
//! for the process that had it before.

use std::io;

use serde::{Deserialize, Serialize};

/// A process, named so that no later process can have the same name before the next boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// The process id in our pid namespace.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: clock ticks after boot (proc_pid_stat(5)).
    pub start_time: u64,
}

impl ProcessId {
    /// Reads the start time of `pid` now.
    ///
    /// # Errors
    /// `NotFound` when there is no such process.
    pub fn of(pid: i32) -> io::Result<Self> {
        Ok(Self { pid, start_time: start_time(pid)? })
    }

    /// Whether this very process still runs; a zombie does not.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        match read_stat(self.pid) {
            Ok((state, start)) => start == self.start_time && !matches!(state, b'Z' | b'X'),
            Err(_) => false,
        }
    }
}

/// Start time of a process in clock ticks after boot.
///
/// # Errors
/// `NotFound` when there is no such process; `InvalidData` when the kernel's text is not understood.
pub fn start_time(pid: i32) -> io::Result<u64> {
    read_stat(pid).map(|(_, start)| start)
}

fn read_stat(pid: i32) -> io::Result<(u8, u64)> {
    let text = std::fs::read(format!("/proc/{pid}/stat"))?;
    parse_stat(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unreadable /proc stat line"))
}

/// State letter and start time. The command name in parentheses may hold anything, so reading starts after the
/// last `)`.
fn parse_stat(text: &[u8]) -> Option<(u8, u64)> {
    let end = text.iter().rposition(|&b| b == b')')?;
    let rest = std::str::from_utf8(text.get(end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_command_names_do_not_mislead() {
        let line = b"7 (a) b (c)) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1 2 3";
        assert_eq!(parse_stat(line), Some((b'S', 4711)));
        assert_eq!(parse_stat(b"garbage"), None);
    }

    #[test]
    fn we_are_alive_and_another_start_time_is_not() {
        let me = ProcessId::of(i32::try_from(std::process::id()).expect("pid")).expect("own stat");
        assert!(me.is_alive());
        assert!(!ProcessId { start_time: me.start_time + 1, ..me }.is_alive());
    }
}
