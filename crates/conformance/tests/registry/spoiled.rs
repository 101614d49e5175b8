//! Content that a registry got wrong: every byte is checked, and nothing of it stays.

use crate::bed::{Bed, Far, Layer, noise, tree};

const HOST: &str = "127.0.0.1:5000";
const MIB: u64 = 1 << 20;

/// Pulls `name` with one blob changed in the registry's store; nothing of it may stay.
fn spoiled(bed: &Bed, name: &str, says: &[&str]) {
    let before = (bed.daemon.subject() == weft_testkit::Subject::Weft).then(|| bed.on_disk());
    let mut out = bed.docker(["pull", name]);
    for text in says {
        out = out.fails(text);
    }
    assert_eq!(bed.docker(["images", "-q", "-a"]).ok().text(), "");
    if let Some(before) = before {
        assert_eq!(bed.on_disk(), before);
    }
}

#[test]
fn falsified_layers_are_refused() {
    let bed = Bed::new();
    let registry = bed.registry(5000);
    let far = Far { sandbox: &bed.sandbox, host: registry.host(), repository: "a" };
    let plain = tree("ballast", &noise(2 * MIB));
    let layer = Layer::gzip(&plain);
    far.image(Some("1"), "linux/amd64", &[Layer::gzip(&plain)]);
    let name = format!("{HOST}/a:1");
    let hex = crate::bed::digest(&layer.packed)[7..].to_owned();
    let whole = std::fs::read(registry.blob(&hex)).unwrap();

    // A changed byte in the middle of what cannot be packed.
    let mut changed = whole.clone();
    changed[whole.len() - 4096] ^= 1;
    std::fs::write(registry.blob(&hex), &changed).unwrap();
    spoiled(&bed, &name, &["filesystem layer verification failed for digest sha256:"]);

    // Something else of the same length.
    std::fs::write(registry.blob(&hex), vec![0; whole.len()]).unwrap();
    spoiled(&bed, &name, &["filesystem layer verification failed for digest sha256:"]);
    // Half of it, and more than all of it.
    std::fs::write(registry.blob(&hex), &whole[..whole.len() / 2]).unwrap();
    spoiled(&bed, &name, &["filesystem layer verification failed for digest sha256:"]);
    std::fs::write(registry.blob(&hex), [&whole[..], b"more"].concat()).unwrap();
    spoiled(&bed, &name, &["filesystem layer", "verification failed for digest sha256:"]);

    std::fs::write(registry.blob(&hex), &whole).unwrap();
    bed.docker(["pull", &name]).ok();
    bed.docker(["run", "--rm", "--network", "none", &name, "sh", "-c", "echo whole"]).ok().has("whole");
}

#[test]
fn layers_that_are_not_what_the_configuration_lists_are_refused() {
    let bed = Bed::new();
    let registry = bed.registry(5000);
    let far = Far { sandbox: &bed.sandbox, host: registry.host(), repository: "a" };
    let (plain, other) = (tree("a", b"a"), tree("b", b"b"));
    let packed = Layer::gzip(&other).packed;
    far.image(Some("1"), "linux/amd64", &[Layer { plain: &plain, packed, kind: Layer::gzip(&plain).kind }]);
    spoiled(&bed, &format!("{HOST}/a:1"), &[]);
}

#[test]
fn falsified_documents_are_refused() {
    let bed = Bed::new();
    let registry = bed.registry(5000);
    let far = Far { sandbox: &bed.sandbox, host: registry.host(), repository: "a" };
    let layer = tree("a", b"a");
    let manifest = far.image(Some("1"), "linux/amd64", &[Layer::gzip(&layer)]);
    let change = |hex: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(registry.blob(hex)).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(registry.blob(hex), text.replace(from, to)).unwrap();
        text
    };
    // The manifest is not the one that was asked for by its digest.
    let hex = manifest["digest"].as_str().unwrap()[7..].to_owned();
    let document: serde_json::Value =
        serde_json::from_slice(&std::fs::read(registry.blob(&hex)).unwrap()).unwrap();
    let whole = change(&hex, "\"schemaVersion\":2", "\"schemaVersion\": 2");
    spoiled(&bed, &format!("{HOST}/a@{}", manifest["digest"].as_str().unwrap()), &["sha256:"]);
    std::fs::write(registry.blob(&hex), whole).unwrap();
    // The configuration has another history.
    let config = document["config"]["digest"].as_str().unwrap()[7..].to_owned();
    change(&config, "by hand", "by HAND");
    spoiled(&bed, &format!("{HOST}/a:1"), &["image config verification failed for digest sha256:"]);
}
