//! `pull` and `push`.

use clap::Args;
use serde_json::Value;

use super::split;
use crate::{
    client::image_path,
    context::Context,
    output::{
        self,
        human::{list, text},
        progress::{self, Show},
    },
    verbs::login,
};

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  weft pull alpine\n  weft pull registry.example:5000/team/app:1.2\n  \
    weft pull --platform linux/arm64 alpine")]
pub struct PullArgs {
    /// All tags of the repository
    #[arg(short = 'a', long)]
    all_tags: bool,
    /// Print only the name at the end
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Platform, such as linux/arm64
    #[arg(long)]
    platform: Option<String>,
    /// The image
    image: String,
}

#[derive(Args, Debug)]
pub struct PushArgs {
    /// All tags of the repository
    #[arg(short = 'a', long)]
    all_tags: bool,
    /// Print only the name at the end
    #[arg(short = 'q', long)]
    quiet: bool,
    /// The image
    image: String,
}

/// `pull`.
pub async fn pull(context: &Context, args: PullArgs) -> anyhow::Result<()> {
    let show = shown(context, args.quiet);
    if args.all_tags {
        fetch(context, split(&args.image).0, "", args.platform.as_deref(), show).await?;
    } else {
        pull_image(context, &args.image, args.platform.as_deref(), show).await?;
    }
    if args.quiet && !context.json { output::line(&args.image) } else { Ok(()) }
}

fn shown(context: &Context, quiet: bool) -> Show {
    match (context.json, quiet) {
        (true, _) => Show::Json,
        (_, true) => Show::Quiet,
        _ => Show::All,
    }
}

/// Pulls one image, `latest` where no tag is said.
pub async fn pull_image(
    context: &Context,
    image: &str,
    platform: Option<&str>,
    show: Show,
) -> anyhow::Result<()> {
    let (repository, tag) = split(image);
    let tag = if tag.is_empty() && !image.contains('@') { "latest" } else { tag };
    if split(image).1.is_empty() && show == Show::All && tag == "latest" {
        output::line("Using default tag: latest")?;
    }
    fetch(context, repository, tag, platform, show).await
}

async fn fetch(
    context: &Context,
    repository: &str,
    tag: &str,
    platform: Option<&str>,
    show: Show,
) -> anyhow::Result<()> {
    let call =
        context.client.post("/images/create").query("fromImage", repository).query_some("tag", Some(tag));
    let call = call.query_some("platform", platform);
    let call = match login::header_for(repository)? {
        Some(auth) => call.header("x-registry-auth", &auth)?,
        None => call,
    };
    progress::follow(call.send().await?, show).await.map(drop)
}

/// `push`.
pub async fn push(context: &Context, args: PushArgs) -> anyhow::Result<()> {
    let (repository, tag) = split(&args.image);
    let tags = if args.all_tags { tags_of(context, repository).await? } else { vec![tag.to_owned()] };
    for tag in tags {
        let tag = if tag.is_empty() { "latest" } else { &tag };
        if !args.quiet && !context.json {
            output::line(format!("The push refers to {repository}:{tag}"))?;
        }
        let call = context.client.post(format!("/images/{}/push", image_path(repository))).query("tag", tag);
        // The daemon wants the header even when there is nothing to say.
        let auth = login::header_for(repository)?.unwrap_or_else(|| "e30=".into());
        progress::follow(call.header("x-registry-auth", &auth)?.send().await?, shown(context, args.quiet))
            .await?;
    }
    if args.quiet && !context.json { output::line(&args.image) } else { Ok(()) }
}

async fn tags_of(context: &Context, repository: &str) -> anyhow::Result<Vec<String>> {
    let filter = serde_json::json!({"reference": [repository]}).to_string();
    let images: Value = context.client.get("/images/json").query("filters", filter).fetch().await?;
    let names = list(&images).iter().flat_map(|i| list(&i["RepoTags"])).filter_map(Value::as_str);
    let tags: Vec<String> =
        names.map(split).filter(|(r, _)| *r == repository).map(|(_, tag)| tag.to_owned()).collect();
    if tags.is_empty() {
        let known = list(&images).iter().map(|i| text(i, "Id")).collect::<Vec<_>>();
        anyhow::bail!(
            "An image does not exist locally with the tag: {repository} ({} candidates)",
            known.len()
        );
    }
    Ok(tags)
}
