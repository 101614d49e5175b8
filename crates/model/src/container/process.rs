//! The program a container or an exec runs.

use serde::{Deserialize, Serialize};

use crate::{ContainerId, Digest, ExecId};

/// The image as it was asked for and as it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageBinding {
    /// The reference as written.
    pub reference: String,
    /// The image id it meant when the container was made.
    pub id: Digest,
}

/// A process, image defaults merged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Entry point; `None` when neither image nor people gave one.
    #[serde(default)]
    pub entrypoint: Option<Vec<String>>,
    /// Arguments behind the entry point, or the whole command where there is none.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// `NAME=value` pairs.
    #[serde(default)]
    pub env: Vec<String>,
    /// Working directory; `/` when empty.
    #[serde(default)]
    pub working_dir: String,
    /// `user[:group]` by name or number; root when empty.
    #[serde(default)]
    pub user: String,
    /// Supplementary groups by name or number.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Give it a terminal.
    #[serde(default)]
    pub tty: bool,
    /// Keep its standard input open.
    #[serde(default)]
    pub open_stdin: bool,
    /// Close standard input when the first attached client goes.
    #[serde(default)]
    pub stdin_once: bool,
    /// Attach flags as written, only shown again.
    #[serde(default)]
    pub attach: (bool, bool, bool),
    /// First size of the terminal: rows, columns.
    #[serde(default)]
    pub console_size: Option<(u16, u16)>,
    /// Shell of the image's shell-form instructions, only shown again.
    #[serde(default)]
    pub shell: Option<Vec<String>>,
}

impl ProcessSpec {
    /// Entry point and command joined: the argument vector.
    #[must_use]
    pub fn argv(&self) -> Vec<String> {
        self.entrypoint.iter().flatten().chain(self.command.iter().flatten()).cloned().collect()
    }
}

/// A further process in a running container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// Identity.
    pub id: ExecId,
    /// The container it joins.
    pub container: ContainerId,
    /// Argument vector, never empty.
    pub args: Vec<String>,
    /// Environment added to the container's.
    #[serde(default)]
    pub env: Vec<String>,
    /// Working directory; the container's when empty.
    #[serde(default)]
    pub working_dir: String,
    /// `user[:group]`; the container's when empty.
    #[serde(default)]
    pub user: String,
    /// Give it a terminal.
    #[serde(default)]
    pub tty: bool,
    /// Which of stdin, stdout, stderr a client will attach.
    #[serde(default)]
    pub attach: (bool, bool, bool),
    /// All capabilities.
    #[serde(default)]
    pub privileged: bool,
    /// Key sequence that detaches, as written.
    #[serde(default)]
    pub detach_keys: String,
    /// First size of the terminal: rows, columns.
    #[serde(default)]
    pub console_size: Option<(u16, u16)>,
}
