//! `policy …`: what may pass between containers.

mod filter;
mod listing;

use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde_json::{Value, json};

use crate::{
    client::segment,
    context::Context,
    failure::exit,
    output::{
        self, Table,
        human::{self, list, text},
    },
};

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  weft policy add --from label=tier=web --to label=tier=db --protocol tcp --port 5432 allow\n  \
    weft policy default web deny\n  weft policy default web\n  weft policy add --from any --to db deny\n  weft policy ls\n\n\
    A selector is any, outside, host, name=CONTAINER, label=KEY[=VALUE], network=NETWORK, or a container that is\n\
    there: CONTAINER or id=ID. Only name= may name a container that comes later. A policy given an id (or the\n\
    beginning of one) holds for the container's name, and so for whatever is called so after it.\n\
    A deny wins over an allow; without either a connection passes, unless one of its ends is on a network whose\n\
    default is deny. Answers always pass. The host is only meant where it is named: any and a network's default do\n\
    not concern it."
)]
pub struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Subcommand, Debug)]
enum PolicyCommand {
    /// Make a policy
    #[command(visible_alias = "create")]
    Add(AddArgs),
    /// List policies
    #[command(visible_alias = "list")]
    Ls(listing::ListArgs),
    /// Remove policies
    #[command(visible_alias = "remove")]
    Rm {
        /// Their ids, or the beginnings of them
        #[arg(required = true, value_name = "POLICY")]
        policies: Vec<String>,
    },
    /// Everything about policies
    Inspect {
        /// Their ids, or the beginnings of them
        #[arg(required = true, value_name = "POLICY")]
        policies: Vec<String>,
    },
    /// What policies have decided, in packets and bytes of both directions
    Counters,
    /// What holds on a network for connections that no policy speaks of: shown, or changed
    Default {
        /// The network
        network: String,
        /// Whether they pass from now on; without it, whether they do now
        action: Option<Verdict>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Verdict {
    /// They pass
    Allow,
    /// They are dropped
    Deny,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

#[derive(Args, Debug)]
struct AddArgs {
    /// Who begins the connection
    #[arg(long, value_name = "SELECTOR")]
    from: String,
    /// Who is reached
    #[arg(long, value_name = "SELECTOR")]
    to: String,
    /// Only this protocol: tcp, udp, sctp, icmp
    #[arg(long)]
    protocol: Option<String>,
    /// Only these ports, as the container has them: N or N-M
    #[arg(long, value_name = "PORT")]
    port: Option<String>,
    /// What becomes of it
    action: Verdict,
}

/// `policy …`.
pub async fn policy(context: &Context, args: PolicyArgs) -> anyhow::Result<()> {
    let native = context.native();
    match args.command {
        PolicyCommand::Add(args) => {
            let body = json!({
                "from": args.from, "to": args.to, "protocol": args.protocol, "ports": args.port,
                "action": args.action.word(),
            });
            let answer: Value = native.post("/v1/policies").json(&body).fetch().await?;
            for warning in list(&answer["warnings"]) {
                output::note(format!("WARNING: {}", warning.as_str().unwrap_or_default()));
            }
            let id = text(&answer["policy"]["spec"], "id");
            if context.json { output::json(&answer) } else { output::line(id) }
        }
        PolicyCommand::Ls(args) => listing::ls(context, &args, &native.get("/v1/policies").fetch().await?),
        PolicyCommand::Rm { policies } => {
            if policies.iter().any(String::is_empty) {
                anyhow::bail!("invalid policy: a policy is named by its id or the beginning of it");
            }
            let act = |id: &str| {
                let call = native.delete(format!("/v1/policies/{}", segment(id)));
                async move { call.done().await }
            };
            context.each(&policies, act).await
        }
        PolicyCommand::Inspect { policies } => inspect(context, &policies).await,
        PolicyCommand::Counters => counters(context, &native.get("/v1/policies").fetch().await?),
        PolicyCommand::Default { network, action } => {
            let path = format!("/v1/policies/default/{}", segment(&network));
            let answer: Value = match action {
                Some(action) => {
                    let body = json!({"action": action.word()});
                    native.call(Method::PUT, path).json(&body).fetch().await?
                }
                None => native.get(path).fetch().await?,
            };
            let said = if action.is_some() { "network" } else { "action" };
            if context.json { output::json(&answer) } else { output::line(text(&answer, said)) }
        }
    }
}

/// All that are found, as a list; then those that are not.
async fn inspect(context: &Context, policies: &[String]) -> anyhow::Result<()> {
    let native = context.native();
    let (mut found, mut failed) = (Vec::new(), false);
    for policy in policies {
        match native.get(format!("/v1/policies/{}", segment(policy))).fetch::<Value>().await {
            Ok(view) => found.push(view),
            Err(error) => {
                failed = true;
                output::fault(&error);
            }
        }
    }
    output::json(&Value::Array(found))?;
    if failed { Err(exit(1)) } else { Ok(()) }
}

/// `tcp 80-90`.
fn traffic(spec: &Value) -> String {
    let protocol = spec["protocol"].as_str().unwrap_or("all");
    match (spec["ports"]["start"].as_u64(), spec["ports"]["end"].as_u64()) {
        (Some(start), Some(end)) if start == end => format!("{protocol} {start}"),
        (Some(start), Some(end)) => format!("{protocol} {start}-{end}"),
        _ => protocol.to_owned(),
    }
}

fn counters(context: &Context, views: &Value) -> anyhow::Result<()> {
    if context.json {
        let one = |v: &Value| json!({"id": v["policy"]["spec"]["id"], "packets": v["packets"], "bytes": v["bytes"]});
        return output::json(&list(views).iter().map(one).collect());
    }
    let mut table = Table::new(&["POLICY", "ACTION", "PACKETS", "BYTES"]);
    for view in list(views) {
        let spec = &view["policy"]["spec"];
        table.row([
            human::short(text(spec, "id")),
            text(spec, "action").into(),
            view["packets"].to_string(),
            view["bytes"].to_string(),
        ]);
    }
    table.print()
}
