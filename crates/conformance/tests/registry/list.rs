//! Manifest lists: the machine's own image, another platform's, one that is not there.

use serde_json::json;

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
