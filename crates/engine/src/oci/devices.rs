//! Device nodes inside, and the rules of the device cgroup.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType as Kind};
use weft_model::{ContainerSpec, DeviceSpec, Resources};

use super::error::OciError;

/// What was read of device nodes on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gathered {
    /// Nodes to make inside.
    pub nodes: Vec<LinuxDevice>,
    /// Rules that allow them.
    pub rules: Vec<LinuxDeviceCgroup>,
    /// Major and minor number of each block device that a limit names, by path.
    pub blocks: BTreeMap<String, (i64, i64)>,
}

/// Reads the devices that a container's spec names from the host's `/dev`.
pub fn gather(spec: &ContainerSpec) -> Result<Gathered, OciError> {
    let mut found = Gathered { blocks: blocks(&spec.resources)?, ..Gathered::default() };
    let privileged = spec.confine.privileged;
    if privileged {
        walk(Path::new("/dev"), "/dev", &mut found.nodes);
    }
    for device in &spec.resources.devices {
        if privileged && device.host == device.target {
            continue;
        }
        let nodes = custom(device)?;
        let access = if privileged || device.access.is_empty() { "rwm" } else { &device.access };
        found.rules.extend(nodes.iter().map(|n| rule(true, n.typ(), n.major(), n.minor(), access)));
        found.nodes.extend(nodes);
    }
    Ok(found)
}

/// Numbers of the block devices that limits name.
pub fn blocks(resources: &Resources) -> Result<BTreeMap<String, (i64, i64)>, OciError> {
    let rates = [
        &resources.blkio_read_bps,
        &resources.blkio_write_bps,
        &resources.blkio_read_iops,
        &resources.blkio_write_iops,
    ];
    let rates = rates.into_iter().flatten().map(|r| &r.path);
    let paths = resources.blkio_weight_device.iter().map(|w| &w.path).chain(rates);
    let mut found = BTreeMap::new();
    for path in paths {
        let meta = fs::metadata(path).map_err(|source| OciError::Read { path: path.into(), source })?;
        found.insert(path.clone(), numbers(&meta));
    }
    Ok(found)
}

fn numbers(meta: &fs::Metadata) -> (i64, i64) {
    let rdev = meta.rdev();
    (i64::from(rustix::fs::major(rdev)), i64::from(rustix::fs::minor(rdev)))
}

fn node(path: &Path, inside: &str) -> io::Result<Option<LinuxDevice>> {
    let meta = fs::symlink_metadata(path)?;
    let kind = meta.file_type();
    let kind = match (kind.is_block_device(), kind.is_char_device()) {
        (true, _) => Kind::B,
        (_, true) => Kind::C,
        _ => return Ok(None),
    };
    let (major, minor) = numbers(&meta);
    let mut made = LinuxDevice::default();
    made.set_path(inside.into())
        .set_typ(kind)
        .set_major(major)
        .set_minor(minor)
        .set_file_mode(Some(meta.mode() & 0o7777))
        .set_uid(Some(meta.uid()))
        .set_gid(Some(meta.gid()));
    Ok(Some(made))
}

/// A node, a link to one, or a directory of them.
fn custom(device: &DeviceSpec) -> Result<Vec<LinuxDevice>, OciError> {
    let fail = |reason: String| OciError::Device { path: device.host.clone(), reason };
    let path = fs::canonicalize(&device.host)
        .map_err(|_| fail(format!("lstat {}: no such file or directory", device.host)))?;
    if let Some(one) = node(&path, &device.target).map_err(|e| fail(e.to_string()))? {
        return Ok(vec![one]);
    }
    let mut found = Vec::new();
    if path.is_dir() {
        walk(&path, &device.target, &mut found);
    }
    if found.is_empty() { Err(fail("not a device node".to_owned())) } else { Ok(found) }
}

/// Directories of `/dev` that belong to somebody else.
const SKIPPED: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];

fn walk(dir: &Path, inside: &str, found: &mut Vec<LinuxDevice>) {
    let mut entries: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let below = format!("{inside}/{name}");
        let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
        if is_dir && !SKIPPED.contains(&name.as_str()) {
            walk(&entry.path(), &below, found);
        } else if !is_dir && name != "console" {
            found.extend(node(&entry.path(), &below).ok().flatten());
        }
    }
}

/// `-1` means all numbers; to runtimes an absent number does (libcontainer would write the `-1` to the kernel).
fn rule(allow: bool, kind: Kind, major: i64, minor: i64, access: &str) -> LinuxDeviceCgroup {
    let given = |number: i64| Some(number).filter(|n| *n >= 0);
    let mut made = LinuxDeviceCgroup::default();
    made.set_allow(allow)
        .set_typ(Some(kind))
        .set_major(given(major))
        .set_minor(given(minor))
        .set_access(Some(access.to_owned()));
    made
}

fn everything(allow: bool) -> LinuxDeviceCgroup {
    let mut made = LinuxDeviceCgroup::default();
    made.set_allow(allow).set_typ(Some(Kind::A)).set_access(Some("rwm".to_owned()));
    made
}

/// The rules of the device cgroup: nothing, then the harmless ones, then what was asked for.
pub(super) fn rules(spec: &ContainerSpec, found: &Gathered) -> Result<Vec<LinuxDeviceCgroup>, OciError> {
    if spec.confine.privileged {
        return Ok(vec![everything(true)]);
    }
    // zero, null, urandom, random, tty, console; not fuse.
    let harmless = [(1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1)];
    let mut all = vec![everything(false)];
    all.extend(harmless.into_iter().map(|(major, minor)| rule(true, Kind::C, major, minor, "rwm")));
    all.push(rule(false, Kind::C, 10, 229, "rwm"));
    all.extend(found.rules.iter().cloned());
    for text in &spec.resources.device_cgroup_rules {
        all.push(parse_rule(text)?);
    }
    Ok(all)
}

/// `c 42:* rmw`; the error is Docker's.
pub(super) fn parse_rule(text: &str) -> Result<LinuxDeviceCgroup, OciError> {
    let bad = || OciError::DeviceRule(text.to_owned());
    let parts: Vec<_> = text.split(' ').collect();
    let &[kind, device, access] = parts.as_slice() else { return Err(bad()) };
    let kind = match kind {
        "a" => Kind::A,
        "b" => Kind::B,
        "c" => Kind::C,
        _ => return Err(bad()),
    };
    let (major, minor) = device.split_once(':').ok_or_else(bad)?;
    let number = |text: &str| match text {
        "*" => Some(-1),
        digits if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
        _ => None,
    };
    let (major, minor) = (number(major).ok_or_else(bad)?, number(minor).ok_or_else(bad)?);
    if access.is_empty() || access.len() > 3 || !access.bytes().all(|b| b"rwm".contains(&b)) {
        return Err(bad());
    }
    Ok(rule(true, kind, major, minor, access))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_parsed_as_docker_does() {
        for (text, expected) in [
            ("c 42:* rmw", Some("c 42 -1 rmw")),
            ("a *:* rwm", Some("a -1 -1 rwm")),
            ("b 8:0 r", Some("b 8 0 r")),
            ("x 1:1 r", None),
            ("c 1 r", None),
            ("c 1:1 rwx", None),
            ("c 1:1 rwmr", None),
            ("c 1:1", None),
            ("c -1:1 r", None),
            ("c 1:1  r", None),
        ] {
            let got = parse_rule(text).ok().map(|r| {
                let kind = r.typ().unwrap_or_default();
                let (major, minor) = (r.major().unwrap_or(-1), r.minor().unwrap_or(-1));
                format!("{} {major} {minor} {}", kind.as_str(), r.access().clone().unwrap_or_default())
            });
            assert_eq!(got.as_deref(), expected, "{text}");
        }
        let error = parse_rule("nope").unwrap_err().to_string();
        assert_eq!(error, "invalid device cgroup rule format: 'nope'");
    }

    #[test]
    fn nodes_links_and_their_absence() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        let device =
            |host: &str| DeviceSpec { host: host.into(), target: "/dev/x".into(), access: "r".into() };
        let found = custom(&device(link.to_str().unwrap())).unwrap();
        assert_eq!((found[0].major(), found[0].minor(), found[0].typ()), (1, 3, Kind::C));
        assert_eq!(found[0].path(), Path::new("/dev/x"));
        let error = custom(&device("/dev/nonexistent")).unwrap_err().to_string();
        assert_eq!(
            error,
            "error gathering device information while adding custom device \"/dev/nonexistent\": \
             lstat /dev/nonexistent: no such file or directory"
        );
        let error = custom(&device("/etc/passwd")).unwrap_err().to_string();
        assert!(error.ends_with("not a device node"), "{error}");
    }
}
