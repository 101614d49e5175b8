//! Real bundles of busybox for shim tests; everything is gone when a [`Box_`] is dropped.
#![allow(dead_code, clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, net::UnixStream, time::timeout};
use weft_engine::shim::{Launcher, Runtime, Shim, ShimSpec};

pub const PATIENCE: Duration = Duration::from_secs(20);

/// One container's files.
pub struct Sandbox {
    pub dir: tempfile::TempDir,
    pub spec: ShimSpec,
    pub config: Value,
}

impl Sandbox {
    pub fn new(args: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("weft-shim-").tempdir().unwrap();
        let id = dir.path().file_name().unwrap().to_str().unwrap().to_owned();
        let bundle = dir.path().join("bundle");
        let bin = bundle.join("rootfs/bin");
        fs::create_dir_all(&bin).unwrap();
        for sub in ["proc", "dev", "sys", "tmp", "etc"] {
            fs::create_dir_all(bundle.join("rootfs").join(sub)).unwrap();
        }
        fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        for applet in [
            "sh", "true", "cat", "sleep", "echo", "kill", "id", "stty", "head", "ls", "dd", "readlink",
            "grep",
        ] {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        fs::write(bundle.join("rootfs/etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
        fs::create_dir_all(dir.path().join("shim")).unwrap();
        let cgroup = format!("/weft-test/{id}");
        let spec = ShimSpec {
            id,
            bundle,
            runtime: Runtime::Builtin,
            state_root: dir.path().join("state"),
            cgroup: cgroup.clone(),
            tty: false,
            stdin: false,
            stdin_once: false,
            console_size: None,
            log: None,
            seccomp_cache: None,
        };
        let config = config(args, &cgroup);
        Self { dir, spec, config }
    }

    /// `sh -c SCRIPT`.
    pub fn sh(script: &str) -> Self {
        Self::new(&["sh", "-c", script])
    }

    pub fn shim_dir(&self) -> PathBuf {
        self.dir.path().join("shim")
    }

    pub fn write_config(&self) {
        let mut config = self.config.clone();
        config["process"]["terminal"] = json!(self.spec.tty);
        fs::write(self.spec.bundle.join("config.json"), config.to_string()).unwrap();
    }

    pub async fn spawn(&self) -> Result<Shim, weft_engine::shim::ShimError> {
        self.write_config();
        Shim::spawn(&launcher(), &self.shim_dir(), &self.spec).await
    }

    /// What a finished container may have left: its cgroup in any hierarchy, runtime state, mounts.
    pub fn assert_nothing_left(&self) {
        for root in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let path = root.path().join(self.spec.cgroup.trim_start_matches('/'));
            assert!(!path.exists(), "{} is left", path.display());
        }
        assert!(!self.spec.state_root.join(&self.spec.id).exists(), "runtime state is left");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&self.spec.id), "mounts are left: {mounts}");
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // A failed test may leave its container: end it and take its cgroup away.
        for root in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let path = root.path().join(self.spec.cgroup.trim_start_matches('/'));
            for _ in 0..100 {
                for pid in fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default().lines() {
                    let _ = weft_sys::process::kill(pid.parse().unwrap(), 9);
                }
                if !path.exists() || fs::remove_dir(&path).is_ok() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            // Shared by all tests: goes with the last of them.
            let _ = fs::remove_dir(root.path().join("weft-test"));
        }
    }
}

pub fn launcher() -> Launcher {
    Launcher::of_program(Path::new(env!("CARGO_BIN_EXE_weft-shim-test")), &["shim"]).unwrap()
}

/// Reads to the end, splitting stdcopy frames into (stdout, stderr).
pub async fn read_frames(stream: &mut UnixStream) -> (String, String) {
    let mut bytes = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("output ends").unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut rest = &bytes[..];
    while let Some((head, body)) = rest.split_first_chunk::<8>() {
        let len = u32::from_be_bytes(head[4..8].try_into().unwrap()) as usize;
        match head[0] {
            1 => out.extend_from_slice(&body[..len]),
            2 => err.extend_from_slice(&body[..len]),
            other => panic!("stream {other}"),
        }
        rest = &body[len..];
    }
    assert!(rest.is_empty());
    (String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&err).into_owned())
}

/// Reads until `text` has been seen.
pub async fn read_until(stream: &mut UnixStream, text: &str) -> String {
    let mut seen = Vec::new();
    let work = async {
        while !String::from_utf8_lossy(&seen).contains(text) {
            if stream.read_buf(&mut seen).await.unwrap() == 0 {
                break;
            }
        }
    };
    timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("no {text:?} yet"));
    String::from_utf8_lossy(&seen).into_owned()
}

/// A process description with Docker's default capabilities.
pub fn process(args: &[&str]) -> Value {
    let caps = json!([
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FSETID",
        "CAP_FOWNER",
        "CAP_MKNOD",
        "CAP_NET_RAW",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETFCAP",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE",
        "CAP_SYS_CHROOT",
        "CAP_KILL",
        "CAP_AUDIT_WRITE"
    ]);
    json!({
        "user": {"uid": 0, "gid": 0},
        "args": args,
        "env": ["PATH=/usr/bin:/bin"],
        "cwd": "/",
        "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
    })
}

fn config(args: &[&str], cgroup: &str) -> Value {
    let namespaces: Vec<_> =
        ["pid", "mount", "ipc", "uts", "network", "cgroup"].iter().map(|t| json!({"type": t})).collect();
    json!({
        "ociVersion": "1.0.2",
        "process": process(args),
        "root": {"path": "rootfs"},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": namespaces,
            "resources": {"devices": [{"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
                {"allow": true, "type": "c", "major": 1, "minor": 5, "access": "rwm"},
                {"allow": true, "type": "c", "major": 5, "minor": 2, "access": "rwm"},
                {"allow": true, "type": "c", "major": 136, "access": "rwm"}]},
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"],
        },
    })
}
