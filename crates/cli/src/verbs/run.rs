//! `run` and `create`.

use std::{io::Write as _, path::Path, time::Duration};

use anyhow::Context as _;
use clap::Args;
use http::StatusCode;
use serde_json::Value;

use super::{
    container,
    images::transfer,
    keys::Keys,
    session::{self, End, Session},
    terminal, warn,
};
use crate::{
    client::{Answer, ApiError, status_of},
    context::Context,
    create::{self, CreateFlags},
    failure::{Failure, exit, failed, usage},
    output::{self, progress::Show},
};

const RUN_EXAMPLES: &str = "\
Examples:
  weft run --rm alpine echo hello                        run a program, remove the container
  weft run --rm -it alpine sh                            with a terminal; ctrl-p ctrl-q leaves it running
  weft run -d --name web -p 8080:80 nginx                in the background, port 8080 of this host
  weft run -d --network app --network-alias db postgres  found as `db` by its neighbours
  weft run --rm -v data:/data -v $PWD:/src:ro alpine ls  a volume and a directory
  weft run -d --restart unless-stopped -m 256m --cpus 0.5 worker

Exit code: the program's; 125 the daemon failed, 126 the program cannot be executed, 127 it is not there.";

/// Flags of `run`.
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_help = RUN_EXAMPLES,
    override_usage = "weft run [OPTIONS] IMAGE [COMMAND] [ARG]...")]
pub struct RunArgs {
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Run in the background and print the container's id
    #[arg(short = 'd', long)]
    detach: bool,
    /// Keys that detach, such as ctrl-p,ctrl-q
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Do not hand signals on to the container
    #[arg(long = "sig-proxy", default_value = "true", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    #[command(flatten)]
    flags: CreateFlags,
    /// The image, the command to run in it and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "IMAGE [COMMAND] [ARG]...")]
    words: Vec<String>,
}

/// Flags of `create`.
#[derive(Args, Debug)]
#[command(
    disable_help_flag = true,
    override_usage = "weft create [OPTIONS] IMAGE [COMMAND] [ARG]...",
    after_help = "Example:\n  weft create --name job alpine sleep 60 && weft start -a job"
)]
pub struct CreateArgs {
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    #[command(flatten)]
    flags: CreateFlags,
    /// The image, the command to run in it and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "IMAGE [COMMAND] [ARG]...")]
    words: Vec<String>,
}

/// `create`: prints the id.
pub async fn create(context: &Context, args: CreateArgs) -> anyhow::Result<()> {
    let request = create::request(&args.flags, &args.words, false, &std::env::current_dir()?)?;
    let id = make(context, &args.flags, &request.body).await?;
    if context.json { output::json(&serde_json::json!({"Id": id})) } else { output::line(id) }
}

/// `run`.
pub async fn run(context: &Context, args: RunArgs) -> anyhow::Result<()> {
    let keys = Keys::parse(args.detach_keys.as_deref())?;
    let cwd = std::env::current_dir()?;
    let request = create::request(&args.flags, &args.words, args.detach, &cwd)?;
    if args.flags.tty
        && request.attach[0]
        && !args.detach
        && !std::io::IsTerminal::is_terminal(&std::io::stdin())
    {
        return Err(usage("the input device is not a TTY"));
    }
    let id = make(context, &args.flags, &request.body).await.map_err(daemon_failed)?;
    if args.detach {
        context.client.post(container(&id, "/start")).done().await.map_err(not_started)?;
        return if context.json { output::json(&serde_json::json!({"Id": id})) } else { output::line(id) };
    }
    foreground(context, &args, request.attach, &id, keys).await
}

async fn foreground(
    context: &Context,
    args: &RunArgs,
    attach: [bool; 3],
    id: &str,
    keys: Keys,
) -> anyhow::Result<()> {
    let client = &context.client;
    let tty = args.flags.tty;
    let _signals = if args.sig_proxy && !tty {
        session::forward_signals(client, &container(id, "/kill"))?
    } else {
        Vec::new()
    };
    // Attached and waited for before the start, so that nothing is missed.
    let call = client.post(container(id, "/attach")).query("stream", 1);
    let call = call.flag("stdin", attach[0]).flag("stdout", attach[1]).flag("stderr", attach[2]);
    let call = call.query_some("detachKeys", args.detach_keys.as_ref());
    let (_, connection) = call.hijack().await.map_err(daemon_failed)?;
    let condition = if args.flags.rm { "removed" } else { "next-exit" };
    let wait = client
        .post(container(id, "/wait"))
        .query("condition", condition)
        .send()
        .await
        .map_err(daemon_failed)?;
    if let Err(error) = client.post(container(id, "/start")).done().await {
        if args.flags.rm {
            // The daemon removes it; give it the time, so that the name is free again when we are back.
            let _ = tokio::time::timeout(Duration::from_secs(10), status(wait)).await;
        }
        return Err(not_started(error));
    }
    let _sizes = tty.then(|| session::follow_size(client, container(id, "/resize")));
    let session = Session { tty, stdin: attach[0], keys };
    if session.run(connection).await? == End::Detached {
        return Ok(());
    }
    match status(wait).await? {
        0 => Ok(()),
        code => Err(exit(code)),
    }
}

/// The exit code that an opened wait answers.
pub(super) async fn status(wait: Answer) -> anyhow::Result<i64> {
    let body =
        http_body_util::BodyExt::collect(wait.into_body()).await.context("waiting for the container")?;
    let value: Value = serde_json::from_slice(&body.to_bytes()).context("waiting for the container")?;
    if let Some(message) = value["Error"]["Message"].as_str().filter(|m| !m.is_empty()) {
        output::note(format!("Error waiting for container: {message}"));
        return Ok(125);
    }
    Ok(value["StatusCode"].as_i64().unwrap_or(125))
}

/// Makes the container, getting the image before if the flags say so. Returns its id.
async fn make(context: &Context, flags: &CreateFlags, body: &Value) -> anyhow::Result<String> {
    let mut cidfile = flags.cidfile.as_deref().map(open_cidfile).transpose()?;
    let image = body["Image"].as_str().unwrap_or("");
    let mut body = body.clone();
    if flags.tty
        && let Some((rows, columns)) = terminal::size()
    {
        body["HostConfig"]["ConsoleSize"] = serde_json::json!([rows, columns]);
    }
    let call = || {
        let call = context.client.post("/containers/create");
        call.query_some("name", flags.name.as_ref())
            .query_some("platform", flags.platform.as_ref())
            .json(&body)
    };
    let show = if flags.quiet { Show::Quiet } else { Show::Stderr };
    if flags.pull == "always" {
        pull(context, image, flags, show).await?;
    }
    let answer = match call().fetch::<Value>().await {
        Err(error) if flags.pull == "missing" && is_missing_image(&error) => {
            output::note(format!("Unable to find image '{image}' locally"));
            pull(context, image, flags, show).await?;
            call().fetch::<Value>().await
        }
        other => other,
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            if let Some(path) = &flags.cidfile {
                let _ = std::fs::remove_file(path);
            }
            return Err(error);
        }
    };
    warn(&answer);
    let id = answer["Id"].as_str().context("the daemon answered no container id")?.to_owned();
    if let Some(file) = &mut cidfile {
        file.write_all(id.as_bytes()).context("writing the container id file")?;
    }
    Ok(id)
}

async fn pull(context: &Context, image: &str, flags: &CreateFlags, show: Show) -> anyhow::Result<()> {
    transfer::pull_image(context, image, flags.platform.as_deref(), show).await
}

fn open_cidfile(path: &Path) -> anyhow::Result<std::fs::File> {
    std::fs::OpenOptions::new().write(true).create_new(true).open(path).with_context(|| {
        format!(
            "container ID file {}: make sure the other container isn't running or delete it",
            path.display()
        )
    })
}

fn is_missing_image(error: &anyhow::Error) -> bool {
    let text = error.to_string();
    status_of(error) == Some(StatusCode::NOT_FOUND) && text.to_ascii_lowercase().contains("no such image")
}

/// 125, unless the error has a code of its own (wrong usage).
fn daemon_failed(error: anyhow::Error) -> anyhow::Error {
    if error.is::<Failure>() { error } else { failed(125, format!("{error:#}")) }
}

/// 127 when the program is not there, 126 when it cannot be executed, otherwise 125.
pub(super) fn not_started(error: anyhow::Error) -> anyhow::Error {
    let code = error.downcast_ref::<ApiError>().map_or(125, |e| start_code(&e.message));
    if error.is::<Failure>() { error } else { failed(code, format!("{error:#}")) }
}

fn start_code(message: &str) -> u8 {
    let says = |texts: &[&str]| texts.iter().any(|t| message.contains(t));
    if says(&["executable file not found", "no such file or directory", "system cannot find the file"]) {
        127
    } else if says(&["permission denied", "is a directory", "not a directory", "exec format error"]) {
        126
    } else {
        125
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_docker_run() {
        for (message, code) in [
            ("exec: \"x\": executable file not found in $PATH: unknown", 127),
            ("exec /x: no such file or directory", 127),
            ("exec: \"/etc\": permission denied: unknown", 126),
            ("exec: \"/etc\": is a directory", 126),
            ("driver failed programming external connectivity", 125),
        ] {
            assert_eq!(start_code(message), code, "{message}");
        }
    }
}
