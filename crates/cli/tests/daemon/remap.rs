//! `userns-remap`: root in a container is nobody on the host, and everything still works.

use std::os::unix::fs::MetadataExt;

use serde_json::json;
use weft_testkit::Registry;

use crate::{Host, run};

/// First host id of the range, and its length.
const BASE: u32 = 231_072;

fn remapped() -> Host {
    Host::with(json!({"userns-remap": "default"}), |sandbox| sandbox.give_ids(BASE).unwrap(), &[])
}

/// Runs a container `c1` whose script has come to its end.
fn script(host: &Host, script: &str) {
    let script = format!("{script}; touch /tmp/ready; sleep 1000");
    host.ok(&["run", "-d", "--name", "c1", "busybox", "sh", "-c", &script]);
    crate::until("the script", || host.weft(&["exec", "c1", "test", "-e", "/tmp/ready"]).status.success());
}

#[test]
fn ids_and_owners_are_shifted() {
    let host = remapped();
    let map = host.ok(&["run", "--rm", "busybox", "cat", "/proc/self/uid_map"]);
    let words: Vec<&str> = map.split_whitespace().collect();
    assert_eq!(words, ["0", &BASE.to_string(), "65536"]);
    // The process, seen from the host.
    script(&host, "touch /made");
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
fn cgroups_are_read_only() {
    let host = remapped();
    let loose = "grep ' /sys/fs/cgroup.* cgroup' /proc/self/mounts | grep -v ' ro,' && echo LOOSE; \
        for d in /sys/fs/cgroup/*/; do mkdir $d/evil 2>/dev/null && echo MADE $d; done; \
        { echo max > /sys/fs/cgroup/pids/pids.max; } 2>/dev/null && echo WROTE; echo tried";
    for namespace in ["host", "private"] {
        let flags =
            ["run", "--rm", "--cgroupns", namespace, "--pids-limit", "20", "busybox", "sh", "-c", loose];
        assert_eq!(host.ok(&flags), "tried", "{namespace}");
        let mut exec = vec!["run", "-d", "--name", namespace, "--cgroupns", namespace];
        exec.extend(["--pids-limit", "20", "busybox", "sleep", "1000"]);
        host.ok(&exec);
        assert_eq!(host.ok(&["exec", namespace, "sh", "-c", loose]), "tried", "exec, {namespace}");
        host.ok(&["rm", "-f", namespace]);
    }
}

#[test]
fn what_is_made_in_its_tree_is_theirs() {
    let host = remapped();
    host.ok(&["run", "--name", "c1", "busybox", "ln", "-s", "/srv/data", "/data"]);
    host.ok(&["commit", "c1", "linked"]);
    // A working directory, also by way of a link that leads to nothing.
    for dir in ["/new/work", "/data/work"] {
        host.ok(&["run", "--rm", "-w", dir, "linked", "sh", "-c", "touch mine ../mine"]);
    }
    host.ok(&["volume", "create", "v1"]);
    host.ok(&["run", "--rm", "-v", "v1:/data", "linked", "touch", "/srv/data/mine"]);
    let device = ["run", "--rm", "--device", "/dev/null:/data/null", "linked", "sh", "-c"];
    host.ok(&[&device[..], &["echo x > /srv/data/null && test -c /srv/data/null"]].concat());
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
    script(&host, "echo x > /own; chown 70:70 /own");
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

/// Adds an address, a route, a rule to its own network, and reads what belongs to it.
const ADMIN: &str = "ip link set lo mtu 1400 && ip addr add 192.0.2.1/32 dev lo && ip route add 198.51.100.0/24 dev lo \
     && ls /sys/class/net/lo >/dev/null && echo done";

#[test]
fn the_network_is_theirs() {
    let host = remapped();
    let names = || -> Vec<String> {
        let entries = std::fs::read_dir(host.home().join("run/netns")).into_iter().flatten().flatten();
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
    };
    for runtime in ["weft", "runc"] {
        for network in ["bridge", "none"] {
            let run = |cap: &[&str], script: &str| {
                let mut args = vec!["run", "--rm", "--runtime", runtime, "--network", network];
                args.extend(cap);
                args.extend(["busybox", "sh", "-c", script]);
                host.weft(&args)
            };
            let output = run(&["--cap-add", "NET_ADMIN"], ADMIN);
            let said = crate::text(&output.stdout) + &crate::text(&output.stderr);
            assert_eq!(said.trim(), "done", "{runtime} {network}: {}", host.daemon.log_tail());
            assert!(!run(&[], ADMIN).status.success(), "{runtime} {network}: without the capability");
        }
        // Parameters of the network, a low port, a raw socket, names and the way out.
        let sysctl = ["--sysctl", "net.ipv4.conf.all.forwarding=1", "--sysctl", "net.core.somaxconn=77"];
        let look = "cat /proc/sys/net/ipv4/conf/all/forwarding /proc/sys/net/core/somaxconn";
        let mut args = vec!["run", "--rm", "--runtime", runtime];
        args.extend(sysctl);
        args.extend(["busybox", "sh", "-c", look]);
        assert_eq!(host.ok(&args), "1\n77", "{runtime}");
    }
    crate::until("the namespaces' end", || names().is_empty());
}

#[test]
fn names_ports_and_shared_namespaces() {
    let host = remapped();
    host.ok(&["network", "create", "web"]);
    for runtime in ["weft", "runc"] {
        let serve =
            ["busybox", "sh", "-c", "mkdir -p /w && echo hello > /w/index.html && httpd -f -p 80 -h /w"];
        let mut args =
            vec!["run", "-d", "--name", "srv", "--runtime", runtime, "--network", "web", "-p", "8080:80"];
        args.extend(serve);
        host.ok(&args);
        let get = |args: &[&str]| {
            let mut all = vec!["run", "--rm", "--runtime", runtime];
            all.extend(args);
            host.weft(&all)
        };
        let asked = ["--network", "web", "busybox", "wget", "-qO-", "http://srv/"];
        crate::until("the server", || crate::text(&get(&asked).stdout).trim() == "hello");
        // Its network, its processes: in its user namespace.
        let shared = ["--network", "container:srv", "busybox", "wget", "-qO-", "http://127.0.0.1/"];
        assert_eq!(crate::text(&get(&shared).stdout).trim(), "hello", "{runtime}");
        let seen = get(&[
            "--pid",
            "container:srv",
            "--cap-add",
            "NET_ADMIN",
            "busybox",
            "sh",
            "-c",
            &format!("ps; {ADMIN}"),
        ]);
        let text = crate::text(&seen.stdout) + &crate::text(&seen.stderr);
        assert!(text.contains("httpd") && text.trim().ends_with("done"), "{runtime}: {text}");
        let url = format!("http://{}:8080/", host.sandbox.address());
        let outside = std::process::Command::new("busybox").args(["wget", "-qO-", &url]).output().unwrap();
        assert_eq!(crate::text(&outside.stdout).trim(), "hello", "{runtime}");
        // A restart, an exec, a crash of the daemon change nothing of that.
        host.ok(&["restart", "-t", "0", "srv"]);
        crate::until("the server", || crate::text(&get(&asked).stdout).trim() == "hello");
        host.ok(&["exec", "srv", "sh", "-c", "test -e /w/index.html"]);
        host.ok(&["rm", "-f", "srv"]);
    }
}

#[test]
fn a_crash_leaves_networks_as_they_are() {
    let mut host = remapped();
    host.ok(&[
        "run",
        "-d",
        "--name",
        "c1",
        "--cap-add",
        "NET_ADMIN",
        "--restart",
        "always",
        "busybox",
        "sleep",
        "1000",
    ]);
    let before = host.ok(&["exec", "c1", "readlink", "/proc/self/ns/net"]);
    host.daemon.kill9().unwrap();
    host.daemon.boot(&host.sandbox).unwrap();
    assert_eq!(host.ok(&["exec", "c1", "readlink", "/proc/self/ns/net"]), before);
    assert_eq!(host.ok(&["exec", "c1", "sh", "-c", ADMIN]), "done");
    // Its next run is on the same network, as root of it.
    let pid = host.json(&["inspect", "c1"])[0]["State"]["Pid"].to_string();
    run(host.sandbox.command("kill").args(["-9", &pid]));
    crate::until("the next run", || host.json(&["inspect", "c1"])[0]["RestartCount"] == 1);
    crate::until("the next run", || host.json(&["inspect", "c1"])[0]["State"]["Status"] == "running");
    assert_eq!(host.ok(&["exec", "c1", "ip", "link", "set", "lo", "mtu", "1300"]), "");
    host.ok(&["rm", "-f", "c1"]);
}

#[test]
fn images_are_pulled_and_pushed_with_the_images_owners() {
    let host = remapped();
    let registry = Registry::start(&host.sandbox, 5000, None).unwrap();
    let name = format!("{}/busybox:own", registry.host());
    script(&host, "echo x > /own; chown 70:71 /own; mkdir /d; chown 5:6 /d");
    host.ok(&["commit", "c1", &name]);
    host.ok(&["push", &name]);
    host.ok(&["rm", "-f", "c1"]);
    host.ok(&["rmi", &name, "busybox"]);
    host.ok(&["pull", &name]);
    let look = ["run", "--rm", &name, "stat", "-c", "%u:%g", "/own", "/d", "/bin/busybox"];
    assert_eq!(host.ok(&look), "70:71\n5:6\n0:0");
    // What is pushed has the ids of the image, not those of this host.
    let config = host.json(&["inspect", &name])[0]["RootFS"]["Layers"].clone();
    host.ok(&["tag", &name, &format!("{}/again:1", registry.host())]);
    host.ok(&["push", &format!("{}/again:1", registry.host())]);
    host.ok(&["rmi", "-f", &name, &format!("{}/again:1", registry.host())]);
    host.ok(&["pull", &format!("{}/again:1", registry.host())]);
    let again = host.json(&["inspect", &format!("{}/again:1", registry.host())]);
    assert_eq!(again[0]["RootFS"]["Layers"], config);
}

#[test]
fn the_hosts_users_where_asked() {
    let host = remapped();
    host.ok(&["run", "-d", "--name", "c1", "--userns", "host", "-v", "v1:/v", "busybox", "sleep", "1000"]);
    let dir = host.sandbox.dir().to_owned();
    std::fs::write(dir.join("in"), "hello").unwrap();
    host.ok(&["cp", dir.join("in").to_str().unwrap(), "c1:/in"]);
    assert_eq!(host.ok(&["exec", "c1", "cat", "/in"]), "hello");
    host.ok(&["commit", "c1", "made"]);
    assert_eq!(
        host.ok(&["run", "--rm", "--userns", "host", "--network", "host", "made", "cat", "/in"]),
        "hello"
    );
    assert_eq!(
        host.ok(&[
            "run",
            "--rm",
            "--userns",
            "host",
            "--privileged",
            "made",
            "ip",
            "link",
            "set",
            "lo",
            "up"
        ]),
        ""
    );
    assert!(host.refused(&["run", "--rm", "--network", "host", "busybox", "true"]).contains("host"));
    host.ok(&["rm", "-f", "c1"]);
}
