//! The daemon's side of a shim: start one, find one again, ask it things, wait for its end.
//!
//! A [`Shim`] is one control connection with a task that reads it. Answers come in the order of the questions; events
//! go into a watch that any number of waiters can look at. When the connection ends without an exit event, the exit
//! file decides; without one the shim was killed, and that is said.

use std::{
    fs, io,
    os::{fd::AsRawFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use serde::Serialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Mutex, mpsc, oneshot, watch},
};
use weft_sys::process::{ProcessId, ProtectedExe};

use super::{
    types::{self, ConsoleSize, ExecSpec, Exit, Fault, ShimSpec},
    wire::{self, Attach, Event, Message, Reply, Request, State},
};

/// What can go wrong between the daemon and a shim.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ShimError {
    /// The program is not there (127).
    #[error("{0}")]
    NotFound(String),
    /// The program cannot be executed (126).
    #[error("{0}")]
    NotExecutable(String),
    /// The request does not fit the state.
    #[error("{0}")]
    State(String),
    /// The log could not be opened (125).
    #[error("{0}")]
    Log(String),
    /// The runtime refused or failed (125).
    #[error("{0}")]
    Other(String),
    /// The shim ended without leaving an exit status: somebody killed it.
    #[error("the shim in {0} is gone and left no exit status")]
    Lost(PathBuf),
    /// Talking to the shim, or starting it, failed.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        #[source]
        source: Arc<io::Error>,
    },
}

impl ShimError {
    fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source: Arc::new(source) }
    }

    /// The exit code that `docker run` has for it.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::NotFound(_) => 127,
            Self::NotExecutable(_) => 126,
            _ => 125,
        }
    }
}

impl From<Fault> for ShimError {
    fn from(fault: Fault) -> Self {
        match fault.kind {
            types::FaultKind::NotFound => Self::NotFound(fault.message),
            types::FaultKind::NotExecutable => Self::NotExecutable(fault.message),
            types::FaultKind::State => Self::State(fault.message),
            types::FaultKind::Log => Self::Log(fault.message),
            types::FaultKind::Other => Self::Other(fault.message),
        }
    }
}

/// How shims are started: which program, with which arguments before `container|exec DIR`. One for the daemon's life.
#[derive(Clone, Debug)]
pub struct Launcher {
    exe: Arc<ProtectedExe>,
    args: Vec<String>,
}

impl Launcher {
    /// The running program, protected against being overwritten through a container's `/proc/self/exe`; `args` is
    /// what leads it to [`super::main`] (`["shim"]`).
    ///
    /// # Errors
    /// When the program cannot be protected.
    pub fn of_self(args: &[&str]) -> io::Result<Self> {
        let args = args.iter().map(|a| (*a).to_owned()).collect();
        Ok(Self { exe: Arc::new(ProtectedExe::of_self()?), args })
    }

    /// Any program, protected in the same way.
    ///
    /// # Errors
    /// When the program cannot be opened or protected.
    pub fn of_program(path: &Path, args: &[&str]) -> io::Result<Self> {
        let args = args.iter().map(|a| (*a).to_owned()).collect();
        Ok(Self { exe: Arc::new(ProtectedExe::of_file(path)?), args })
    }

    fn launch(&self, kind: &str, dir: &Path) -> Result<UnixStream, ShimError> {
        let doing = || format!("starting a shim in {}", dir.display());
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(ShimError::io(doing()))?;
        ours.set_nonblocking(true).map_err(ShimError::io(doing()))?;
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(dir.join(types::SHIM_LOG_FILE))
            .map_err(ShimError::io(doing()))?;
        let mut command = std::process::Command::new(self.exe.path());
        command
            .arg0("weft-shim")
            .args(&self.args)
            .arg(kind)
            .arg(dir)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::from(log));
        let mut child = tokio::process::Command::from(command).spawn().map_err(ShimError::io(doing()))?;
        // Only so that no zombie stays while we live; its end is learned by other means.
        tokio::spawn(async move { child.wait().await });
        UnixStream::from_std(ours).map_err(ShimError::io(doing()))
    }
}

/// What is known without asking.
#[derive(Clone, Debug, Default)]
struct News {
    created: Option<Option<ProcessId>>,
    ooms: u64,
    end: Option<Result<Exit, ShimError>>,
}

struct Inner {
    dir: PathBuf,
    writer: Mutex<OwnedWriteHalf>,
    questions: mpsc::UnboundedSender<oneshot::Sender<Reply>>,
    news: watch::Receiver<News>,
}

/// A container's shim, or an exec's.
#[derive(Clone)]
pub struct Shim {
    inner: Arc<Inner>,
}

/// A process started by `exec` has the same handle as a container's first one.
pub type ExecHandle = Shim;

impl Shim {
    /// Starts a shim for a container and returns when the container is created and waits for [`Shim::start`]. `dir` must
    /// exist and be this container's alone; what an earlier shim left there is replaced.
    ///
    /// # Errors
    /// The runtime's refusal with its kind; nothing is left then but files in `dir`.
    pub async fn spawn(launcher: &Launcher, dir: &Path, spec: &ShimSpec) -> Result<Self, ShimError> {
        Self::spawn_kind(launcher, "container", dir, spec).await
    }

    /// Starts a shim for a further process in a container. The process itself begins with [`Shim::start`], so that streams
    /// can be attached before.
    ///
    /// # Errors
    /// When the container's shim directory does not say that it is created.
    pub async fn exec(launcher: &Launcher, dir: &Path, spec: &ExecSpec) -> Result<ExecHandle, ShimError> {
        Self::spawn_kind(launcher, "exec", dir, spec).await
    }

    async fn spawn_kind<T: Serialize>(
        launcher: &Launcher,
        kind: &str,
        dir: &Path,
        spec: &T,
    ) -> Result<Self, ShimError> {
        prepare_dir(dir, spec).map_err(ShimError::io(format!("preparing {}", dir.display())))?;
        let stream = launcher.launch(kind, dir)?;
        let shim = Self::over(dir, stream);
        let mut news = shim.inner.news.clone();
        let seen = news.wait_for(|n| n.created.is_some() || n.end.is_some()).await;
        match seen.map(|n| n.end.clone()) {
            Ok(Some(Err(error))) => Err(error),
            Ok(_) => Ok(shim),
            Err(_) => Err(ShimError::Lost(dir.to_owned())),
        }
    }

    /// Finds a shim that another daemon started. `None` when there never was one or it has ended (see
    /// [`last_exit`]).
    ///
    /// # Errors
    /// When it is alive but cannot be reached.
    pub async fn adopt(dir: &Path) -> Result<Option<Self>, ShimError> {
        let Ok(id) = types::read_json::<ProcessId>(&dir.join(types::PID_FILE)) else { return Ok(None) };
        if !id.is_alive() {
            return Ok(None);
        }
        match connect(dir).await {
            Ok(stream) => Ok(Some(Self::over(dir, stream))),
            // It may be just about to end: then it has taken its socket away.
            Err(_) if wait_gone(id).await => Ok(None),
            Err(e) => Err(ShimError::io(format!("connecting to the shim in {}", dir.display()))(e)),
        }
    }

    fn over(dir: &Path, stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        let (questions, waiting) = mpsc::unbounded_channel();
        let (news_in, news) = watch::channel(News::default());
        tokio::spawn(listen(dir.to_owned(), reader, waiting, news_in));
        let inner = Inner { dir: dir.to_owned(), writer: Mutex::new(writer), questions, news };
        Self { inner: Arc::new(inner) }
    }

    /// The shim's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    async fn ask(&self, request: Request) -> Result<Reply, ShimError> {
        let gone = || ShimError::State("the process has ended".to_owned());
        let mut frame = Vec::new();
        wire::encode(&request, &mut frame);
        let (answer, reply) = oneshot::channel();
        {
            let mut writer = self.inner.writer.lock().await;
            // The order of waiting answers is the order of questions, so both are done under one lock; a question
            // whose asker is dropped in between still takes its answer out of the queue.
            self.inner.questions.send(answer).map_err(|_| gone())?;
            writer.write_all(&frame).await.map_err(|_| gone())?;
        }
        match reply.await.map_err(|_| gone())? {
            Reply::Fault(fault) => Err(fault.into()),
            other => Ok(other),
        }
    }

    /// Runs the created process; returns when its program has taken over, with its process id.
    ///
    /// # Errors
    /// `NotFound`, `NotExecutable` when the program is not there or cannot run; the shim ends then.
    pub async fn start(&self) -> Result<Option<ProcessId>, ShimError> {
        match self.ask(Request::Start).await? {
            Reply::Started(id) => Ok(id),
            _ => Ok(None),
        }
    }

    /// Sends a signal (1 to 64) to the first process, or, with `all`, to every process of the container.
    ///
    /// # Errors
    /// `State` when it does not run.
    pub async fn kill(&self, signal: i32, all: bool) -> Result<(), ShimError> {
        self.ask(Request::Kill { signal, all }).await.map(drop)
    }

    /// Stops all processes where they are.
    ///
    /// # Errors
    /// `State` when it does not run or is paused.
    pub async fn pause(&self) -> Result<(), ShimError> {
        self.ask(Request::Pause).await.map(drop)
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// `State` when it is not paused.
    pub async fn resume(&self) -> Result<(), ShimError> {
        self.ask(Request::Resume).await.map(drop)
    }

    /// Sets the terminal's size; before there is one, the size it will have.
    ///
    /// # Errors
    /// `State` without a terminal.
    pub async fn resize(&self, size: ConsoleSize) -> Result<(), ShimError> {
        self.ask(Request::Resize(size)).await.map(drop)
    }

    /// Closes standard input after all that was given.
    ///
    /// # Errors
    /// When the shim is gone.
    pub async fn close_stdin(&self) -> Result<(), ShimError> {
        self.ask(Request::CloseStdin).await.map(drop)
    }

    /// Changes limits: an OCI `LinuxResources` object; what it does not name stays.
    ///
    /// # Errors
    /// `Other` with the kernel's refusal.
    pub async fn update(&self, resources: serde_json::Value) -> Result<(), ShimError> {
        self.ask(Request::Update(resources)).await.map(drop)
    }

    /// What the shim knows.
    ///
    /// # Errors
    /// When the shim is gone.
    pub async fn state(&self) -> Result<State, ShimError> {
        match self.ask(Request::State).await? {
            Reply::State(state) => Ok(state),
            other => Err(ShimError::Other(format!("unexpected answer {other:?}"))),
        }
    }

    /// A stream of output and input: bytes to read are Docker's stdcopy frames, or raw with a terminal; bytes written are
    /// input, and shutting writing down ends it. What is attached before [`Shim::start`] misses nothing.
    ///
    /// # Errors
    /// When the shim is gone.
    pub async fn attach(&self, attach: Attach) -> Result<UnixStream, ShimError> {
        let failed = || ShimError::io(format!("attaching to the shim in {}", self.inner.dir.display()));
        let mut stream = connect(&self.inner.dir).await.map_err(failed())?;
        let mut frame = Vec::new();
        wire::encode(&Request::Attach(attach), &mut frame);
        stream.write_all(&frame).await.map_err(failed())?;
        loop {
            // Exactly one frame is read, so that the output behind it stays in the socket.
            let mut length = [0; 4];
            stream.read_exact(&mut length).await.map_err(failed())?;
            let mut whole = length.to_vec();
            let size = (u32::from_be_bytes(length) as usize).min(wire::MAX_FRAME);
            whole.resize(4 + size, 0);
            stream.read_exact(&mut whole[4..]).await.map_err(failed())?;
            match wire::decode(&mut whole) {
                Ok(Some(Message::Reply(Reply::Done))) => return Ok(stream),
                Ok(Some(Message::Reply(Reply::Fault(fault)))) => return Err(fault.into()),
                Ok(Some(Message::Event(_))) => {}
                _ => return Err(failed()(io::Error::from(io::ErrorKind::InvalidData))),
            }
        }
    }

    /// Waits for the end. May be dropped and called again, by any number of waiters.
    ///
    /// # Errors
    /// `Lost` when the shim was killed; the fault when the process never ran.
    pub async fn wait(&self) -> Result<Exit, ShimError> {
        let mut news = self.inner.news.clone();
        match news.wait_for(|n| n.end.is_some()).await.map(|n| n.end.clone()) {
            Ok(Some(end)) => end,
            _ => Err(ShimError::Lost(self.inner.dir.clone())),
        }
    }

    /// How often it was told, since this handle exists, that the kernel killed processes for lack of memory.
    #[must_use]
    pub fn ooms(&self) -> u64 {
        self.inner.news.borrow().ooms
    }

    /// Waits until it was told so more than `known` times; pending for ever when the container ends without.
    pub async fn oom_after(&self, known: u64) {
        let mut news = self.inner.news.clone();
        if news.wait_for(|n| n.ooms > known).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The first process, when the shim has told it.
    #[must_use]
    pub fn init(&self) -> Option<ProcessId> {
        self.inner.news.borrow().created.flatten()
    }
}

/// How the process of an ended shim ended; `None` when there is no record.
#[must_use]
pub fn last_exit(dir: &Path) -> Option<Exit> {
    types::read_json(&dir.join(types::EXIT_FILE)).ok()
}

/// The process of the shim that was last started in `dir`.
pub(crate) fn last_pid(dir: &Path) -> Option<i32> {
    types::read_json::<ProcessId>(&dir.join(types::PID_FILE)).ok().map(|id| id.pid)
}

fn prepare_dir<T: Serialize>(dir: &Path, spec: &T) -> io::Result<()> {
    for old in [types::EXIT_FILE, types::CREATED_FILE, types::PID_FILE, types::SOCKET_FILE] {
        match fs::remove_file(dir.join(old)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    types::write_json(&dir.join(types::SPEC_FILE), spec)
}

/// Connects by way of a descriptor of the directory: its path may be longer than a socket address holds.
async fn connect(dir: &Path) -> io::Result<UnixStream> {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let dir = rustix::fs::open(dir, flags, rustix::fs::Mode::empty())?;
    UnixStream::connect(format!("/proc/self/fd/{}/{}", dir.as_raw_fd(), types::SOCKET_FILE)).await
}

async fn wait_gone(id: ProcessId) -> bool {
    for _ in 0..100 {
        if !id.is_alive() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

async fn listen(
    dir: PathBuf,
    mut reader: OwnedReadHalf,
    mut waiting: mpsc::UnboundedReceiver<oneshot::Sender<Reply>>,
    news: watch::Sender<News>,
) {
    let mut buffer = Vec::new();
    while let Ok(1..) = reader.read_buf(&mut buffer).await {
        loop {
            match wire::decode(&mut buffer) {
                Ok(Some(Message::Reply(reply))) => {
                    if let Some(asker) = waiting.recv().await {
                        let _ = asker.send(reply);
                    }
                }
                Ok(Some(Message::Event(event))) => {
                    news.send_modify(|n| match event {
                        Event::Created(id) => n.created = Some(id),
                        Event::Oom => n.ooms += 1,
                        Event::Failed(fault) => n.end = Some(Err(fault.into())),
                        Event::Exited(exit) => n.end = Some(Ok(exit)),
                    });
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, dir = %dir.display(), "a shim does not speak our language");
                    waiting.close();
                    return;
                }
            }
        }
    }
    waiting.close();
    if news.borrow().end.is_none() {
        let end = last_exit(&dir).ok_or(ShimError::Lost(dir));
        news.send_modify(|n| n.end = Some(end));
    }
}
