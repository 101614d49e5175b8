//! `store check | dump`: the daemon's store file, looked at without the daemon.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;

use super::data_root;
use crate::{failure::exit, output};

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  weft store check\n  weft store dump --prefix /weft/v1/containers/ | jq .value\n  \
    weft store check --file /backup/store.redb"
)]
pub struct StoreArgs {
    /// The daemon's data directory [default: that of the daemon in --run]
    #[arg(long, value_name = "DIR", global = true)]
    root: Option<PathBuf>,
    /// The store file [default: ROOT/store.redb]
    #[arg(long, value_name = "FILE", global = true)]
    file: Option<PathBuf>,
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Subcommand, Debug)]
enum StoreCommand {
    /// Whether every record is as it was written; exit code 1 when it is not
    Check,
    /// Print every record that can be read, one JSON object a line
    Dump {
        /// Only keys that begin like this
        #[arg(long, default_value = "")]
        prefix: String,
    },
}

/// `store …`.
pub fn store(args: StoreArgs, run: Option<&Path>, json: bool) -> anyhow::Result<()> {
    let file = match args.file {
        Some(file) => file,
        None => data_root(args.root.as_deref(), run)?.join("store.redb"),
    };
    match args.command {
        StoreCommand::Check => check(&file, json),
        StoreCommand::Dump { prefix } => {
            let dumped = weft_store::dump(&file, &prefix, &mut std::io::stdout().lock())
                .with_context(|| format!("reading {}", file.display()))?;
            output::note(format!("{} keys", dumped.keys));
            if dumped.condition == weft_store::Condition::Sound {
                return Ok(());
            }
            output::note("the file is damaged: keys may be missing or old (see weft store check)");
            Err(exit(1))
        }
    }
}

fn check(file: &Path, json: bool) -> anyhow::Result<()> {
    let report = weft_store::check(file).with_context(|| format!("reading {}", file.display()))?;
    let sound = report.condition == weft_store::Condition::Sound;
    if json {
        output::json(&json!(report))?;
    } else {
        let version = report.file_version.map_or("of unknown version".to_owned(), |v| format!("version {v}"));
        let word = if sound { "sound" } else { "DAMAGED" };
        output::line(format!("{}: {word}, {version}, {} bytes", report.path.display(), report.bytes))?;
        output::line(format!(
            "revision {}, compacted to {}, {} keys, {} leases",
            report.revision, report.compacted, report.keys, report.leases
        ))?;
        for (kind, keys) in &report.kinds {
            output::line(format!("  {kind}: {keys}"))?;
        }
        for problem in &report.problems {
            output::line(format!("problem: {problem}"))?;
        }
        if !sound {
            output::line("what can be read is printed by: weft store dump")?;
        }
    }
    if sound { Ok(()) } else { Err(exit(1)) }
}
