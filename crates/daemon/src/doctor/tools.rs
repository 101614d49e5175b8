//! Programs that Weft can use where they are: nothing here is needed.

use std::{
    env,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{Check, Finding, Without};

const GROUP: &str = "tools";

/// Program, argument that makes it say its version, what is lost without it.
const TOOLS: &[(&str, &str, &str)] = &[
    ("runc", "--version", "--runtime runc is not possible; the built-in runtime is"),
    ("crun", "--version", "--runtime crun is not possible; the built-in runtime is"),
    ("youki", "--version", "--runtime youki is not possible; the built-in runtime is"),
    ("nft", "--version", "you cannot look at Weft's rules by hand (nft list table inet weft)"),
    ("docker", "--version", "nothing: weft has the daily verbs itself"),
    ("mount.nfs", "-V", "NFS volumes cannot be mounted"),
    ("nsenter", "--version", "you cannot look into a sandbox by hand"),
    ("newuidmap", "", "nothing for a daemon that is root"),
];

pub(super) fn probe() -> Vec<Check> {
    TOOLS
        .iter()
        .map(|(name, argument, loses)| {
            let found = find(name).map(|path| version(&path, argument)).ok_or("not on the path");
            let without = Without { finding: Finding::Note, loses, remedy: "install it, if you want that" };
            Check::of(GROUP, *name, found, without)
        })
        .collect()
}

fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let extra = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let runnable = |p: &Path| p.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    env::split_paths(&path).chain(extra).map(|dir| dir.join(name)).find(|p| runnable(p))
}

fn version(path: &Path, argument: &str) -> String {
    let place = path.display().to_string();
    if argument.is_empty() {
        return place;
    }
    let said = Command::new(path).arg(argument).stdin(Stdio::null()).stderr(Stdio::null()).output();
    let text =
        said.map(|o| String::from_utf8_lossy(&o.stdout).lines().next().unwrap_or("").trim().to_owned());
    match text {
        Ok(text) if !text.is_empty() => format!("{text} ({place})"),
        _ => place,
    }
}
