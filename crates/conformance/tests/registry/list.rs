//! Manifest lists: the machine's own image, another platform's, one that is not there.

use serde_json::{Value, json};

use crate::bed::{Bed, DOCKER_LIST, Far, Layer, OCI_INDEX, newer, tree};

const HOST: &str = "127.0.0.1:5000";

#[test]
fn platforms() {
    let bed = Bed::new();
    let registry = bed.registry(5000);
    let far = Far { sandbox: &bed.sandbox, host: registry.host(), repository: "a" };
    let mut entries = Vec::new();
    for (platform, variant) in
        [("linux/arm/v6", "v6"), ("linux/amd64", ""), ("linux/arm/v7", "v7"), ("linux/s390x", "")]
    {
        let layer = tree("platform", platform.as_bytes());
        let mut entry = far.image(None, platform, &[Layer::gzip(&layer)]);
        let architecture = platform.split('/').nth(1).unwrap();
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        if !variant.is_empty() {
            entry["platform"]["variant"] = variant.into();
        }
        entries.push(entry);
    }
    for (tag, kind) in [("oci", OCI_INDEX), ("docker", DOCKER_LIST)] {
        let list = far.manifest(
            Some(tag),
            kind,
            &json!({"schemaVersion": 2, "mediaType": kind, "manifests": entries}),
        );
        let name = format!("{HOST}/a:{tag}");
        let label = |name: &str| {
            bed.docker(["inspect", "-f", "{{.Config.Labels.platform}} {{.Architecture}}", name]).ok().text()
        };
        bed.docker(["pull", &name]).ok();
        assert_eq!(label(&name), "linux/amd64 amd64");
        // The name's digest is the list's, not the image's.
        let digests = bed.docker(["inspect", "-f", "{{join .RepoDigests \" \"}}", &name]).ok().text();
        assert!(digests.contains(list["digest"].as_str().unwrap()), "{digests}");
        for (platform, expected) in [
            ("linux/s390x", "linux/s390x s390x"),
            ("linux/arm/v6", "linux/arm/v6 arm"),
            ("linux/arm", "linux/arm/v7 arm"),
        ] {
            bed.docker(["pull", "--platform", platform, &name]).ok();
            assert_eq!(label(&name), expected);
        }
        bed.docker(["pull", "--platform", "linux/riscv64", &name])
            .fails("no matching manifest for linux/riscv64 in the manifest list entries");
        // The image that the name meant before is still what it means.
        assert_eq!(label(&name), "linux/arm/v7 arm");
    }
    bed.docker(["pull", "--platform", "nonsense", &format!("{HOST}/a:oci")])
        .fails("unknown operating system or architecture");
}

#[test]
fn one_image_of_another_platform() {
    let bed = Bed::new();
    let registry = bed.registry(5000);
    let far = Far { sandbox: &bed.sandbox, host: registry.host(), repository: "a" };
    far.image(Some("1"), "linux/s390x", &[Layer::gzip(&tree("a", b"a"))]);
    let name = format!("{HOST}/a:1");
    if !newer("it only warns") {
        bed.docker(["pull", "--platform", "linux/amd64", &name]).fails(&format!(
            "image with reference {name} was found but its platform (linux/s390x) does not match the specified platform \
             (linux/amd64)"
        ));
    }
    bed.docker(["pull", "--platform", "linux/s390x", &name]).ok();
    bed.docker(["pull", &name]).ok();
}

/// A bed with `a:1` pulled for amd64, and the descriptor of its manifest.
fn pulled(registry: &mut Option<weft_testkit::Registry>) -> (Bed, Value) {
    let bed = Bed::new();
    let registry = registry.insert(bed.registry(5000));
    let far = Far { sandbox: &bed.sandbox, host: registry.host(), repository: "a" };
    let layer = tree("a", b"a");
    let manifest = far.image(Some("1"), "linux/amd64", &[Layer::gzip(&layer)]);
    bed.docker(["pull", &format!("{HOST}/a:1")]).ok();
    (bed, manifest)
}

#[test]
fn manifests_are_told() {
    if newer("it knows no manifests") {
        return;
    }
    let mut registry = None;
    let (bed, manifest) = pulled(&mut registry);
    let name = format!("{HOST}/a:1");
    let get = |path: &str| {
        let reply = bed.api("GET", path, b"");
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.value()
    };
    bed.docker(["create", "--name", "box", &name]).ok();
    let id = bed.docker(["inspect", "-f", "{{.Id}}", "box"]).ok().text();
    let image = |v: &str, query: &str| get(&format!("/{v}/images/{name}/json{query}"));
    let row = |v: &str, query: &str| get(&format!("/{v}/images/json{query}"))[0].clone();

    assert!(image("v1.47", "?manifests=1").get("Descriptor").is_none());
    assert!(image("v1.47", "?manifests=1").get("Manifests").is_none());
    assert_eq!(image("v1.48", "")["Descriptor"], manifest);
    assert!(image("v1.48", "").get("Manifests").is_none());
    let all = image("v1.48", "?manifests=1")["Manifests"].clone();
    let one = &all[0];
    assert_eq!(all.as_array().unwrap().len(), 1);
    assert_eq!(
        (&one["ID"], &one["Kind"], &one["Available"]),
        (&manifest["digest"], &json!("image"), &json!(true))
    );
    assert_eq!(
        (&one["Descriptor"]["digest"], &one["Descriptor"]["size"]),
        (&manifest["digest"], &manifest["size"])
    );
    assert_eq!(one["ImageData"]["Platform"], json!({"os": "linux", "architecture": "amd64"}));
    assert_eq!(one["ImageData"]["Containers"], json!([id]));
    let number = |pointer: &str| one.pointer(pointer).and_then(Value::as_u64).unwrap();
    let unpacked = number("/ImageData/Size/Unpacked");
    assert_eq!(number("/Size/Total"), number("/Size/Content") + unpacked);
    assert_eq!(unpacked, image("v1.48", "")["Size"].as_u64().unwrap());
    assert!(number("/Size/Content") > manifest["size"].as_u64().unwrap());

    assert!(row("v1.46", "?manifests=1").get("Manifests").is_none());
    assert_eq!(row("v1.47", "?manifests=1")["Manifests"], all);
    assert!(row("v1.47", "?manifests=1").get("Descriptor").is_none());
    assert_eq!(row("v1.48", "")["Descriptor"], manifest);
    assert_eq!(
        (&row("v1.50", "?manifests=1")["Containers"], &row("v1.51", "")["Containers"]),
        (&json!(-1), &json!(1))
    );

    assert_eq!(get("/v1.48/containers/box/json")["ImageManifestDescriptor"], manifest);
    assert_eq!(get("/v1.48/containers/json?all=1")[0]["ImageManifestDescriptor"], manifest);
    assert!(get("/v1.47/containers/box/json").get("ImageManifestDescriptor").is_none());
}

#[test]
fn platforms_are_looked_at_since_their_version() {
    if newer("it looks at none") {
        return;
    }
    let mut registry = None;
    let (bed, _) = pulled(&mut registry);
    let name = format!("{HOST}/a:1");
    let json = |text: &str| text.replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
    let (own, other) =
        (json(r#"{"os":"linux","architecture":"amd64"}"#), json(r#"{"os":"linux","architecture":"s390x"}"#));
    let mismatch = format!(
        "image with reference {name} was found but its platform (linux/amd64) does not match the specified platform \
         (linux/s390x)"
    );
    for (method, path, since, text) in [
        ("GET", format!("/images/{name}/history?platform="), 48, mismatch.clone()),
        ("GET", format!("/images/{name}/json?platform="), 49, mismatch.clone()),
        (
            "GET",
            format!("/images/get?names={name}&platform="),
            48,
            "no suitable export target found for platform linux/s390x".into(),
        ),
        (
            "GET",
            format!("/images/{name}/get?platform="),
            48,
            "no suitable export target found for platform linux/s390x".into(),
        ),
        ("POST", format!("/images/{name}/push?tag=&platform="), 46, mismatch.clone()),
    ] {
        let call = |minor: u32, platform: &str| bed.api(method, &format!("/v1.{minor}{path}{platform}"), b"");
        assert_eq!(call(since - 1, &other).status, 200, "{path}");
        assert_eq!(call(since, &own).status, 200, "{path}");
        let reply = call(since, &other);
        assert_eq!((reply.status, reply.value()["message"].as_str()), (404, Some(text.as_str())), "{path}");
        let reply = call(since, "linux");
        assert_eq!(reply.status, 400, "{path}");
        assert!(reply.text().contains("failed to parse platform"), "{}", reply.text());
        let reply = call(since, "%7B%7D");
        assert_eq!(reply.value()["message"], "both OS and Architecture must be provided", "{path}");
    }
    let reply = bed.api("GET", &format!("/v1.49/images/{name}/json?manifests=1&platform={own}"), b"");
    assert_eq!(
        reply.value()["message"],
        "conflicting options: manifests and platform options cannot both be set"
    );
    let reply = bed.api("GET", &format!("/v1.48/images/{name}/get?platform={own}&platform={other}"), b"");
    assert!(
        reply.status == 400 && reply.text().contains("multiple platform parameters are not supported"),
        "{}",
        reply.text()
    );

    let saved = bed.api("GET", &format!("/v1.48/images/{name}/get"), b"").body;
    let load = |v: &str| bed.api("POST", &format!("/{v}/images/load?platform={other}"), &saved).text();
    assert!(load("v1.47").contains("Loaded image"), "{}", load("v1.47"));
    let refused = load("v1.48");
    assert!(
        refused.contains("no images providing the requested platform(s) found: [linux/s390x]"),
        "{refused}"
    );

    let remove =
        |v: &str, platform: &str| bed.api("DELETE", &format!("/{v}/images/{name}?platforms={platform}"), b"");
    assert_eq!(remove("v1.50", &other).status, 404);
    assert_eq!(remove("v1.50", &own).status, 200);
}
