//! Mirrors of Docker Hub: one that is down, one that has nothing, one that has it; and Docker Hub itself behind them.

use weft_testkit::{DaemonOptions, Registry, RegistrySetup, Sandbox};

use crate::bed::{Bed, Far, Layer, tree};
use crate::http::call;
use crate::tls;

/// A daemon whose mirrors are these ports of loopback; Docker Hub's name leads to the sandbox's own address.
fn mirrored(ports: &[u16]) -> Bed {
    let mirrors = ports.iter().map(|p| format!("http://127.0.0.1:{p}")).collect();
    let options = DaemonOptions { mirrors, ..DaemonOptions::default() };
    Bed::with(options, |sandbox| {
        tls::own_etc(sandbox);
        tls::name(sandbox, "registry-1.docker.io");
    })
}

fn fill(bed: &Bed, registry: &Registry, repository: &str, text: &[u8]) {
    let far = Far { sandbox: &bed.sandbox, host: registry.host(), repository };
    far.image(Some("latest"), "linux/amd64", &[Layer::gzip(&tree("who", text))]);
}

fn who(bed: &Bed, name: &str) -> String {
    bed.docker(["run", "--rm", "--network", "none", name, "sh", "-c", "read x < /who; echo $x"]).ok().text()
}

#[test]
fn the_first_mirror_that_has_it_serves() {
    let bed = mirrored(&[5001, 5002, 5003]);
    // 5001 is down, 5002 lacks the image.
    let empty = bed.registry(5002);
    let full = bed.registry(5003);
    fill(&bed, &full, "library/thing", b"mirror\n");
    fill(&bed, &empty, "library/other", b"first\n");
    fill(&bed, &full, "library/other", b"second\n");
    bed.docker(["pull", "thing"]).ok().has("Downloaded newer image for thing:latest");
    assert_eq!(who(&bed, "thing"), "mirror");
    let digest = bed.docker(["inspect", "-f", "{{index .RepoDigests 0}}", "thing"]).ok().text();
    assert!(digest.starts_with("thing@sha256:"), "{digest}");
    bed.docker(["pull", "other"]).ok();
    assert_eq!(who(&bed, "other"), "first");
    // Mirrors are Docker Hub's alone.
    bed.docker(["pull", "127.0.0.1:5002/library/thing"])
        .fails("not found: manifest unknown: manifest unknown");
}

#[test]
fn when_no_mirror_has_it_docker_hub_is_asked() {
    let bed = mirrored(&[5001, 5002]);
    let _empty = bed.registry(5002);
    // Nothing listens where Docker Hub's name leads: it was asked last, and its failure is the answer.
    let address = bed.sandbox.address();
    bed.docker(["pull", "thing"])
        .fails("https://registry-1.docker.io/v2/")
        .fails(&format!("dial tcp {address}:443: connect: connection refused"));
}

#[test]
fn docker_hub_serves_what_mirrors_lack() {
    if crate::bed::newer("it reads no certificates for Docker Hub from certs.d") {
        return;
    }
    let bed = mirrored(&[5002]);
    let _empty = bed.registry(5002);
    let filled = bed.registry(5003);
    fill(&bed, &filled, "library/thing", b"hub\n");
    let _hub = hub(&bed.sandbox, &filled);
    bed.docker(["pull", "thing"]).ok();
    assert_eq!(who(&bed, "thing"), "hub");
    bed.docker(["pull", "nothing"])
        .fails("manifest for nothing:latest not found: manifest unknown: manifest unknown");
}

/// A registry under Docker Hub's name and port, trusted by certs.d, with what `filled` holds.
fn hub(sandbox: &Sandbox, filled: &Registry) -> Registry {
    let home = sandbox.dir().join("registry-443");
    std::fs::create_dir_all(&home).unwrap();
    std::os::unix::fs::symlink(filled.data(), home.join("data")).unwrap();
    let authority = crate::certs::Authority::make(sandbox.dir(), "hub-ca");
    tls::trust(sandbox, "registry-1.docker.io", &authority);
    let (certificate, key) = authority.sign("hub", "DNS:registry-1.docker.io");
    let server = weft_testkit::ServerTls { certificate, key, clients: None };
    let address = sandbox.address().to_string();
    let setup = RegistrySetup { address, port: 443, tls: Some(server), ..RegistrySetup::open(443) };
    Registry::start_with(sandbox, setup).unwrap()
}

#[test]
fn a_mirror_sees_no_password_of_docker_hub() {
    let bed = mirrored(&[5002]);
    let mirror = bed.registry(5003);
    let proxy = crate::proxy::Proxy::start(&bed.sandbox, 5002, &mirror.host());
    fill(&bed, &mirror, "library/thing", b"mirror\n");
    std::fs::create_dir_all(bed.sandbox.dir().join("client")).unwrap();
    let config = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"}}}"#;
    std::fs::write(bed.sandbox.dir().join("client/config.json"), config).unwrap();
    bed.docker(["pull", "thing"]).ok();
    let heads = proxy.requests("/v2/");
    assert!(
        !heads.is_empty() && heads.iter().all(|h| !h.to_lowercase().contains("authorization")),
        "{heads:?}"
    );
    assert_eq!(
        call(&bed.sandbox, &mirror.host(), "GET", "/v2/_catalog", "", b"").value()["repositories"][0],
        "library/thing"
    );
}
