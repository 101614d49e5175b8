//! What this machine can do for containers: each feature of the kernel and each tool that Weft can use is tried for
//! real, and what is missing is told with what is lost by it and what would mend it.
//!
//! Probes leave nothing behind: links and rules are made in a network namespace that only a thread of ours has and that
//! ends with it, mounts are never attached anywhere, files live in a directory that is removed. A probe decides
//! nothing for the daemon: it finds out for itself when it needs something.
//!
//! [`examine`] must be called in a process with one thread: one probe forks.

mod cgroups;
mod files;
mod firewall;
mod limits;
mod links;
mod process;
mod publishing;
mod tools;

use std::path::Path;

use serde::Serialize;

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Finding {
    /// Neither there nor missing: what is in force here, which everybody should know.
    Told,
    /// It is there.
    Ok,
    /// Not there; nothing is lost that most people need.
    Note,
    /// Not there; something does not work.
    Missing,
    /// Not there; containers cannot work at all.
    Fatal,
}

/// One probe's result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What belongs together: `files`, `network`, `cgroups`, `processes`, `limits`, `tools`, `firewall`.
    pub group: &'static str,
    /// What was tried.
    pub name: String,
    /// How it went.
    pub finding: Finding,
    /// What was seen: a version, an error's text.
    pub detail: String,
    /// What the user loses; empty when it is there.
    pub loses: String,
    /// What to do about it; empty when there is nothing to do.
    pub remedy: String,
}

/// What a probe says when the thing is not there.
#[derive(Clone, Copy, Debug)]
struct Without {
    finding: Finding,
    loses: &'static str,
    remedy: &'static str,
}

impl Check {
    fn ok(group: &'static str, name: impl Into<String>, detail: impl Into<String>) -> Self {
        let (loses, remedy) = (String::new(), String::new());
        Self { group, name: name.into(), finding: Finding::Ok, detail: detail.into(), loses, remedy }
    }

    fn told(group: &'static str, name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { finding: Finding::Told, ..Self::ok(group, name, detail) }
    }

    fn lacks(
        group: &'static str,
        name: impl Into<String>,
        detail: impl Into<String>,
        without: Without,
    ) -> Self {
        Self {
            finding: without.finding,
            loses: without.loses.into(),
            remedy: without.remedy.into(),
            ..Self::ok(group, name, detail)
        }
    }

    /// There if `result` is.
    fn of<D: Into<String>, E: std::fmt::Display>(
        group: &'static str,
        name: impl Into<String>,
        result: Result<D, E>,
        without: Without,
    ) -> Self {
        match result {
            Ok(detail) => Self::ok(group, name, detail),
            Err(error) => Self::lacks(group, name, error.to_string(), without),
        }
    }
}

/// Tries everything. `root` is where the daemon keeps its data: overlay mounts are tried on its file system.
#[must_use]
pub fn examine(root: &Path) -> Vec<Check> {
    // The fork comes first: later probes use threads.
    let mut all = process::fork_probes();
    all.extend(files::probe(root));
    all.extend(links::probe());
    all.extend(firewall::probe());
    all.extend(publishing::probe());
    all.extend(cgroups::probe());
    all.extend(process::probe());
    all.extend(limits::probe(root));
    all.extend(tools::probe());
    let order = ["files", "network", "firewall", "cgroups", "processes", "limits", "tools"];
    all.sort_by_key(|c| order.iter().position(|g| *g == c.group));
    all
}

/// The worst of all findings.
#[must_use]
pub fn worst(checks: &[Check]) -> Finding {
    checks.iter().map(|c| c.finding).max().unwrap_or(Finding::Ok)
}

/// A file's content without the line end, empty when it cannot be read.
fn read(path: &str) -> String {
    std::fs::read_to_string(path).map(|t| t.trim_end().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links_and_mounts() -> (usize, usize) {
        let links = std::fs::read_dir("/sys/class/net").unwrap().count();
        (links, read("/proc/self/mountinfo").lines().count())
    }

    #[test]
    fn nothing_is_left_and_every_lack_is_explained() {
        let root = tempfile::tempdir().unwrap();
        let before = links_and_mounts();
        // A test runs in a thread of its own, so the probe that forks says so; all others are real.
        let checks = examine(root.path());
        assert_eq!(links_and_mounts(), before);
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
        assert!(checks.len() > 30, "{}", checks.len());
        for check in &checks {
            assert_eq!(check.finding > Finding::Ok, !check.loses.is_empty(), "{check:?}");
        }
        for must in ["overlayfs", "bridge", "veth", "nftables", "pidfd"] {
            let check = checks.iter().find(|c| c.name == must).unwrap();
            assert_eq!(check.finding, Finding::Ok, "{check:?}");
        }
    }
}
