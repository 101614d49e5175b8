//! Archives and images of several platforms.

use std::io::Cursor;

use serde_json::json;
use weft_image::{ImageError, Options, registry::Platform};
use weft_model::Digest;

use crate::kit::{Bed, digest, file, tar};

/// An OCI layout with one index, which has an image for each platform: `os/architecture[/variant]`.
fn layout(platforms: &[&str]) -> Vec<u8> {
    let mut blobs: Vec<Vec<u8>> = Vec::new();
    let mut entries = Vec::new();
    for name in platforms {
        let platform: Platform = name.parse().unwrap();
        let layer = tar(&[(file("platform", 0o644), name.as_bytes())]);
        let mut config = json!(platform);
        config["rootfs"] = json!({"type": "layers", "diff_ids": [digest(&layer).to_string()]});
        let config = config.to_string().into_bytes();
        let at = |kind: &str, bytes: &[u8]| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest(bytes), "size": bytes.len()});
        let manifest = json!({"schemaVersion": 2, "config": at("config.v1+json", &config), "layers": [at("layer.v1.tar", &layer)]});
        let manifest = manifest.to_string().into_bytes();
        let mut entry = at("manifest.v1+json", &manifest);
        entry["platform"] = json!(platform);
        entries.push(entry);
        blobs.extend([layer, config, manifest]);
    }
    let inner = json!({"schemaVersion": 2, "manifests": entries}).to_string().into_bytes();
    let named = json!({"digest": digest(&inner), "size": inner.len(), "mediaType": "application/vnd.oci.image.index.v1+json",
        "annotations": {"io.containerd.image.name": "docker.io/library/many:1"}});
    let index = json!({"schemaVersion": 2, "manifests": [named]}).to_string().into_bytes();
    blobs.push(inner);
    let named = |b: &Vec<u8>| (file(&format!("blobs/sha256/{}", digest(b).hex()), 0o644), b.clone());
    let mut files: Vec<_> = blobs.iter().map(named).collect();
    files.push((file("index.json", 0o644), index));
    let files: Vec<_> = files.iter().map(|(entry, bytes)| (entry.clone(), &bytes[..])).collect();
    tar(&files)
}

async fn load(bed: &Bed, archive: &[u8], platform: Option<&str>) -> Result<Vec<Digest>, ImageError> {
    let platform = platform.map(|p| p.parse().unwrap());
    let loaded = bed.store.load(Cursor::new(archive.to_vec()), platform, |_| {}).await?;
    Ok(loaded.into_iter().map(|(image, _)| image.spec.id).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_of_many_platforms_gives_the_one_that_is_asked_for() {
    let archive = layout(&["linux/arm/v6", "linux/arm/v7", "linux/amd64", "linux/arm64", "linux/s390x"]);
    let bed = Bed::new(Options::default()).await;
    let empty = bed.on_disk();
    for (asked, found) in [
        (None, Platform::host().to_string()),
        (Some("linux/s390x"), "linux/s390x".to_owned()),
        (Some("linux/arm/v6"), "linux/arm/v6".to_owned()),
        (Some("linux/arm"), "linux/arm/v7".to_owned()),
    ] {
        let ids = load(&bed, &archive, asked).await.unwrap();
        assert_eq!(ids.len(), 1, "{asked:?}");
        let image = bed.store.resolve("many:1").await.unwrap();
        assert_eq!(image.spec.id, ids[0]);
        let config = bed.store.config(&image).await.unwrap();
        let platform = Platform { os: config.os, architecture: config.architecture, variant: config.variant };
        assert_eq!(platform.to_string(), found);
        // Of the others nothing stays: layer, configuration, manifest; and the unpacked layer.
        bed.store
            .remove(
                &image.spec.id.to_string(),
                weft_image::RemoveOptions { force: true, ..Default::default() },
                &[],
            )
            .await
            .unwrap();
        assert_eq!(bed.on_disk(), empty, "{asked:?}");
    }
    let error = load(&bed, &archive, Some("linux/riscv64")).await.unwrap_err();
    assert_eq!(error.to_string(), "no images providing the requested platform(s) found: [linux/riscv64]");
    assert_eq!(bed.on_disk(), empty);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_knows_its_manifest_before_it_is_saved() {
    let bed = Bed::new(Options::default()).await;
    load(&bed, &layout(&["linux/s390x"]), Some("linux/s390x")).await.unwrap();
    let image = bed.store.resolve("many:1").await.unwrap();
    let target = bed.store.target(&image).await.unwrap().unwrap();
    assert_eq!(Some(target.digest), image.spec.manifest);
    assert_eq!(target.platform.to_string(), "linux/s390x");
    let parts = image.spec.layers.iter().chain([&image.spec.id, &target.digest]);
    assert_eq!(target.content, parts.map(|d| bed.store.content().size(d).unwrap()).sum::<u64>());
    assert!(target.available);

    // One that came without: the manifest that a save writes.
    let layer = tar(&[(file("a", 0o644), b"a")]);
    let image =
        bed.load(crate::kit::archive(&["plain:1"], &[layer], <[u8]>::to_vec)).await.unwrap().remove(0);
    let target = bed.store.target(&image).await.unwrap().unwrap();
    let mut stream = bed.store.save(&["plain:1".to_owned()], None).await.unwrap();
    let mut saved = Vec::new();
    while let Some(piece) = stream.recv().await {
        saved.extend_from_slice(&piece.unwrap());
    }
    let path = format!("blobs/sha256/{}", target.digest.hex());
    let mut archive = ::tar::Archive::new(&saved[..]);
    let member =
        archive.entries().unwrap().map(Result::unwrap).find(|e| e.path().unwrap().to_str() == Some(&path));
    assert_eq!(member.expect("the manifest").size(), target.size);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_of_another_platform_is_not_meant() {
    let bed = Bed::new(Options::default()).await;
    load(&bed, &layout(&["linux/arm/v7"]), Some("linux/arm/v7")).await.unwrap();
    let asked = |p: &str| p.parse::<Platform>().unwrap();
    for fits in ["linux/arm/v7", "linux/arm", "linux/arm64", "linux/arm/v8"] {
        assert!(bed.store.resolve_for("many:1", Some(&asked(fits))).await.is_ok(), "{fits}");
    }
    let error = bed.store.resolve_for("many:1", Some(&asked("linux/arm/v6"))).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "image with reference many:1 was found but its platform (linux/arm/v7) does not match the specified platform \
         (linux/arm/v6)"
    );
    let error = bed.store.save(&["many:1".to_owned()], Some(&asked("linux/amd64"))).await.unwrap_err();
    assert_eq!(error.to_string(), "no suitable export target found for platform linux/amd64");
}
