//! Starting a container: everything gathered, the shim at hand, clients attached, then the process let go.
//!
//! ```text
//!   gate.ready ─────┐
//!   mounts, user ───┴─▶ name files ─▶ config.json ─▶ shim (created) ─▶ clients attach ─▶ start ─▶ status
//! ```
//!
//! A start that fails leaves nothing behind but its reason in the status.

use std::{path::PathBuf, sync::Arc};

use weft_base::chain;
use weft_model::{Container, ContainerId, ExitStatus, IpcMode, Namespace, NetworkMode, RunState};

use crate::{
    EngineError, Result,
    cell::{Cell, Life},
    engine::{Inner, make_dir},
    error::blocking,
    logs::LogFacts,
    oci::{self, BundleFacts},
    plan::on_its_way,
    shim::{ConsoleSize, Log, Runtime, Shim, ShimError, ShimSpec},
    volumes,
};

/// Exit code of what never ran, for no better-known reason (moby `exitUnknown`).
pub(crate) const NOT_STARTED: i64 = 128;

/// How often a restart by policy looks whether the container has come up whose namespaces it joins.
const JOINED_LOOK: std::time::Duration = std::time::Duration::from_millis(250);

/// What a joined container contributes.
#[derive(Default)]
struct Joined {
    pid_of: Option<u32>,
    ipc_of: Option<u32>,
    net_of: Option<u32>,
    shm: Option<PathBuf>,
}

impl Inner {
    /// Starts it and writes down how that went. Only a failure to write is an error here.
    pub(crate) async fn start(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        container: &Arc<Container>,
        answers: Option<u64>,
        restart: bool,
    ) -> Result<()> {
        if answers.is_none() && self.waits_for_joined(container).await {
            cell.state.lock().retry_at = Some(self.clock.now().plus(JOINED_LOOK));
            return Ok(());
        }
        self.due_at_boot.lock().remove(&cell.id);
        match self.try_start(cell, container).await {
            Ok(warnings) => {
                cell.state.lock().told_up = false;
                if !warnings.is_empty() {
                    tracing::info!(container = %cell.id, ?warnings, "started with less than was asked for");
                }
                self.record_running(cell, answers, restart, false).await?;
                if let Err(error) = self.tell_linked(container).await {
                    tracing::warn!(container = %cell.id, error = chain(&error), "those that link to it may not find it");
                }
                Ok(())
            }
            Err(error) => {
                let told = {
                    let mut state = cell.state.lock();
                    state.joiners.clear();
                    std::mem::take(&mut state.told_up)
                };
                if told {
                    self.tell_down(container).await;
                }
                if let Err(left) = self.clean(cell).await {
                    tracing::warn!(container = %cell.id, error = chain(&left), "a failed start left something");
                }
                let (message, code) = failure(&error);
                self.events.count(weft_model::EventKind::Container, "start_failed");
                tracing::info!(container = %cell.id, error = message, "it could not be started");
                self.write_status(cell, false, |status| {
                    status.error.clone_from(&message);
                    status.start_failure = code;
                    status.exit = exit_of_failed(status.exit, code);
                    status.answered = answers.unwrap_or(status.answered);
                    status.runs += 1;
                    if status.state == RunState::Restarting {
                        status.state = RunState::Exited;
                    }
                })
                .await
                .map(drop)
            }
        }
    }

    async fn try_start(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        container: &Arc<Container>,
    ) -> Result<Vec<String>> {
        crate::cgroup::expect_move();
        let spec = &container.spec;
        let id = spec.id;
        let gate = async { self.gate.ready(id).await.map_err(EngineError::Conflict) };
        let (netns, mut facts) = tokio::try_join!(gate, self.mounted_facts(container))?;
        facts.netns = netns;
        self.tell_up(container).await;
        cell.state.lock().told_up = true;
        self.name_files(container, &mut facts).await?;
        check_sources(&facts)?;
        let built = oci::bundle(spec, &facts)?;
        let live = self.live(id);
        let config = live.join("config.json");
        std::fs::write(
            &config,
            serde_json::to_vec(&built.spec).map_err(|e| EngineError::Internal(e.to_string()))?,
        )
        .map_err(EngineError::io(format!("writing {}", config.display())))?;
        let shim = Shim::spawn(&self.config.launcher, &live, &self.shim_spec(container)?).await?;
        {
            let mut state = cell.state.lock();
            state.life = Life::Held { shim: shim.clone(), unstarted: true, paused: false };
            state.ooms_told = 0;
            state.stopping = None;
            state.retry_at = None;
        }
        cell.logging.send_replace(true);
        self.join_clients(cell, &shim).await;
        let let_go = shim.start().await;
        if let Err(error) = let_go {
            let _ = shim.kill(libc::SIGKILL, true).await;
            let _ = tokio::time::timeout(std::time::Duration::from_secs(10), shim.wait()).await;
            let mut state = cell.state.lock();
            state.life = Life::None;
            state.residue = true;
            cell.logging.send_replace(false);
            return Err(error.into());
        }
        if let Life::Held { unstarted, .. } = &mut cell.state.lock().life {
            *unstarted = false;
        }
        Ok(built.warnings)
    }

    /// Clients that came before the start get the process's streams before it runs.
    async fn join_clients(&self, cell: &Cell, shim: &Shim) {
        let joiners = std::mem::take(&mut cell.state.lock().joiners);
        for joiner in joiners.into_iter().filter(|j| !j.answer.is_closed()) {
            let stream = shim.attach(joiner.attach).await;
            let _ = joiner.answer.send(stream.map_err(EngineError::from));
        }
    }

    /// Mounts what has to be mounted and looks up what lies in the mounted tree.
    async fn mounted_facts(self: &Arc<Self>, container: &Arc<Container>) -> Result<BundleFacts> {
        let spec = &container.spec;
        let id = spec.id;
        let joined = self.joined(container).await?;
        let mounts = self.all_mounts(spec).await?;
        let mut held = Vec::new();
        for mount in &mounts {
            if let weft_model::MountKind::Volume { name, .. } = &mount.kind {
                held.push((name.clone(), self.volumes.hold(name, id).await?));
            }
        }
        let views = self.image_layers(&mounts).await?;
        let (me, container) = (Arc::clone(self), Arc::clone(container));
        blocking(move || {
            let spec = &container.spec;
            let live = me.live(id);
            make_dir(&live)?;
            make_dir(&me.durable(id))?;
            let rootfs = me.images.snapshots().mount(&id)?;
            let userns = me.config.userns_remap.clone().filter(|_| spec.remappable());
            let root = userns.as_ref().map_or((0, 0), oci::UserNamespace::root);
            make_working_dir(&rootfs, &spec.process.working_dir, root)?;
            let user = oci::user::resolve(&rootfs, &spec.process.user, &spec.process.groups)
                .map_err(oci::OciError::from)?;
            let mut facts = BundleFacts::new(rootfs, user, me.host.clone(), me.cgroup(&container));
            facts.mounts = me.sources(&live, &mounts, &held, views)?;
            facts.devices = oci::devices::gather(spec)?;
            facts.shm_size = me.config.shm_size;
            facts.default_ulimits.clone_from(&me.config.default_ulimits);
            facts.userns = userns;
            facts.init.clone_from(&me.config.init_path);
            facts.init_by_default = me.config.init_by_default;
            facts.no_new_privileges = me.config.no_new_privileges;
            facts.pid_of = joined.pid_of;
            facts.ipc_of = joined.ipc_of;
            facts.net_of = joined.net_of;
            facts.shm = match spec.confine.ipc {
                IpcMode::Shareable => Some(me.own_shm(&container)?),
                IpcMode::Host => Some("/dev/shm".into()),
                IpcMode::Container(_) => joined.shm,
                IpcMode::Private | IpcMode::None => None,
            };
            Ok(facts)
        })
        .await
    }

    /// Pids of the containers whose namespaces are joined.
    async fn joined(&self, container: &Container) -> Result<Joined> {
        let spec = &container.spec;
        let mut joined = Joined::default();
        if let Namespace::Container(other) = spec.confine.pid {
            joined.pid_of = Some(self.pid_of(other, "PID").await?);
        }
        if let NetworkMode::Container(other) = spec.network {
            joined.net_of = Some(self.pid_of(other, "network").await?);
        }
        if let IpcMode::Container(other) = spec.confine.ipc {
            joined.ipc_of = Some(self.pid_of(other, "IPC").await?);
            let shm = self.live(other).join("shm");
            if !weft_sys::mount::is_mount_point(&shm) {
                let text = format!(
                    "cannot join IPC of container {other}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
                );
                return Err(EngineError::Conflict(text));
            }
            joined.shm = Some(shm);
        }
        Ok(joined)
    }

    /// A container whose namespaces it joins is not up yet, and will be: after a crash of the machine all of them come back at
    /// the same time, in no order.
    pub(crate) async fn waits_for_joined(&self, container: &Container) -> bool {
        for other in container.spec.joins() {
            if self.known_cell(other).is_some_and(|cell| cell.shim().is_some()) {
                continue;
            }
            let due = self.due_at_boot.lock().contains(&other);
            if self.container(other).await.is_ok_and(|c| on_its_way(&c, due)) {
                return true;
            }
        }
        false
    }

    async fn pid_of(&self, other: ContainerId, what: &str) -> Result<u32> {
        let found = self.container(other).await;
        let not =
            |is: &str| EngineError::Conflict(format!("cannot join {what} of a {is} container: {other}"));
        match found {
            Ok(c) if c.status.state == RunState::Restarting => Err(not("restarting")),
            Ok(c) if c.status.state.is_alive() && c.status.pid != 0 => Ok(c.status.pid),
            Ok(_) => Err(not("non running")),
            Err(e) => Err(e),
        }
    }

    /// The shared memory of a container that others may join.
    fn own_shm(&self, container: &Container) -> Result<PathBuf> {
        let at = self.live(container.spec.id).join("shm");
        make_dir(&at)?;
        if !weft_sys::mount::is_mount_point(&at) {
            let wanted = [container.spec.resources.shm_size, self.config.shm_size, 64 << 20];
            let size = wanted.into_iter().find(|s| *s > 0).unwrap_or(64 << 20);
            let flags = nix::mount::MsFlags::MS_NOSUID
                | nix::mount::MsFlags::MS_NODEV
                | nix::mount::MsFlags::MS_NOEXEC;
            let data = format!("mode=1777,size={size}");
            nix::mount::mount(Some("shm"), &at, Some("tmpfs"), flags, Some(data.as_str()))
                .map_err(|e| EngineError::io(format!("mounting {}", at.display()))(e.into()))?;
        }
        Ok(at)
    }

    fn shim_spec(&self, container: &Container) -> Result<ShimSpec> {
        let spec = &container.spec;
        let live = self.live(spec.id);
        let logged = spec.log.driver != "none";
        let facts = LogFacts {
            id: spec.id.to_string(),
            name: spec.name.to_string(),
            image: spec.image.reference.clone(),
            image_id: spec.image.id.to_string(),
            daemon: self.config.name.clone(),
            hostname: spec.hostname.clone(),
            labels: container.meta.labels.clone(),
            env: spec.process.env.clone(),
        };
        Ok(ShimSpec {
            id: spec.id.to_string(),
            bundle: live.clone(),
            runtime: self.runtime(&spec.runtime)?,
            state_root: self.config.run.join("runtime"),
            cgroup: self.cgroup(container),
            tty: spec.process.tty,
            stdin: spec.process.open_stdin,
            stdin_once: spec.process.stdin_once,
            console_size: spec.process.console_size.map(|(height, width)| ConsoleSize { height, width }),
            log: logged.then(|| Log { config: spec.log.clone(), dir: self.durable(spec.id), facts }),
            seccomp_cache: Some(self.config.run.join("seccomp")),
        })
    }

    /// The runtime of that name.
    pub(crate) fn runtime(&self, name: &str) -> Result<Runtime> {
        let name = if name.is_empty() { &self.config.default_runtime } else { name };
        match self.config.runtimes.get(name) {
            Some(runtime) => Ok(runtime.clone()),
            None if name.is_empty() => Ok(Runtime::Builtin),
            None => Err(EngineError::Invalid(format!("unknown or invalid runtime name: {name}"))),
        }
    }

    /// The record is gone: what may still stand behind it goes too.
    pub(crate) async fn abandon(&self, cell: &Cell) {
        let life = std::mem::take(&mut cell.state.lock().life);
        if let Life::Held { shim, .. } = life {
            let _ = shim.kill(libc::SIGKILL, true).await;
            let _ = tokio::time::timeout(std::time::Duration::from_secs(10), shim.wait()).await;
        }
        self.end_health(cell);
        if let Err(error) = self.take_down(cell.id).await {
            tracing::warn!(container = %cell.id, error = chain(&error), "something is left of it");
        }
    }

    /// Takes away mounts and files of a run that is over.
    pub(crate) async fn clean(&self, cell: &Cell) -> Result<()> {
        self.clean_up(cell.id).await?;
        cell.state.lock().residue = false;
        Ok(())
    }

    /// Everything of this boot that belongs to a container that does not run.
    pub(crate) async fn clean_up(&self, id: ContainerId) -> Result<()> {
        let (live, snapshots) = (self.live(id), self.images.snapshots().clone());
        // What the runtime noted of it; a helper that outlived its shim may have written it last.
        let noted = self.config.run.join("runtime").join(id.to_string());
        let cgroup = match self.container(id).await {
            Ok(container) => self.cgroup(&container),
            // Without a record the parent it had is not known; most have the default's.
            Err(EngineError::NotFound(_)) => crate::cgroup::path_of(&self.config.cgroup_parent, id),
            Err(error) => return Err(error),
        };
        blocking(move || {
            // The shim does this; but it may have been killed, and then the processes hold the mounts, too.
            if let Err(error) = crate::shim::cgroup::clear(&cgroup) {
                tracing::warn!(%error, cgroup, "the cgroup cannot be removed");
            }
            for at in mounts_below(&live) {
                weft_sys::mount::unmount(&at).map_err(|e| EngineError::Internal(chain(&e)))?;
            }
            snapshots.unmount(&id)?;
            volumes::remove_tree(&live)?;
            volumes::remove_tree(&noted)
        })
        .await?;
        self.volumes.release(id).await
    }
}

fn make_working_dir(rootfs: &std::path::Path, dir: &str, owner: (u32, u32)) -> Result<()> {
    // By its words first, then by its links, as Docker does.
    match volumes::make_inside(rootfs, &oci::clean(dir), owner) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => {
            Err(EngineError::Invalid(format!("Cannot mkdir: {dir} is not a directory")))
        }
        Err(e) => Err(EngineError::io(format!("making the working directory {dir}"))(e)),
    }
}

/// What cannot pass mount events on, or take them, cannot be the source of a shared or slave mount.
fn check_sources(facts: &BundleFacts) -> Result<()> {
    use weft_model::Propagation::{Private, RPrivate};
    if facts.mounts.iter().all(|m| matches!(m.propagation, Private | RPrivate)) {
        return Ok(());
    }
    let info =
        std::fs::read_to_string("/proc/self/mountinfo").map_err(EngineError::io("reading mountinfo"))?;
    Ok(oci::check_propagation(&facts.mounts, &info)?)
}

/// Places where we mount things for one container.
fn mounts_below(live: &std::path::Path) -> Vec<PathBuf> {
    let mut found = vec![live.join("shm")];
    for entry in std::fs::read_dir(live.join("mounts")).into_iter().flatten().flatten() {
        found.push(entry.path());
    }
    found.retain(|at| weft_sys::mount::is_mount_point(at));
    found
}

/// What the last run ended with stays, unless it is known why this one did not begin (moby `daemon/start.go`).
pub(crate) fn exit_of_failed(last: ExitStatus, code: i64) -> ExitStatus {
    let code = if code == NOT_STARTED && last.code != 0 { last.code } else { code };
    ExitStatus { code, oom_killed: false }
}

/// What Docker adds where a file and a directory met.
const MOUNT_HINT: &str = ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path \
                          exists and is the expected type";

/// What people are told of a failed start, and the code `docker run` exits with (moby `daemon/errors.go`).
fn failure(error: &EngineError) -> (String, i64) {
    match error {
        EngineError::Shim(ShimError::Log(text)) => {
            (format!("failed to create task for container: {text}"), NOT_STARTED)
        }
        EngineError::Shim(inner) => {
            let text = format!(
                "failed to create task for container: failed to create shim task: OCI runtime create failed: {}: unknown",
                chain(inner)
            );
            let code = match inner {
                ShimError::NotFound(_) => 127,
                ShimError::NotExecutable(_) => 126,
                _ if text.contains("not a directory") => {
                    return (text + MOUNT_HINT, 127);
                }
                _ => NOT_STARTED,
            };
            (text, code)
        }
        other => (chain(other), NOT_STARTED),
    }
}
