//! Removing what is not used: one list of kinds, asked about once.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use clap::Args;
use serde_json::{Map, Value, json};

use super::filters;
use crate::{
    context::Context,
    failure::usage,
    output::{
        self,
        human::{self, list},
    },
};

/// A kind of thing that can be pruned.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    path: &'static str,
    /// Key of the answer that lists what is gone, and the heading for people.
    deleted: &'static str,
    heading: &'static str,
    warning: &'static str,
    filter: Option<(&'static str, &'static str)>,
}

/// Stopped containers.
pub const CONTAINERS: Kind = Kind {
    path: "/containers/prune",
    deleted: "ContainersDeleted",
    heading: "Deleted Containers:",
    warning: "all stopped containers",
    filter: None,
};
/// Networks without containers.
pub const NETWORKS: Kind = Kind {
    path: "/networks/prune",
    deleted: "NetworksDeleted",
    heading: "Deleted Networks:",
    warning: "all networks not used by at least one container",
    filter: None,
};
/// Anonymous volumes.
pub const VOLUMES: Kind = Kind {
    path: "/volumes/prune",
    deleted: "VolumesDeleted",
    heading: "Deleted Volumes:",
    warning: "all anonymous volumes not used by at least one container",
    filter: None,
};
/// Named volumes, too.
pub const ALL_VOLUMES: Kind = Kind {
    warning: "all volumes not used by at least one container",
    filter: Some(("all", "true")),
    ..VOLUMES
};
/// Images without a name.
pub const IMAGES: Kind = Kind {
    path: "/images/prune",
    deleted: "ImagesDeleted",
    heading: "Deleted Images:",
    warning: "all dangling images",
    filter: None,
};
/// Images with a name, too.
pub const ALL_IMAGES: Kind = Kind {
    warning: "all images without at least one container associated to them",
    filter: Some(("dangling", "false")),
    ..IMAGES
};

/// Flags of every prune.
#[derive(Args, Debug)]
pub struct Flags {
    /// Only what matches: until=24h, label=, label!=
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short = 'f', long)]
    force: bool,
}

/// Asks, then prunes one kind after the other.
pub async fn run(context: &Context, kinds: &[Kind], flags: &Flags) -> anyhow::Result<()> {
    if !flags.force && !sure(kinds)? {
        return Ok(());
    }
    let (mut space, mut report) = (0.0, Map::new());
    for kind in kinds {
        let mut words = flags.filter.clone();
        words.extend(kind.filter.map(|(key, value)| format!("{key}={value}")));
        let call = context.client.post(kind.path).query_some("filters", filters(&words)?);
        let answer: Value = call.fetch().await?;
        space += answer["SpaceReclaimed"].as_f64().unwrap_or(0.0);
        let gone = list(&answer[kind.deleted]);
        if !context.json && !gone.is_empty() {
            output::line(kind.heading)?;
            gone.iter().try_for_each(|g| output::line(shown(g)))?;
            output::line("")?;
        }
        report.insert(kind.deleted.into(), json!(gone));
    }
    if context.json {
        report.insert("SpaceReclaimed".into(), json!(space));
        return output::json(&Value::Object(report));
    }
    output::line(format!("Total reclaimed space: {}", human::size(space)))
}

fn shown(gone: &Value) -> String {
    if let Some(name) = gone.as_str() {
        return name.to_owned();
    }
    let parts = gone.as_object().into_iter().flatten();
    parts
        .map(|(k, v)| format!("{}: {}", k.to_ascii_lowercase(), v.as_str().unwrap_or("")))
        .collect::<Vec<_>>()
        .join(", ")
}

fn sure(kinds: &[Kind]) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(usage("cannot ask whether you are sure: standard input is no terminal; use --force"));
    }
    let mut text = "WARNING! This will remove:\n".to_owned();
    for kind in kinds {
        text.push_str(&format!("  - {}\n", kind.warning));
    }
    text.push_str("Are you sure you want to continue? [y/N] ");
    std::io::stderr().write_all(text.as_bytes())?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}
