//! `feature list | enable | disable`.
//!
//! A running daemon is told, over `RUN/control.sock`, and changes at once. Without one, what is on is read from and kept
//! under the data directory, for the daemon that starts next.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use weft_daemon::features::{FEATURES, Features};

use super::data_root;
use crate::{
    client::{Client, DEFAULT_RUN, Endpoint, segment},
    output::{self, Table, human},
    verbs::stop_daemon::pid_of,
};

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  weft feature list\n  weft feature enable dns        with all that it needs\n  \
    weft feature disable metrics\n\nA running daemon changes at once, and keeps it."
)]
pub struct FeatureArgs {
    /// The daemon's data directory, where no daemon runs [default: that of the last daemon in --run]
    #[arg(long, value_name = "DIR", global = true)]
    root: Option<PathBuf>,
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
    let place = run.unwrap_or(Path::new(DEFAULT_RUN));
    let answer = if pid_of(place).is_some() {
        told(&args.command, place)?
    } else {
        kept(&args.command, &data_root(args.root.as_deref(), run)?)?
    };
    let verb = match args.command {
        FeatureCommand::List => return list(&answer, json),
        FeatureCommand::Enable { .. } => "enabled",
        FeatureCommand::Disable { .. } => "disabled",
    };
    if json {
        return output::json(&answer);
    }
    let changed: Vec<&str> = human::list(&answer[verb]).iter().filter_map(Value::as_str).collect();
    if changed.is_empty() {
        return output::line("nothing to change");
    }
    output::line(format!("{verb}: {}", changed.join(", ")))
}

/// By the running daemon.
fn told(command: &FeatureCommand, run: &Path) -> anyhow::Result<Value> {
    let client = Client::new(Endpoint::Unix(run.join("control.sock")));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let change = |name: &str, verb: &str| client.post(format!("/v1/features/{}/{verb}", segment(name)));
    let call = match command {
        FeatureCommand::List => client.get("/v1/features"),
        FeatureCommand::Enable { name } => change(name, "enable"),
        FeatureCommand::Disable { name } => change(name, "disable"),
    };
    runtime.block_on(call.fetch())
}

/// In the file.
fn kept(command: &FeatureCommand, root: &Path) -> anyhow::Result<Value> {
    let mut features = Features::load(root)?;
    let answer = match command {
        FeatureCommand::List => {
            let all = FEATURES.iter().map(|f| {
                json!({
                    "name": f.name, "enabled": features.is_on(f.name), "needs": f.needs, "about": f.about,
                    "default": f.default, "fixed": f.fixed,
                })
            });
            return Ok(all.collect());
        }
        FeatureCommand::Enable { name } => json!({"enabled": features.enable(name)?}),
        FeatureCommand::Disable { name } => {
            let changed = features.disable(name)?.then_some(name);
            json!({"disabled": changed.into_iter().collect::<Vec<_>>()})
        }
    };
    features.save(root)?;
    Ok(answer)
}

fn list(all: &Value, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(all);
    }
    let mut table = Table::new(&["NAME", "STATE", "NEEDS", "ABOUT"]);
    for f in human::list(all) {
        let state = match (&f["enabled"], &f["fixed"]) {
            (Value::Bool(true), Value::Bool(true)) => "always",
            (Value::Bool(true), _) => "enabled",
            _ => "disabled",
        };
        let needs: Vec<&str> = human::list(&f["needs"]).iter().filter_map(Value::as_str).collect();
        table.row([
            human::text(f, "name").to_string(),
            state.into(),
            needs.join(","),
            human::text(f, "about").to_string(),
        ]);
    }
    table.print()
}
