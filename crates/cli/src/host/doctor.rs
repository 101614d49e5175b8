//! `doctor`: what this machine can do, printed.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use weft_daemon::doctor::{Check, Finding, examine, worst};

use super::{DEFAULT_ROOT, data_root};
use crate::{failure::exit, output};

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  weft doctor\n  weft doctor --all\n  weft doctor --json | jq '.checks[] | select(.finding != \"ok\")'\n\n\
    Every probe is tried for real and leaves nothing behind. Exit code 1 when containers cannot work at all."
)]
pub struct DoctorArgs {
    /// What is there, too
    #[arg(short = 'a', long)]
    all: bool,
    /// The daemon's data directory [default: that of the daemon in --run]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// Examines this machine. Called before there is any thread.
pub fn doctor(args: &DoctorArgs, run: Option<&Path>, json: bool) -> anyhow::Result<()> {
    // Asked before the first daemon, too.
    let root = data_root(args.root.as_deref(), run).unwrap_or_else(|_| DEFAULT_ROOT.into());
    let checks = examine(&root);
    if json {
        output::json(&json!({"worst": worst(&checks), "checks": checks}))?;
    } else {
        people(&checks, args.all)?;
    }
    if worst(&checks) == Finding::Fatal { Err(exit(1)) } else { Ok(()) }
}

fn people(checks: &[Check], all: bool) -> anyhow::Result<()> {
    let mut group = "";
    for check in checks.iter().filter(|c| all || c.finding != Finding::Ok) {
        if check.group != group {
            group = check.group;
            output::line(format!("{group}:"))?;
        }
        let mark = match check.finding {
            Finding::Told => "is     ",
            Finding::Ok => "ok     ",
            Finding::Note => "note   ",
            Finding::Missing => "MISSING",
            Finding::Fatal => "FATAL  ",
        };
        output::line(format!("  {mark} {}: {}", check.name, check.detail))?;
        if !check.loses.is_empty() {
            output::line(format!("          without it: {}", check.loses))?;
        }
        if !check.remedy.is_empty() {
            output::line(format!("          what to do: {}", check.remedy))?;
        }
    }
    let count = |finding: Finding| checks.iter().filter(|c| c.finding == finding).count();
    output::line(format!(
        "{} ok, {} notes, {} missing, {} fatal{}",
        count(Finding::Ok),
        count(Finding::Note),
        count(Finding::Missing),
        count(Finding::Fatal),
        if all { "" } else { " (--all shows what is there)" }
    ))
}
