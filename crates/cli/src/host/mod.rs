//! What is done on this very machine: running the daemon, looking at the machine, the daemon's files.

pub mod doctor;
pub mod feature;
pub mod store;
pub mod up;

use std::{ffi::OsString, process::ExitCode};

/// Where a daemon keeps its data unless told otherwise.
pub const DEFAULT_ROOT: &str = "/var/lib/weft";

/// What the daemon executes this program for. Told apart before anything else happens: a shim has one thread and
/// no runtime.
#[must_use]
pub fn hidden() -> Option<ExitCode> {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (verb, rest) = args.split_first()?;
    (verb == "shim").then(|| weft_engine::shim::main(rest))
}
