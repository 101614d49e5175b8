//! One daemon for each run directory: `RUN/weft.pid`, locked for as long as the daemon lives. `RUN/root` leads to its
//! data and stays, so that what is done without a daemon finds the data of the one that ran there.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};

/// A symbolic link in the run directory.
const ROOT_LINK: &str = "root";
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

/// Notes where the daemon of `run` keeps its data.
pub(crate) fn note_root(run: &Path, root: &Path) -> anyhow::Result<()> {
    let (link, fresh) = (run.join(ROOT_LINK), run.join(".root"));
    let root = std::path::absolute(root).with_context(|| format!("finding {}", root.display()))?;
    if std::fs::read_link(&link).is_ok_and(|known| known == root) {
        return Ok(());
    }
    let _ = std::fs::remove_file(&fresh);
    // Renamed, because there is always one that is whole.
    std::os::unix::fs::symlink(&root, &fresh)
        .and_then(|()| std::fs::rename(&fresh, &link))
        .with_context(|| format!("noting the data directory in {}", link.display()))
}

/// Where the daemon of `run`, or the last one that ran there, keeps its data.
#[must_use]
pub fn noted_root(run: &Path) -> Option<PathBuf> {
    std::fs::read_link(run.join(ROOT_LINK)).ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_data_directory_is_noted_and_noted_anew() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(super::noted_root(dir.path()), None);
        for root in ["/some/data", "/other/data", "/other/data"] {
            super::note_root(dir.path(), root.as_ref()).unwrap();
            assert_eq!(super::noted_root(dir.path()), Some(root.into()));
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

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
