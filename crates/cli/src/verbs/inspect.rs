//! `inspect`: any object by its name, of whatever kind it is.

use clap::Args;
use http::StatusCode;
use serde_json::Value;

use crate::{
    client::{image_path, segment, status_of},
    context::Context,
    failure::exit,
    output,
};

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  weft inspect web\n  weft inspect --type image alpine | jq '.[0].Config'\n\n\
    Go templates (--format) are not supported: use jq."
)]
pub struct InspectArgs {
    /// Only this kind: container, image, network, volume
    #[arg(long = "type", value_name = "KIND", value_parser = ["container", "image", "network", "volume"])]
    kind: Option<String>,
    /// Sizes of containers, too
    #[arg(short = 's', long)]
    size: bool,
    /// What to look at
    #[arg(required = true)]
    names: Vec<String>,
}

/// Prints a list of what was found; fails at the end if something was not.
pub async fn inspect(context: &Context, args: InspectArgs) -> anyhow::Result<()> {
    show(context, args.kind.as_deref(), args.size, &args.names).await
}

/// The same for one kind (`network inspect`).
pub async fn show(context: &Context, kind: Option<&str>, size: bool, names: &[String]) -> anyhow::Result<()> {
    let (mut found, mut failures) = (Vec::new(), 0);
    for name in names {
        match one(context, kind, size, name).await {
            Ok(value) => found.push(value),
            Err(error) => {
                failures += 1;
                output::fault(&error);
            }
        }
    }
    output::json(&Value::Array(found))?;
    if failures > 0 { Err(exit(1)) } else { Ok(()) }
}

async fn one(context: &Context, kind: Option<&str>, size: bool, name: &str) -> anyhow::Result<Value> {
    let kinds = kind.map_or(vec!["container", "image", "network", "volume"], |k| vec![k]);
    for each in kinds {
        let path = match each {
            "container" => format!("/containers/{}/json", segment(name)),
            "image" => format!("/images/{}/json", image_path(name)),
            "network" => format!("/networks/{}", segment(name)),
            _ => format!("/volumes/{}", segment(name)),
        };
        match context.client.get(path).flag("size", size && each == "container").fetch().await {
            Err(e) if kind.is_none() && status_of(&e) == Some(StatusCode::NOT_FOUND) => {}
            // A name that cannot be one of this kind may be one of the next.
            Err(e) if kind.is_none() && status_of(&e) == Some(StatusCode::BAD_REQUEST) => {}
            other => return other,
        }
    }
    Err(anyhow::anyhow!("Error: No such object: {name}"))
}
