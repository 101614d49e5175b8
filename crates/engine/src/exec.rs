//! Further processes in running containers.
//!
//! An exec is a value in memory until it is started; then it has a shim of its own, whose directory
//! `RUN/containers/<id>/exec/<exec id>` also says what it is, so that a new daemon finds it again. Ended ones are forgotten
//! after a while, or with their container.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::net::UnixStream;
use weft_base::{Timestamp, chain};
use weft_model::{Container, ContainerId, ExecId, ExecSpec, RunState};

use crate::{
    Engine, EngineError, Result,
    attach::{Attachment, keys},
    engine::{Inner, make_dir},
    error::blocking,
    oci::{self, BundleFacts},
    shim::{self, Attach, ConsoleSize, Shim, ShimError},
    types::{ExecStart, ExecView},
};

/// What says which exec a directory belongs to.
const RECORD: &str = "exec.json";
/// Ended execs can be asked about so long (moby: five minutes).
const KEPT: Duration = Duration::from_mins(5);

/// One exec.
pub(crate) struct ExecCell {
    pub spec: ExecSpec,
    pub state: Mutex<ExecState>,
    /// True once its exit code is written down.
    pub over: tokio::sync::watch::Sender<bool>,
}

#[derive(Default)]
pub(crate) struct ExecState {
    pub started: bool,
    pub failed: bool,
    pub shim: Option<Shim>,
    pub pid: u32,
    pub code: Option<i64>,
    pub ended: Option<Timestamp>,
    pub size: Option<(u16, u16)>,
}

impl ExecCell {
    fn new(spec: ExecSpec) -> Self {
        let size = spec.console_size;
        let over = tokio::sync::watch::channel(false).0;
        Self { spec, state: Mutex::new(ExecState { size, ..ExecState::default() }), over }
    }

    fn running(&self) -> bool {
        let state = self.state.lock();
        state.started && state.code.is_none()
    }
}

impl Engine {
    /// Remembers an exec that is to be started.
    ///
    /// # Errors
    /// `NotRunning`, `Paused`; `Invalid` for unknown detach keys.
    pub async fn exec_create(&self, spec: ExecSpec) -> Result<()> {
        self.0.exec_ready(spec.container).await?;
        keys(Some(&spec.detach_keys))?;
        let container = self.0.container(spec.container).await?;
        tell(&self.0, &container, &spec, "exec_create");
        self.0.execs.lock().insert(spec.id, Arc::new(ExecCell::new(spec)));
        Ok(())
    }

    /// Starts an exec: at once and alone with `detach`, otherwise when the returned attachment is run.
    ///
    /// # Errors
    /// `NoExec`, `NotRunning`, `Paused`; `Conflict` when it was started before; with `detach` also `StartFailed`.
    pub async fn exec_start(&self, id: ExecId, how: &ExecStart) -> Result<Option<Attachment>> {
        let exec = self.0.exec(id)?;
        self.0.exec_ready(exec.spec.container).await?;
        let container = self.0.container(exec.spec.container).await?;
        {
            let mut state = exec.state.lock();
            if state.code.is_some() {
                return Err(EngineError::Conflict(format!("exec command {id} has already run")));
            }
            if state.started {
                return Err(EngineError::Conflict(format!("exec command {id} is already running")));
            }
            state.started = true;
            state.size = how.console_size.or(state.size);
        }
        if how.detach {
            start(&self.0, &exec, false).await?;
            return Ok(None);
        }
        let keys = keys(Some(&exec.spec.detach_keys))?;
        Ok(Some(Attachment::of_exec(self.clone(), container, exec, keys)))
    }

    /// An exec as it is.
    ///
    /// # Errors
    /// `NoExec`.
    pub fn exec_inspect(&self, id: ExecId) -> Result<ExecView> {
        let exec = self.0.exec(id)?;
        let running = exec.running();
        let state = exec.state.lock();
        let (exit_code, pid, failed) = (state.code, state.pid, state.failed);
        Ok(ExecView { spec: exec.spec.clone(), running, exit_code, pid, failed })
    }

    /// Sets the size of an exec's terminal.
    ///
    /// # Errors
    /// `NoExec`; `Conflict` when it does not run.
    pub async fn exec_resize(&self, id: ExecId, rows: u16, columns: u16) -> Result<()> {
        let exec = self.0.exec(id)?;
        let shim = exec.state.lock().shim.clone();
        let shim = shim.ok_or_else(|| EngineError::Conflict(format!("exec {id} is not running")))?;
        if !exec.spec.tty {
            return Ok(());
        }
        Ok(shim.resize(ConsoleSize { height: rows, width: columns }).await?)
    }

    /// The execs of a container that are not over.
    #[must_use]
    pub fn execs(&self, container: ContainerId) -> Vec<ExecId> {
        let execs = self.0.execs.lock();
        let live = |e: &&Arc<ExecCell>| e.spec.container == container && e.state.lock().code.is_none();
        execs.values().filter(live).map(|e| e.spec.id).collect()
    }

    /// Finds an exec by the text of its id.
    ///
    /// # Errors
    /// `Missing` with Docker's text.
    pub fn exec_find(&self, id: &str) -> Result<ExecId> {
        let found = id.parse().ok().filter(|id| self.0.execs.lock().contains_key(id));
        found.ok_or_else(|| EngineError::Missing(format!("No such exec instance: {id}")))
    }
}

impl Inner {
    fn exec(&self, id: ExecId) -> Result<Arc<ExecCell>> {
        self.execs.lock().get(&id).cloned().ok_or(EngineError::NoExec(id))
    }

    async fn exec_ready(&self, id: ContainerId) -> Result<()> {
        let container = self.container(id).await?;
        match container.status.state {
            RunState::Running => Ok(()),
            RunState::Paused => Err(EngineError::Paused(id)),
            RunState::Restarting => {
                let text = format!("Container {id} is restarting, wait until the container is running");
                Err(EngineError::Conflict(text))
            }
            _ => Err(EngineError::NotRunning(id)),
        }
    }

    /// The OCI process of an exec.
    pub(crate) async fn exec_process(
        self: &Arc<Self>,
        container: &Arc<Container>,
        spec: &ExecSpec,
    ) -> Result<oci_spec::runtime::Process> {
        let (_, link_env) = self.links(container, true).await?;
        let (me, container, spec) = (Arc::clone(self), Arc::clone(container), spec.clone());
        blocking(move || {
            let written = if spec.user.is_empty() { &container.spec.process.user } else { &spec.user };
            let groups = if spec.user.is_empty() { &container.spec.process.groups[..] } else { &[] };
            let rootfs = me.rootfs(container.spec.id);
            let user = oci::user::resolve(&rootfs, written, groups).map_err(oci::OciError::from)?;
            let mut facts = BundleFacts::new(rootfs, user, me.host.clone(), me.cgroup(&container));
            facts.default_ulimits.clone_from(&me.config.default_ulimits);
            facts.link_env = link_env;
            facts.no_new_privileges = me.config.no_new_privileges;
            Ok(oci::exec_process(&container.spec, &spec, &facts)?)
        })
        .await
    }
}

/// Runs the process; with `attach`, answers its streams. Its end is looked after from here on.
pub(crate) async fn start(
    inner: &Arc<Inner>,
    exec: &Arc<ExecCell>,
    attach: bool,
) -> Result<Option<UnixStream>> {
    let container = inner.container(exec.spec.container).await?;
    let started = try_start(inner, &container, exec, attach).await;
    match started {
        Ok((shim, stream)) => {
            tell(inner, &container, &exec.spec, "exec_start");
            let pid = shim.init().and_then(|p| u32::try_from(p.pid).ok()).unwrap_or(0);
            {
                let mut state = exec.state.lock();
                state.pid = pid;
                state.shim = Some(shim.clone());
            }
            look_after(inner, &container, exec, shim);
            Ok(stream)
        }
        Err(error) => {
            // Its container ended while it was on its way: that is what people can understand.
            let gone = inner.container(exec.spec.container).await.is_ok_and(|c| !c.status.state.is_alive());
            let error = if gone { EngineError::NotRunning(exec.spec.container) } else { error };
            let (message, code) = failure(&error);
            exec.state.lock().failed = true;
            finish(inner, exec, code);
            Err(EngineError::StartFailed { message, code })
        }
    }
}

async fn try_start(
    inner: &Arc<Inner>,
    container: &Arc<Container>,
    exec: &Arc<ExecCell>,
    attach: bool,
) -> Result<(Shim, Option<UnixStream>)> {
    let spec = &exec.spec;
    let live = inner.live(spec.container);
    let dir = live.join("exec").join(spec.id.to_string());
    make_dir(&dir)?;
    shim::types::write_json(&dir.join(RECORD), spec)
        .map_err(EngineError::io(format!("writing into {}", dir.display())))?;
    let size = exec.state.lock().size;
    let wanted = shim::ExecSpec {
        id: spec.id.to_string(),
        container: live,
        process: inner.exec_process(container, spec).await?,
        tty: spec.tty,
        stdin: spec.attach.0,
        console_size: size.map(|(height, width)| ConsoleSize { height, width }),
    };
    let shim = Shim::exec(&inner.config.launcher, &dir, &wanted).await?;
    let stream = if attach {
        let (stdin, stdout, stderr) = spec.attach;
        Some(shim.attach(Attach { stdin, stdout, stderr }).await?)
    } else {
        None
    };
    let process = shim.start().await?;
    let pid = process.or(shim.init()).and_then(|p| u32::try_from(p.pid).ok());
    exec.state.lock().pid = pid.unwrap_or(0);
    Ok((shim, stream))
}

/// Waits for an exec's end and writes it down.
fn look_after(inner: &Arc<Inner>, container: &Arc<Container>, exec: &Arc<ExecCell>, shim: Shim) {
    let (me, container, exec) = (Arc::clone(inner), Arc::clone(container), Arc::clone(exec));
    inner.tasks.spawn(async move {
        let code = shim.wait().await.map_or(137, |exit| i64::from(exit.code));
        finish(&me, &exec, code);
        let facts = [("execID", exec.spec.id.to_string()), ("exitCode", code.to_string())];
        me.events.container(&container, "exec_die", facts);
    });
}

fn finish(inner: &Inner, exec: &ExecCell, code: i64) {
    {
        let mut state = exec.state.lock();
        state.code = Some(code);
        state.ended = Some(inner.clock.now());
        state.shim = None;
        state.pid = 0;
    }
    exec.over.send_replace(true);
    let dir = inner.live(exec.spec.container).join("exec").join(exec.spec.id.to_string());
    if let Err(error) = crate::volumes::remove_tree(&dir) {
        tracing::warn!(exec = %exec.spec.id, error = chain(&error), "its directory stays");
    }
}

fn tell(inner: &Inner, container: &Container, spec: &ExecSpec, what: &str) {
    // Docker writes the program, a space and the arguments, also where there are none.
    let (program, arguments) = spec.args.split_first().map_or(("", &[][..]), |(p, a)| (p.as_str(), a));
    let action = format!("{what}: {program} {}", arguments.join(" "));
    inner.events.container(container, action, [("execID", spec.id.to_string())]);
}

/// What people are told, and the exit code they find.
fn failure(error: &EngineError) -> (String, i64) {
    let text = |inner: &ShimError| format!("OCI runtime exec failed: exec failed: {}: unknown", chain(inner));
    match error {
        EngineError::Shim(inner @ ShimError::NotFound(_)) => (text(inner), 127),
        EngineError::Shim(inner) => (text(inner), 126),
        other => (chain(other), 126),
    }
}

/// Finds the execs that an earlier daemon started.
pub(crate) async fn adopt(inner: &Arc<Inner>, container: &Arc<Container>) {
    let dir = inner.live(container.spec.id).join("exec");
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(spec) = shim::types::read_json::<ExecSpec>(&entry.path().join(RECORD)) else { continue };
        let exec = Arc::new(ExecCell::new(spec));
        match Shim::adopt(&entry.path()).await {
            Ok(Some(shim)) => {
                let pid = match shim.state().await {
                    Ok(state) => state.init.and_then(|p| u32::try_from(p.pid).ok()).unwrap_or(0),
                    Err(_) => 0,
                };
                {
                    let mut state = exec.state.lock();
                    (state.started, state.pid, state.shim) = (true, pid, Some(shim.clone()));
                }
                inner.execs.lock().insert(exec.spec.id, Arc::clone(&exec));
                look_after(inner, container, &exec, shim);
            }
            Ok(None) => {
                let code = shim::client::last_exit(&entry.path()).map_or(137, |exit| i64::from(exit.code));
                exec.state.lock().started = true;
                finish(inner, &exec, code);
                inner.execs.lock().insert(exec.spec.id, exec);
            }
            Err(error) => tracing::warn!(exec = %exec.spec.id, error = chain(&error), "it cannot be reached"),
        }
    }
}

/// Forgets execs that are over, now and then.
pub(crate) fn collect_garbage(inner: &Arc<Inner>) {
    let weak = Arc::downgrade(inner);
    inner.tasks.spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_mins(1)).await;
            let Some(inner) = weak.upgrade() else { return };
            let now = inner.clock.now();
            let alive = |id: &ContainerId| inner.known_cell(*id).is_some_and(|c| c.shim().is_some());
            inner.execs.lock().retain(|_, exec| {
                let state = exec.state.lock();
                match state.ended {
                    Some(at) => now.since(at) < KEPT,
                    None => state.started || alive(&exec.spec.container),
                }
            });
        }
    });
}
