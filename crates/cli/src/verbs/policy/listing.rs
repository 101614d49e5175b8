//! `policy ls`: which policies, and how they are written: as a table, as JSON or by a template of fields, as Docker's lists.
//! Of Go's templates that is what lists are used with; conditions and functions are refused.

use clap::Args;
use serde_json::{Map, Value, json};

use super::{filter::matches, traffic};
use crate::{
    context::Context,
    failure::usage,
    output::{
        self,
        human::{self, list, text},
    },
};

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  weft policy ls -q --filter action=deny\n  \
    weft policy ls --filter to=db --filter network=web\n  \
    weft policy ls --format '{{.ID}} {{.From}} {{.To}}'\n  weft policy ls --format json\n\n\
    Containers and networks are named by name, id or the beginning of an id: from=db is from=name=db.\n\
    Fields: .ID .From .To .Traffic .Action .Packets .Bytes .Missing. A policy is dangling when it speaks of a network or a\n\
    container that is not there; that of a removed network never holds again.")]
pub(super) struct ListArgs {
    /// Only what matches: id=, from=, to=, network=, action=, protocol= (or all), dangling=
    #[arg(short = 'f', long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// table, 'table TEMPLATE', json (one object a line), or a template of fields
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Do not shorten
    #[arg(long)]
    no_trunc: bool,
    /// Only ids
    #[arg(short = 'q', long)]
    quiet: bool,
}

const FIELDS: [(&str, &str); 8] = [
    ("ID", "POLICY"),
    ("From", "FROM"),
    ("To", "TO"),
    ("Traffic", "TRAFFIC"),
    ("Action", "ACTION"),
    ("Packets", "PACKETS"),
    ("Bytes", "BYTES"),
    ("Missing", "MISSING"),
];
const TABLE: &str = "{{.ID}}\t{{.From}}\t{{.To}}\t{{.Traffic}}\t{{.Action}}";

/// A template's parts.
#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    /// An index into [`FIELDS`].
    Field(usize),
    /// The same, as JSON.
    Json(usize),
    /// All fields, as JSON.
    All,
}

fn parts(template: &str) -> anyhow::Result<Vec<Part<'_>>> {
    let (mut parts, mut rest) = (Vec::new(), template);
    while let Some((before, after)) = rest.split_once("{{") {
        let (inside, after) = after
            .split_once("}}")
            .ok_or_else(|| usage(format!("invalid format {template:?}: an action is not closed")))?;
        let inside = inside.trim();
        let (json, field) = match inside.strip_prefix("json ") {
            Some(field) => (true, field.trim()),
            None => (false, inside),
        };
        let index = field.strip_prefix('.').map(|name| FIELDS.iter().position(|(field, _)| *field == name));
        let part = match index {
            Some(None) if json && field == "." => Some(Part::All),
            Some(Some(index)) if json => Some(Part::Json(index)),
            other => other.flatten().map(Part::Field),
        };
        let part = part.ok_or_else(|| {
            let known: Vec<String> = FIELDS.iter().map(|(name, _)| format!(".{name}")).collect();
            usage(format!("invalid format: {{{{{inside}}}}} is none of {}", known.join(", ")))
        })?;
        parts.extend([Part::Text(before), part]);
        rest = after;
    }
    parts.push(Part::Text(rest));
    Ok(parts)
}

fn filled(parts: &[Part<'_>], values: &[String; 8]) -> String {
    let one = |part: &Part<'_>| match part {
        Part::Text(text) => text.to_string(),
        Part::Field(field) => values.get(*field).cloned().unwrap_or_default(),
        Part::Json(field) => json!(values.get(*field)).to_string(),
        Part::All => object(values).to_string(),
    };
    parts.iter().map(one).collect()
}

/// All fields, by their names.
fn object(values: &[String; 8]) -> Value {
    FIELDS.iter().zip(values).map(|((name, _), value)| ((*name).to_owned(), json!(value))).collect()
}

fn values(view: &Value, whole: bool) -> [String; 8] {
    let spec = &view["policy"]["spec"];
    let id = text(spec, "id");
    let missing = list(&view["missing"]).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
    [
        if whole { id.to_owned() } else { human::short(id) },
        text(view, "from").into(),
        text(view, "to").into(),
        traffic(spec),
        text(spec, "action").into(),
        view["packets"].to_string(),
        view["bytes"].to_string(),
        missing,
    ]
}

/// The whole list, as it is printed.
fn written(args: &ListArgs, views: &[&Value]) -> anyhow::Result<Vec<String>> {
    let rows = || views.iter().map(|view| values(view, args.no_trunc));
    if args.quiet {
        return Ok(rows().map(|[id, ..]| id).collect());
    }
    // An empty one is as none, as with Docker.
    let format = args.format.as_deref().filter(|format| !format.is_empty()).unwrap_or("table");
    if format == "json" {
        return Ok(views.iter().map(|view| object(&values(view, true)).to_string()).collect());
    }
    let template = match format.strip_prefix("table") {
        Some("") => Some(TABLE),
        Some(rest) => rest.strip_prefix(' '),
        None => None,
    };
    let escaped = template.unwrap_or(format).replace("\\t", "\t").replace("\\n", "\n");
    let parts = parts(&escaped)?;
    let lines = rows().map(|values| filled(&parts, &values));
    if template.is_none() {
        return Ok(lines.collect());
    }
    let headings = filled(&parts, &FIELDS.map(|(_, heading)| heading.to_owned()));
    Ok(vec![output::table::aligned(&std::iter::once(headings).chain(lines).collect::<Vec<_>>())])
}

/// Prints them.
pub(super) fn ls(context: &Context, args: &ListArgs, views: &Value) -> anyhow::Result<()> {
    let filters = super::super::filters(&args.filter)?.unwrap_or_else(|| "{}".to_owned());
    let filters: Map<String, Value> = serde_json::from_str(&filters)?;
    // Filters and templates are read even where there is nothing to list.
    matches(&json!({}), &filters)?;
    let mut chosen = Vec::new();
    for view in list(views) {
        if matches(view, &filters)? {
            chosen.push(view);
        }
    }
    if context.json && args.format.is_none() {
        let ids = || chosen.iter().map(|view| view["policy"]["spec"]["id"].clone()).collect();
        return output::json(&if args.quiet { Value::Array(ids()) } else { json!(chosen) });
    }
    written(args, &chosen)?.into_iter().try_for_each(output::line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ListArgs,
    }

    fn views() -> [Value; 2] {
        let one = |id: &str, to: &str, action: &str, missing: &[&str]| {
            json!({
                "policy": {"spec": {"id": id.repeat(32), "protocol": "tcp", "ports": {"start": 80, "end": 90}, "action": action}},
                "from": "any", "to": to, "packets": 3, "bytes": 180, "missing": missing,
            })
        };
        [one("ab", "network=web", "deny", &[]), one("cd", "name=db", "allow", &["name=db"])]
    }

    fn shown(words: &[&str]) -> anyhow::Result<String> {
        let args = Line::try_parse_from(std::iter::once(&"ls").chain(words))?.args;
        let filters = super::super::super::filters(&args.filter)?.unwrap_or("{}".into());
        let filters = serde_json::from_str(&filters)?;
        matches(&json!({}), &filters)?;
        let views = views();
        let chosen: Vec<&Value> = views.iter().filter(|v| matches(v, &filters).unwrap()).collect();
        Ok(written(&args, &chosen)?.join("\n"))
    }

    #[test]
    fn lists_are_written_as_asked() {
        let (a, b) = ("ab".repeat(6), "cd".repeat(6));
        for (words, text) in [
            (&["-q"][..], format!("{a}\n{b}")),
            (&["-q", "--no-trunc", "-f", "id=cd"], "cd".repeat(32)),
            (&["-q", "-f", "action=deny"], a.clone()),
            (&["-q", "-f", "network=web", "-f", "protocol=tcp"], a.clone()),
            (&["-q", "-f", "dangling=true"], b.clone()),
            (&["-q", "-f", "to=name=db", "-f", "to=network=web"], format!("{a}\n{b}")),
            (&["-q", "-f", "to=name=db", "-f", "action=deny"], String::new()),
            (&["--format", "", "-q", "-f", "id=ab"], a.clone()),
            (&["--format", "{{json .Action}} {{json .To}}", "-f", "id=ab"], r#""deny" "network=web""#.into()),
            (&["--format", "{{.From}}>{{ .To }} {{.Packets}}"], "any>network=web 3\nany>name=db 3".into()),
            (
                &["--format", "table {{.Action}}\\t{{.Traffic}}", "-f", "id=ab"],
                "ACTION   TRAFFIC\ndeny     tcp 80-90".into(),
            ),
        ] {
            assert_eq!(shown(words).unwrap(), text, "{words:?}");
        }
        let table = shown(&[]).unwrap();
        assert!(table.starts_with("POLICY         FROM   TO"), "{table}");
        let json: Value =
            serde_json::from_str(&shown(&["--format", "json", "-f", "id=ab"]).unwrap()).unwrap();
        assert_eq!(
            shown(&["--format", "{{ json . }}"]).unwrap(),
            shown(&["--format", "json"]).unwrap().replace(&"ab".repeat(32), &a).replace(&"cd".repeat(32), &b)
        );
        assert_eq!(shown(&["--format", ""]).unwrap(), shown(&[]).unwrap());
        assert_eq!((&json["ID"], &json["Bytes"]), (&json!("ab".repeat(32)), &json!("180")));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (words, text) in [
            (&["-f", "colour=red"][..], "invalid filter 'colour'"),
            (&["-f", "action=deny", "-f", "colour=red"], "invalid filter 'colour'"),
            (&["-f", "dangling=maybe"], "invalid filter 'dangling=maybe'"),
            (&["-f", "deny"], "KEY=VALUE"),
            (&["--format", "{{.Nothing}}"], "is none of .ID"),
            (&["--format", "{{if .ID}}"], "is none of .ID"),
            (&["--format", "{{json .Nothing}}"], "is none of .ID"),
            (&["--format", "{{.}}"], "is none of .ID"),
            (&["--format", "{{.ID"], "not closed"),
        ] {
            let error = format!("{:#}", shown(words).unwrap_err());
            assert!(error.contains(text), "{words:?}: {error}");
        }
    }
}
