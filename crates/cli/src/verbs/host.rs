//! `host …`: the hosts of the cluster.

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::{
    client::segment,
    context::Context,
    output::{
        self, Table,
        human::{list, text},
    },
};

#[derive(Args, Debug)]
#[command(
    after_help = "Hosts meet by their store alone: those that were started with the same --store etcd://… and prefix are a \
    cluster.\n\nExamples:\n  weft host ls\n  weft host inspect h2"
)]
pub struct HostArgs {
    #[command(subcommand)]
    command: HostCommand,
}

#[derive(Subcommand, Debug)]
enum HostCommand {
    /// List hosts; the one that was asked has a star
    #[command(visible_alias = "list")]
    Ls {
        /// Only names
        #[arg(short = 'q', long)]
        quiet: bool,
    },
    /// Everything about hosts
    Inspect {
        /// Their names or ids, or the beginnings of ids
        #[arg(required = true, value_name = "HOST")]
        hosts: Vec<String>,
    },
}

/// `host …`.
pub async fn host(context: &Context, args: HostArgs) -> anyhow::Result<()> {
    let native = context.native();
    match args.command {
        HostCommand::Ls { quiet } => {
            let all: Value = native.get("/v1/hosts").fetch().await?;
            if context.json {
                return output::json(&all);
            }
            let name = |view: &Value| text(&view["host"]["spec"], "name").to_owned();
            if quiet {
                return list(&all).iter().try_for_each(|view| output::line(name(view)));
            }
            let mut table = Table::new(&["ID", "NAME", "STATUS", "VERSION"]);
            for view in list(&all) {
                let (spec, status) = (&view["host"]["spec"], &view["host"]["status"]);
                let star = if view["here"] == true { " *" } else { "" };
                let alive = if view["alive"] == true { "ready" } else { "down" };
                let version = text(status, "version").to_owned();
                table.row([format!("{}{star}", text(spec, "id")), name(view), alive.to_owned(), version]);
            }
            table.print()
        }
        HostCommand::Inspect { hosts } => {
            let mut found = Vec::new();
            for name in &hosts {
                found.push(native.get(format!("/v1/hosts/{}", segment(name))).fetch::<Value>().await?);
            }
            output::json(&Value::Array(found))
        }
    }
}
