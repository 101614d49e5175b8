//! The subject in a sandbox: the real `dockerd`, or `weft up`.
//!
//! Both are started with paths of the sandbox only, are told ready by their own word (dockerd by its
//! socket answering `/_ping`, Weft by the line `ready` on standard error), can be killed with -9 and
//! started again on the same data, and write their log beside their data.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::http::get_unix;
use crate::sandbox::{Sandbox, die_with_parent};

/// Longest wait for a daemon to say it is ready. dockerd with 20 containers to clean up takes 12 s here.
const READY: Duration = Duration::from_secs(60);

/// Which implementation is being judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Docker's own daemon from `PATH`.
    Dockerd,
    /// The binary named by `WEFT_BIN`, else the newest of `target/{release,debug}/weft`.
    Weft,
}

impl Subject {
    /// `dockerd` or `weft`.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "dockerd" | "docker" => Ok(Self::Dockerd),
            "weft" => Ok(Self::Weft),
            other => bail!("unknown subject {other:?}: say dockerd or weft"),
        }
    }

    /// The name that `parse` reads.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dockerd => "dockerd",
            Self::Weft => "weft",
        }
    }
}

/// What a daemon is told at its start.
#[derive(Clone, Debug, Default)]
pub struct DaemonOptions {
    /// URLs of registry mirrors of Docker Hub.
    pub mirrors: Vec<String>,
    /// Also listen for the Docker API on this `host:port` of the sandbox, without TLS.
    pub tcp: Option<String>,
    /// Members of `daemon.json`, read by both subjects.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// More arguments, given as they are.
    pub extra: Vec<String>,
}

/// A running daemon. Dropped before its sandbox, it is killed; the sandbox ends its containers.
#[derive(Debug)]
pub struct Daemon {
    subject: Subject,
    options: DaemonOptions,
    home: PathBuf,
    child: Option<Child>,
    pid: i32,
    took: Duration,
}

impl Daemon {
    /// Starts `subject` in `sandbox`, with its data in `DIR/NAME`, and waits until it is ready.
    pub fn start(sandbox: &Sandbox, subject: Subject, name: &str, options: DaemonOptions) -> Result<Self> {
        let home = sandbox.dir().join(name);
        std::fs::create_dir_all(&home)?;
        let mut daemon = Self { subject, options, home, child: None, pid: 0, took: Duration::ZERO };
        daemon.boot(sandbox)?;
        Ok(daemon)
    }

    /// Starts it again on the same data, after [`Daemon::kill9`] or [`Daemon::stop`].
    pub fn boot(&mut self, sandbox: &Sandbox) -> Result<()> {
        let stderr = File::options().create(true).append(true).open(self.log_path())?;
        let seen = stderr.metadata()?.len();
        let mut command = self.command(sandbox)?;
        command.stdin(Stdio::null()).stdout(stderr.try_clone()?).stderr(stderr);
        die_with_parent(&mut command);
        let begun = Instant::now();
        let child = command.spawn().with_context(|| format!("start {command:?}"))?;
        let nsenter = child.id();
        self.child = Some(child);
        self.wait_ready(begun, seen)?;
        self.took = begun.elapsed();
        // nsenter forks to enter the pid namespace; the daemon is its only child.
        let children = std::fs::read_to_string(format!("/proc/{nsenter}/task/{nsenter}/children"))?;
        let first = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
        self.pid = first.context("the daemon's process id")?;
        Ok(())
    }

    fn wait_ready(&mut self, begun: Instant, log_from: u64) -> Result<()> {
        let (log, socket) = (self.log_path(), self.socket());
        while begun.elapsed() < READY {
            if let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
                bail!("{} ended at once ({status}): {}", self.subject.name(), self.log_tail());
            }
            let ready = match self.subject {
                Subject::Dockerd => get_unix(&socket, "/_ping").is_ok_and(|(status, _)| status == 200),
                Subject::Weft => {
                    let text = std::fs::read(&log).unwrap_or_default();
                    let new = text.get(usize::try_from(log_from)?..).unwrap_or_default();
                    String::from_utf8_lossy(new).lines().any(|line| line == "ready")
                }
            };
            if ready {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        bail!("{} not ready after {READY:?}: {}", self.subject.name(), self.log_tail())
    }

    fn command(&self, sandbox: &Sandbox) -> Result<Command> {
        let path = |name: &str| self.home.join(name).display().to_string();
        let socket = format!("unix://{}", self.socket().display());
        let mut command = match self.subject {
            Subject::Dockerd => {
                let config = serde_json::Value::from(self.options.config.clone());
                std::fs::write(self.home.join("dockerd.json"), config.to_string())?;
                let mut command = sandbox.command("dockerd");
                command.args(["--data-root", &path("data"), "--exec-root", &path("exec")]);
                command.args(["--pidfile", &path("pid"), "--host", &socket, "--storage-driver", "overlay2"]);
                command.args([
                    "--cgroup-parent",
                    &format!("/{}", sandbox.cgroup()),
                    "--config-file",
                    &path("dockerd.json"),
                ]);
                if let Some(tcp) = &self.options.tcp {
                    command.args(["--host", &format!("tcp://{tcp}"), "--tls=false"]);
                }
                for mirror in &self.options.mirrors {
                    command.args(["--registry-mirror", mirror]);
                }
                command
            }
            Subject::Weft => {
                let mut command = sandbox.command(weft_binary()?);
                command.args(["up", "--root", &path("data"), "--run", &path("run")]);
                command.args(["--listen", &format!("docker={socket}")]);
                if let Some(tcp) = &self.options.tcp {
                    command.args(["--listen", &format!("docker=tcp://{tcp}?tls=off")]);
                }
                let mut config = serde_json::json!({
                    "registry-mirrors": self.options.mirrors,
                    "cgroup-parent": format!("/{}", sandbox.cgroup()),
                });
                if let Some(members) = config.as_object_mut() {
                    members.extend(self.options.config.clone());
                }
                let file = self.home.join("daemon.json");
                std::fs::write(&file, config.to_string())?;
                command.arg("--docker-config").arg(file);
                command
            }
        };
        command.args(&self.options.extra);
        Ok(command)
    }

    /// Changes the members of `daemon.json` for its next start.
    pub fn reconfigure(&mut self, change: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>)) {
        change(&mut self.options.config);
    }

    /// Which implementation this is.
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// The Docker API's unix socket.
    pub fn socket(&self) -> PathBuf {
        self.home.join("docker.sock")
    }

    /// The value for `DOCKER_HOST`.
    pub fn docker_host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// From fork to ready, of the last start.
    pub fn start_time(&self) -> Duration {
        self.took
    }

    /// Process id in the caller's namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The file that holds the daemon's standard output and error.
    pub fn log_path(&self) -> PathBuf {
        self.home.join("log")
    }

    /// The last 4 kB of the daemon's log, for messages.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(4096)..]).into_owned()
    }

    /// Kills the daemon alone, as a crash would; what it started is left to itself.
    pub fn kill9(&mut self) -> Result<()> {
        kill(Pid::from_raw(self.pid), Signal::SIGKILL)?;
        self.reap(Duration::from_secs(10))
    }

    /// Asks the daemon to end (SIGTERM) and waits; -9 after 30 s.
    pub fn stop(&mut self) -> Result<()> {
        kill(Pid::from_raw(self.pid), Signal::SIGTERM)?;
        self.reap(Duration::from_secs(30))
    }

    fn reap(&mut self, limit: Duration) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let begun = Instant::now();
        while child.try_wait()?.is_none() {
            if begun.elapsed() > limit {
                let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
                child.kill()?;
                child.wait()?;
                bail!("{} did not end within {limit:?}", self.subject.name());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// A `docker` client command against this daemon, with an empty configuration directory.
    pub fn docker(&self) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", self.docker_host()).env("DOCKER_CONFIG", self.home.join("client"));
        command.stdin(Stdio::null());
        command
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The sandbox ends everything else; a full shutdown of containers is not worth waiting for.
            if self.pid > 1 {
                let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// `WEFT_BIN`, else the newest of the workspace's release and debug builds.
pub fn weft_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("WEFT_BIN") {
        return Ok(path.into());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let built = ["release", "debug"].map(|profile| root.join(profile).join("weft"));
    let newest =
        built.into_iter().filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path))).max();
    newest
        .map(|(_, path)| path)
        .context("no weft binary: set WEFT_BIN or run `cargo build -p weft-cli --release`")
}
