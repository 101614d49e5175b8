//! `stop` without a container: SIGTERM to the daemon, once it is sure that it is one, and waiting for its end.

use std::{fs, path::Path};

use anyhow::Context as _;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use serde_json::json;

use crate::{context::Context, failure::failed, output};

/// The process id in `RUN/weft.pid`, if a Weft daemon has it.
#[must_use]
pub fn pid_of(run: &Path) -> Option<i32> {
    let text = fs::read_to_string(run.join("weft.pid")).ok()?;
    let pid: i32 = text.split_whitespace().next()?.parse().ok()?;
    is_daemon(pid, run).then_some(pid)
}

/// Whether a process is `… up …` and holds the run directory's lock; or, where we may not see that, is called weft.
fn is_daemon(pid: i32, run: &Path) -> bool {
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let words: Vec<&[u8]> = line.split(|b| *b == 0).collect();
    let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let name = |path: &Path| path.file_name().is_some_and(|n| n.to_string_lossy().contains("weft"));
    let called = words.first().is_some_and(|w| name(Path::new(&*String::from_utf8_lossy(w))));
    let lock = run.join("weft.pid").canonicalize().ok();
    let mut open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let holds = lock.is_some() && open.any(|fd| fs::read_link(fd.path()).ok() == lock);
    (holds || called || name(&exe)) && words.iter().skip(1).any(|w| *w == b"up")
}

/// Stops the daemon and waits up to `seconds`.
pub fn stop(context: &Context, seconds: i64) -> anyhow::Result<()> {
    let run = context.run_dir();
    let Some(pid) = pid_of(&run) else {
        let why = format!("no daemon runs here ({} names none)", run.join("weft.pid").display());
        return Err(failed(1, why));
    };
    let process = Pid::from_raw(pid).context("the process id is none")?;
    let gone = || format!("the daemon (pid {pid})");
    // The descriptor is this very process from here on: its number cannot be given to another one unseen.
    let handle = pidfd_open(process, PidfdFlags::empty()).with_context(gone)?;
    if !is_daemon(pid, &run) {
        return Err(failed(1, format!("{} ended by itself", gone())));
    }
    pidfd_send_signal(&handle, Signal::TERM).with_context(|| format!("stopping {}", gone()))?;
    // Nothing else is going on in this program: it may simply sit there.
    let patience = Timespec { tv_sec: seconds.max(0), tv_nsec: 0 };
    if poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&patience)).context("waiting for the daemon")?
        == 0
    {
        return Err(failed(1, format!("{} is still there after {seconds} s", gone())));
    }
    if context.json {
        output::json(&json!({"stopped": true, "pid": pid}))
    } else {
        output::line("stopped; containers go on")
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn other_processes_are_not_ours() {
        let run = tempfile::tempdir().unwrap();
        assert!(!super::is_daemon(1, run.path()));
        assert!(!super::is_daemon(i32::try_from(std::process::id()).unwrap(), run.path()));
        assert_eq!(super::pid_of(run.path()), None);
        std::fs::write(run.path().join("weft.pid"), "1\n").unwrap();
        assert_eq!(super::pid_of(run.path()), None);
    }
}
