//! `cp`: files between a container and this machine, with `cp -a`'s rules for where they land.
//!
//! An archive from a container is foreign: it is unpacked into an empty directory beside the destination (entries that
//! lead out of it are refused) and what came is then moved into place.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use clap::Args;
use futures_util::TryStreamExt;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, BodyStream};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::io::{ReaderStream, StreamReader, SyncIoBridge};

use super::container;
use crate::{
    client::status_of,
    context::Context,
    failure::usage,
    output::{self, human::text},
};

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  weft cp app.conf web:/etc/\n  weft cp web:/var/log ./logs\n  \
    weft cp web:/etc/. copy-of-etc\n  weft cp web:/data - | tar t\n  tar c . | weft cp - web:/src")]
pub struct CpArgs {
    /// Keep owners
    #[arg(short = 'a', long)]
    archive: bool,
    /// Follow a symbolic link that is the source
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Say nothing
    #[arg(short = 'q', long)]
    quiet: bool,
    /// CONTAINER:PATH, a path here, or - for a tar archive
    source: String,
    /// CONTAINER:PATH, a path here, or - for a tar archive
    destination: String,
}

/// `NAME:PATH` apart; what begins like a path is one.
fn remote(text: &str) -> Option<(&str, &str)> {
    let (name, path) = text.split_once(':')?;
    (!name.is_empty() && !text.starts_with(['/', '.'])).then_some((name, path))
}

/// Copies.
pub async fn cp(context: &Context, args: CpArgs) -> anyhow::Result<()> {
    match (remote(&args.source), remote(&args.destination)) {
        (Some((name, path)), None) => from(context, &args, name, path).await,
        (None, Some((name, path))) => to(context, &args, name, path).await,
        (Some(_), Some(_)) => Err(usage("copying between containers is not supported")),
        (None, None) => Err(usage("must specify at least one container source: CONTAINER:PATH")),
    }
}

/// What a path in a container is; `None` when there is nothing.
async fn stat(context: &Context, name: &str, path: &str) -> anyhow::Result<Option<Value>> {
    let call = context.client.call(Method::HEAD, container(name, "/archive")).query("path", path);
    let answer = match call.send().await {
        Ok(answer) => answer,
        // HEAD has no text to tell a missing container from a missing path: the next request will.
        Err(e) if status_of(&e) == Some(StatusCode::NOT_FOUND) => return Ok(None),
        Err(e) => return Err(e),
    };
    let header = answer
        .headers()
        .get("x-docker-container-path-stat")
        .context("the daemon did not say what the path is")?;
    Ok(Some(serde_json::from_slice(&STANDARD.decode(header.as_bytes())?)?))
}

/// Go's `os.ModeDir`.
fn is_dir(stat: &Value) -> bool {
    stat["mode"].as_u64().unwrap_or(0) & (1 << 31) != 0
}

async fn from(context: &Context, args: &CpArgs, name: &str, path: &str) -> anyhow::Result<()> {
    let mut path = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
    if args.follow_link
        && let Some(stat) = stat(context, name, &path).await?
        && !text(&stat, "linkTarget").is_empty()
    {
        path = text(&stat, "linkTarget").to_owned();
    }
    let answer = context.client.get(container(name, "/archive")).query("path", &path).send().await?;
    if args.destination == "-" {
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            if let Ok(bytes) = frame.context("reading from the container")?.into_data() {
                output::bytes(&bytes)?;
            }
        }
        return Ok(());
    }
    let frames = TryStreamExt::map_err(BodyStream::new(answer.into_body()), io::Error::other);
    let bytes = frames.try_filter_map(async |frame| Ok(frame.into_data().ok()));
    let reader = StreamReader::new(Box::pin(bytes));
    let (destination, archive) = (PathBuf::from(&args.destination), args.archive);
    let contents = path.ends_with("/.");
    let into_dir = args.destination.ends_with('/');
    tokio::task::spawn_blocking(move || {
        place(SyncIoBridge::new(reader), &destination, contents, into_dir, archive)
    })
    .await??;
    done(args)
}

fn done(args: &CpArgs) -> anyhow::Result<()> {
    if !args.quiet && output::to_terminal() {
        output::note(format!("Copied {} to {}", args.source, args.destination));
    }
    Ok(())
}

/// Unpacks beside `destination`, then moves into place. `contents`: the source ended in `/.`.
fn place(
    reader: impl io::Read,
    destination: &Path,
    contents: bool,
    into_dir: bool,
    owners: bool,
) -> anyhow::Result<()> {
    let is_dir = destination.is_dir();
    let parent = match destination.parent() {
        _ if is_dir => destination,
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !parent.is_dir() {
        bail!("invalid output path: directory {} does not exist", parent.display());
    }
    let scratch = parent.join(format!(".weft-cp-{}", std::process::id()));
    fs::create_dir(&scratch).with_context(|| format!("making {}", scratch.display()))?;
    let moved = unpack(reader, &scratch, owners).and_then(|()| {
        let came: Vec<fs::DirEntry> = fs::read_dir(&scratch)?.collect::<io::Result<_>>()?;
        let [top] = came.as_slice() else { bail!("the archive does not hold one file or directory") };
        let top_is_dir = top.file_type()?.is_dir();
        if destination.is_file() && top_is_dir {
            bail!("cannot copy a directory onto the file {}", destination.display());
        }
        if into_dir && !is_dir && !top_is_dir {
            bail!("the directory {} does not exist", destination.display());
        }
        let target = if is_dir && !(contents && top_is_dir) {
            destination.join(top.file_name())
        } else {
            destination.to_owned()
        };
        merge(&top.path(), &target)
    });
    let removed = fs::remove_dir_all(&scratch);
    moved?;
    removed.with_context(|| format!("removing {}", scratch.display()))
}

fn unpack(reader: impl io::Read, dir: &Path, owners: bool) -> anyhow::Result<()> {
    let mut archive = tar::Archive::new(reader);
    archive.set_preserve_permissions(true);
    archive.set_preserve_mtime(true);
    archive.set_preserve_ownerships(owners);
    archive.set_overwrite(false);
    archive.unpack(dir).context("unpacking what the container sent")
}

/// Moves `from` to `to`; directories that exist are entered, files replaced.
fn merge(from: &Path, to: &Path) -> anyhow::Result<()> {
    let doing = || format!("writing {}", to.display());
    if !from.symlink_metadata().with_context(doing)?.is_dir() || !to.is_dir() {
        if to.symlink_metadata().is_ok_and(|m| m.is_dir()) {
            bail!("cannot overwrite the directory {} with a file", to.display());
        }
        return fs::rename(from, to).with_context(doing);
    }
    for entry in fs::read_dir(from).with_context(doing)? {
        let entry = entry.with_context(doing)?;
        merge(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

async fn to(context: &Context, args: &CpArgs, name: &str, path: &str) -> anyhow::Result<()> {
    let path = if path.is_empty() { "/" } else { path };
    if args.source == "-" {
        let body = ReaderStream::with_capacity(tokio::io::stdin(), 64 * 1024);
        let call = context.client.call(Method::PUT, container(name, "/archive")).query("path", path);
        return call.stream(body).done().await;
    }
    let source = PathBuf::from(&args.source);
    let source = if args.follow_link { fs::canonicalize(&source)? } else { source };
    let meta = fs::symlink_metadata(&source).with_context(|| format!("reading {}", source.display()))?;
    let contents = args.source.ends_with("/.") || args.source == ".";
    // A link to a directory is followed where it is written with a slash.
    let meta = if args.source.ends_with('/') || contents { fs::metadata(&source)? } else { meta };
    let mut there = stat(context, name, path).await?;
    if let Some(link) = there.as_ref().map(|s| text(s, "linkTarget").to_owned()).filter(|l| !l.is_empty()) {
        there = stat(context, name, &link).await?;
    }
    let (dir, inside) = landing(&source, meta.is_dir(), contents, path, there.as_ref())?;
    let call = context.client.call(Method::PUT, container(name, "/archive")).query("path", dir);
    let call = call.query("noOverwriteDirNonDir", "true").flag("copyUIDGID", args.archive);
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(8);
    let owners = args.archive;
    let packing = tokio::task::spawn_blocking(move || {
        let failed = sender.clone();
        if let Err(error) = pack(Pipe(sender), &source, Path::new(&inside), owners) {
            let _ = failed.blocking_send(Err(io::Error::other(format!("{error:#}"))));
            return Err(error);
        }
        Ok(())
    });
    let receiver = std::sync::Mutex::new(receiver);
    let body = futures_util::stream::poll_fn(move |cx| match receiver.lock() {
        Ok(mut receiver) => receiver.poll_recv(cx),
        Err(_) => std::task::Poll::Ready(None),
    });
    let sent = call.stream(body).done().await;
    match (sent, packing.await?) {
        (Err(refused), _) if status_of(&refused).is_some() => Err(refused),
        (_, Err(packing)) => Err(packing),
        (sent, Ok(())) => sent.and_then(|()| done(args)),
    }
}

/// The directory in the container that the archive is unpacked in, and the name of the source within.
fn landing(
    source: &Path,
    is_directory: bool,
    contents: bool,
    path: &str,
    there: Option<&Value>,
) -> anyhow::Result<(String, String)> {
    let own = || {
        let whole = source.canonicalize().unwrap_or_else(|_| source.to_owned());
        let name = source.file_name().or(whole.file_name()).map(|n| n.to_string_lossy().into_owned());
        name.ok_or_else(|| anyhow!("{} has no name", source.display()))
    };
    match there {
        Some(stat) if is_dir(stat) && contents && is_directory => Ok((path.to_owned(), ".".to_owned())),
        Some(stat) if is_dir(stat) => Ok((path.to_owned(), own()?)),
        Some(_) if is_directory => Err(anyhow!("cannot copy directory {} onto a file", source.display())),
        None if path.ends_with('/') && !is_directory => Err(anyhow!("no such directory: {path}")),
        _ => {
            let trimmed = path.trim_end_matches('/');
            let (dir, base) = trimmed.rsplit_once('/').unwrap_or(("/", trimmed));
            Ok((if dir.is_empty() { "/".to_owned() } else { dir.to_owned() }, base.to_owned()))
        }
    }
}

struct Pipe(mpsc::Sender<io::Result<Bytes>>);

impl io::Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn pack(out: impl io::Write, source: &Path, inside: &Path, owners: bool) -> anyhow::Result<()> {
    let mut builder = tar::Builder::new(io::BufWriter::with_capacity(64 * 1024, out));
    let top = if inside == Path::new(".") { fs::metadata(source)? } else { fs::symlink_metadata(source)? };
    add(&mut builder, source, inside, &top, owners)?;
    io::Write::flush(&mut builder.into_inner()?)?;
    Ok(())
}

fn add<W: io::Write>(
    builder: &mut tar::Builder<W>,
    path: &Path,
    inside: &Path,
    meta: &fs::Metadata,
    owners: bool,
) -> anyhow::Result<()> {
    let doing = || format!("reading {}", path.display());
    let mut header = tar::Header::new_gnu();
    header.set_metadata(meta);
    if !owners {
        header.set_uid(0);
        header.set_gid(0);
    }
    let kind = meta.file_type();
    if kind.is_dir() {
        builder.append_data(&mut header, inside, io::empty()).with_context(doing)?;
        for entry in fs::read_dir(path).with_context(doing)? {
            let entry = entry.with_context(doing)?;
            let meta = fs::symlink_metadata(entry.path()).with_context(doing)?;
            add(builder, &entry.path(), &inside.join(entry.file_name()), &meta, owners)?;
        }
    } else if kind.is_symlink() {
        let target = fs::read_link(path).with_context(doing)?;
        builder.append_link(&mut header, inside, target).with_context(doing)?;
    } else if kind.is_file() {
        let file = fs::File::open(path).with_context(doing)?;
        // A file that grows meanwhile is cut, so that the archive stays one.
        builder.append_data(&mut header, inside, io::Read::take(file, meta.len())).with_context(doing)?;
    } else {
        output::note(format!("{}: skipped: neither file, directory nor symbolic link", path.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sides_are_told_apart() {
        for (text, expected) in [
            ("web:/etc", Some(("web", "/etc"))),
            ("web:", Some(("web", ""))),
            ("./a:b", None),
            ("/a:b", None),
            ("a", None),
            ("-", None),
        ] {
            assert_eq!(remote(text), expected, "{text}");
        }
    }

    #[test]
    fn where_a_copy_lands_in_a_container() {
        let (dir, file) = (json!({"mode": 1_u64 << 31}), json!({"mode": 420}));
        for (source, directory, contents, path, there, expected) in [
            ("/x/a", false, false, "/etc", Some(&dir), Some(("/etc", "a"))),
            ("/x/a", false, false, "/etc/b", None, Some(("/etc", "b"))),
            ("/x/a", false, false, "/b", Some(&file), Some(("/", "b"))),
            ("/x/d", true, true, "/etc", Some(&dir), Some(("/etc", "."))),
            ("/x/d", true, false, "/new/", None, Some(("/", "new"))),
            ("/x/d", true, false, "/b", Some(&file), None),
            ("/x/a", false, false, "/no/", None, None),
        ] {
            let landed = landing(Path::new(source), directory, contents, path, there).ok();
            let landed = landed.as_ref().map(|(a, b)| (a.as_str(), b.as_str()));
            assert_eq!(landed, expected, "{source} to {path}");
        }
    }

    #[test]
    fn archives_land_as_cp_would() {
        let root = tempfile::tempdir().unwrap();
        let source = root.path().join("d");
        fs::create_dir_all(source.join("sub")).unwrap();
        fs::write(source.join("sub/f"), "text").unwrap();
        let mut archive = Vec::new();
        pack(&mut archive, &source, Path::new("d"), true).unwrap();
        let new = root.path().join("new");
        place(&archive[..], &new, false, false, false).unwrap();
        assert_eq!(fs::read_to_string(new.join("sub/f")).unwrap(), "text");
        // Into a directory that is there: below it; its contents: beside what is there.
        place(&archive[..], &new, false, false, false).unwrap();
        assert_eq!(fs::read_to_string(new.join("d/sub/f")).unwrap(), "text");
        fs::write(new.join("sub/g"), "kept").unwrap();
        place(&archive[..], &new, true, false, false).unwrap();
        assert!(new.join("sub/g").exists() && new.join("sub/f").exists());
        assert!(place(&archive[..], &new.join("sub/f"), false, false, false).is_err());
        assert!(place(&archive[..], &root.path().join("no/such"), false, false, false).is_err());
        assert_eq!(fs::read_dir(&new).unwrap().count(), 2, "nothing is left beside");
    }
}
