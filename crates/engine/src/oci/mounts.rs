//! What is mounted where: the kernel's file systems, the container's small files, its volumes.

use std::path::PathBuf;

use oci_spec::runtime::Mount;
use weft_model::{ContainerSpec, IpcMode, Propagation, ReadOnlyDepth, TmpfsOptions};

use super::{
    error::OciError,
    process,
    types::{BundleFacts, MountSource, ResolvedMount},
};

/// Bytes of `/dev/shm` where nothing is said.
const SHM_SIZE: i64 = 64 << 20;

const KERNEL: [(&str, &str, &str, &[&str]); 7] = [
    ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    ),
    ("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
    ("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777"]),
];

/// Always writable in a read-only container.
const WRITABLE: [&str; 5] = ["/proc", "/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"];

fn mount(target: &str, kind: &str, source: impl Into<PathBuf>, options: Vec<String>) -> Mount {
    let mut made = Mount::default();
    made.set_destination(clean(target).into())
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.into()))
        .set_options(Some(options));
    made
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|w| (*w).to_owned()).collect()
}

/// All mounts in order, and the propagation the root needs for them.
pub(super) fn mounts(
    spec: &ContainerSpec,
    facts: &BundleFacts,
) -> Result<(Vec<Mount>, Option<&'static str>), OciError> {
    let mut people = facts.mounts.clone();
    people.extend(own_files(spec, facts));
    // Outer before inner: a mount must not hide one that was made before it.
    people.sort_by_key(|m| clean(&m.target).split('/').filter(|part| !part.is_empty()).count());
    let taken = |target: &str| people.iter().any(|m| clean(&m.target) == target);
    let mut all = kernel(spec, facts, &taken);
    let mut root = None;
    for one in &people {
        all.push(convert(one, facts)?);
        root = match (root, one.propagation) {
            (_, Propagation::Shared | Propagation::RShared) => Some("shared"),
            (None, Propagation::Slave | Propagation::RSlave) => Some("rslave"),
            (root, _) => root,
        };
    }
    if let Some(init) = facts.init.as_ref().filter(|_| process::wants_init(spec, facts)) {
        all.push(mount(process::INIT, "bind", init, words(&["bind", "ro"])));
    }
    if spec.confine.read_only_root {
        for m in &mut all {
            let target = m.destination().to_string_lossy().into_owned();
            if !WRITABLE.contains(&target.as_str()) && !taken(&target) {
                let mut options = m.options().clone().unwrap_or_default();
                if !options.iter().any(|o| o == "ro") {
                    options.push("ro".to_owned());
                }
                m.set_options(Some(options));
            }
        }
    }
    Ok((all, root))
}

fn kernel(spec: &ContainerSpec, facts: &BundleFacts, taken: &dyn Fn(&str) -> bool) -> Vec<Mount> {
    let privileged = spec.confine.privileged;
    let own_dev = taken("/dev");
    let wanted = KERNEL.into_iter().filter(|(target, ..)| {
        let shm_unwanted = *target == "/dev/shm" && spec.confine.ipc == IpcMode::None;
        let covered = taken(target) || (own_dev && target.starts_with("/dev/"));
        !covered && !shm_unwanted
    });
    wanted
        .map(|(target, kind, source, options)| {
            let mut options = words(options);
            match target {
                "/dev/shm" => {
                    let wanted = [spec.resources.shm_size, facts.shm_size];
                    let size = wanted.into_iter().find(|size| *size > 0).unwrap_or(SHM_SIZE);
                    options.push(format!("size={size}"));
                }
                "/sys" if privileged => options.retain(|o| o != "ro"),
                // A read-only remount is not possible from within a user namespace.
                "/sys/fs/cgroup" if privileged || facts.userns.is_some() => options.retain(|o| o != "ro"),
                _ => {}
            }
            mount(target, kind, source, options)
        })
        .collect()
}

/// Name files and shared memory, unless the container's own mounts cover them.
fn own_files(spec: &ContainerSpec, facts: &BundleFacts) -> Vec<ResolvedMount> {
    let shm = facts.shm.as_ref().filter(|_| spec.confine.ipc != IpcMode::None);
    let files = [
        ("/etc/resolv.conf", facts.resolv_conf.as_ref(), spec.confine.read_only_root),
        ("/etc/hostname", facts.hostname.as_ref(), spec.confine.read_only_root),
        ("/etc/hosts", facts.hosts.as_ref(), spec.confine.read_only_root),
        ("/dev/shm", shm, false),
    ];
    files
        .into_iter()
        .filter(|(target, ..)| !facts.mounts.iter().any(|m| clean(&m.target) == *target))
        .filter_map(|(target, path, read_only)| {
            let source =
                MountSource::Path { path: path?.clone(), recursive: true, depth: ReadOnlyDepth::Best };
            let target = target.to_owned();
            Some(ResolvedMount { target, source, read_only, propagation: Propagation::RPrivate })
        })
        .collect()
}

fn convert(one: &ResolvedMount, facts: &BundleFacts) -> Result<Mount, OciError> {
    match &one.source {
        MountSource::Tmpfs(tmpfs) => {
            let mut options = words(&["noexec", "nosuid", "nodev", "rprivate"]);
            options.extend(tmpfs_words(tmpfs, one.read_only));
            Ok(mount(&one.target, "tmpfs", "tmpfs", merge(options)?))
        }
        MountSource::Path { path, recursive, depth } => {
            let mut options = words(&[if *recursive { "rbind" } else { "bind" }]);
            if one.read_only {
                // Mounts below the source become read-only too where the kernel can (mount_setattr(2), 5.12).
                let able = facts.host.kernel >= (5, 12);
                if *depth == ReadOnlyDepth::All && !able {
                    let text = "rro is not supported: kernel is older than 5.12".to_owned();
                    return Err(OciError::Unsupported(text));
                }
                let deep = *recursive && able && *depth != ReadOnlyDepth::Top;
                options.push(if deep { "rro" } else { "ro" }.to_owned());
            }
            options.push(one.propagation.as_str().to_owned());
            Ok(mount(&one.target, "bind", path, options))
        }
    }
}

fn tmpfs_words(tmpfs: &TmpfsOptions, read_only: bool) -> Vec<String> {
    let pairs: Option<Vec<Vec<String>>> = serde_json::from_str(&tmpfs.options).ok();
    let mut all = match pairs {
        Some(pairs) => pairs.into_iter().map(|p| p.join("=")).collect(),
        None => tmpfs.options.split(',').filter(|o| !o.is_empty()).map(str::to_owned).collect::<Vec<_>>(),
    };
    if read_only {
        all.push("ro".to_owned());
    }
    if tmpfs.mode != 0 {
        all.push(format!("mode={:o}", tmpfs.mode));
    }
    if tmpfs.size != 0 {
        all.push(format!("size={}", tmpfs.size));
    }
    all
}

/// Which words exclude each other: the later one counts.
fn family(word: &str) -> Option<&str> {
    const FLAGS: [&[&str]; 12] = [
        &["defaults"],
        &["ro", "rw"],
        &["suid", "nosuid"],
        &["dev", "nodev"],
        &["exec", "noexec"],
        &["sync", "async"],
        &["dirsync"],
        &["mand", "nomand"],
        &["atime", "noatime", "relatime", "norelatime", "strictatime", "nostrictatime"],
        &["diratime", "nodiratime"],
        &["private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"],
        &["bind", "rbind", "remount"],
    ];
    const VALUES: [&str; 7] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"];
    if let Some((name, _)) = word.split_once('=') {
        return VALUES.contains(&name).then_some(name);
    }
    FLAGS.iter().find(|f| f.contains(&word)).map(|f| f[0])
}

fn merge(options: Vec<String>) -> Result<Vec<String>, OciError> {
    let mut seen = Vec::new();
    let mut out = Vec::new();
    for option in options.iter().rev() {
        let family = family(option).ok_or_else(|| OciError::TmpfsOption(option.clone()))?;
        if !seen.contains(&family) {
            seen.push(family);
            out.push(option.clone());
        }
    }
    out.reverse();
    Ok(out)
}

/// `path` without `.`, `..` and doubled slashes.
pub(crate) fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Checks that sources of shared and slave mounts can pass events on; `mountinfo` is the text of
/// `/proc/self/mountinfo`. The error is Docker's text.
pub fn check_propagation(mounts: &[ResolvedMount], mountinfo: &str) -> Result<(), OciError> {
    for one in mounts {
        let MountSource::Path { path, .. } = &one.source else { continue };
        let (accepted, what): (&[&str], _) = match one.propagation {
            Propagation::Shared | Propagation::RShared => (&["shared:"], "shared"),
            Propagation::Slave | Propagation::RSlave => (&["shared:", "master:"], "shared or slave"),
            Propagation::Private | Propagation::RPrivate => continue,
        };
        let holder = mountinfo
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(' ');
                let point = fields.nth(4)?;
                let optional: Vec<_> = fields.skip(1).take_while(|f| *f != "-").collect();
                path.starts_with(point).then_some((point, optional))
            })
            .max_by_key(|(point, _)| point.len());
        let Some((point, optional)) = holder else { continue };
        if !optional.iter().any(|o| accepted.iter().any(|a| o.starts_with(a))) {
            let path = path.display();
            return Err(OciError::Unsupported(format!(
                "path {path} is mounted on {point} but it is not a {what} mount"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tmpfs_words_replace_each_other() {
        let own = |s: &str| s.split(',').map(str::to_owned).collect::<Vec<_>>();
        let merged = |s: &str| merge(own(s)).map(|o| o.join(",")).map_err(|e| e.to_string());
        assert_eq!(
            merged("noexec,nosuid,rprivate,rw,exec,size=64k"),
            Ok("nosuid,rprivate,rw,exec,size=64k".into())
        );
        assert_eq!(merged("size=1,mode=777,size=2"), Ok("mode=777,size=2".into()));
        assert_eq!(merged("ro,foo"), Err("invalid tmpfs option [\"foo\"]".into()));
        assert_eq!(merged("evil=1"), Err("invalid tmpfs option [\"evil\" \"1\"]".into()));
    }

    #[test]
    fn structured_tmpfs_options() {
        let t = TmpfsOptions { size: 1024, mode: 0o700, options: r#"[["exec"],["uid","5"]]"#.into() };
        assert_eq!(tmpfs_words(&t, true), ["exec", "uid=5", "ro", "mode=700", "size=1024"]);
    }

    #[test]
    fn paths_are_cleaned() {
        for (path, expected) in [("/a//b/./c/", "/a/b/c"), ("/a/../../b", "/b"), ("", "/")] {
            assert_eq!(clean(path), expected);
        }
    }

    #[test]
    fn propagation_needs_a_fitting_source() {
        let info = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 8:2 / /data rw shared:5 - ext4 /dev/b rw\n";
        let check = |path: &str, propagation| {
            let source = MountSource::Path { path: path.into(), recursive: true, depth: ReadOnlyDepth::Best };
            let one = ResolvedMount { target: "/t".into(), source, read_only: false, propagation };
            check_propagation(&[one], info).map_err(|e| e.to_string())
        };
        assert_eq!(check("/data/x", Propagation::RShared), Ok(()));
        assert_eq!(check("/srv", Propagation::RPrivate), Ok(()));
        let error = "path /srv is mounted on / but it is not a shared or slave mount".to_owned();
        assert_eq!(check("/srv", Propagation::RSlave), Err(error));
    }
}
