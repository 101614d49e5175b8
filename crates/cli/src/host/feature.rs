//! `feature list | enable | disable`.
//!
//! What is on is kept under the daemon's data directory and read when a daemon starts; the running daemon does not
//! change, and that is said.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;
use weft_daemon::features::{FEATURES, Features};

use super::DEFAULT_ROOT;
use crate::{
    client::DEFAULT_RUN,
    output::{self, Table},
    verbs::stop_daemon::pid_of,
};

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  weft feature list\n  weft feature enable dns        with all that it needs\n  \
    weft feature disable metrics"
)]
pub struct FeatureArgs {
    /// The daemon's data directory
    #[arg(long, value_name = "DIR", default_value = DEFAULT_ROOT, global = true)]
    root: PathBuf,
    #[command(subcommand)]
    command: FeatureCommand,
}

#[derive(Subcommand, Debug)]
enum FeatureCommand {
    /// What there is, what is on, what needs what
    #[command(visible_alias = "ls")]
    List,
    /// Turn a feature on, with all that it needs
    Enable {
        /// The feature
        name: String,
    },
    /// Turn a feature off; refused while others need it
    Disable {
        /// The feature
        name: String,
    },
}

/// `feature …`.
pub fn feature(args: &FeatureArgs, run: Option<&Path>, json: bool) -> anyhow::Result<()> {
    let mut features = Features::load(&args.root)?;
    let changed: Vec<&str> = match &args.command {
        FeatureCommand::List => return list(&features, json),
        FeatureCommand::Enable { name } => features.enable(name)?,
        FeatureCommand::Disable { name } => {
            if features.disable(name)? {
                vec![name]
            } else {
                Vec::new()
            }
        }
    };
    let verb = if matches!(args.command, FeatureCommand::Enable { .. }) { "enabled" } else { "disabled" };
    if !changed.is_empty() {
        features.save(&args.root)?;
    }
    let running = pid_of(run.unwrap_or(Path::new(DEFAULT_RUN))).is_some();
    if json {
        return output::json(&json!({verb: changed, "needs_restart": running && !changed.is_empty()}));
    }
    if changed.is_empty() {
        return output::line("nothing to change");
    }
    output::line(format!("{verb}: {}", changed.join(", ")))?;
    if running {
        output::note("the running daemon goes on as it is: restart it (containers go on meanwhile)");
    }
    Ok(())
}

fn list(features: &Features, json: bool) -> anyhow::Result<()> {
    if json {
        let all = FEATURES.iter().map(|f| {
            json!({"name": f.name, "enabled": features.is_on(f.name), "needs": f.needs, "about": f.about, "default": f.default})
        });
        return output::json(&all.collect());
    }
    let mut table = Table::new(&["NAME", "STATE", "NEEDS", "ABOUT"]);
    for f in FEATURES {
        let state = if features.is_on(f.name) { "enabled" } else { "disabled" };
        table.row([f.name.into(), state.into(), f.needs.join(","), f.about.into()]);
    }
    table.print()
}
