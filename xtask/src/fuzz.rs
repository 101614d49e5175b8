//! `cargo xtask fuzz [TARGET] [--seconds N]`: the fuzz tests of all crates, each for N seconds instead of a moment.
//!
//! A target is a test called `fuzz_…` beside its parser (`weft_testkit::fuzz`). Two run at a time.

use std::process::Command;

use anyhow::{Result, ensure};

const CRATES: [&str; 9] =
    ["image", "engine", "dns", "net", "api-docker", "sys", "driver-linux", "daemon", "cli"];

#[derive(clap::Args)]
pub struct Args {
    /// Part of a test's name, such as `tar` or `create_body`; all when absent.
    target: Option<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Runs the targets and fails when one has a find.
pub fn run(args: &Args) -> Result<()> {
    let mut command = Command::new("cargo");
    command.arg("test").args(CRATES.iter().flat_map(|name| ["-p".to_owned(), format!("weft-{name}")]));
    command.args(["--no-fail-fast", "--lib", "--tests", "--"]);
    command.arg(format!("fuzz_{}", args.target.as_deref().unwrap_or_default()));
    command.args(["--test-threads", "2"]);
    let status = command.env("WEFT_FUZZ_SECONDS", args.seconds.to_string()).status()?;
    ensure!(status.success(), "there are finds: see above, and target/fuzz");
    Ok(())
}
