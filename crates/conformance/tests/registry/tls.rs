//! TLS: authorities that are unknown, trusted by certs.d, overruled; certificates of clients; and no TLS at all.

use std::path::Path;

use serde_json::json;
use weft_testkit::{DaemonOptions, Registry, RegistrySetup, Sandbox, ServerTls};

use crate::bed::Bed;
use crate::certs::Authority;

const NAME: &str = "registry.test";

/// Gives the sandbox an `/etc` of its own, over the machine's.
pub fn own_etc(sandbox: &Sandbox) {
    let dir = |name: &str| {
        let path = sandbox.dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path.display().to_string()
    };
    let options = format!("lowerdir=/etc,upperdir={},workdir={}", dir("etc"), dir("etc-work"));
    let output =
        sandbox.command("mount").args(["-t", "overlay", "-o", &options, "overlay", "/etc"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Runs a script in the sandbox.
pub fn shell(sandbox: &Sandbox, script: &str) {
    let output = sandbox.command("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
}

/// The sandbox's own address (which is not loopback, so not insecure by itself) gets a name.
pub fn name(sandbox: &Sandbox, name: &str) {
    shell(sandbox, &format!("echo '{} {name}' >> /etc/hosts", sandbox.address()));
}

fn give(sandbox: &Sandbox, host: &str, file: &Path, to: &str) {
    let dir = format!("/etc/docker/certs.d/{host}");
    shell(sandbox, &format!("mkdir -p {dir} && cp {} {dir}/{to}", file.display()));
}

/// The daemon trusts `authority` for `host`.
pub fn trust(sandbox: &Sandbox, host: &str, authority: &Authority) {
    give(sandbox, host, &authority.certificate(), "ca.crt");
}

fn bed(config: serde_json::Value) -> Bed {
    let config = config.as_object().unwrap().clone();
    Bed::with(DaemonOptions { config, ..DaemonOptions::default() }, |sandbox| {
        own_etc(sandbox);
        name(sandbox, NAME);
    })
}

fn secure(sandbox: &Sandbox, port: u16, tls: Option<ServerTls>) -> Registry {
    let address = sandbox.address().to_string();
    Registry::start_with(sandbox, RegistrySetup { address, tls, ..RegistrySetup::open(port) }).unwrap()
}

#[test]
fn authorities() {
    let bed = bed(json!({}));
    let sandbox = &bed.sandbox;
    let authority = Authority::make(sandbox.dir(), "ca");
    let (certificate, key) = authority.sign("server", &format!("DNS:{NAME}"));
    let _registry = secure(sandbox, 5443, Some(ServerTls { certificate, key, clients: None }));
    let host = format!("{NAME}:5443");
    let image = format!("{host}/a:1");
    bed.load(&image, 0);
    bed.docker(["pull", &image])
        .fails(&format!("Get \"https://{host}/v2/\": "))
        .fails("x509: certificate signed by unknown authority");
    bed.docker(["push", &image]).fails("x509: certificate signed by unknown authority");
    // Another authority of the same name does not help.
    let other = Authority::make(sandbox.dir(), "other");
    trust(sandbox, &host, &other);
    bed.docker(["pull", &image]).fails("x509: certificate signed by unknown authority");
    trust(sandbox, &host, &authority);
    bed.docker(["push", &image]).ok();
    bed.docker(["rmi", &image]).ok();
    bed.docker(["pull", &image]).ok();
    // By its address the registry is somebody else.
    let by_address = format!("{}:5443", sandbox.address());
    trust(sandbox, &by_address, &authority);
    bed.docker(["pull", &format!("{by_address}/a:1")]).fails("x509: ").fails(&sandbox.address().to_string());
}

#[test]
fn certificates_of_clients() {
    let bed = bed(json!({}));
    let sandbox = &bed.sandbox;
    let authority = Authority::make(sandbox.dir(), "ca");
    let (certificate, key) = authority.sign("server", &format!("DNS:{NAME}"));
    let clients = Some(authority.certificate());
    let _registry = secure(sandbox, 5443, Some(ServerTls { certificate, key, clients }));
    let host = format!("{NAME}:5443");
    let image = format!("{host}/a:1");
    bed.load(&image, 0);
    trust(sandbox, &host, &authority);
    bed.docker(["push", &image]).fails("remote error: tls: ").fails("certificate");
    let (certificate, key) = authority.sign("client", "DNS:client");
    give(sandbox, &host, &certificate, "client.cert");
    bed.docker(["push", &image]).fails("missing key client.key for client certificate client.cert");
    give(sandbox, &host, &key, "client.key");
    bed.docker(["push", &image]).ok();
    bed.docker(["rmi", &image]).ok();
    bed.docker(["pull", &image]).ok();
}

#[test]
fn plain_http_only_where_it_is_allowed() {
    let image = |sandbox: &Sandbox| format!("{}:5000/a:1", sandbox.address());
    let strict = bed(json!({}));
    let _registry = secure(&strict.sandbox, 5000, None);
    let name = image(&strict.sandbox);
    strict.load(&name, 0);
    strict.docker(["push", &name]).fails("http: server gave HTTP response to HTTPS client");
    strict.docker(["pull", &name]).fails(&format!(
        "Get \"https://{}:5000/v2/\": http: server gave HTTP response to HTTPS client",
        strict.sandbox.address()
    ));
    drop(strict);

    for list in [json!(["198.18.0.0/15"]), json!(["registry.test:5000"])] {
        let by_name = list[0] == "registry.test:5000";
        let lenient = bed(json!({"insecure-registries": list}));
        let _registry = secure(&lenient.sandbox, 5000, None);
        let name = if by_name { "registry.test:5000/a:1".to_owned() } else { image(&lenient.sandbox) };
        lenient.load(&name, 0);
        lenient.docker(["push", &name]).ok();
        lenient.docker(["rmi", &name]).ok();
        lenient.docker(["pull", &name]).ok();
    }
}

#[test]
fn an_insecure_registry_may_have_any_certificate() {
    let bed = bed(json!({"insecure-registries": ["registry.test:5443"]}));
    let authority = Authority::make(bed.sandbox.dir(), "ca");
    let (certificate, key) = authority.sign("server", "DNS:somebody.else");
    let _registry = secure(&bed.sandbox, 5443, Some(ServerTls { certificate, key, clients: None }));
    let image = format!("{NAME}:5443/a:1");
    bed.load(&image, 0);
    bed.docker(["push", &image]).ok();
    bed.docker(["rmi", &image]).ok();
    bed.docker(["pull", &image]).ok();
}
