//! `save`, `load`, `export`, `import`, `commit`: images and containers as files.

use std::{io::IsTerminal as _, path::PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use futures_util::Stream;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;

use super::split;
use crate::{
    client::Answer,
    context::Context,
    failure::usage,
    output::{
        self,
        human::text,
        progress::{self, Show},
    },
    verbs::container,
};

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  weft save alpine busybox -o images.tar\n  weft save app | ssh other weft load"
)]
pub struct SaveArgs {
    /// File to write [default: standard output]
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Platform, such as linux/arm64
    #[arg(long)]
    platform: Option<String>,
    /// The images
    #[arg(required = true)]
    images: Vec<String>,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  weft load -i images.tar\n  zcat images.tar.gz | weft load")]
pub struct LoadArgs {
    /// File to read [default: standard input]
    #[arg(short = 'i', long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// No progress
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Platform, such as linux/arm64
    #[arg(long)]
    platform: Option<String>,
}

#[derive(Args, Debug)]
pub struct ExportArgs {
    /// File to write [default: standard output]
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The container
    container: String,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  weft import rootfs.tar base:1\n  tar -C rootfs -c . | weft import - base:1\n  \
    weft import -c 'CMD [\"sh\"]' rootfs.tar base"
)]
pub struct ImportArgs {
    /// Change the configuration, in the words of a Dockerfile
    #[arg(short = 'c', long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Message
    #[arg(short = 'm', long)]
    message: Option<String>,
    /// Platform, such as linux/arm64
    #[arg(long)]
    platform: Option<String>,
    /// The archive: a file, an http(s) address that the daemon reads, or - for standard input
    source: String,
    /// Name of the image
    image: Option<String>,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  weft commit -m 'with tools' -c 'CMD [\"app\"]' web app:patched")]
pub struct CommitArgs {
    /// Author
    #[arg(short = 'a', long)]
    author: Option<String>,
    /// Change the configuration, in the words of a Dockerfile
    #[arg(short = 'c', long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Message
    #[arg(short = 'm', long)]
    message: Option<String>,
    /// Do not pause the container meanwhile
    #[arg(long)]
    no_pause: bool,
    /// The container
    container: String,
    /// Name of the image
    image: Option<String>,
}

/// Writes a body to a file, which appears only when it is whole, or to standard output.
async fn write_out(answer: Answer, path: Option<&PathBuf>) -> anyhow::Result<()> {
    let mut body = answer.into_body();
    let Some(path) = path else {
        if std::io::stdout().is_terminal() {
            return Err(usage("refusing to save to a terminal: use -o FILE or redirect"));
        }
        while let Some(frame) = body.frame().await {
            if let Ok(bytes) = frame.context("reading from the daemon")?.into_data() {
                output::bytes(&bytes)?;
            }
        }
        return Ok(());
    };
    let partial = path.with_extension(format!("weft-{}", std::process::id()));
    let doing = || format!("writing {}", path.display());
    let copied = async {
        let mut file = tokio::fs::File::create(&partial).await.with_context(doing)?;
        while let Some(frame) = body.frame().await {
            if let Ok(bytes) = frame.context("reading from the daemon")?.into_data() {
                file.write_all(&bytes).await.with_context(doing)?;
            }
        }
        file.flush().await.with_context(doing)?;
        tokio::fs::rename(&partial, path).await.with_context(doing)
    };
    let done = copied.await;
    if done.is_err() {
        let _ = tokio::fs::remove_file(&partial).await;
    }
    done
}

type Bodies = std::pin::Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send + Sync>>;

/// A file, or standard input, as a body.
async fn read_in(path: Option<&std::path::Path>) -> anyhow::Result<Bodies> {
    if let Some(path) = path {
        let file =
            tokio::fs::File::open(path).await.with_context(|| format!("reading {}", path.display()))?;
        return Ok(Box::pin(ReaderStream::with_capacity(file, 256 * 1024)));
    }
    if std::io::stdin().is_terminal() {
        return Err(usage("requested load from stdin, but stdin is a terminal: use -i FILE or redirect"));
    }
    Ok(Box::pin(ReaderStream::with_capacity(tokio::io::stdin(), 256 * 1024)))
}

/// `save`.
pub async fn save(context: &Context, args: SaveArgs) -> anyhow::Result<()> {
    if args.output.is_none() && std::io::stdout().is_terminal() {
        return Err(usage("refusing to save to a terminal: use -o FILE or redirect"));
    }
    let mut call =
        context.client.get("/images/get").query_some("platform", platform(args.platform.as_deref()));
    for image in &args.images {
        call = call.query("names", image);
    }
    write_out(call.send().await?, args.output.as_ref()).await
}

/// `linux/arm64/v8` as the JSON that `save` and `load` want.
fn platform(text: Option<&str>) -> Option<String> {
    let mut parts = text?.splitn(3, '/');
    let mut next = || parts.next().unwrap_or("");
    let (os, architecture, variant) = (next(), next(), next());
    Some(json!({"os": os, "architecture": architecture, "variant": variant}).to_string())
}

/// `load`.
pub async fn load(context: &Context, args: LoadArgs) -> anyhow::Result<()> {
    let body = read_in(args.input.as_deref()).await?;
    let call = context.client.post("/images/load").flag("quiet", args.quiet || !output::to_terminal());
    let answer = call.query_some("platform", platform(args.platform.as_deref())).stream(body).send().await?;
    progress::follow(answer, if context.json { Show::Json } else { Show::All }).await.map(drop)
}

/// `export`.
pub async fn export(context: &Context, args: ExportArgs) -> anyhow::Result<()> {
    if args.output.is_none() && std::io::stdout().is_terminal() {
        return Err(usage("refusing to export to a terminal: use -o FILE or redirect"));
    }
    let answer = context.client.get(container(&args.container, "/export")).send().await?;
    write_out(answer, args.output.as_ref()).await
}

/// `import`.
pub async fn import(context: &Context, args: ImportArgs) -> anyhow::Result<()> {
    let remote = args.source.starts_with("http://") || args.source.starts_with("https://");
    let mut call = context.client.post("/images/create");
    call = call.query("fromSrc", if remote { args.source.as_str() } else { "-" });
    let (repository, tag) = split(args.image.as_deref().unwrap_or(""));
    call = call.query_some("repo", Some(repository)).query_some("tag", Some(tag));
    call = call.query_some("message", args.message).query_some("platform", args.platform);
    for change in &args.change {
        call = call.query("changes", change);
    }
    if !remote {
        let path = (args.source != "-").then(|| PathBuf::from(&args.source));
        call = call.stream(read_in(path.as_deref()).await?);
    }
    progress::follow(call.send().await?, if context.json { Show::Json } else { Show::All }).await.map(drop)
}

/// `commit`.
pub async fn commit(context: &Context, args: CommitArgs) -> anyhow::Result<()> {
    let (repository, tag) = split(args.image.as_deref().unwrap_or(""));
    let mut call = context.client.post("/commit").query("container", &args.container);
    call = call.query_some("repo", Some(repository)).query_some("tag", Some(tag));
    call = call.query_some("author", args.author).query_some("comment", args.message);
    if args.no_pause {
        call = call.query("pause", 0);
    }
    for change in &args.change {
        call = call.query("changes", change);
    }
    let answer: Value = call.json(&json!({})).fetch().await?;
    if context.json { output::json(&answer) } else { output::line(text(&answer, "Id")) }
}
