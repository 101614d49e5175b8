//! Mounts: overlayfs, the new mount API, id-mapped mounts, safe path resolution.

use std::{fs, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat2},
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_string,
        fsmount, fsopen, open_tree,
    },
};

use super::{Check, Finding, Without};

const GROUP: &str = "files";

pub(super) fn probe(root: &Path) -> Vec<Check> {
    // The root may not be there yet: then its nearest parent's file system is the one.
    let base = root.ancestors().find(|p| p.is_dir()).unwrap_or(Path::new("/"));
    let scratch = base.join(format!(".weft-doctor-{}", std::process::id()));
    let made = fs::create_dir(&scratch).map_err(|e| format!("{}: {e}", base.display()));
    let mut all = vec![Check::of(
        GROUP,
        "data directory writable",
        made.clone().map(|()| base.display().to_string()),
        Without {
            finding: Finding::Fatal,
            loses: "the daemon cannot keep anything",
            remedy: "run as root, or choose another directory with --root",
        },
    )];
    let overlay = made.and_then(|()| overlay(&scratch));
    // What cannot be removed will be seen in the next line of the report: nothing else can be done here.
    let _ = fs::remove_dir_all(&scratch);
    let (plain, append) = match overlay {
        Ok(found) => found,
        Err(error) => (Err(error.clone()), Err(error)),
    };
    all.push(Check::of(
        GROUP,
        "overlayfs",
        plain,
        Without {
            finding: Finding::Missing,
            loses: "layers are copied for every container: slow, and the disk fills",
            remedy: "load the module overlay, or put --root on a file system that can be overlaid (ext4, xfs with ftype=1, btrfs)",
        },
    ));
    all.push(Check::of(
        GROUP,
        "overlayfs lowerdir append",
        append,
        Without {
            finding: Finding::Note,
            loses: "images with very many layers (about 120 and more) are flattened",
            remedy: "Linux 6.5 or newer",
        },
    ));
    all.extend(calls());
    all
}

fn calls() -> Vec<Check> {
    let tree = open_tree(CWD, "/", OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC);
    let beneath = openat2(
        CWD,
        "proc",
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS,
    );
    // A relative name from wherever we are may not be there: what counts is that the kernel knows the call.
    let beneath = match beneath {
        Ok(_) | Err(Errno::NOENT) => Ok("known"),
        Err(e) => Err(e),
    };
    vec![
        Check::of(
            GROUP,
            "new mount API (open_tree)",
            tree.map(|_| "detached copies of mounts"),
            Without {
                finding: Finding::Missing,
                loses: "id-mapped volumes and race-free binds",
                remedy: "Linux 5.2 or newer, with CAP_SYS_ADMIN",
            },
        ),
        Check::of(
            GROUP,
            "openat2",
            beneath,
            Without {
                finding: Finding::Missing,
                loses: "paths inside containers are resolved step by step: slower",
                remedy: "Linux 5.6 or newer",
            },
        ),
    ]
}

type Probe = Result<String, String>;

/// Mounts an overlay of two layers that is attached nowhere: with one list of lower directories, and one by one.
fn overlay(scratch: &Path) -> Result<(Probe, Probe), String> {
    for name in ["a", "b", "upper", "work"] {
        fs::create_dir(scratch.join(name)).map_err(|e| e.to_string())?;
    }
    let path = |name: &str| scratch.join(name).display().to_string();
    let plain = attempt(&path, &[("lowerdir", format!("{}:{}", path("a"), path("b")))]);
    // A second mount may not share a working directory with the first, which is gone only a moment later.
    for name in ["upper2", "work2"] {
        fs::create_dir(scratch.join(name)).map_err(|e| e.to_string())?;
    }
    let second =
        |name: &str| if ["upper", "work"].contains(&name) { path(&format!("{name}2")) } else { path(name) };
    let append = attempt(&second, &[("lowerdir+", path("a")), ("lowerdir+", path("b"))]);
    Ok((plain.map(|_| "mounts".into()), append.map(|_| "mounts".into())))
}

fn attempt(path: &dyn Fn(&str) -> String, lower: &[(&str, String)]) -> Result<OwnedFd, String> {
    let at = |what: &'static str| move |e: Errno| format!("{what}: {e}");
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(at("fsopen"))?;
    for (key, value) in lower {
        fsconfig_set_string(&context, *key, value.as_str()).map_err(at("lowerdir"))?;
    }
    fsconfig_set_string(&context, "upperdir", path("upper")).map_err(at("upperdir"))?;
    fsconfig_set_string(&context, "workdir", path("work")).map_err(at("workdir"))?;
    fsconfig_create(&context).map_err(at("create"))?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).map_err(at("fsmount"))
}
