//! One daemon for each run directory: `RUN/weft.pid`, locked for as long as the daemon lives.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};

/// How long one that has just been killed may take to be gone.
const DYING: Duration = Duration::from_millis(500);

/// The held lock; the file goes with it.
pub(crate) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the pid file was gone already");
        }
    }
}

/// Takes the lock of `run`, or says who holds it.
pub(crate) fn take(run: &Path) -> anyhow::Result<Lock> {
    std::fs::create_dir_all(run).with_context(|| format!("making {}", run.display()))?;
    let path = run.join("weft.pid");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    let begun = Instant::now();
    let held = loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break true,
            Err(_) if begun.elapsed() > DYING => break false,
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    if !held {
        let mut holder = String::new();
        file.read_to_string(&mut holder).context("reading the pid file")?;
        bail!("a daemon (pid {}) runs on {} already; stop it with `weft stop`", holder.trim(), run.display());
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(Lock { path, _file: file })
}

#[cfg(test)]
mod tests {
    #[test]
    fn second_daemon_is_refused_and_the_file_goes() {
        let dir = tempfile::tempdir().unwrap();
        let first = super::take(dir.path()).unwrap();
        let error = super::take(dir.path()).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        drop(first);
        assert!(!dir.path().join("weft.pid").exists());
        assert!(super::take(dir.path()).is_ok());
    }
}
