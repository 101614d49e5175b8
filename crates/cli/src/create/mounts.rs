//! `-v`, `--mount` and `--tmpfs`.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::values::bytes;
use crate::failure::usage;

/// A `-v` that has a source becomes a bind (with the source made absolute); one without is an anonymous volume.
pub fn volume(text: &str, cwd: &Path) -> anyhow::Result<(Option<String>, Option<String>)> {
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        [target] if !target.is_empty() => Ok((None, Some(target.to_owned()))),
        [source, target] | [source, target, _] if !source.is_empty() && !target.is_empty() => {
            // A path is what begins with one; anything else is the name of a volume.
            let source = if source.starts_with('.') || source.starts_with('~') {
                cwd.join(source).display().to_string()
            } else {
                source.to_owned()
            };
            let source = lexically_clean(&source);
            let rest = parts.get(2).map(|mode| format!(":{mode}")).unwrap_or_default();
            Ok((Some(format!("{source}:{target}{rest}")), None))
        }
        _ => Err(usage(format!("invalid volume specification: '{text}'"))),
    }
}

/// `/a/./b/..` as `/a`; names of volumes stay.
fn lexically_clean(path: &str) -> String {
    if !path.starts_with('/') {
        return path.to_owned();
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// `--mount type=bind,src=/a,dst=/b,readonly`.
pub fn mount(text: &str, cwd: &Path) -> anyhow::Result<Value> {
    let wrong = |why: String| usage(format!("invalid argument {text:?} for --mount: {why}"));
    let mut mount = Map::new();
    mount.insert("Type".into(), json!("volume"));
    for field in text.split(',') {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        one(&mut mount, &key, value, cwd).map_err(wrong)?;
    }
    let kind = mount["Type"].as_str().unwrap_or("").to_owned();
    if !mount.contains_key("Target") {
        return Err(wrong("target is required".into()));
    }
    for (options, owner) in [("VolumeOptions", "volume"), ("BindOptions", "bind"), ("TmpfsOptions", "tmpfs")]
    {
        if mount.contains_key(options) && kind != owner {
            return Err(wrong(format!("cannot mix '{owner}-*' options with mount type '{kind}'")));
        }
    }
    Ok(Value::Object(mount))
}

fn flag(value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => Err(format!("invalid value '{other}', must be true or false")),
    }
}

fn one(mount: &mut Map<String, Value>, key: &str, value: Option<&str>, cwd: &Path) -> Result<(), String> {
    let needed = || value.ok_or_else(|| format!("'{key}' must be a key=value pair"));
    let mut option = |group: &str, name: &str, value: Value| {
        let group = mount.entry(group).or_insert_with(|| json!({}));
        group[name] = value;
    };
    match key {
        "bind-propagation" => option("BindOptions", "Propagation", json!(needed()?)),
        "bind-nonrecursive" => option("BindOptions", "NonRecursive", json!(flag(value)?)),
        "bind-create-src" => option("BindOptions", "CreateMountpoint", json!(flag(value)?)),
        "bind-recursive" => match needed()? {
            "enabled" => {}
            "disabled" => option("BindOptions", "NonRecursive", json!(true)),
            "writable" => option("BindOptions", "ReadOnlyNonRecursive", json!(true)),
            "readonly" => option("BindOptions", "ReadOnlyForceRecursive", json!(true)),
            other => return Err(format!("invalid value '{other}' for bind-recursive")),
        },
        "volume-nocopy" => option("VolumeOptions", "NoCopy", json!(flag(value)?)),
        "volume-subpath" => option("VolumeOptions", "Subpath", json!(needed()?)),
        "image-subpath" => option("ImageOptions", "Subpath", json!(needed()?)),
        "volume-driver" => driver(mount, |d| d["Name"] = json!(value.unwrap_or(""))),
        "volume-opt" | "volume-label" => {
            let (name, content) = needed()?.split_once('=').unwrap_or((needed()?, ""));
            if key == "volume-opt" {
                driver(mount, |d| d["Options"][name] = json!(content));
            } else {
                mount.entry("VolumeOptions").or_insert_with(|| json!({}))["Labels"][name] = json!(content);
            }
        }
        "tmpfs-size" => option("TmpfsOptions", "SizeBytes", json!(bytes(needed()?)?)),
        "tmpfs-mode" => {
            let mode = u32::from_str_radix(needed()?, 8).map_err(|e| format!("tmpfs-mode: {e}"))?;
            option("TmpfsOptions", "Mode", json!(mode));
        }
        "type" => drop(mount.insert("Type".into(), json!(needed()?.to_ascii_lowercase()))),
        "source" | "src" => {
            let source = needed()?;
            let source = if source.starts_with("./") || source == "." || source.starts_with("../") {
                lexically_clean(&cwd.join(source).display().to_string())
            } else {
                source.to_owned()
            };
            mount.insert("Source".into(), json!(source));
        }
        "target" | "dst" | "destination" => drop(mount.insert("Target".into(), json!(needed()?))),
        "readonly" | "ro" => drop(mount.insert("ReadOnly".into(), json!(flag(value)?))),
        "consistency" => drop(mount.insert("Consistency".into(), json!(needed()?))),
        _ => return Err(format!("unexpected key '{key}' in '{key}={}'", value.unwrap_or(""))),
    }
    Ok(())
}

fn driver(mount: &mut Map<String, Value>, change: impl FnOnce(&mut Value)) {
    let options = mount.entry("VolumeOptions").or_insert_with(|| json!({}));
    if options["DriverConfig"].is_null() {
        options["DriverConfig"] = json!({});
    }
    change(&mut options["DriverConfig"]);
}

/// `--tmpfs /run:rw,size=64k` as target and options.
#[must_use]
pub fn tmpfs(text: &str) -> (String, String) {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    (target.to_owned(), options.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_notation() {
        let cwd = Path::new("/work");
        for (text, bind, anonymous) in [
            ("/data", None, Some("/data")),
            ("vol:/data", Some("vol:/data"), None),
            ("/a:/b:ro", Some("/a:/b:ro"), None),
            ("./x:/b", Some("/work/x:/b"), None),
            ("..:/b:ro,z", Some("/:/b:ro,z"), None),
        ] {
            let read = volume(text, cwd).unwrap();
            assert_eq!((read.0.as_deref(), read.1.as_deref()), (bind, anonymous), "{text}");
        }
        for text in ["", ":/b", "a:", "a:b:c:d"] {
            assert!(volume(text, cwd).is_err(), "{text}");
        }
    }

    #[test]
    fn long_notation() {
        let cwd = Path::new("/work");
        for (text, expected) in [
            (
                "type=bind,src=/a,dst=/b,ro",
                json!({"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true}),
            ),
            (
                "source=v,target=/b,readonly=false",
                json!({"Type": "volume", "Source": "v", "Target": "/b", "ReadOnly": false}),
            ),
            (
                "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770",
                json!({"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1_048_576, "Mode": 0o1770}}),
            ),
            (
                "dst=/v,volume-driver=local,volume-opt=type=nfs,volume-nocopy",
                json!({"Type": "volume", "Target": "/v", "VolumeOptions":
                    {"NoCopy": true, "DriverConfig": {"Name": "local", "Options": {"type": "nfs"}}}}),
            ),
            (
                "type=bind,src=.,dst=/b,bind-propagation=rshared",
                json!({"Type": "bind", "Source": "/work", "Target": "/b", "BindOptions": {"Propagation": "rshared"}}),
            ),
        ] {
            assert_eq!(mount(text, cwd).unwrap(), expected, "{text}");
        }
        for text in
            ["type=bind,src=/a", "dst=/b,frob=1", "type=bind,dst=/b,volume-nocopy", "dst=/b,ro=maybe", "src"]
        {
            assert!(mount(text, cwd).is_err(), "{text}");
        }
    }
}
