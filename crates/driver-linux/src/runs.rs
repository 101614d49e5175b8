//! Which of its container's runs a sandbox was made for: a number in a file beside its name (`RUN/netns/<id>.run`), so that the
//! next daemon knows it, too. A first run, number 0, needs none.
//!
//! ```text
//!  name taken away ─▶ note taken away ─▶ note written ─▶ namespace named
//! ```
//!
//! In this order a note is only ever looked at beside the namespace it speaks of; what a daemon that died leaves without one
//! is a stray, and is removed.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use weft_dataplane::SandboxId;
use weft_sys::netns;

use crate::{LinuxError, driver::LinuxDriver};

const NOTE: &str = ".run";

fn path(driver: &LinuxDriver, id: SandboxId) -> PathBuf {
    driver.directory.join(format!("{id}{NOTE}"))
}

fn failed(path: PathBuf) -> impl FnOnce(io::Error) -> LinuxError {
    |source| LinuxError::Note { path, source }
}

/// The sandbox that a name in the directory is the note of.
pub(crate) fn of(name: &str) -> Option<SandboxId> {
    name.strip_suffix(NOTE)?.parse().ok()
}

/// The run that a sandbox which is there was made for.
pub(crate) fn read(driver: &LinuxDriver, id: SandboxId) -> u64 {
    fs::read_to_string(path(driver, id))
        .ok()
        .and_then(|text| text.trim_end().parse().ok())
        .unwrap_or_default()
}

/// Before the namespace has its name.
pub(crate) fn write(driver: &LinuxDriver, id: SandboxId, run: u64) -> Result<(), LinuxError> {
    if run == 0 {
        return Ok(());
    }
    fs::create_dir_all(&driver.directory).map_err(failed(driver.directory.clone()))?;
    let path = path(driver, id);
    fs::write(&path, format!("{run}\n")).map_err(failed(path))
}

/// Takes a sandbox's name away, and its note.
pub(crate) fn delete(driver: &LinuxDriver, id: SandboxId, name: &Path) -> Result<(), LinuxError> {
    netns::delete(name)?;
    let path = path(driver, id);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(path)(error)),
        _ => Ok(()),
    }
}
