//! The daemon as its operator meets it: started by a service manager, told to reload, asked for figures, switched
//! part by part, with its configuration. Each test has a host of its own (see `weft-testkit`) and the real binary.
#![allow(clippy::unwrap_used, missing_docs)]

mod activation;
mod between;
mod certificates;
mod client;
mod config;
mod detached;
mod explain;
mod features;
mod figures;
mod hosts;
mod keys;
mod lost;
mod memory;
mod networks;
mod papers;
mod policy;
mod private;
mod publishing;
mod reach;
mod remains;
mod remap;

use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use weft_testkit::{Daemon, DaemonOptions, ImageSpec, Sandbox, Subject, busybox_archive};

/// A host with a daemon that has busybox.
pub struct Host {
    pub daemon: Daemon,
    pub sandbox: Sandbox,
}

impl Host {
    pub fn start(config: Value) -> Self {
        Self::with(config, |_| (), &[])
    }

    /// `prepare` is done before the daemon starts.
    pub fn with(config: Value, prepare: impl FnOnce(&Sandbox), extra: &[&str]) -> Self {
        let sandbox = Sandbox::new().unwrap();
        prepare(&sandbox);
        let config = config.as_object().cloned().unwrap_or_default();
        let extra = extra.iter().map(|e| (*e).to_owned()).collect();
        let options = DaemonOptions { config, extra, ..DaemonOptions::default() };
        let daemon = Daemon::start(&sandbox, Subject::Weft, "d", options).unwrap();
        let host = Self { daemon, sandbox };
        let archive = host.sandbox.dir().join("busybox.tar");
        busybox_archive(&ImageSpec::tagged("busybox:latest"), &archive).unwrap();
        host.ok(&["load", "-i", archive.to_str().unwrap()]);
        host
    }

    pub fn home(&self) -> PathBuf {
        self.sandbox.dir().join("d")
    }

    /// `weft ARGS`, against this daemon.
    pub fn weft(&self, args: &[&str]) -> Output {
        let mut command = self.sandbox.command(env!("CARGO_BIN_EXE_weft"));
        let (host, run) = (self.daemon.docker_host(), self.home().join("run"));
        command.args(["--host", &host, "--run", run.to_str().unwrap()]).args(args);
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// Its output; it must succeed.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.weft(args);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "weft {args:?}: {out}{err}\n{}", self.daemon.log_tail());
        out.trim().to_owned()
    }

    /// Its complaint; it must fail.
    pub fn refused(&self, args: &[&str]) -> String {
        let output = self.weft(args);
        assert!(!output.status.success(), "weft {args:?} succeeded: {}", text(&output.stdout));
        text(&output.stderr)
    }

    pub fn json(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = ["--json"].iter().chain(args).copied().collect();
        serde_json::from_str(&self.ok(&args)).unwrap()
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits until `seen` is true.
pub fn until(what: &str, seen: impl FnMut() -> bool) {
    until_within(Duration::from_secs(20), what, seen);
}

/// The same, for what takes its time.
pub fn until_within(longest: Duration, what: &str, mut seen: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !seen() {
        assert!(begun.elapsed() < longest, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// No configuration.
pub fn plain() -> Value {
    json!({})
}
