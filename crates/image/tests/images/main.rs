//! The whole crate on real directories, real overlay mounts and a real store.
#![allow(clippy::unwrap_used, missing_docs)]

mod kit;
mod packed;
mod platform;

use std::{
    collections::BTreeMap,
    io::{Cursor, Write},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use kit::{Bed, archive, dir, file, link, tar};
use weft_image::{
    ChangeKind, CommitRequest, Driver, ImageError, ImageUse, ImportRequest, Limits, Options, PruneFilter,
    RemoveOptions, Removed,
    tar::{Entry, Kind},
};

fn plain(layer: &[u8]) -> Vec<u8> {
    layer.to_vec()
}

fn gzip(layer: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(layer).unwrap();
    out.finish().unwrap()
}

fn zst(layer: &[u8]) -> Vec<u8> {
    zstd::encode_all(layer, 1).unwrap()
}

fn two_layers() -> Vec<Vec<u8>> {
    let mut capable = file("bin/ping", 0o4755);
    capable.xattrs.push((b"user.weft".to_vec(), vec![0, b'\n', 255]));
    let base = tar(&[
        (dir("./"), b""),
        (Entry { mode: 0o750, uid: 7, gid: 8, ..dir("etc/") }, b""),
        (file("etc/a", 0o600), b"one"),
        (file("etc/gone", 0o644), b"x"),
        (dir("bin"), b""),
        (capable, b"ping"),
        (link("bin/hard", "bin/ping", Kind::HardLink), b""),
        (link("bin/soft", "../etc/a", Kind::Symlink), b""),
        (dir("old"), b""),
        (file("old/x", 0o644), b"x"),
        (Entry { device: (1, 3), ..Entry::new("null", Kind::Char) }, b""),
        (Entry::new("pipe", Kind::Fifo), b""),
    ]);
    let top = tar(&[
        (file("etc/.wh.gone", 0), b""),
        (file("etc/b", 0o644), b"two"),
        (dir("old"), b""),
        (file("old/.wh..wh..opq", 0), b""),
        (file("old/new", 0o644), b"new"),
    ]);
    vec![base, top]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn layers_of_all_packings_make_the_same_tree() {
    for (pack, driver) in [
        (plain as fn(&[u8]) -> Vec<u8>, Driver::Overlay),
        (gzip, Driver::Overlay),
        (zst, Driver::Copy),
        (packed::xz, Driver::Overlay),
        (packed::bzip2, Driver::Copy),
    ] {
        let mut bed = Bed::new(Options { driver: Some(driver), ..Options::default() }).await;
        let image = bed.load(pack(&archive(&["a:1"], &two_layers(), pack))).await.unwrap().remove(0);
        assert_eq!(image.spec.tags, ["docker.io/library/a:1"]);
        let (id, root) = bed.container(&image).await;
        let read = |p: &str| std::fs::read_to_string(root.join(p)).ok();
        assert_eq!(
            (read("etc/a").as_deref(), read("etc/b").as_deref(), read("etc/gone")),
            (Some("one"), Some("two"), None)
        );
        assert_eq!((read("old/x"), read("old/new").as_deref()), (None, Some("new")));
        let stat = |p: &str| std::fs::symlink_metadata(root.join(p)).unwrap();
        let etc = stat("etc");
        // The second layer only implied `etc`.
        assert_eq!((etc.mode() & 0o7777, etc.uid(), etc.gid()), (0o750, 7, 8), "{driver:?}");
        let ping = stat("bin/ping");
        assert_eq!((ping.mode() & 0o7777, ping.nlink(), ping.mtime()), (0o4755, 2, 1_600_000_000));
        assert_eq!(xattr::get(root.join("bin/ping"), "user.weft").unwrap().unwrap(), [0, b'\n', 255]);
        assert_eq!(std::fs::read_link(root.join("bin/soft")).unwrap(), Path::new("../etc/a"));
        assert!(stat("null").file_type().is_char_device() && stat("null").rdev() == 0x103);
        assert!(stat("pipe").file_type().is_fifo());
        assert!(bed.store.diff(id).await.unwrap().is_empty(), "{driver:?}: {:?}", bed.store.diff(id).await);
    }
}

fn changes(list: Vec<weft_image::Change>) -> Vec<String> {
    let letter = |k| match k {
        ChangeKind::Modified => 'C',
        ChangeKind::Added => 'A',
        ChangeKind::Deleted => 'D',
    };
    list.into_iter().map(|c| format!("{} {}", letter(c.kind), c.path.display())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_container_changes_is_listed_and_committed() {
    for driver in [Driver::Overlay, Driver::Copy] {
        let mut bed = Bed::new(Options { driver: Some(driver), ..Options::default() }).await;
        let image = bed.load(archive(&["a:1"], &two_layers(), plain)).await.unwrap().remove(0);
        let (id, root) = bed.container(&image).await;
        std::fs::write(root.join("etc/a"), "changed").unwrap();
        std::fs::remove_file(root.join("etc/b")).unwrap();
        std::fs::create_dir(root.join("var")).unwrap();
        std::fs::write(root.join("var/n"), "12345").unwrap();
        std::fs::hard_link(root.join("var/n"), root.join("var/m")).unwrap();
        std::fs::remove_dir_all(root.join("old")).unwrap();
        std::fs::create_dir(root.join("old")).unwrap();
        std::fs::write(root.join("old/other"), "o").unwrap();
        let expected = [
            "C /etc",
            "C /etc/a",
            "D /etc/b",
            "C /old",
            "D /old/new",
            "A /old/other",
            "A /var",
            "A /var/m",
            "A /var/n",
        ];
        assert_eq!(changes(bed.store.diff(id).await.unwrap()), expected, "{driver:?}");
        assert!(bed.store.size_rw(id).await.unwrap() >= 13);
        let request = CommitRequest {
            container_config: None,
            container: id,
            base: Some(image.spec.id),
            changes: vec!["CMD [\"x\"]\nENV A=b".into()],
            comment: "why".into(),
            name: Some("made".parse().unwrap()),
            ..CommitRequest::default()
        };
        let made = bed.store.commit(request).await.unwrap();
        let config = bed.store.config(&made).await.unwrap();
        assert_eq!(
            (config.config.cmd.unwrap(), config.config.env),
            (vec!["x".to_owned()], vec!["A=b".to_owned()])
        );
        assert_eq!(bed.store.history(&made).await.unwrap()[0].comment, "why");
        let (_, again) = bed.container(&made).await;
        let list = |root: &Path, d: &str| {
            let names = std::fs::read_dir(root.join(d))
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap());
            names.collect::<std::collections::BTreeSet<_>>()
        };
        for d in ["etc", "var", "old", "bin"] {
            assert_eq!(list(&root, d), list(&again, d), "{driver:?} {d}");
        }
        assert_eq!(std::fs::metadata(again.join("var/n")).unwrap().nlink(), 2);
        let mut exported = Vec::new();
        let mut stream = bed.store.export(id);
        while let Some(piece) = stream.recv().await {
            exported.extend_from_slice(&piece.unwrap());
        }
        let request = ImportRequest { name: Some("imp:1".parse().unwrap()), ..ImportRequest::default() };
        let imported = bed.store.import(Cursor::new(exported), request).await.unwrap();
        let (_, third) = bed.container(&imported).await;
        assert_eq!(list(&root, "var"), list(&third, "var"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_save_load_keeps_ids_and_names() {
    let bed = Bed::new(Options::default()).await;
    let mut ids = BTreeMap::new();
    for (tag, pack) in [("a:1", plain as fn(&[u8]) -> Vec<u8>), ("b:2", gzip)] {
        let mut layers = two_layers();
        layers.push(tar(&[(file("mark", 0o644), tag.as_bytes())]));
        let image = bed.load(archive(&[tag], &layers, pack)).await.unwrap().remove(0);
        ids.insert(tag, image.spec.id);
    }
    let mut saved = Vec::new();
    let mut stream = bed.store.save(&["a:1".into(), "b:2".into()], None).await.unwrap();
    while let Some(piece) = stream.recv().await {
        saved.extend_from_slice(&piece.unwrap());
    }
    let second = Bed::new(Options::default()).await;
    second.load(saved.clone()).await.unwrap();
    for (tag, id) in &ids {
        assert_eq!(second.store.resolve(tag).await.unwrap().spec.id, *id);
    }
    // The same archive without Docker's manifest is an OCI layout.
    let oci = without(&saved, &["manifest.json", "repositories"]);
    let third = Bed::new(Options::default()).await;
    third.load(oci).await.unwrap();
    for (tag, id) in &ids {
        assert_eq!(third.store.resolve(tag).await.unwrap().spec.id, *id);
    }
    skopeo_reads(&saved, bed.dir.path());
}

fn without(archive: &[u8], names: &[&str]) -> Vec<u8> {
    let mut reader = weft_image::tar::TarReader::new(archive);
    let mut out = weft_image::tar::TarWriter::new(Vec::new());
    while let Some(entry) = reader.next_entry().unwrap() {
        if !names.iter().any(|n| n.as_bytes() == entry.path) {
            out.append(&entry, &mut reader).unwrap();
        }
    }
    out.finish().unwrap()
}

fn skopeo_reads(archive: &[u8], dir: &Path) {
    let path = dir.join("saved.tar");
    std::fs::write(&path, archive).unwrap();
    let name = format!("docker-archive:{}:a:1", path.display());
    match std::process::Command::new("skopeo").args(["inspect", &name]).output() {
        Ok(out) => assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr)),
        Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::NotFound),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_archives_cannot_do_harm_and_leave_nothing() {
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("leads out", tar(&[(file("../evil", 0o644), b"x")])),
        ("leads out", tar(&[(file("a/../../evil", 0o644), b"x")])),
        (
            "through a link out",
            tar(&[(link("l", "../../../tmp", Kind::Symlink), b""), (file("l/weft-evil", 0o644), b"x")]),
        ),
        (
            "through a link out",
            tar(&[
                (link("a/l", "../../etc", Kind::Symlink), b""),
                (link("h", "a/l/passwd", Kind::HardLink), b""),
            ]),
        ),
        ("dangling", tar(&[(link("l", "/tmp", Kind::Symlink), b""), (file("l/weft-evil", 0o644), b"x")])),
        ("leads out", tar(&[(link("h", "../../etc/passwd", Kind::HardLink), b"")])),
        ("lacks", tar(&[(link("h", "/etc/passwd", Kind::HardLink), b"")])),
        ("circle", tar(&[(link("a", "a", Kind::Symlink), b""), (file("a/b", 0o644), b"")])),
        ("through a file", tar(&[(file("a", 0o644), b""), (file("a/b", 0o644), b"")])),
        ("root must be", tar(&[(link("./", "/etc", Kind::Symlink), b"")])),
        ("too early", tar(&[(file("a", 0o644), &[1; 4000])])[..2000].to_vec()),
        ("not supported", tar(&[(Entry::new("v", Kind::Other(b'V')), b"")])),
        (
            "number of entries",
            tar(&(0..40).map(|i| (file(&format!("f{i}"), 0o644), &b""[..])).collect::<Vec<_>>()),
        ),
        ("too large", tar(&[(file("a", 0o644), &vec![0; 5 << 20])])),
    ];
    let limits = Limits { entries: 30, layer_bytes: 4 << 20, ..Limits::default() };
    for (expected, layer) in cases {
        for pack in [plain as fn(&[u8]) -> Vec<u8>, gzip] {
            let bed = Bed::new(Options { limits, ..Options::default() }).await;
            let error = bed.load(archive(&["a:1"], std::slice::from_ref(&layer), pack)).await.unwrap_err();
            let text = weft_base::chain(&error);
            assert!(text.contains(expected), "{expected:?} is not in {text:?}");
            bed.store.collect().await.unwrap();
            assert_eq!(bed.on_disk(), 0, "{text}");
        }
    }
    assert!(!Path::new("/tmp/weft-evil").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_climbs_too_high_is_a_text() {
    let layer = tar(&[(link("l", "../../../etc/x", Kind::Symlink), b""), (file("f", 0o644), b"x")]);
    let bed = Bed::new(Options::default()).await;
    bed.load(archive(&["a:1"], std::slice::from_ref(&layer), plain)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn corrupt_archives_are_refused() {
    let good = archive(&["a:1"], &two_layers(), gzip);
    let mut wrong_layer = archive(&["a:1"], &two_layers(), |l| {
        let mut l = l.to_vec();
        l[600] ^= 1; // in the first file's data or header
        l
    });
    wrong_layer.truncate(wrong_layer.len());
    for (name, bytes) in [
        ("cut", good[..good.len() / 2].to_vec()),
        ("no manifest", without(&good, &["manifest.json"])),
        ("other layer", wrong_layer),
        ("noise", vec![7; 10_000]),
        ("empty", Vec::new()),
        ("no gzip", [0x1f, 0x8b, 8, 0, 1, 2, 3].to_vec()),
    ] {
        let bed = Bed::new(Options::default()).await;
        let error = bed.load(bytes).await.unwrap_err();
        assert!(
            matches!(error, ImageError::Corrupt { .. } | ImageError::DigestMismatch { .. }),
            "{name}: {error:?}"
        );
        bed.store.collect().await.unwrap();
        assert_eq!(bed.on_disk(), 0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_and_thirty_layers_mount() {
    let mut bed = Bed::new(Options::default()).await;
    let layers: Vec<_> = (0..130)
        .map(|i| {
            tar(&[(file(&format!("f{i}"), 0o644), b"x"), (file("top", 0o644), format!("{i}").as_bytes())])
        })
        .collect();
    let image = bed.load(archive(&["deep"], &layers, plain)).await.unwrap().remove(0);
    let (_, root) = bed.container(&image).await;
    assert_eq!(std::fs::read_to_string(root.join("top")).unwrap(), "129");
    assert!(root.join("f0").exists() && root.join("etc/hosts").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_come_and_go_as_in_docker() {
    let mut bed = Bed::new(Options::default()).await;
    let image = bed.load(archive(&["a:1"], &two_layers(), plain)).await.unwrap().remove(0);
    let id = image.spec.id;
    bed.store.tag(&id, "b".parse().unwrap()).await.unwrap();
    bed.store.tag(&id, "h:5000/c:x".parse().unwrap()).await.unwrap();
    for text in [
        "a:1",
        "b",
        "b:latest",
        "docker.io/library/b",
        &id.to_string(),
        &id.hex(),
        &id.short(),
        &id.hex()[..3],
    ] {
        assert_eq!(bed.store.resolve(text).await.unwrap().spec.id, id, "{text}");
    }
    for (text, expected) in
        [("a", "No such image: a:latest"), ("A", "must be lowercase"), ("a::", "invalid reference format")]
    {
        let text = bed.store.resolve(text).await.unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
    let remove = |text: &str, force| {
        let (store, text) = (bed.store.clone(), text.to_owned());
        async move { store.remove(&text, RemoveOptions { force, no_prune: false }, &[]).await }
    };
    assert_eq!(remove("b", false).await.unwrap(), [Removed::Untagged("b:latest".into())]);
    assert!(matches!(remove(&id.hex(), false).await, Err(ImageError::MultipleNames { .. })));
    remove("h:5000/c:x", false).await.unwrap();
    let uses = |running| [ImageUse { image: id, container: "0123456789ab".into(), running }];
    let error = bed.store.remove("a:1", RemoveOptions::default(), &uses(false)).await.unwrap_err();
    assert!(
        error.to_string().starts_with("conflict: unable to remove repository reference \"a:1\" (must force)"),
        "{error}"
    );
    let error = bed
        .store
        .remove(&id.short(), RemoveOptions { force: true, no_prune: false }, &uses(true))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("(cannot be forced) - image is being used by running container 0123456789ab"),
        "{error}"
    );
    // A container made from it keeps the layers alive after a forced removal.
    let (container, root) = bed.container(&image).await;
    let force = RemoveOptions { force: true, no_prune: false };
    let report = bed.store.remove("a:1", force, &uses(false)).await.unwrap();
    assert_eq!(report, [Removed::Untagged("a:1".into()), Removed::Deleted(id)]);
    assert!(root.join("etc/a").exists());
    bed.store.remove_snapshot(container).await.unwrap();
    let freed = bed.store.collect().await.unwrap();
    assert!(freed.count >= 4, "{freed:?}");
    assert_eq!(bed.on_disk(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loading_over_a_tag_leaves_the_old_image_dangling_until_prune() {
    let bed = Bed::new(Options::default()).await;
    let old = bed.load(archive(&["a:1"], &two_layers(), plain)).await.unwrap().remove(0);
    let mut layers = two_layers();
    layers.push(tar(&[(file("new", 0o644), b"n")]));
    let new = bed.load(archive(&["a:1"], &layers, plain)).await.unwrap().remove(0);
    assert!(bed.store.resolve(&old.spec.id.hex()).await.unwrap().spec.tags.is_empty());
    let usage = bed.store.disk_usage().await.unwrap();
    assert!(usage.shared[&old.spec.id] > 0 && usage.layers_size > usage.shared[&old.spec.id]);
    let kept =
        PruneFilter { labels: [("a".to_owned(), "other".to_owned())].into(), ..PruneFilter::default() };
    assert!(bed.store.prune(&kept, &[]).await.unwrap().0.is_empty());
    let (report, _) = bed.store.prune(&PruneFilter::default(), &[]).await.unwrap();
    assert_eq!(report, [Removed::Deleted(old.spec.id)]);
    assert_eq!(bed.store.list().await.unwrap().len(), 1);
    assert_eq!(bed.store.resolve("a:1").await.unwrap().spec.id, new.spec.id);
}

#[test]
fn fuzz_load() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let limits = Limits { entries: 50, layer_bytes: 4 << 20, ..Limits::default() };
    let bed = runtime.block_on(Bed::new(Options { limits, ..Options::default() }));
    let seeds = [archive(&["a:1"], &two_layers(), gzip), archive(&["a:1", "b:2"], &two_layers(), plain)];
    let words =
        ["manifest.json", "index.json", "oci-layout", "blobs/sha256/", "\"Layers\"", "../", "null", "ustar"];
    weft_testkit::fuzz::run("image-load", &seeds, &words, |input| {
        let loaded = runtime.block_on(bed.load(input.to_vec()));
        if loaded.is_ok() {
            return;
        }
        runtime.block_on(bed.store.collect()).unwrap();
    });
}
