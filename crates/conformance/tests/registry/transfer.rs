//! Transfers that are cut, refused or shared, and layers in every packing.

use std::time::{Duration, Instant};

use crate::bed::{Bed, Far, Layer, newer, noise, tree};
use crate::proxy::{Proxy, Way};

const HOST: &str = "127.0.0.1:5000";
const MIB: u64 = 1 << 20;

/// The ranges that were asked for.
fn ranges(proxy: &Proxy) -> Vec<u64> {
    let range = |head: &String| {
        let line = head.lines().find(|l| l.to_ascii_lowercase().starts_with("range:"))?.to_owned();
        line.split("bytes=").nth(1)?.split('-').next()?.parse().ok()
    };
    proxy.requests("/blobs/").iter().filter_map(range).collect()
}

#[test]
fn a_pull_goes_on_where_it_was_cut() {
    let bed = Bed::new();
    let registry = bed.registry(5001);
    let proxy = Proxy::start(&bed.sandbox, 5000, &registry.host());
    let name = format!("{HOST}/a:1");
    let id = bed.seed(&name, 24 * MIB);
    proxy.forget();
    proxy.cut(Way::Down, 12 * MIB);
    proxy.cut(Way::Down, 6 * MIB);
    bed.docker(["pull", &name]).ok();
    assert_eq!(proxy.uncut(), 0);
    assert_eq!(bed.docker(["inspect", "-f", "{{.Id}}", &name]).ok().text(), id);
    // Two layers and their documents, once: what a cut lost on the way is less than a socket's buffers hold.
    let (down, _) = proxy.moved();
    assert!(down < 32 * MIB, "{down} bytes came");
    let ranges = ranges(&proxy);
    assert!(ranges.len() >= 2 && ranges.iter().all(|from| *from > MIB), "{ranges:?}");
}

#[test]
fn the_next_daemon_goes_on_where_the_last_was_killed() {
    if newer("it begins anew") {
        return;
    }
    let mut bed = Bed::new();
    let registry = bed.registry(5001);
    let proxy = Proxy::start(&bed.sandbox, 5000, &registry.host());
    let name = format!("{HOST}/a:1");
    bed.seed(&name, 24 * MIB);
    proxy.forget();
    proxy.slow(6 * MIB);
    let mut client = bed.start(&["pull", &name]);
    let begun = Instant::now();
    while proxy.moved().0 < 14 * MIB {
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", proxy.moved());
        std::thread::sleep(Duration::from_millis(20));
    }
    bed.daemon.kill9().unwrap();
    client.wait().unwrap();
    bed.daemon.boot(&bed.sandbox).unwrap();
    proxy.slow(0);
    proxy.forget();
    bed.docker(["pull", &name]).ok();
    let (down, _) = proxy.moved();
    assert!(down < 16 * MIB, "{down} bytes came after the restart");
    bed.docker(["run", "--rm", "--network", "none", &name, "true"]).ok();
}

#[test]
fn a_push_that_is_cut_arrives() {
    let bed = Bed::new();
    let registry = bed.registry(5001);
    let proxy = Proxy::start(&bed.sandbox, 5000, &registry.host());
    let name = format!("{HOST}/a:1");
    bed.load(&name, 16 * MIB);
    let id = bed.docker(["inspect", "-f", "{{.Id}}", &name]).ok().text();
    proxy.cut(Way::Up, 10 * MIB);
    bed.docker(["push", &name]).ok();
    assert_eq!(proxy.uncut(), 0);
    bed.docker(["rmi", &name]).ok();
    bed.docker(["pull", &name]).ok();
    assert_eq!(bed.docker(["inspect", "-f", "{{.Id}}", &name]).ok().text(), id);
}

#[test]
fn refusals_that_pass_are_waited_for() {
    if newer("it does not try manifests again") {
        return;
    }
    let bed = Bed::new();
    let registry = bed.registry(5001);
    let proxy = Proxy::start(&bed.sandbox, 5000, &registry.host());
    let name = format!("{HOST}/a:1");
    bed.seed(&name, MIB);
    proxy.answer("/manifests/", "503 Service Unavailable");
    proxy.answer("/blobs/", "429 Too Many Requests\r\nRetry-After: 1");
    proxy.answer("/blobs/", "502 Bad Gateway");
    bed.docker(["pull", &name]).ok();
    assert_eq!(proxy.unanswered(), 0);
    // What does not pass is not waited for.
    proxy.answer("/manifests/", "400 Bad Request");
    let begun = Instant::now();
    bed.docker(["pull", &format!("{HOST}/a:2")]).fails("400 Bad Request");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn zstd_layers() {
    if newer("it knows no zstd") {
        return;
    }
    let bed = Bed::new();
    let registry = bed.registry(5000);
    let far = Far { sandbox: &bed.sandbox, host: registry.host(), repository: "z" };
    let (low, high) = (tree("low", &noise(MIB)), tree("high", b"high"));
    far.image(Some("1"), "linux/amd64", &[Layer::zstd(&low), Layer::gzip(&high)]);
    let name = format!("{HOST}/z:1");
    bed.docker(["pull", &name]).ok();
    bed.docker(["run", "--rm", "--network", "none", &name, "sh", "-c", "read x < /high; echo $x"])
        .ok()
        .has("high");
    // It goes back as it came: the same manifest, so the same digest.
    let digest = bed.docker(["inspect", "-f", "{{index .RepoDigests 0}}", &name]).ok().text();
    let digest = digest.split('@').nth(1).unwrap();
    bed.docker(["tag", &name, &format!("{HOST}/y:1")]).ok();
    bed.docker(["push", &format!("{HOST}/y:1")]).ok().has(digest);
}

#[test]
fn layers_in_packings_that_manifests_have_no_word_for() {
    let bed = Bed::new();
    let registry = bed.registry(5000);
    let far = Far { sandbox: &bed.sandbox, host: registry.host(), repository: "x" };
    let (low, high) = (tree("low", b"low\n"), tree("high", b"high\n"));
    let came = far.image(Some("1"), "linux/amd64", &[Layer::xz(&low), Layer::bzip2(&high)]);
    let (name, other) = (format!("{HOST}/x:1"), format!("{HOST}/y:1"));
    let words = |name: &str| {
        let script = "read a < /low; read b < /high; echo $a $b";
        bed.docker(["run", "--rm", "--network", "none", name, "sh", "-c", script]).ok().text()
    };
    bed.docker(["pull", &name]).ok();
    assert_eq!(words(&name), "low high");
    bed.docker(["tag", &name, &other]).ok();
    let push = bed.docker(["push", &other]).ok();
    if !newer("it packs layers anew") {
        push.has(came["digest"].as_str().unwrap());
    }
    // Under a new manifest they go out packed by gzip.
    bed.docker(["create", "--name", "box", &name, "sh"]).ok();
    bed.docker(["commit", "box", &other]).ok();
    bed.docker(["push", &other]).ok();
    bed.docker(["rm", "box"]).ok();
    bed.docker(["rmi", "-f", &name, &other]).ok();
    bed.docker(["pull", &other]).ok();
    assert_eq!(words(&other), "low high");
    let digest = bed.docker(["inspect", "-f", "{{index .RepoDigests 0}}", &other]).ok().text();
    let manifest = std::fs::read_to_string(registry.blob(digest.rsplit(':').next().unwrap())).unwrap();
    if newer("it names the layers that the registry has already") {
        return;
    }
    for layer in serde_json::from_str::<serde_json::Value>(&manifest).unwrap()["layers"].as_array().unwrap() {
        let packed = std::fs::read(registry.blob(&layer["digest"].as_str().unwrap()[7..])).unwrap();
        assert_eq!(packed[..2], [0x1f, 0x8b], "{layer}");
    }
}

#[test]
fn pulls_at_one_time_share_layers() {
    let bed = Bed::new();
    let registry = bed.registry(5001);
    let proxy = Proxy::start(&bed.sandbox, 5000, &registry.host());
    let far = Far { sandbox: &bed.sandbox, host: registry.host(), repository: "a" };
    let (common, one, two) = (tree("ballast", &noise(12 * MIB)), tree("one", b"1"), tree("two", b"2"));
    far.image(Some("one"), "linux/amd64", &[Layer::gzip(&common), Layer::gzip(&one)]);
    far.image(Some("two"), "linux/amd64", &[Layer::gzip(&common), Layer::gzip(&two)]);
    proxy.slow(6 * MIB);
    let names = [format!("{HOST}/a:one"), format!("{HOST}/a:two"), format!("{HOST}/a:one")];
    let clients: Vec<_> = names.iter().map(|n| bed.start(&["pull", n])).collect();
    for client in clients {
        let output = client.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let (down, _) = proxy.moved();
    assert!(down < 20 * MIB, "{down} bytes came");
    for name in &names {
        bed.docker([
            "run",
            "--rm",
            "--network",
            "none",
            name,
            "sh",
            "-c",
            "read x < /one || read x < /two; echo got $x",
        ])
        .ok()
        .has("got");
    }
}

#[test]
fn layers_are_mounted_from_another_repository() {
    let bed = Bed::new();
    let registry = bed.registry(5001);
    let proxy = Proxy::start(&bed.sandbox, 5000, &registry.host());
    let (a, b) = (format!("{HOST}/a:1"), format!("{HOST}/b:1"));
    bed.load(&a, 8 * MIB);
    bed.docker(["push", &a]).ok();
    bed.docker(["tag", &a, &b]).ok();
    proxy.forget();
    bed.docker(["push", &b]).ok().has("Mounted from a");
    let (_, up) = proxy.moved();
    assert!(up < MIB, "{up} bytes went");
    let mounts = proxy.requests("mount=sha256");
    assert!(
        mounts.iter().all(|m| m.lines().next().unwrap().contains("from=a")) && mounts.len() >= 2,
        "{mounts:?}"
    );
    bed.docker(["rmi", &a, &b]).ok();
    bed.docker(["pull", &b]).ok();
}

#[test]
fn a_remapped_daemon_pulls_and_pushes() {
    let config = serde_json::json!({"userns-remap": "remap"}).as_object().unwrap().clone();
    let bed = Bed::with(weft_testkit::DaemonOptions { config, ..Default::default() }, |sandbox| {
        crate::tls::own_etc(sandbox);
        let script = "echo remap:x:4242:4242::/:/bin/false >> /etc/passwd; echo remap:x:4242: >> /etc/group; \
                      echo remap:200000:65536 > /etc/subuid; echo remap:200000:65536 > /etc/subgid";
        crate::tls::shell(sandbox, script);
    });
    let _registry = bed.registry(5000);
    let name = format!("{HOST}/a:1");
    let id = bed.seed(&name, MIB);
    bed.docker(["pull", &name]).ok();
    assert_eq!(bed.docker(["inspect", "-f", "{{.Id}}", &name]).ok().text(), id);
    // Root of the image is root in the container, and nobody on the host.
    let script = "stat -c %u:%g /etc/passwd /var/opt/ballast0; cat /proc/self/uid_map; touch /made";
    let out =
        bed.docker(["run", "--name", "box", "--network", "none", &name, "sh", "-c", script]).ok().text();
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(words, ["0:0", "0:0", "0", "200000", "65536"]);
    // What goes back has the owners of the image, not those of the host.
    bed.docker(["commit", "box", &name]).ok();
    bed.docker(["push", &name]).ok();
    bed.docker(["rm", "box"]).ok();
    bed.docker(["rmi", &name]).ok();
    bed.docker(["run", "--rm", "--network", "none", &name, "stat", "-c", "%u:%g", "/made"]).ok().has("0:0");
}
