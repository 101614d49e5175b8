//! `volume …`.

use clap::{Args, Subcommand};
use http::StatusCode;
use serde_json::{Value, json};

use super::{filters, inspect, prune};
use crate::{
    client::{segment, status_of},
    context::Context,
    create::values::map,
    output::{
        self, Table,
        human::{list, text},
    },
};

#[derive(Args, Debug)]
pub struct VolumeArgs {
    #[command(subcommand)]
    command: VolumeCommand,
}

#[derive(Subcommand, Debug)]
enum VolumeCommand {
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    /// Make a volume
    Create(CreateArgs),
    /// Remove volumes
    #[command(visible_alias = "remove")]
    Rm(NamesArgs),
    /// Everything about volumes
    Inspect(NamesArgs),
    /// Remove anonymous volumes that no container uses
    Prune(PruneArgs),
}

#[derive(Args, Debug)]
struct ListArgs {
    /// Only what matches: name=, driver=, label=, dangling=
    #[arg(short = 'f', long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Only names
    #[arg(short = 'q', long)]
    quiet: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  weft volume create data\n  \
    weft volume create -o type=nfs -o o=addr=10.0.0.9,rw -o device=:/export data")]
struct CreateArgs {
    /// Driver
    #[arg(short = 'd', long, default_value = "local")]
    driver: String,
    /// Label
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Option of the driver
    #[arg(short = 'o', long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// The name; one is made up where there is none
    name: Option<String>,
}

#[derive(Args, Debug)]
struct NamesArgs {
    /// Do not mind what does not exist
    #[arg(short = 'f', long)]
    force: bool,
    /// The volumes
    #[arg(required = true)]
    volumes: Vec<String>,
}

#[derive(Args, Debug)]
struct PruneArgs {
    /// Named ones, too
    #[arg(short = 'a', long)]
    all: bool,
    #[command(flatten)]
    flags: prune::Flags,
}

/// `volume …`.
pub async fn volume(context: &Context, args: VolumeArgs) -> anyhow::Result<()> {
    match args.command {
        VolumeCommand::Ls(args) => ls(context, args).await,
        VolumeCommand::Create(args) => create(context, args).await,
        VolumeCommand::Rm(args) => rm(context, args).await,
        VolumeCommand::Inspect(args) => inspect::show(context, Some("volume"), false, &args.volumes).await,
        VolumeCommand::Prune(args) => {
            let what = if args.all { prune::ALL_VOLUMES } else { prune::VOLUMES };
            prune::run(context, &[what], &args.flags).await
        }
    }
}

async fn ls(context: &Context, args: ListArgs) -> anyhow::Result<()> {
    let call = context.client.get("/volumes").query_some("filters", filters(&args.filter)?);
    let answer: Value = call.fetch().await?;
    if context.json {
        return output::json(&answer["Volumes"]);
    }
    let mut volumes: Vec<&Value> = list(&answer["Volumes"]).iter().collect();
    volumes.sort_by_key(|v| text(v, "Name"));
    if args.quiet {
        return volumes.iter().try_for_each(|v| output::line(text(v, "Name")));
    }
    let mut table = Table::new(&["DRIVER", "VOLUME NAME"]);
    volumes.iter().for_each(|v| table.row([text(v, "Driver").into(), text(v, "Name").into()]));
    table.print()
}

async fn create(context: &Context, args: CreateArgs) -> anyhow::Result<()> {
    let body = json!({
        "Name": args.name.unwrap_or_default(), "Driver": args.driver, "DriverOpts": map(&args.opt), "Labels": map(&args.label),
    });
    let answer: Value = context.client.post("/volumes/create").json(&body).fetch().await?;
    if context.json { output::json(&answer) } else { output::line(text(&answer, "Name")) }
}

async fn rm(context: &Context, args: NamesArgs) -> anyhow::Result<()> {
    let act = |name: &str| {
        let call = context.client.delete(format!("/volumes/{}", segment(name))).flag("force", args.force);
        async move {
            match call.done().await {
                Err(e) if args.force && status_of(&e) == Some(StatusCode::NOT_FOUND) => Ok(()),
                other => other,
            }
        }
    };
    context.each(&args.volumes, act).await
}
