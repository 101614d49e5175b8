//! A store that is gone, or another one, while what it told of is still there. To go on then would mean to take running
//! containers for left-overs, and images and volumes for nobody's.

use std::{fmt::Write as _, path::Path};

use anyhow::bail;
use weft_store::Stores;

use crate::Config;

/// Refuses a missing or empty store file beside things that an earlier one told of.
pub(crate) fn check(config: &Config, store: &Path) -> anyhow::Result<()> {
    if std::fs::metadata(store).is_ok_and(|meta| meta.len() > 0) {
        return Ok(());
    }
    let (root, run) = (&config.root, &config.run);
    let kept = [
        ("container", root.join("containers")),
        ("running container", run.join("containers")),
        ("volume", root.join("volumes")),
        ("blob", root.join("content/blobs/sha256")),
    ];
    let mut found = String::new();
    for (what, dir) in &kept {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let count = entries.filter(|e| !e.file_name().as_encoded_bytes().starts_with(b".")).count();
        if count > 0 {
            let many = if count == 1 { "" } else { "s" };
            let _ = write!(found, "\n  {count} {what}{many} in {}", dir.display());
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    bail!(
        "the store {} is missing or empty, but what it told of is there:{found}\n\
         Put the file back from a copy. To give all of this up and begin anew, end what still runs (its processes are \
         below the cgroup weft) and move {} and {} away.",
        store.display(),
        root.display(),
        run.display(),
    )
}

/// Refuses a store that does not know containers which run here: another daemon's, or an older copy.
pub(crate) async fn check_running(config: &Config, stores: &Stores) -> anyhow::Result<()> {
    let strangers = weft_engine::unrecorded(&config.run, stores).await?;
    let Some(first) = strangers.first() else { return Ok(()) };
    let mut found = String::new();
    for stranger in &strangers {
        let _ = write!(found, "\n  {} (process {})", stranger.id, stranger.pid);
    }
    let (run, root) = (config.run.display(), config.root.display());
    bail!(
        "containers run in {run} that the store in {root} does not know; it is another daemon's, or an older copy:{found}\n\
         Put the right store there, or say its --root. To give these containers up, end them (kill -9 {}) and start again.",
        first.pid,
    )
}
