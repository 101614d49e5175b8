//! The first look at everything after the daemon came up: which shims live, and what ended meanwhile.
//!
//! The same plan as in daily work does the rest; here only its inputs are found again.

use std::{collections::HashSet, path::Path, sync::Arc};

use futures_util::{StreamExt, stream};
use weft_base::chain;
use weft_model::{Container, ContainerId};
use weft_store::{Stores, Table};

use crate::{
    Result,
    actor::wake,
    cell::{self, Cell, Life},
    engine::Inner,
    error::blocking,
    oci::CgroupVersion,
    plan::{due_at_boot, may_have_run},
    shim::{self, Phase, Shim},
};

/// Shims asked at the same time.
const AT_ONCE: usize = 32;

pub(crate) async fn adopt_all(inner: &Arc<Inner>) -> Result<()> {
    debug_assert!(matches!(inner.host.cgroup, CgroupVersion::V1 | CgroupVersion::V2));
    let containers = inner.all_containers().await?;
    let known: HashSet<String> = containers.iter().map(|c| c.spec.id.to_string()).collect();
    let due = containers.iter().filter(|c| due_at_boot(c)).map(|c| c.spec.id);
    inner.due_at_boot.lock().extend(due);
    let found = names_in(&inner.config.run.join("containers"));
    let noted = names_in(&inner.config.run.join("runtime"));
    let strays = found.union(&noted).filter(|name| !known.contains(*name)).cloned().collect();
    stream::iter(containers)
        .for_each_concurrent(AT_ONCE, |container| {
            let lives = found.contains(&container.spec.id.to_string());
            async move {
                if let Err(error) = adopt(inner, &container, lives).await {
                    tracing::error!(container = %container.spec.id, error = chain(&error), "adopting it failed");
                }
            }
        })
        .await;
    inner.volumes.sweep(inner).await;
    clear_strays(inner, strays);
    Ok(())
}

fn names_in(dir: &Path) -> HashSet<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

async fn adopt(inner: &Arc<Inner>, container: &Arc<Container>, lives: bool) -> Result<()> {
    let id = container.spec.id;
    let cell = Arc::new(Cell::new(id, container.status.clone()));
    let mut busy = container.meta.deleting.is_some() || container.spec.run.seq > container.status.answered;
    if lives {
        let life = find_life(inner, container).await?;
        let mut state = cell.state.lock();
        state.residue = !matches!(life, Life::Held { .. });
        state.life = life;
        busy = true;
    }
    let status = &container.status;
    busy |= status.state.is_alive() || status.state == weft_model::RunState::Restarting;
    if !busy {
        // A container at rest needs no memory of ours. A copy in or out may have been under way.
        let snapshots = inner.images.snapshots().clone();
        return blocking(
            move || {
                if snapshots.is_mounted(&id) { Ok(snapshots.unmount(&id)?) } else { Ok(()) }
            },
        )
        .await;
    }
    inner.cells.lock().insert(id, Arc::clone(&cell));
    if cell.shim().is_some() && status.state.is_alive() {
        // Before the first probe of this daemon can be there.
        inner.end_probes(id);
        inner.begin_health(&cell, container);
        crate::exec::adopt(inner, container).await;
    }
    wake(inner, &cell);
    Ok(())
}

async fn find_life(inner: &Inner, container: &Container) -> Result<Life> {
    let dir = inner.live(container.spec.id);
    if let Some(shim) = Shim::adopt(&dir).await? {
        // Ended between the two questions: the plan sees it by the shim's end.
        let state = shim.state().await.ok();
        let unstarted = state.as_ref().is_some_and(|s| matches!(s.phase, Phase::Creating | Phase::Created));
        let paused = state.as_ref().is_some_and(|s| s.paused);
        return Ok(Life::Held { shim, unstarted, paused });
    }
    let exit = shim::client::last_exit(&dir);
    // An end that no record tells of: of a process that ran (one that was never let go has a fault), and not the last
    // one's, whose files are still there.
    let unseen = exit.as_ref().is_some_and(|exit| {
        may_have_run(container)
            && exit.fault.is_none()
            && container.status.finished_at != Some(exit.finished_at)
    });
    let seen = exit.as_ref().map(cell::seen);
    Ok(if container.status.state.is_alive() || unseen { Life::Ended(seen) } else { Life::None })
}

/// A process that runs in a container without a record.
pub struct Unrecorded {
    /// The container.
    pub id: ContainerId,
    /// Its first process; the shim where that cannot be asked.
    pub pid: i32,
}

/// Containers that run below `run` and have no record in `stores`. A record goes only when all else is gone, so this is
/// another daemon's store, or an older copy: who would go on with it would take them for left-overs. To be asked before
/// anything is made or cleared away.
///
/// # Errors
/// When records cannot be read.
pub async fn unrecorded(run: &Path, stores: &Stores) -> Result<Vec<Unrecorded>> {
    let containers: Table<Container> = Table::new(stores);
    let mut all = Vec::new();
    for name in names_in(&run.join("containers")) {
        let Ok(id) = name.parse() else { continue };
        if containers.get(&name).await?.is_some() {
            continue;
        }
        let dir = run.join("containers").join(&name);
        let pid = match Shim::adopt(&dir).await {
            Ok(None) => None,
            Ok(Some(shim)) => match shim.state().await {
                Ok(state) if state.phase == Phase::Running => state.init.map(|init| init.pid),
                // Not let go yet, or over: nobody's work is lost with it.
                _ => None,
            },
            Err(_) => shim::client::last_pid(&dir),
        };
        all.extend(pid.map(|pid| Unrecorded { id, pid }));
    }
    Ok(all)
}

/// Directories of containers that have no record: a removal or a start that was cut off. No process of theirs was let go
/// (see [`unrecorded`]); but mounts may be left, and a shim that waits.
fn clear_strays(inner: &Arc<Inner>, strays: Vec<String>) {
    if strays.is_empty() {
        return;
    }
    let me = Arc::clone(inner);
    inner.tasks.spawn(async move {
        for name in strays {
            let Ok(id) = name.parse() else { continue };
            tracing::warn!(container = %name, "clearing away what is left of a container without a record");
            let dir = me.live(id);
            if let Ok(Some(shim)) = Shim::adopt(&dir).await {
                let _ = shim.kill(libc::SIGKILL, true).await;
                let _ = shim.wait().await;
            }
            if let Err(error) = me.take_down(id).await {
                tracing::warn!(container = %name, error = chain(&error), "something is left");
            }
        }
    });
}
