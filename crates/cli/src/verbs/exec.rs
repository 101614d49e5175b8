//! `exec`: a further process in a running container.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use super::{
    container,
    keys::Keys,
    run::not_started,
    session::{self, End, Session},
    terminal,
};
use crate::{
    context::Context,
    create::environment,
    failure::{exit, usage},
};

#[derive(Args, Debug)]
#[command(
    override_usage = "weft exec [OPTIONS] CONTAINER COMMAND [ARG]...",
    after_help = "Examples:\n  weft exec -it web sh\n  weft exec -u postgres db psql -c 'select 1'\n  \
    cat dump.sql | weft exec -i db psql"
)]
pub struct ExecArgs {
    /// Run in the background
    #[arg(short = 'd', long)]
    detach: bool,
    /// Keys that detach, such as ctrl-p,ctrl-q
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Set an environment variable
    #[arg(short = 'e', long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<String>,
    /// Pass standard input on
    #[arg(short = 'i', long)]
    interactive: bool,
    /// All capabilities
    #[arg(long)]
    privileged: bool,
    /// Give it a terminal
    #[arg(short = 't', long)]
    tty: bool,
    /// User: name or uid, with group: USER[:GROUP]
    #[arg(short = 'u', long, value_name = "USER")]
    user: Option<String>,
    /// Working directory inside
    #[arg(short = 'w', long, value_name = "DIR")]
    workdir: Option<String>,
    /// The container, the command and its arguments
    #[arg(trailing_var_arg = true, required = true, num_args = 1.., value_name = "CONTAINER COMMAND [ARG]...")]
    words: Vec<String>,
}

/// Runs it; the exit code is the process'.
pub async fn exec(context: &Context, args: ExecArgs) -> anyhow::Result<()> {
    let [name, command @ ..] = args.words.as_slice() else { return Err(usage("a container is required")) };
    if command.is_empty() {
        return Err(usage("a command is required: weft exec CONTAINER COMMAND"));
    }
    if args.tty && args.interactive && !args.detach && !std::io::stdin().is_terminal() {
        return Err(usage("the input device is not a TTY"));
    }
    let keys = Keys::parse(args.detach_keys.as_deref())?;
    let client = &context.client;
    let attach = !args.detach;
    let size = terminal::size().filter(|_| args.tty).map(|(rows, columns)| [rows, columns]);
    let mut body = json!({
        "AttachStdin": attach && args.interactive, "AttachStdout": attach, "AttachStderr": attach,
        "Tty": args.tty, "Cmd": command, "Env": environment(&args.env_file, &args.env)?,
        "Privileged": args.privileged, "User": args.user.as_deref().unwrap_or(""),
        "WorkingDir": args.workdir.as_deref().unwrap_or(""),
    });
    if let Some(keys) = &args.detach_keys {
        body["DetachKeys"] = json!(keys);
    }
    let made: Value = client.post(container(name, "/exec")).json(&body).fetch().await?;
    let id = made["Id"].as_str().context("the daemon answered no exec id")?;
    let mut start = json!({"Detach": args.detach, "Tty": args.tty});
    if let Some(size) = size {
        start["ConsoleSize"] = json!(size);
    }
    let call = client.post(format!("/exec/{id}/start")).json(&start);
    if args.detach {
        return call.done().await.map_err(not_started);
    }
    let (_, connection) = call.hijack().await.map_err(not_started)?;
    let _sizes = args.tty.then(|| session::follow_size(client, format!("/exec/{id}/resize")));
    let session = Session { tty: args.tty, stdin: args.interactive, keys };
    if session.run(connection).await? == End::Detached {
        return Ok(());
    }
    let ended: Value = client.get(format!("/exec/{id}/json")).fetch().await?;
    match ended["ExitCode"].as_i64().unwrap_or(0) {
        0 => Ok(()),
        code => Err(exit(code)),
    }
}
