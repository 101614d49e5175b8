//! Where mount targets really are, and which are refused.

use std::os::unix::fs::symlink;

use libcontainer::oci_spec::runtime::MountBuilder;

use super::*;

fn bind(source: &Path, target: &str) -> Mount {
    let words = vec!["rbind".to_owned()];
    let built = MountBuilder::default().typ("bind").source(source).destination(target).options(words).build();
    built.expect("a mount")
}

fn kernel(kind: &str, target: &str) -> Mount {
    MountBuilder::default().typ(kind).source(kind).destination(target).build().expect("a mount")
}

fn verdict(root: &Path, mounts: Vec<Mount>) -> Result<(), String> {
    let mut spec = Spec::default();
    spec.set_mounts(Some(mounts));
    settle(root, &mut spec).map(drop).map_err(|fault| fault.message)
}

#[test]
fn links_are_followed_inside_the_tree_and_its_mounts() {
    let dir = tempfile::tempdir().expect("dir");
    let (root, volume) = (dir.path().join("root"), dir.path().join("volume"));
    fs::create_dir_all(root.join("a/b")).expect("tree");
    fs::create_dir_all(root.join("a/tmp")).expect("hidden");
    fs::create_dir_all(&volume).expect("volume");
    for (link, text) in [
        ("abs", "/a/b"),
        ("up", "../../../../a"),
        ("a/near", "b"),
        ("loop", "loop"),
        ("kernel", "/proc/self"),
        ("dangling", "../srv/./data"),
        ("a/tmp/far", "/never"),
    ] {
        symlink(text, root.join(link)).expect("link");
    }
    symlink("/proc/1/attr", volume.join("out")).expect("link");
    let mut tree = Tree::new(&root);
    tree.cover(Path::new("/v"), Some(&volume));
    tree.cover(Path::new("/a/tmp"), None);
    for (path, expected) in [
        ("/abs/c", "/a/b/c"),
        ("/up/near/x", "/a/b/x"),
        ("/abs/../../..", "/"),
        ("/kernel/attr", "/proc/self/attr"),
        ("/v/out/current", "/proc/1/attr/current"),
        ("/nosuch/deep", "/nosuch/deep"),
        ("/dangling/x", "/srv/data/x"),
        ("/abs/../tmp/far", "/a/tmp/far"),
    ] {
        assert_eq!(tree.resolve(Path::new(path)).expect(path), Path::new(expected), "{path}");
    }
    assert!(tree.resolve(Path::new("/loop/x")).is_err());
}

#[test]
fn proc_and_links_in_the_kernels_places_are_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let (root, volume) = (dir.path().join("root"), dir.path().join("volume"));
    for name in ["root/tmp", "root/proc", "volume"] {
        fs::create_dir_all(dir.path().join(name)).expect("tree");
    }
    symlink("/proc/irq", root.join("way")).expect("link");
    symlink("/tmp", root.join("dev")).expect("link");
    symlink("/proc/self/attr", volume.join("t")).expect("link");
    let on = |target: &str| verdict(&root, vec![bind(&volume, target)]);
    let not_proc = "\"/proc\" cannot be mounted because it is not of type proc";
    assert!(on("/proc").expect_err("refused").ends_with(not_proc));
    for target in ["/proc/self", "/proc/1/attr", "/way", "/tmp/../proc/sys"] {
        assert!(
            on(target).expect_err(target).ends_with("cannot be mounted because it is inside /proc"),
            "{target}"
        );
    }
    assert_eq!(on("/proc/meminfo"), Ok(()));
    assert_eq!(verdict(&root, vec![bind(Path::new("/proc"), "/proc")]), Ok(()));
    assert_eq!(verdict(&root, vec![kernel("proc", "/proc"), kernel("sysfs", "/sys")]), Ok(()));
    let planted = verdict(&root, vec![bind(&volume, "/v"), bind(&volume, "/v/t")]);
    assert!(planted.expect_err("a link in a volume").contains("inside /proc"));
    let dev = verdict(&root, vec![kernel("tmpfs", "/dev")]);
    assert!(dev.expect_err("a link").ends_with("filesystem \"tmpfs\" must be mounted on ordinary directory"));
}

#[test]
fn targets_are_written_as_what_they_are() {
    let dir = tempfile::tempdir().expect("dir");
    let (root, volume) = (dir.path().join("root"), dir.path().join("volume"));
    for name in ["root/etc", "root/proc", "root/var", "volume"] {
        fs::create_dir_all(dir.path().join(name)).expect("tree");
    }
    fs::write(root.join("etc/passwd"), "x").expect("file");
    for (link, text) in [("data", "/srv/data"), ("var/run", "../run"), ("climb", "../../../../tmp/x")] {
        symlink(text, root.join(link)).expect("link");
    }
    let file = root.join("etc/passwd");
    let mut spec = Spec::default();
    let tmpfs = kernel("tmpfs", "/var/run");
    spec.set_mounts(Some(vec![
        bind(&volume, "/data"),
        tmpfs,
        bind(&file, "/var/run/docker.sock"),
        bind(&volume, "/climb"),
    ]));
    settle(&root, &mut spec).map_err(|fault| fault.message).expect("settled");
    let targets: Vec<_> =
        spec.mounts().iter().flatten().map(|m| m.destination().display().to_string()).collect();
    assert_eq!(targets, ["/srv/data", "/run", "/run/docker.sock", "/tmp/x"]);
    assert!(!root.join("run").exists(), "made by the runtime, inside");
}

#[test]
fn what_does_not_fit_is_told_in_runcs_words() {
    let dir = tempfile::tempdir().expect("dir");
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("etc")).expect("tree");
    fs::create_dir(dir.path().join("volume")).expect("volume");
    let (file, volume) = (root.join("etc/passwd"), dir.path().join("volume"));
    fs::write(&file, "x").expect("file");
    let tmpfs = |target: &str, option: &str| {
        let mut made = kernel("tmpfs", target);
        made.set_options(Some(vec!["nosuid".into(), option.into()]));
        made
    };
    for (mount, words) in [
        (bind(&file, "/etc"), ", dst=/etc: not a directory"),
        (bind(&volume, "/etc/passwd"), ", dst=/etc/passwd: not a directory"),
        (bind(&volume, "/etc/passwd/x"), "mkdir \"/etc/passwd\": not a directory"),
        (tmpfs("/etc/passwd", "size=1m"), "mount src=tmpfs, dst=/etc/passwd: not a directory"),
        (tmpfs("/x", "size=zz"), "mount src=tmpfs, dst=/x, data=size=zz: invalid argument"),
        (bind(Path::new("/nosuch/source"), "/x"), "stat /nosuch/source: no such file or directory"),
    ] {
        let said = verdict(&root, vec![mount]).expect_err(words);
        assert!(said.contains("error mounting ") && said.ends_with(words), "{said}");
    }
    assert_eq!(verdict(&root, vec![tmpfs("/x", "size=1m"), bind(&file, "/x/y")]), Ok(()));
}
