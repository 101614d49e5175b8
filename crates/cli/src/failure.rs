//! How a command ends when it does not succeed: an exit code and what to say.
//!
//! 0 done, 1 failed, 2 wrong usage, 125-127 as `docker run`'s; the exit code of a container or of a process in it
//! passes through. Everything that is not a [`Failure`] is 1, with its chain of causes.

use std::fmt;

/// An exit code with its message; without one the command has said all there is to say.
#[derive(Debug)]
pub struct Failure {
    /// For the shell.
    pub code: u8,
    /// For the person.
    pub message: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message.as_deref().unwrap_or(""))
    }
}

impl std::error::Error for Failure {}

/// An end with `code` and nothing more to say.
#[must_use]
pub fn exit(code: i64) -> anyhow::Error {
    Failure { code: u8::try_from(code & 0xff).unwrap_or(1), message: None }.into()
}

/// Wrong usage: exit code 2.
#[must_use]
pub fn usage(message: impl Into<String>) -> anyhow::Error {
    Failure { code: 2, message: Some(message.into()) }.into()
}

/// A message with an exit code.
#[must_use]
pub fn failed(code: u8, message: impl Into<String>) -> anyhow::Error {
    Failure { code, message: Some(message.into()) }.into()
}
