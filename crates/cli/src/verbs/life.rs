//! The verbs that change containers and say little: stop, restart, kill, pause, unpause, wait, rm, rename, update.

use clap::Args;
use serde_json::{Value, json};

use super::{container, run::status, stop_daemon, warn};
use crate::{context::Context, create::ResourceFlags, failure::exit, output};

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  weft stop web db       stop containers\n  weft stop -t 60 db     with more time\n  \
    weft stop              stop the daemon of this host; its containers go on"
)]
pub struct StopArgs {
    /// Signal instead of the container's own
    #[arg(short = 's', long)]
    signal: Option<String>,
    /// Seconds until the stop becomes a kill
    #[arg(short = 't', long, visible_alias = "timeout", value_name = "SECONDS", allow_hyphen_values = true)]
    time: Option<i64>,
    /// The containers
    containers: Vec<String>,
}

#[derive(Args, Debug)]
pub struct KillArgs {
    /// The signal
    #[arg(short = 's', long, default_value = "KILL")]
    signal: String,
    /// The containers
    #[arg(required = true)]
    containers: Vec<String>,
}

#[derive(Args, Debug)]
pub struct NamesArgs {
    /// The containers
    #[arg(required = true)]
    containers: Vec<String>,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  weft rm job\n  weft rm -fv $(weft ps -aq)")]
pub struct RmArgs {
    /// Running ones, too
    #[arg(short = 'f', long)]
    force: bool,
    /// With their anonymous volumes
    #[arg(short = 'v', long)]
    volumes: bool,
    /// Only a link
    #[arg(short = 'l', long)]
    link: bool,
    /// The containers
    #[arg(required = true)]
    containers: Vec<String>,
}

#[derive(Args, Debug)]
pub struct RenameArgs {
    /// The container
    container: String,
    /// Its new name
    name: String,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  weft update -m 512m --cpus 2 --restart always web")]
pub struct UpdateArgs {
    #[command(flatten)]
    resources: ResourceFlags,
    /// The containers
    #[arg(required = true)]
    containers: Vec<String>,
}

/// `stop` and `restart`; `stop` without a container is the daemon's.
pub async fn stop(context: &Context, verb: &'static str, args: StopArgs) -> anyhow::Result<()> {
    if args.containers.is_empty() {
        return match verb {
            "/stop" => stop_daemon::stop(context, args.time.unwrap_or(30)),
            _ => Err(crate::failure::usage("which containers? weft restart CONTAINER...")),
        };
    }
    let call = |name| {
        let call = context.client.post(container(name, verb));
        call.query_some("t", args.time).query_some("signal", args.signal.as_ref()).done()
    };
    context.each(&args.containers, call).await
}

/// `kill`.
pub async fn kill(context: &Context, args: KillArgs) -> anyhow::Result<()> {
    let call = |name| context.client.post(container(name, "/kill")).query("signal", &args.signal).done();
    context.each(&args.containers, call).await
}

/// `pause` and `unpause`.
pub async fn plain(context: &Context, verb: &'static str, args: NamesArgs) -> anyhow::Result<()> {
    context.each(&args.containers, |name| context.client.post(container(name, verb)).done()).await
}

/// `rm`.
pub async fn rm(context: &Context, args: RmArgs) -> anyhow::Result<()> {
    let call = |name| {
        let call = context.client.delete(container(name, ""));
        call.flag("force", args.force).flag("v", args.volumes).flag("link", args.link).done()
    };
    context.each(&args.containers, call).await
}

/// `wait`: prints each exit code.
pub async fn wait(context: &Context, args: NamesArgs) -> anyhow::Result<()> {
    let mut failures = 0;
    for name in &args.containers {
        let code = match context.client.post(container(name, "/wait")).send().await {
            Ok(answer) => status(answer).await,
            Err(error) => Err(error),
        };
        match code {
            Ok(code) if context.json => output::json_line(&json!({"Name": name, "StatusCode": code}))?,
            Ok(code) => output::line(code.to_string())?,
            Err(error) => {
                failures += 1;
                output::fault(&error);
            }
        }
    }
    if failures > 0 { Err(exit(1)) } else { Ok(()) }
}

/// `rename`.
pub async fn rename(context: &Context, args: RenameArgs) -> anyhow::Result<()> {
    context.client.post(container(&args.container, "/rename")).query("name", &args.name).done().await
}

/// `update`.
pub async fn update(context: &Context, args: UpdateArgs) -> anyhow::Result<()> {
    let body = crate::create::resources(&args.resources)?;
    if body.is_empty() {
        return Err(crate::failure::usage("you must provide one or more flags when using this command"));
    }
    let body = Value::Object(body);
    let body = &body;
    context
        .each(&args.containers, |name| async move {
            let answer: Value = context.client.post(container(name, "/update")).json(body).fetch().await?;
            warn(&answer);
            Ok(())
        })
        .await
}
