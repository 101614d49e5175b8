//! `daemon.json` keys, and what `info` says of the host.

use serde_json::json;

use crate::Host;

#[test]
fn keys_of_daemon_json_take_effect() {
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}"#;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), profile).unwrap();
    let host = Host::start(json!({
        "seccomp-profile": file.path(), "default-ipc-mode": "shareable", "default-cgroupns-mode": "private",
        "http-proxy": "http://u:secret@192.0.2.1:3128", "no-proxy": "localhost", "group": "4242",
        "storage-driver": "overlay2"
    }));
    assert!(host.refused(&["run", "--rm", "busybox", "mkdir", "/x"]).contains("not permitted"));
    host.ok(&["run", "--rm", "--security-opt", "seccomp=unconfined", "busybox", "mkdir", "/x"]);
    host.ok(&["run", "--rm", "--privileged", "busybox", "mkdir", "/x"]);
    host.ok(&["run", "-d", "--name", "c1", "busybox", "sleep", "1000"]);
    let made = host.json(&["inspect", "c1"]);
    assert_eq!(made[0]["HostConfig"]["IpcMode"], "shareable");
    assert_eq!(made[0]["HostConfig"]["CgroupnsMode"], "private");
    host.ok(&["run", "--rm", "--ipc", "container:c1", "busybox", "true"]);
    let info = host.json(&["info"]);
    assert_eq!(info["HttpProxy"], "http://xxxxx:xxxxx@192.0.2.1:3128");
    assert_eq!(info["NoProxy"], "localhost");
    let gid = std::os::unix::fs::MetadataExt::gid(&std::fs::metadata(host.daemon.socket()).unwrap());
    assert_eq!(gid, 4242);
    let log = std::fs::read_to_string(host.daemon.log_path()).unwrap();
    assert!(log.contains("storage-driver"), "{log}");
    host.ok(&["rm", "-f", "c1"]);
}

#[test]
fn info_tells_what_this_host_has() {
    let host = Host::start(crate::plain());
    let info = host.json(&["info"]);
    for flag in ["MemoryLimit", "PidsLimit", "CPUShares", "CPUSet", "IPv4Forwarding"] {
        assert_eq!(info[flag], true, "{flag}");
    }
    let cgroup = |file: &str| std::path::Path::new("/sys/fs/cgroup/memory").join(file).exists();
    if info["CgroupVersion"] == "1" {
        assert_eq!(info["SwapLimit"], cgroup("memory.memsw.limit_in_bytes"));
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|l| l.strip_prefix("CapEff:")).unwrap().trim();
    // Bit 24 is CAP_SYS_RESOURCE (capability.h).
    let lacks = u64::from_str_radix(effective, 16).unwrap() >> 24 & 1 == 0;
    assert_eq!(info["Warnings"].to_string().contains("CAP_SYS_RESOURCE"), lacks, "{}", info["Warnings"]);
    let version = host.json(&["version"]);
    let built = version.to_string();
    assert!(built.contains("BuildTime") && !built.contains("\"BuildTime\":\"\""), "{built}");
}
