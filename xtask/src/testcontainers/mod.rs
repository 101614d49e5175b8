//! `cargo xtask testcontainers`: testcontainers-python's basic use, as its readers do it, against Weft or dockerd.
//!
//! The package comes from the package index into `target/testcontainers/venv`; [`the script`](basic_use.py) is ours. It
//! runs inside the sandbox, so that published ports are found on `localhost`, with the reaper (Ryuk) off: that is an
//! image of a registry that no sandbox reaches.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use weft_testkit::{Daemon, DaemonOptions, ImageSpec, Sandbox, Subject, busybox_archive, sandbox};

/// Versions that belong together; docker 7 is what testcontainers asks for.
const PACKAGES: &[&str] = &["testcontainers==4.15.0", "docker==7.2.0", "requests"];
const SCRIPT: &str = include_str!("basic_use.py");

/// `cargo xtask testcontainers`.
#[derive(clap::Args)]
pub struct Args {
    /// dockerd or weft.
    #[arg(long, default_value = "weft")]
    subject: String,
}

/// Prepares, runs, judges by the script's exit code.
pub fn run(args: &Args) -> Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("workspace")?;
    let place = workspace.join("target/testcontainers");
    std::fs::create_dir_all(&place)?;
    let python = place.join("venv/bin/python");
    if !place.join("venv/ready").exists() {
        sandbox::run(Command::new("python3").args(["-m", "venv"]).arg(place.join("venv")))?;
        sandbox::run(Command::new(&python).args(["-m", "pip", "install", "-q"]).args(PACKAGES))?;
        std::fs::write(place.join("venv/ready"), "")?;
    }
    let script = place.join("basic_use.py");
    std::fs::write(&script, SCRIPT)?;

    let host = Sandbox::new()?;
    let daemon = Daemon::start(&host, Subject::parse(&args.subject)?, "subject", DaemonOptions::default())?;
    let archive = host.dir().join("busybox.tar");
    busybox_archive(&ImageSpec::tagged("busybox:latest"), &archive)?;
    sandbox::run(daemon.docker().args(["load", "-q", "-i"]).arg(&archive))?;
    let home = host.dir().join("home");
    std::fs::create_dir_all(&home)?;
    let mut user = host.command(&python);
    user.arg(&script).env("DOCKER_HOST", daemon.docker_host()).env("HOME", &home);
    user.env("TESTCONTAINERS_RYUK_DISABLED", "true").env("PYTHONDONTWRITEBYTECODE", "1");
    sandbox::die_with_parent(&mut user);
    let status = user.status().context("start python")?;
    ensure!(status.success(), "testcontainers on {}: {status}\n{}", args.subject, daemon.log_tail());
    Ok(())
}
