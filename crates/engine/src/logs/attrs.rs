//! Attributes and tags: what of a container's labels and environment goes along with its lines.

use std::collections::BTreeMap;

use super::{options::LogOptionError, types::LogFacts};

type Map = BTreeMap<String, String>;

/// The attributes that `labels`, `labels-regex`, `env` and `env-regex` ask for.
pub(super) fn collect(options: &Map, facts: &LogFacts) -> Result<Map, LogOptionError> {
    let env: Map = facts
        .env
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
    let mut found = Map::new();
    for (source, names, pattern) in [(&facts.labels, "labels", "labels-regex"), (&env, "env", "env-regex")] {
        let list = options.get(names).map_or("", String::as_str);
        for name in list.split(',').filter(|n| !n.is_empty()) {
            if let Some(value) = source.get(name) {
                found.insert(name.to_owned(), value.clone());
            }
        }
        if let Some(pattern) = options.get(pattern).filter(|p| !p.is_empty()) {
            let pattern = regex::Regex::new(pattern)
                .map_err(|e| LogOptionError::Value(format!("error parsing regexp: {e}")))?;
            found.extend(
                source.iter().filter(|(k, _)| pattern.is_match(k)).map(|(k, v)| (k.clone(), v.clone())),
            );
        }
    }
    Ok(found)
}

/// The `tag` option rendered, or `default` rendered where there is none.
pub(super) fn tag(options: &Map, facts: &LogFacts, default: &str) -> Result<String, LogOptionError> {
    let template = options.get("tag").filter(|t| !t.is_empty()).map_or(default, String::as_str);
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once("{{") {
        out.push_str(before);
        let bad = || LogOptionError::Value(format!("template: log-tag: {template:?} is not understood"));
        let (field, after) = behind.split_once("}}").ok_or_else(bad)?;
        out.push_str(match field.trim().trim_start_matches('.') {
            "ID" => facts.id.get(..12).unwrap_or(&facts.id),
            "FullID" => &facts.id,
            "Name" => &facts.name,
            "ImageID" => short_image(&facts.image_id),
            "ImageFullID" => &facts.image_id,
            "ImageName" => &facts.image,
            "DaemonName" => &facts.daemon,
            _ => return Err(bad()),
        });
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn short_image(id: &str) -> &str {
    let hex = id.split_once(':').map_or(id, |(_, hex)| hex);
    hex.get(..12).unwrap_or(hex)
}

/// Attributes of file drivers as a JSON object, the tag among them; empty when there are none.
pub(super) fn json(options: &Map, facts: &LogFacts) -> Result<String, LogOptionError> {
    let mut all = collect(options, facts)?;
    let tag = tag(options, facts, "")?;
    if !tag.is_empty() {
        all.insert("tag".to_owned(), tag);
    }
    if all.is_empty() {
        return Ok(String::new());
    }
    serde_json::to_string(&all).map_err(|e| LogOptionError::Value(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_and_tags() {
        let facts = LogFacts {
            id: "ab".repeat(32),
            name: "web".into(),
            image_id: format!("sha256:{}", "cd".repeat(32)),
            labels: [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())].into(),
            env: vec!["PATH=/bin".into(), "X_Y=z".into(), "broken".into()],
            ..LogFacts::default()
        };
        for (options, expected) in [
            (&[][..], ""),
            (&[("labels", "a,zz"), ("env", "X_Y")], r#"{"X_Y":"z","a":"1"}"#),
            (&[("labels-regex", "^[ab]$")], r#"{"a":"1","b":"2"}"#),
            (&[("tag", "{{.Name}}/{{ .ID }}-{{.ImageID}}")], r#"{"tag":"web/abababababab-cdcdcdcdcdcd"}"#),
        ] {
            let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            assert_eq!(json(&options, &facts).unwrap(), expected);
        }
        for tag in ["{{.Foo}}", "{{.ID"] {
            let options = [("tag".to_owned(), tag.to_owned())].into();
            assert!(json(&options, &facts).is_err(), "{tag}");
        }
    }
}
