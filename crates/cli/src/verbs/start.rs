//! `start`, with or without the container's streams.

use clap::Args;
use serde_json::Value;

use super::{
    container,
    keys::Keys,
    run::status,
    session::{self, End, Session},
};
use crate::{
    context::Context,
    failure::{exit, usage},
};

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  weft start web db\n  weft start -ai shell")]
pub struct StartArgs {
    /// Show its output; the exit code is the container's
    #[arg(short = 'a', long)]
    attach: bool,
    /// Pass standard input on, too
    #[arg(short = 'i', long)]
    interactive: bool,
    /// Keys that detach, such as ctrl-p,ctrl-q
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// The containers
    #[arg(required = true)]
    containers: Vec<String>,
}

/// Starts them; with `-a` or `-i`, one, and stays with it.
pub async fn start(context: &Context, args: StartArgs) -> anyhow::Result<()> {
    if !args.attach && !args.interactive {
        return context
            .each(&args.containers, |name| context.client.post(container(name, "/start")).done())
            .await;
    }
    let [name] = args.containers.as_slice() else {
        return Err(usage("you cannot start and attach multiple containers at once"));
    };
    let client = &context.client;
    let keys = Keys::parse(args.detach_keys.as_deref())?;
    let facts: Value = client.get(container(name, "/json")).fetch().await?;
    let tty = facts["Config"]["Tty"] == true;
    let stdin = args.interactive && facts["Config"]["OpenStdin"] == true;
    let _signals =
        if tty { Vec::new() } else { session::forward_signals(client, &container(name, "/kill"))? };
    let call = client.post(container(name, "/attach")).query("stream", 1).flag("stdin", stdin);
    let (_, connection) = call.query("stdout", 1).query("stderr", 1).hijack().await?;
    let condition = if facts["HostConfig"]["AutoRemove"] == true { "removed" } else { "next-exit" };
    let wait = client.post(container(name, "/wait")).query("condition", condition).send().await?;
    client.post(container(name, "/start")).done().await.map_err(super::run::not_started)?;
    let _sizes = tty.then(|| session::follow_size(client, container(name, "/resize")));
    if (Session { tty, stdin, keys }).run(connection).await? == End::Detached {
        return Ok(());
    }
    match status(wait).await? {
        0 => Ok(()),
        code => Err(exit(code)),
    }
}
