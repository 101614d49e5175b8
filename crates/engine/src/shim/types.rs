//! What goes into a shim and what comes out: its specification file, the container's runtime record, the exit
//! record, and faults.
//!
//! These are files in the shim's directory, read by daemons of other versions after an upgrade: fields are only
//! added, always with a default.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use weft_base::Timestamp;
use weft_model::LogConfig;
use weft_sys::process::ProcessId;

use crate::logs::LogFacts;

/// The shim's specification, [`ShimSpec`] or [`ExecSpec`], written by the daemon.
pub const SPEC_FILE: &str = "shim.json";
/// The control socket.
pub const SOCKET_FILE: &str = "shim.sock";
/// The shim's own process: [`ProcessId`].
pub const PID_FILE: &str = "shim.pid";
/// What was created: [`Created`].
pub const CREATED_FILE: &str = "created.json";
/// How it ended: [`Exit`].
pub const EXIT_FILE: &str = "exit.json";
/// Standard error of the shim itself (panics, warnings).
pub const SHIM_LOG_FILE: &str = "shim.log";

/// Who runs the bundle.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    /// The OCI runtime that is built in.
    #[default]
    Builtin,
    /// A program with runc's command line (`create`, `start`, `exec`, `delete`, `update`).
    External {
        /// Path of the program.
        path: PathBuf,
        /// Arguments before the subcommand.
        #[serde(default)]
        args: Vec<String>,
    },
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// Where a container's output is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Log {
    /// Driver and options.
    pub config: LogConfig,
    /// Directory for drivers that write files.
    pub dir: PathBuf,
    /// What a driver may say about the container.
    #[serde(default)]
    pub facts: LogFacts,
}

/// A container to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShimSpec {
    /// The container's id: letters, digits, `_`, `+`, `-`, `.`.
    pub id: String,
    /// The OCI bundle: the directory with `config.json`. Its `root.path` may be relative to it.
    pub bundle: PathBuf,
    /// Who runs the bundle.
    #[serde(default)]
    pub runtime: Runtime,
    /// Where the runtime keeps its own state; a directory of the id's name appears below it.
    pub state_root: PathBuf,
    /// The container's cgroup, an absolute path below each hierarchy's mount, as `linux.cgroupsPath` in
    /// `config.json` (`/weft/ID`). It is removed when the container has ended.
    pub cgroup: String,
    /// Give the container a terminal; must agree with `process.terminal` in `config.json`.
    #[serde(default)]
    pub tty: bool,
    /// Keep standard input open for attached clients; otherwise it is `/dev/null`.
    #[serde(default)]
    pub stdin: bool,
    /// Close standard input when the first attached client that gave input is done.
    #[serde(default)]
    pub stdin_once: bool,
    /// First size of the terminal.
    #[serde(default)]
    pub console_size: Option<ConsoleSize>,
    /// Where output is logged; `None` keeps no log.
    #[serde(default)]
    pub log: Option<Log>,
    /// Directory for compiled seccomp programs, shared by all containers. `None` compiles each time.
    #[serde(default)]
    pub seccomp_cache: Option<PathBuf>,
}

/// A process to run in a running container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExecSpec {
    /// The exec's id.
    pub id: String,
    /// The directory of the container's shim (with its `shim.json` and `created.json`).
    pub container: PathBuf,
    /// What to run: user, environment, working directory, capabilities, limits. `terminal` is taken from `tty`.
    pub process: oci_spec::runtime::Process,
    /// Give the process a terminal.
    #[serde(default)]
    pub tty: bool,
    /// Connect standard input; it closes when the first attached client that gave input is done.
    #[serde(default)]
    pub stdin: bool,
    /// First size of the terminal.
    #[serde(default)]
    pub console_size: Option<ConsoleSize>,
}

/// A compiled filter on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompFile {
    /// The program, as `seccomp_export_bpf` writes it.
    pub path: PathBuf,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u64,
}

/// What the shim wrote down when the runtime had created the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// The container's first process.
    pub init: ProcessId,
    /// The filter that later processes of this container need too.
    #[serde(default)]
    pub seccomp: Option<SeccompFile>,
    /// Whether the container has its own user namespace.
    #[serde(default)]
    pub user_namespace: bool,
}

/// How a container or an exec ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// As a shell would see it: the exit code, or 128 + signal.
    pub code: i32,
    /// The signal that ended it.
    #[serde(default)]
    pub signal: Option<i32>,
    /// Whether the kernel killed a process of the container for lack of memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// When its end was seen.
    pub finished_at: Timestamp,
    /// Why it never ran, if it did not.
    #[serde(default)]
    pub fault: Option<Fault>,
}

/// Why a process could not be run, by what the caller has to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The program is not there (`docker run` exits with 127).
    NotFound,
    /// The program is there but cannot be executed (126).
    NotExecutable,
    /// The request does not fit the state of the container (not running, already started).
    State,
    /// The log could not be opened; no runtime was asked (125).
    Log,
    /// Anything else (125).
    Other,
}

/// Why a request to a shim failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// The kind of failure.
    pub kind: FaultKind,
    /// One sentence in runc's words where it has them.
    pub message: String,
}

impl Fault {
    /// A fault of the kind [`FaultKind::Other`].
    pub fn other(message: impl Into<String>) -> Self {
        Self { kind: FaultKind::Other, message: message.into() }
    }

    /// What goes wrong before the program runs, in runc's words.
    pub(super) fn init(why: &str) -> Self {
        Self::other(format!("unable to start container process: error during container init: {why}"))
    }

    /// A fault of the kind [`FaultKind::State`].
    pub fn state(message: impl Into<String>) -> Self {
        Self { kind: FaultKind::State, message: message.into() }
    }

    /// The exit code that `docker run` has for it.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self.kind {
            FaultKind::NotFound => 127,
            FaultKind::NotExecutable => 126,
            FaultKind::State | FaultKind::Log | FaultKind::Other => 125,
        }
    }

    /// What failed, with the whole chain of causes.
    pub fn because(what: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::other(format!("{what}: {}", weft_base::chain(error)))
    }
}

/// Reads a JSON file.
///
/// # Errors
/// What reading says; `InvalidData` when it is not what it should be.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let bytes = fs::read(path)?;
    serde_json::from_slice(&bytes)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {e}", path.display())))
}

/// Writes a JSON file so that a reader sees all of it or nothing, whoever is killed. What it tells is of this boot (a shim
/// and its processes), so nothing waits for the disk: after a power cut there is nobody left it could be true of.
///
/// # Errors
/// What writing says.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(value)?;
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let part = PathBuf::from(name);
    let mut file: File =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(&bytes)?;
    fs::rename(&part, path)
}
