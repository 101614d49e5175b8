//! What is done on this very machine: running the daemon, looking at the machine, the daemon's files.

pub mod doctor;
pub mod feature;
pub mod store;
pub mod up;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use crate::client::DEFAULT_RUN;

/// Where a daemon keeps its data unless told otherwise.
pub const DEFAULT_ROOT: &str = "/var/lib/weft";

/// The data directory that is meant: the one that was typed, else that of the daemon in `run`, else the default. Somebody
/// else's data must not be taken for a daemon's whose run directory was typed.
pub fn data_root(typed: Option<&Path>, run: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(root) = typed {
        return Ok(root.to_owned());
    }
    match (weft_daemon::noted_root(run.unwrap_or(Path::new(DEFAULT_RUN))), run) {
        (Some(root), _) => Ok(root),
        (None, None) => Ok(DEFAULT_ROOT.into()),
        (None, Some(run)) => {
            anyhow::bail!("no daemon has run on {}; say --root for its data directory", run.display())
        }
    }
}

/// What the daemon executes this program for. Told apart before anything else happens: a shim has one thread and
/// no runtime.
#[must_use]
pub fn hidden() -> Option<ExitCode> {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (verb, rest) = args.split_first()?;
    (verb == "shim").then(|| weft_engine::shim::main(rest))
}
