//! `userns-remap`: the subordinate ids of a user (subuid(5), subgid(5)).

use anyhow::{Context, bail};
use weft_dataplane::{IdMaps, IdRange};
use weft_engine::oci::{IdMap, UserNamespace};

/// The ranges of `user[:group]`; `default` is Docker's `dockremap`.
pub(crate) fn resolve(text: &str) -> anyhow::Result<UserNamespace> {
    let (user, group) = text.split_once(':').unwrap_or((text, text));
    let name = |n: &str| if n == "default" { "dockremap".to_owned() } else { n.to_owned() };
    Ok(UserNamespace {
        uids: ranges("/etc/subuid", &name(user))?,
        gids: ranges("/etc/subgid", &name(group))?,
    })
}

fn ranges(path: &str, name: &str) -> anyhow::Result<Vec<IdMap>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("userns-remap: reading {path}"))?;
    let maps = parse(&text, name);
    if maps.is_empty() {
        bail!("userns-remap: {path} has no range for {name}; add a line such as {name}:100000:65536");
    }
    Ok(maps)
}

fn parse(text: &str, name: &str) -> Vec<IdMap> {
    let mut inside = 0;
    let mut maps = Vec::new();
    for line in text.lines() {
        let mut parts = line.trim().split(':');
        let (Some(owner), Some(start), Some(count)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        if let (true, Ok(outside), Ok(count)) = (owner == name, start.parse(), count.parse::<u32>()) {
            maps.push(IdMap { inside, outside, count });
            inside = inside.saturating_add(count);
        }
    }
    maps
}

/// How images' owners are shifted: by the first range.
pub(crate) fn shift(namespace: &UserNamespace) -> Option<weft_image::IdMap> {
    let (uid, gid) = (namespace.uids.first()?, namespace.gids.first()?);
    Some(weft_image::IdMap { uid: uid.outside, gid: gid.outside, length: uid.count.min(gid.count) })
}

/// The same for network namespaces.
pub(crate) fn id_maps(namespace: &UserNamespace) -> IdMaps {
    let ranges = |maps: &[IdMap]| {
        maps.iter().map(|m| IdRange { inside: m.inside, outside: m.outside, count: m.count }).collect()
    };
    IdMaps { uids: ranges(&namespace.uids), gids: ranges(&namespace.gids) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn ranges_follow_one_another_inside() {
        let maps = super::parse("a:100:10\nb:1:1\na:500:5\nbroken\n", "a");
        let seen: Vec<_> = maps.iter().map(|m| (m.inside, m.outside, m.count)).collect();
        assert_eq!(seen, [(0, 100, 10), (10, 500, 5)]);
    }
}
