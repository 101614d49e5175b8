//! The one door for developers.
//!
//! `cargo xtask bench engine` measures Weft beside dockerd; `cargo xtask dockerpy` runs docker-py's own
//! integration tests, `cargo xtask testcontainers` another client library's basic use; `cargo xtask conformance` runs
//! the real `docker` client's suite; `cargo xtask vm` plays containers on cgroup v2. Each starts its subjects in sandboxes
//! of its own and leaves nothing behind. `cargo xtask net` keeps several hosts up, to try things on.

use anyhow::Result;
use clap::{Parser, Subcommand};

mod check;
mod dockerpy;
mod fuzz;
mod layers;
mod net;
mod testcontainers;
mod vm;

#[derive(Parser)]
#[command(about = "The one door for developers of Weft")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Format, lints, layers, sizes: all that can be said without running anything.
    Check,
    /// Prove the table of layers against Cargo's metadata.
    Layers,
    /// Measure, beside the original, on this machine.
    #[command(subcommand)]
    Bench(weft_bench::Bench),
    /// docker-py's integration tests against dockerd or Weft.
    Dockerpy(dockerpy::Args),
    /// testcontainers-python's basic use, against dockerd or Weft.
    Testcontainers(testcontainers::Args),
    /// Several pretended hosts on one wire, each with its daemon.
    Net(net::Args),
    /// kill -9 of the daemon, round after round, while containers live.
    Kill(KillArgs),
    /// The container tests on cgroup v2, in a small machine of qemu's.
    Vm(vm::Args),
    /// The real `docker` client through every command group, against dockerd or Weft.
    Conformance(ConformanceArgs),
    /// Foreign bytes for the parsers, for long. Finds are written to target/fuzz.
    Fuzz(fuzz::Args),
}

#[derive(clap::Args)]
struct ConformanceArgs {
    /// dockerd or weft.
    #[arg(long, default_value = "weft")]
    subject: String,
    /// Given to the test binary: a filter, `--list`, `--exact`, …
    #[arg(last = true)]
    rest: Vec<String>,
}

#[derive(clap::Args)]
struct KillArgs {
    /// How often the daemon is killed.
    #[arg(long, default_value_t = 100)]
    rounds: u64,
    /// Repeats the choices of an earlier run.
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> Result<()> {
    match Cli::parse().task {
        Task::Check => check::run(),
        Task::Layers => layers::run(),
        Task::Bench(bench) => weft_bench::run(&bench),
        Task::Dockerpy(args) => dockerpy::run(&args),
        Task::Testcontainers(args) => testcontainers::run(&args),
        Task::Vm(args) => vm::run(&args),
        Task::Net(args) => net::run(&args),
        Task::Kill(args) => kill(&args),
        Task::Conformance(args) => conformance(&args),
        Task::Fuzz(args) => fuzz::run(&args),
    }
}

fn kill(args: &KillArgs) -> Result<()> {
    let mut command = std::process::Command::new("cargo");
    command.args(["test", "-p", "weft-conformance", "--test", "kill", "--", "--nocapture"]);
    command.env("WEFT_KILL_ROUNDS", args.rounds.to_string());
    if let Some(seed) = args.seed {
        command.env("WEFT_KILL_SEED", seed.to_string());
    }
    let status = command.status()?;
    anyhow::ensure!(status.success(), "kill -9: {status}");
    Ok(())
}

fn conformance(args: &ConformanceArgs) -> Result<()> {
    let mut command = std::process::Command::new("cargo");
    command.args(["test", "-p", "weft-conformance", "--test", "docker", "--"]).args(&args.rest);
    let status = command.env("WEFT_CONFORMANCE_SUBJECT", &args.subject).status()?;
    anyhow::ensure!(status.success(), "conformance/docker on {}: {status}", args.subject);
    Ok(())
}
