//! Packings that archives of people use and layers of images do not: xz and bzip2; and bombs in all of them.

use std::io::{Cursor, Read, Write};

use serde_json::{Value, json};
use weft_image::{ImageError, ImportRequest, Limits, Options};
use weft_model::Image;

use crate::kit::{Bed, archive, digest, file, tar};

pub fn xz(plain: &[u8]) -> Vec<u8> {
    let mut out = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
    out.write_all(plain).unwrap();
    out.finish().unwrap()
}

pub fn bzip2(plain: &[u8]) -> Vec<u8> {
    let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    out.write_all(plain).unwrap();
    out.finish().unwrap()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(plain).unwrap();
    out.finish().unwrap()
}

type Pack = fn(&[u8]) -> Vec<u8>;

/// An OCI layout with one layer, packed so that its digest is that of the packed bytes.
fn layout(layer: &[u8], packed: &[u8]) -> Vec<u8> {
    let config = json!({
        "os": "linux", "architecture": "amd64", "config": {}, "history": [],
        "rootfs": {"type": "layers", "diff_ids": [digest(layer).to_string()]},
    })
    .to_string();
    let at = |kind: &str, bytes: &[u8]| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest(bytes), "size": bytes.len()});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": at("config.v1+json", config.as_bytes()), "layers": [at("layer.v1.tar", packed)],
    })
    .to_string();
    let index =
        json!({"schemaVersion": 2, "manifests": [at("manifest.v1+json", manifest.as_bytes())]}).to_string();
    let blob = |bytes: &[u8]| file(&format!("blobs/sha256/{}", digest(bytes).hex()), 0o644);
    tar(&[
        (blob(packed), packed),
        (blob(config.as_bytes()), config.as_bytes()),
        (blob(manifest.as_bytes()), manifest.as_bytes()),
        (file("index.json", 0o644), index.as_bytes()),
        (file("oci-layout", 0o644), br#"{"imageLayoutVersion":"1.0.0"}"#),
    ])
}

async fn saved(bed: &Bed, image: &Image) -> Vec<u8> {
    let mut stream = bed.store.save(&[image.spec.id.to_string()], None).await.unwrap();
    let mut out = Vec::new();
    while let Some(piece) = stream.recv().await {
        out.extend_from_slice(&piece.unwrap());
    }
    out
}

/// The members of an archive that are JSON manifests.
fn manifests(archive: &[u8]) -> Vec<Value> {
    let mut out = Vec::new();
    for entry in ::tar::Archive::new(archive).entries().unwrap() {
        let mut bytes = Vec::new();
        entry.unwrap().read_to_end(&mut bytes).unwrap();
        out.extend(serde_json::from_slice::<Value>(&bytes).ok().filter(|v| v.get("layers").is_some()));
    }
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_file_system_may_be_packed_in_any_way() {
    let layer = tar(&[(file("a", 0o644), b"from an archive")]);
    for pack in [xz as Pack, bzip2, gzip] {
        let mut bed = Bed::new(Options::default()).await;
        let image = bed.store.import(Cursor::new(pack(&layer)), ImportRequest::default()).await.unwrap();
        assert_eq!(image.spec.diff_ids, [digest(&layer)]);
        let (_, root) = bed.container(&image).await;
        assert_eq!(std::fs::read(root.join("a")).unwrap(), b"from an archive");
        // Cut short it is refused, and nothing stays.
        let before = bed.on_disk();
        let packed = pack(&layer);
        let short = Cursor::new(packed[..packed.len() - 9].to_vec());
        assert!(bed.store.import(short, ImportRequest::default()).await.is_err());
        assert_eq!(bed.on_disk(), before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn layers_that_a_manifest_names_stay_as_they_came() {
    let layer = tar(&[(file("a", 0o644), b"layer")]);
    for pack in [xz as Pack, bzip2] {
        let mut bed = Bed::new(Options::default()).await;
        let packed = pack(&layer);
        let image = bed.load(layout(&layer, &packed)).await.unwrap().remove(0);
        assert_eq!(image.spec.layers, [digest(&packed)]);
        let (id, root) = bed.container(&image).await;
        assert_eq!(std::fs::read(root.join("a")).unwrap(), b"layer");
        let again = saved(&bed, &image).await;
        assert_eq!(manifests(&again)[0]["layers"][0]["digest"], digest(&packed).to_string());

        // A new manifest has no word for the packing: the layer goes out packed by gzip.
        std::fs::write(root.join("b"), "more").unwrap();
        let request =
            weft_image::CommitRequest { container: id, base: Some(image.spec.id), ..Default::default() };
        let made = bed.store.commit(request).await.unwrap();
        let archive = saved(&bed, &made).await;
        let layers = manifests(&archive)[0]["layers"].clone();
        assert_eq!(layers[0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
        let mut other = Bed::new(Options::default()).await;
        let there = other.load(archive).await.unwrap().remove(0);
        assert_eq!(there.spec.id, made.spec.id);
        let (_, root) = other.container(&there).await;
        assert_eq!(std::fs::read(root.join("b")).unwrap(), b"more");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_copied_into_a_container_may_be_packed() {
    let (small, large) = (tar(&[(file("a", 0o644), b"copied")]), tar(&[(file("a", 0o644), &[0; 2 << 20])]));
    let limits = Limits { layer_bytes: 1 << 20, ..Limits::default() };
    for pack in [xz as Pack, bzip2, gzip] {
        let bed = Bed::new(Options { limits, ..Options::default() }).await;
        let dir = tempfile::tempdir().unwrap();
        let copy = |archive: Vec<u8>| {
            let root = std::fs::File::open(dir.path()).unwrap().into();
            bed.store.snapshots().copy_in(Cursor::new(archive), root, weft_image::Merge::default())
        };
        copy(pack(&small)).unwrap();
        assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"copied");
        let error = copy(pack(&large)).unwrap_err();
        assert!(matches!(error, ImageError::TooLarge { .. }), "{error}");
    }
}

/// A layer of zeros that unpacks to more than the guard lets pass unseen.
fn zeros() -> Vec<u8> {
    let data = vec![0; 300 << 20];
    tar(&[(file("zeros", 0o644), &data)])
}

fn is_bomb(error: &ImageError) -> bool {
    matches!(error, ImageError::TooLarge { what, .. } if what == "decompressed layer")
}

/// As a root file system, as a layer, and around an archive that holds a layer.
async fn is_stopped_wherever_it_lies(pack: Pack) {
    let zeros = zeros();
    let packed = pack(&zeros);
    assert!(packed.len() * 600 < zeros.len(), "{} is no bomb", packed.len());
    let bed = Bed::new(Options::default()).await;
    let before = bed.on_disk();
    let import = bed.store.import(Cursor::new(packed.clone()), ImportRequest::default()).await;
    assert!(is_bomb(import.as_ref().unwrap_err()), "{import:?}");
    let named = bed.load(layout(&zeros, &packed)).await;
    assert!(is_bomb(named.as_ref().unwrap_err()), "{named:?}");
    let outer = archive(&["a:1"], &[zeros], <[u8]>::to_vec);
    let outer = bed.load(pack(&outer)).await;
    assert!(is_bomb(outer.as_ref().unwrap_err()), "{outer:?}");
    assert_eq!(bed.on_disk(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn xz_bombs() {
    is_stopped_wherever_it_lies(xz).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bzip2_bombs() {
    is_stopped_wherever_it_lies(bzip2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gzip_bombs() {
    is_stopped_wherever_it_lies(gzip).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_xz_stream_gets_no_more_memory_than_its_presets_need() {
    // The strongest preset is read.
    let layer = tar(&[(file("a", 0o644), b"a")]);
    let options = |dictionary: u32| {
        let mut options = lzma_rust2::XzOptions::with_preset(1);
        options.lzma_options.dict_size = dictionary;
        options
    };
    let pack = |dictionary: u32| {
        let mut out = lzma_rust2::XzWriter::new(Vec::new(), options(dictionary)).unwrap();
        out.write_all(&layer).unwrap();
        out.finish().unwrap()
    };
    let bed = Bed::new(Options { limits: Limits::default(), ..Options::default() }).await;
    bed.store.import(Cursor::new(pack(64 << 20)), ImportRequest::default()).await.unwrap();
    let greedy = bed.store.import(Cursor::new(pack(512 << 20)), ImportRequest::default()).await;
    assert!(greedy.is_err());
}
