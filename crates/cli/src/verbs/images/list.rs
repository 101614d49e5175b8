//! `images`, `history`, `search`.

use clap::Args;
use serde_json::Value;

use super::split;
use crate::{
    client::image_path,
    context::Context,
    output::{
        self, Table,
        human::{self, list, text},
    },
    verbs::{filters, login},
};

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  weft images\n  weft images -f dangling=true -q\n  weft images alpine")]
pub struct ImagesArgs {
    /// Those that only others build on, too
    #[arg(short = 'a', long)]
    all: bool,
    /// With their digests
    #[arg(long)]
    digests: bool,
    /// Only what matches: dangling=, label=, before=, since=, reference=
    #[arg(short = 'f', long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not shorten
    #[arg(long)]
    no_trunc: bool,
    /// Only ids
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Only this repository
    repository: Option<String>,
}

#[derive(Args, Debug)]
pub struct HistoryArgs {
    /// Do not shorten
    #[arg(long)]
    no_trunc: bool,
    /// Only ids
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Sizes in bytes, times as they are
    #[arg(long = "human", default_value = "true", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", action = clap::ArgAction::Set)]
    human: bool,
    /// The image
    image: String,
}

#[derive(Args, Debug)]
pub struct SearchArgs {
    /// Only what matches: is-official=, stars=
    #[arg(short = 'f', long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// Do not shorten
    #[arg(long)]
    no_trunc: bool,
    /// What to look for
    term: String,
}

/// `images`.
pub async fn images(context: &Context, args: ImagesArgs) -> anyhow::Result<()> {
    let mut words = args.filter.clone();
    words.extend(args.repository.iter().map(|r| format!("reference={r}")));
    let call = context.client.get("/images/json").flag("all", args.all).flag("digests", args.digests);
    let images: Value = call.query_some("filters", filters(&words)?).fetch().await?;
    if context.json {
        return output::json(&images);
    }
    let id = |i: &Value| if args.no_trunc { text(i, "Id").to_owned() } else { human::short(text(i, "Id")) };
    if args.quiet {
        return list(&images).iter().try_for_each(|i| output::line(id(i)));
    }
    let mut table = if args.digests {
        Table::new(&["REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE"])
    } else {
        Table::new(&["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"])
    };
    for image in list(&images) {
        for (repository, tag, digest) in names(image) {
            let created = human::ago(image["Created"].as_i64().unwrap_or(0));
            let size = human::size(image["Size"].as_f64().unwrap_or(0.0));
            if args.digests {
                table.row([repository, tag, digest, id(image), created, size]);
            } else {
                table.row([repository, tag, id(image), created, size]);
            }
        }
    }
    table.print()
}

/// A row for each name of an image; one that has lost its names still has one row.
fn names(image: &Value) -> Vec<(String, String, String)> {
    let none = || "<none>".to_owned();
    let digests: Vec<(&str, &str)> =
        list(&image["RepoDigests"]).iter().filter_map(|d| d.as_str()?.split_once('@')).collect();
    let tags: Vec<&str> =
        list(&image["RepoTags"]).iter().filter_map(Value::as_str).filter(|t| *t != "<none>:<none>").collect();
    if tags.is_empty() {
        return match digests.first() {
            Some((repository, digest)) if *repository != "<none>" => {
                vec![((*repository).to_owned(), none(), (*digest).to_owned())]
            }
            _ => vec![(none(), none(), none())],
        };
    }
    let row = |reference: &str| {
        let (repository, tag) = split(reference);
        let digest =
            digests.iter().find(|(r, _)| *r == repository).map_or_else(none, |(_, d)| (*d).to_owned());
        (repository.to_owned(), tag.to_owned(), digest)
    };
    tags.into_iter().map(row).collect()
}

/// `history`.
pub async fn history(context: &Context, args: HistoryArgs) -> anyhow::Result<()> {
    let layers: Value =
        context.client.get(format!("/images/{}/history", image_path(&args.image))).fetch().await?;
    if context.json {
        return output::json(&layers);
    }
    let id = |l: &Value| if args.no_trunc { text(l, "Id").to_owned() } else { human::short(text(l, "Id")) };
    if args.quiet {
        return list(&layers).iter().try_for_each(|l| output::line(id(l)));
    }
    let mut table = Table::new(&["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]);
    for layer in list(&layers) {
        let by = text(layer, "CreatedBy").replace('\t', " ");
        let by = if args.no_trunc { by } else { human::ellipsis(&by, 45) };
        let (created, size) = (layer["Created"].as_i64().unwrap_or(0), layer["Size"].as_f64().unwrap_or(0.0));
        let (created, size) = if args.human {
            (human::ago(created), human::size(size))
        } else {
            (
                chrono::DateTime::from_timestamp(created, 0).unwrap_or_default().to_rfc3339(),
                format!("{size:.0}"),
            )
        };
        table.row([id(layer), created, by, size, text(layer, "Comment").to_owned()]);
    }
    table.print()
}

/// `search`.
pub async fn search(context: &Context, args: SearchArgs) -> anyhow::Result<()> {
    let call = context.client.get("/images/search").query("term", &args.term).query_some("limit", args.limit);
    let call = call.query_some("filters", filters(&args.filter)?);
    let call = match login::header_for(&args.term)? {
        Some(auth) => call.header("x-registry-auth", &auth)?,
        None => call,
    };
    let found: Value = call.fetch().await?;
    if context.json {
        return output::json(&found);
    }
    let mut table = Table::new(&["NAME", "DESCRIPTION", "STARS", "OFFICIAL"]);
    for hit in list(&found) {
        let about = text(hit, "description").replace('\n', " ");
        let about = if args.no_trunc { about } else { human::ellipsis(&about, 45) };
        let official = if hit["is_official"] == true { "[OK]" } else { "" };
        let stars = hit["star_count"].as_i64().unwrap_or(0).to_string();
        table.row([text(hit, "name").to_owned(), about, stars, official.to_owned()]);
    }
    table.print()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_name_of_an_image_has_a_row() {
        let row = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        let image = json!({"RepoTags": ["a:1", "h:5/b:2"], "RepoDigests": ["a@sha256:0"]});
        assert_eq!(names(&image), [row("a", "1", "sha256:0"), row("h:5/b", "2", "<none>")]);
        assert_eq!(names(&json!({"RepoTags": null})), [row("<none>", "<none>", "<none>")]);
        let lost = json!({"RepoTags": ["<none>:<none>"], "RepoDigests": ["a@sha256:0"]});
        assert_eq!(names(&lost), [row("a", "<none>", "sha256:0")]);
    }
}
