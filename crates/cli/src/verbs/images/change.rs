//! `tag` and `rmi`.

use clap::Args;
use serde_json::Value;

use super::split;
use crate::{
    client::image_path,
    context::Context,
    failure::exit,
    output::{self, human::list},
};

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  weft tag app:dev registry.example:5000/team/app:1.2")]
pub struct TagArgs {
    /// The image
    source: String,
    /// Its further name
    target: String,
}

#[derive(Args, Debug)]
pub struct RmiArgs {
    /// Those that containers were made of, or with several names, too
    #[arg(short = 'f', long)]
    force: bool,
    /// Keep parents that have no name
    #[arg(long)]
    no_prune: bool,
    /// The images
    #[arg(required = true)]
    images: Vec<String>,
}

/// `tag`.
pub async fn tag(context: &Context, args: TagArgs) -> anyhow::Result<()> {
    let (repository, tag) = split(&args.target);
    let call = context.client.post(format!("/images/{}/tag", image_path(&args.source)));
    call.query("repo", repository).query_some("tag", Some(tag)).done().await
}

/// `rmi`.
pub async fn rmi(context: &Context, args: RmiArgs) -> anyhow::Result<()> {
    let mut failures = 0;
    for image in &args.images {
        let call = context.client.delete(format!("/images/{}", image_path(image)));
        match call.flag("force", args.force).flag("noprune", args.no_prune).fetch::<Value>().await {
            Ok(removed) if context.json => output::json(&removed)?,
            Ok(removed) => {
                for step in list(&removed) {
                    for (kind, name) in step.as_object().into_iter().flatten() {
                        output::line(format!("{kind}: {}", name.as_str().unwrap_or("")))?;
                    }
                }
            }
            Err(error) => {
                failures += 1;
                output::fault(&error);
            }
        }
    }
    if failures > 0 { Err(exit(1)) } else { Ok(()) }
}
