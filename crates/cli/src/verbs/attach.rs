//! `attach`: the streams of a running container.

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
    failure::{exit, failed},
};

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  weft attach web        ctrl-p ctrl-q leaves a container with a terminal running"
)]
pub struct AttachArgs {
    /// Keys that detach, such as ctrl-p,ctrl-q
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Only look
    #[arg(long)]
    no_stdin: bool,
    /// Do not hand signals on to the container
    #[arg(long = "sig-proxy", default_value = "true", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// The container
    container: String,
}

/// Attaches until the container ends or the person detaches; the exit code is the container's.
pub async fn attach(context: &Context, args: AttachArgs) -> anyhow::Result<()> {
    let (client, name) = (&context.client, args.container.as_str());
    let keys = Keys::parse(args.detach_keys.as_deref())?;
    let facts: Value = client.get(container(name, "/json")).fetch().await?;
    for (state, what) in [("Paused", "paused"), ("Restarting", "restarting")] {
        if facts["State"][state] == true {
            return Err(failed(
                1,
                format!("You cannot attach to a {what} container, wait or unpause it first"),
            ));
        }
    }
    if facts["State"]["Running"] != true {
        return Err(failed(1, "You cannot attach to a stopped container, start it first"));
    }
    let tty = facts["Config"]["Tty"] == true;
    let stdin = facts["Config"]["OpenStdin"] == true && !args.no_stdin;
    let _signals = if args.sig_proxy && !tty {
        session::forward_signals(client, &container(name, "/kill"))?
    } else {
        Vec::new()
    };
    let call = client.post(container(name, "/attach")).query("stream", 1).flag("stdin", stdin);
    let call = call.query("stdout", 1).query("stderr", 1).query_some("detachKeys", args.detach_keys.as_ref());
    let (_, connection) = call.hijack().await?;
    let wait = client.post(container(name, "/wait")).send().await?;
    let _sizes = tty.then(|| session::follow_size(client, container(name, "/resize")));
    if (Session { tty, stdin, keys }).run(connection).await? == End::Detached {
        return Ok(());
    }
    match status(wait).await? {
        0 => Ok(()),
        code => Err(exit(code)),
    }
}
