//! Mounts in Docker's three notations: `Binds`, `Mounts` and `Tmpfs`.

use weft_model::{MountKind, MountSpec, Notation, Propagation, ReadOnlyDepth, TmpfsOptions};

use super::wire::{BindOptions, Mount, VolumeOptions};
use crate::error::{ApiError, Result};

fn invalid_spec(spec: &str, why: &str) -> ApiError {
    ApiError::bad_request(if why.is_empty() {
        format!("invalid volume specification: '{spec}'")
    } else {
        format!("invalid volume specification: '{spec}': {why}")
    })
}

fn propagation(word: &str) -> Option<Propagation> {
    Some(match word {
        "" | "rprivate" => Propagation::RPrivate,
        "private" => Propagation::Private,
        "rshared" => Propagation::RShared,
        "shared" => Propagation::Shared,
        "rslave" => Propagation::RSlave,
        "slave" => Propagation::Slave,
        _ => return None,
    })
}

/// `path.Clean` of an absolute path.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    format!("/{}", parts.join("/"))
}

fn volume(name: &str, no_copy: bool) -> MountKind {
    MountKind::Volume {
        name: name.to_owned(),
        anonymous: name.is_empty(),
        no_copy,
        subpath: String::new(),
        driver: String::new(),
        options: std::collections::BTreeMap::new(),
        labels: std::collections::BTreeMap::new(),
    }
}

/// The short notation `[source:]target[:mode]` (moby `volume/mounts/linux_parser.go`).
pub(super) fn from_bind(spec: &str, volume_driver: &str) -> Result<MountSpec> {
    let parts: Vec<&str> = spec.split(':').collect();
    let (source, target, mode) = match parts.as_slice() {
        [target] => ("", *target, ""),
        [source, target] => (*source, *target, ""),
        [source, target, mode] => (*source, *target, *mode),
        _ => return Err(invalid_spec(spec, "")),
    };
    if target.is_empty() || (parts.len() > 1 && source.is_empty()) {
        return Err(invalid_spec(spec, ""));
    }
    if clean(target) == "/" {
        return Err(invalid_spec(spec, "invalid specification: destination can't be '/'"));
    }
    let kind_word = if source.starts_with('/') { "bind" } else { "volume" };
    if !target.starts_with('/') {
        let why = format!(
            "invalid mount config for type \"{kind_word}\": invalid mount path: '{target}' mount path must be absolute"
        );
        return Err(invalid_spec(spec, &why));
    }
    let words = ModeWords::parse(mode, source.starts_with('/'))
        .ok_or_else(|| ApiError::bad_request(format!("invalid mode: {mode}")))?;
    let kind = if source.starts_with('/') {
        MountKind::Bind {
            source: clean(source),
            create: true,
            non_recursive: false,
            depth: ReadOnlyDepth::Best,
        }
    } else {
        check_volume_name(source)?;
        let mut kind = volume(source, words.no_copy);
        if let MountKind::Volume { driver, .. } = &mut kind {
            volume_driver.clone_into(driver);
        }
        kind
    };
    Ok(MountSpec {
        target: clean(target),
        kind,
        read_only: words.read_only,
        propagation: words.propagation,
        mode: mode.to_owned(),
        notation: Notation::Short(spec.to_owned()),
    })
}

fn check_volume_name(name: &str) -> Result<()> {
    if name.is_empty() || weft_base::Name::new(name).is_ok_and(|n| n.as_str().len() > 1) {
        return Ok(());
    }
    Err(ApiError::bad_request(if name.len() == 1 {
        "volume name is too short, names should be at least two alphanumeric characters".to_owned()
    } else {
        format!(
            "create {name}: \"{name}\" includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
        )
    }))
}

#[derive(Default)]
struct ModeWords {
    read_only: bool,
    no_copy: bool,
    propagation: Propagation,
}

impl ModeWords {
    /// `None` for an unknown word, or for two of one kind.
    fn parse(mode: &str, bind: bool) -> Option<Self> {
        let mut words = Self::default();
        let mut seen = [false; 4];
        for word in mode.split(',').filter(|_| !mode.is_empty()) {
            let group = match word {
                "ro" | "rw" => {
                    words.read_only = word == "ro";
                    0
                }
                "z" | "Z" => 1,
                "nocopy" if !bind => {
                    words.no_copy = true;
                    2
                }
                "consistent" | "cached" | "delegated" => 2,
                _ if bind && !word.is_empty() => {
                    words.propagation = propagation(word)?;
                    3
                }
                _ => return None,
            };
            if std::mem::replace(&mut seen[group], true) {
                return None;
            }
        }
        Some(words)
    }
}

/// The structured notation.
pub(super) fn from_mount(mount: &Mount) -> Result<MountSpec> {
    let invalid = |why: String| {
        ApiError::bad_request(format!("invalid mount config for type \"{}\": {why}", mount.kind))
    };
    if mount.target.is_empty() {
        return Err(invalid("field Target must not be empty".into()));
    }
    if clean(&mount.target) == "/" {
        return Err(invalid("invalid specification: destination can't be '/'".into()));
    }
    if !mount.target.starts_with('/') {
        return Err(invalid(format!("invalid mount path: '{}' mount path must be absolute", mount.target)));
    }
    let mut way = Propagation::RPrivate;
    let kind = match mount.kind.as_str() {
        "bind" => {
            let options = mount.bind_options.clone().unwrap_or_default();
            if mount.source.is_empty() {
                return Err(invalid("field Source must not be empty".into()));
            }
            if !mount.source.starts_with('/') {
                return Err(invalid(format!(
                    "invalid mount path: '{}' mount path must be absolute",
                    mount.source
                )));
            }
            if mount.volume_options.is_some() {
                return Err(invalid("field VolumeOptions must not be specified".into()));
            }
            way = propagation(&options.propagation)
                .ok_or_else(|| invalid(format!("invalid propagation mode: {}", options.propagation)))?;
            MountKind::Bind {
                source: clean(&mount.source),
                create: options.create_mountpoint,
                non_recursive: options.non_recursive,
                depth: depth(mount.read_only, &options)?,
            }
        }
        "volume" => volume_kind(mount)?,
        "tmpfs" => {
            if !mount.source.is_empty() {
                return Err(invalid("field Source must not be specified".into()));
            }
            let options = mount.tmpfs_options.clone().unwrap_or_default();
            let words: Vec<String> = options.options.iter().map(|pair| pair.join("=")).collect();
            MountKind::Tmpfs(TmpfsOptions {
                size: options.size_bytes,
                mode: options.mode,
                options: words.join(","),
            })
        }
        "image" => {
            if mount.source.is_empty() {
                return Err(invalid("field Source must not be empty".into()));
            }
            let subpath = mount.image_options.clone().unwrap_or_default().subpath;
            check_subpath("image", &subpath)?;
            MountKind::Image { reference: mount.source.clone(), id: None, subpath }
        }
        other => {
            return Err(ApiError::bad_request(format!(
                "invalid mount config for type \"{other}\": mount type unknown"
            )));
        }
    };
    let written = serde_json::to_value(mount).map_err(|e| ApiError::bad_request(e.to_string()))?;
    Ok(MountSpec {
        target: clean(&mount.target),
        kind,
        read_only: mount.read_only,
        propagation: way,
        mode: String::new(),
        notation: Notation::Long(written),
    })
}

/// How far a read-only bind reaches; the conflicts are dockerd's, which finds them at the start.
fn depth(read_only: bool, options: &BindOptions) -> Result<ReadOnlyDepth> {
    let conflict = |what: &str| Err(ApiError::bad_request(format!("mount options conflict: {what}")));
    match (options.read_only_non_recursive, options.read_only_force_recursive) {
        (false, false) => Ok(ReadOnlyDepth::Best),
        (true, true) => conflict("ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive"),
        (true, false) if !read_only => conflict("!ReadOnly && BindOptions.ReadOnlyNonRecursive"),
        (false, true) if !read_only => conflict("!ReadOnly && BindOptions.ReadOnlyForceRecursive"),
        (true, false) => Ok(ReadOnlyDepth::Top),
        (false, true) => Ok(ReadOnlyDepth::All),
    }
}

fn check_subpath(kind: &str, subpath: &str) -> Result<()> {
    let inside = |c| matches!(c, std::path::Component::Normal(_));
    if std::path::Path::new(subpath).components().all(inside) {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "invalid mount config for type \"{kind}\": subpath must be a relative path within the volume"
    )))
}

fn volume_kind(mount: &Mount) -> Result<MountKind> {
    if mount.bind_options.is_some() {
        return Err(ApiError::bad_request(
            "invalid mount config for type \"volume\": field BindOptions must not be specified".into(),
        ));
    }
    check_volume_name(&mount.source)?;
    let VolumeOptions { no_copy, labels, driver_config, subpath } =
        mount.volume_options.clone().unwrap_or_default();
    if !subpath.is_empty() && mount.source.is_empty() {
        return Err(ApiError::bad_request(
            "invalid mount config for type \"volume\": must not set Subpath when using anonymous volumes"
                .into(),
        ));
    }
    check_subpath("volume", &subpath)?;
    let config = driver_config.unwrap_or_default();
    Ok(MountKind::Volume {
        name: mount.source.clone(),
        anonymous: mount.source.is_empty(),
        no_copy,
        subpath,
        driver: config.name,
        options: config.options,
        labels,
    })
}

/// An entry of the `Tmpfs` map.
pub(super) fn from_tmpfs(target: &str, options: &str) -> Result<MountSpec> {
    if !target.starts_with('/') {
        return Err(ApiError::bad_request(format!(
            "invalid mount path: '{target}' mount path must be absolute"
        )));
    }
    Ok(MountSpec {
        target: clean(target),
        kind: MountKind::Tmpfs(TmpfsOptions { options: options.to_owned(), ..TmpfsOptions::default() }),
        read_only: options.split(',').any(|w| w == "ro"),
        propagation: Propagation::RPrivate,
        mode: String::new(),
        notation: Notation::TmpfsMap(options.to_owned()),
    })
}

/// A path declared in `Volumes`.
pub(super) fn anonymous(target: &str) -> Result<MountSpec> {
    if !target.starts_with('/') || clean(target) == "/" {
        return Err(invalid_spec(target, "mount path must be absolute and not '/'"));
    }
    Ok(MountSpec {
        target: clean(target),
        kind: volume("", false),
        read_only: false,
        propagation: Propagation::RPrivate,
        mode: String::new(),
        notation: Notation::Implied,
    })
}

/// Two mounts on one path are refused.
pub(super) fn refuse_duplicates(mounts: &[MountSpec]) -> Result<()> {
    let mut seen = std::collections::BTreeSet::new();
    match mounts.iter().find(|m| !seen.insert(m.target.as_str())) {
        Some(twice) => Err(ApiError::bad_request(format!("Duplicate mount point: {}", twice.target))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_notation() {
        for (spec, expected) in [
            ("/a:/b", Ok((true, false))),
            ("/a:/b:ro", Ok((true, true))),
            ("/a:/b:ro,rshared", Ok((true, true))),
            ("vol:/b:nocopy", Ok((false, false))),
            ("/b", Ok((false, false))),
            ("/a:/b:bad", Err("invalid mode: bad")),
            ("/a:/b:ro,rw", Err("invalid mode: ro,rw")),
            ("/a:/", Err("destination can't be '/'")),
            ("/a:b", Err("mount path must be absolute")),
            ("a:/b:ro:x", Err("invalid volume specification")),
            ("../a:/b", Err("includes invalid characters")),
            (":/b", Err("invalid volume specification")),
        ] {
            match (from_bind(spec, ""), expected) {
                (Ok(m), Ok((bind, ro))) => {
                    assert_eq!((matches!(m.kind, MountKind::Bind { .. }), m.read_only), (bind, ro), "{spec}");
                }
                (Err(e), Err(text)) => assert!(e.message().contains(text), "{spec}: {}", e.message()),
                (got, expected) => panic!("{spec}: {got:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn paths_are_cleaned() {
        for (path, expected) in [("/a/../b//c/.", "/b/c"), ("/..", "/"), ("/a/", "/a")] {
            assert_eq!(clean(path), expected);
        }
    }
}
