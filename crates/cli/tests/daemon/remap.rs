//! `userns-remap`: root in a container is nobody on the host, and everything still works.

use std::os::unix::fs::MetadataExt;

use serde_json::json;
use weft_testkit::Sandbox;

use crate::{Host, run};

/// First host id of the range, and its length.
const BASE: u32 = 231_072;

/// An `/etc` of the sandbox's own, with the ranges of `dockremap`.
fn ranges(sandbox: &Sandbox) {
    let etc = sandbox.dir().join("etc");
    let script = format!(
        "cp -a /etc {etc} && printf 'other:1:1\\ndockremap:{BASE}:65536\\n' > {etc}/subuid && cp {etc}/subuid {etc}/subgid \
         && mount --bind {etc} /etc",
        etc = etc.display()
    );
    run(sandbox.command("sh").args(["-c", &script]));
}

fn remapped() -> Host {
    Host::with(json!({"userns-remap": "default"}), ranges, &[])
}

/// Its script has come to its end.
fn ready(host: &Host) {
    crate::until("the script", || host.weft(&["exec", "c1", "test", "-e", "/tmp/ready"]).status.success());
}

#[test]
fn ids_and_owners_are_shifted() {
    let host = remapped();
    let map = host.ok(&["run", "--rm", "busybox", "cat", "/proc/self/uid_map"]);
    let words: Vec<&str> = map.split_whitespace().collect();
    assert_eq!(words, ["0", &BASE.to_string(), "65536"]);
    // The process, seen from the host.
    host.ok(&[
        "run",
        "-d",
        "--name",
        "c1",
        "busybox",
        "sh",
        "-c",
        "touch /made; touch /tmp/ready; sleep 1000",
    ]);
    ready(&host);
    let pid = host.json(&["inspect", "c1"])[0]["State"]["Pid"].as_i64().unwrap();
    let owner = run(host.sandbox.command("stat").args(["-c", "%u:%g", &format!("/proc/{pid}")]));
    assert_eq!(owner.trim(), format!("{BASE}:{BASE}"));
    let made = run(host.sandbox.command("stat").args(["-c", "%u:%g", &format!("/proc/{pid}/root/made")]));
    assert_eq!(made.trim(), format!("{BASE}:{BASE}"));
    // Inside nothing of it shows: the image's files are root's, and root may do what root may.
    assert_eq!(host.ok(&["exec", "c1", "stat", "-c", "%u:%g", "/bin/busybox"]), "0:0");
    assert_eq!(host.ok(&["exec", "c1", "id", "-u"]), "0");
    assert_eq!(host.ok(&["exec", "-u", "70", "c1", "id", "-u"]), "70");
    host.ok(&["exec", "c1", "chown", "70:70", "/made"]);
    assert!(
        host.refused(&["exec", "c1", "sh", "-c", "echo 1 > /proc/sys/kernel/panic"]).contains("ead-only")
    );
    assert_eq!(
        host.ok(&["exec", "c1", "cat", "/proc/self/uid_map"]).split_whitespace().nth(1),
        Some("231072")
    );
    // Unless it is asked not to be.
    let map = host.ok(&["run", "--rm", "--userns", "host", "busybox", "cat", "/proc/self/uid_map"]);
    assert_eq!(map.split_whitespace().next_back(), Some("4294967295"));
    assert!(host.json(&["info"])["SecurityOptions"].to_string().contains("name=userns"));
    host.ok(&["rm", "-f", "c1"]);
}

#[test]
fn volumes_can_be_written_by_the_remapped_root() {
    let host = remapped();
    host.ok(&["volume", "create", "v1"]);
    host.ok(&["run", "--rm", "-v", "v1:/v", "busybox", "sh", "-c", "touch /v/a && mkdir /v/d"]);
    host.ok(&["run", "--rm", "-v", "/anonymous", "busybox", "touch", "/anonymous/a"]);
    host.ok(&["run", "--rm", "--tmpfs", "/t", "busybox", "touch", "/t/a"]);
    // Copy-up: the image's directory with its owners.
    host.ok(&["run", "--rm", "-v", "up:/var/opt", "busybox", "touch", "/var/opt/a"]);
    for path in ["v1/_data", "v1/_data/a", "up/_data", "up/_data/a"] {
        let meta = std::fs::metadata(host.home().join("data/volumes").join(path)).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (BASE, BASE), "{path}");
    }
    assert_eq!(host.ok(&["run", "--rm", "-v", "v1:/v", "busybox", "stat", "-c", "%u", "/v/a"]), "0");
}

#[test]
fn cp_commit_save_and_load_keep_owners() {
    let host = remapped();
    let dir = host.sandbox.dir().to_owned();
    host.ok(&[
        "run",
        "-d",
        "--name",
        "c1",
        "busybox",
        "sh",
        "-c",
        "echo x > /own; chown 70:70 /own; touch /tmp/ready; sleep 1000",
    ]);
    ready(&host);
    std::fs::write(dir.join("in"), "hello").unwrap();
    let path = |name: &str| dir.join(name).display().to_string();
    host.ok(&["cp", &path("in"), "c1:/in"]);
    assert_eq!(host.ok(&["exec", "c1", "stat", "-c", "%u:%g", "/in"]), "0:0");
    assert_eq!(host.ok(&["exec", "c1", "cat", "/in"]), "hello");
    host.ok(&["cp", "-a", "c1:/own", &path("out")]);
    assert_eq!(std::fs::metadata(dir.join("out")).unwrap().uid(), 70, "an archive has the container's ids");
    host.ok(&["commit", "c1", "made"]);
    assert_eq!(host.ok(&["run", "--rm", "made", "stat", "-c", "%u:%g %n", "/own"]), "70:70 /own");
    host.ok(&["save", "-o", &path("made.tar"), "made"]);
    host.ok(&["rm", "-f", "c1"]);
    host.ok(&["rmi", "made"]);
    host.ok(&["load", "-i", &path("made.tar")]);
    assert_eq!(host.ok(&["run", "--rm", "made", "stat", "-c", "%u:%g", "/own", "/in"]), "70:70\n0:0");
}
