//! What registries say: challenges and manifests.

use http::{HeaderMap, HeaderValue, header::WWW_AUTHENTICATE};
use weft_testkit::fuzz;

use super::{challenge, manifest};

#[test]
fn fuzz_challenges() {
    let seeds = [
        r#"Bearer realm="https://a/token",service="s",scope="repository:a:pull""#,
        r#"Basic realm="x", Digest realm="y", qop=auth"#,
        r#"Negotiate abc=="#,
    ];
    let seeds = seeds.map(|s| s.as_bytes().to_vec());
    fuzz::run("registry-challenges", &seeds, &["realm=", "\"", "\\\"", ",", "Bearer ", "="], |input| {
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_bytes(input) {
            headers.insert(WWW_AUTHENTICATE, value);
            let found = challenge::challenges(&headers);
            assert!(found.len() <= input.len());
        }
    });
}

#[test]
fn fuzz_manifests() {
    let image = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"digest":"sha256:00","size":2,"mediaType":"x"},"layers":[{"digest":"sha256:01","size":3,"urls":["http://x"]}]}"#;
    let index = br#"{"schemaVersion":2,"manifests":[{"digest":"sha256:00","size":2,"platform":{"os":"linux","architecture":"arm64","variant":"v8"}}]}"#;
    let words = ["null", "-1", "18446744073709551616", "\"size\":", "\"manifests\":[]", "\"platform\":{}"];
    fuzz::run(
        "registry-manifests",
        &[image.to_vec(), index.to_vec()],
        &words,
        |input| match manifest::parse(input, "application/json", "a") {
            Ok((manifest::Document::Image(image), _)) => drop(manifest::check(&image, "a")),
            Ok((manifest::Document::Index(entries), _)) => {
                drop(manifest::choose(&entries, &super::Platform::default()).map(|d| d.size));
            }
            Err(_) => {}
        },
    );
}
