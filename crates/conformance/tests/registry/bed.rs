//! One test's host: a sandbox, the subject's daemon, the `docker` client, and images that are made by hand.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use weft_testkit::{
    Daemon, DaemonOptions, ImageSpec, Registry, RegistrySetup, Sandbox, Subject, busybox_archive,
};

use crate::http::{self, Reply};

/// Which implementation is judged: `WEFT_CONFORMANCE_SUBJECT`.
pub fn subject() -> Subject {
    let name = std::env::var("WEFT_CONFORMANCE_SUBJECT").unwrap_or_else(|_| "weft".into());
    Subject::parse(&name).unwrap()
}

/// Leaves a test out on dockerd 20.10, which lacks what it is about.
pub fn newer(why: &str) -> bool {
    let left_out = subject() == Subject::Dockerd;
    if left_out {
        eprintln!("left out on dockerd: {why}");
    }
    left_out
}

/// See the module. Dropped in this order: what runs in the sandbox before the sandbox.
pub struct Bed {
    pub daemon: Daemon,
    pub sandbox: Sandbox,
}

impl Bed {
    pub fn new() -> Self {
        Self::with(DaemonOptions::default(), |_| {})
    }

    /// With options, after `prepare` has changed the sandbox.
    pub fn with(options: DaemonOptions, prepare: impl FnOnce(&Sandbox)) -> Self {
        let sandbox = Sandbox::new().unwrap();
        prepare(&sandbox);
        let daemon = Daemon::start(&sandbox, subject(), "subject", options).unwrap();
        Self { daemon, sandbox }
    }

    pub fn registry(&self, port: u16) -> Registry {
        Registry::start_with(&self.sandbox, RegistrySetup::open(port)).unwrap()
    }

    /// Runs the client to its end.
    pub fn docker<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Out {
        let args: Vec<String> = args.into_iter().map(|a| a.as_ref().to_owned()).collect();
        let output = self.client(&args).output().unwrap();
        Out::new(&args, &output)
    }

    /// A client command that is not waited for.
    pub fn start(&self, args: &[&str]) -> std::process::Child {
        let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
        self.client(&args).spawn().unwrap()
    }

    fn client(&self, args: &[String]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["-k", "5", "90", "docker"]).args(args).stdin(Stdio::null());
        command.env("DOCKER_HOST", self.daemon.docker_host()).env("DOCKER_CLI_HINTS", "false");
        command.env("DOCKER_CONFIG", self.sandbox.dir().join("client"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// A request to the daemon's API; `path` with its version.
    pub fn api(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        let stream = std::os::unix::net::UnixStream::connect(self.daemon.socket()).unwrap();
        http::exchange(stream, method, path, &[("Content-Type", "application/json")], body)
    }

    pub fn login(&self, host: &str, user: &str, password: &str) -> Out {
        self.docker(["login", "-u", user, "-p", password, host])
    }

    /// Loads an image with `ballast` bytes that no packing makes smaller, under `name`.
    pub fn load(&self, name: &str, ballast: u64) {
        let file = self.sandbox.dir().join("image.tar");
        busybox_archive(&ImageSpec { ballast, ..ImageSpec::tagged(name) }, &file).unwrap();
        self.docker(["load", "-q", "-i", file.to_str().unwrap()]).ok();
    }

    /// The same, pushed and gone from the daemon; answers its id.
    pub fn seed(&self, name: &str, ballast: u64) -> String {
        self.load(name, ballast);
        let id = self.docker(["inspect", "-f", "{{.Id}}", name]).ok().text();
        self.docker(["push", "-q", name]).ok();
        self.docker(["rmi", name]).ok();
        id
    }

    /// Files below the daemon's stores of content and layers, with their sizes: what a failed request must not change.
    /// Only of Weft, whose layout we know.
    pub fn on_disk(&self) -> Vec<(PathBuf, u64)> {
        let data = self.sandbox.dir().join("subject/data");
        let mut out = Vec::new();
        for part in ["content/blobs", "content/ingest", "snapshots/layers", "snapshots/tmp"] {
            walk(&data.join(part), &mut out);
        }
        out.sort();
        out
    }
}

fn walk(dir: &Path, out: &mut Vec<(PathBuf, u64)>) {
    for entry in std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())).flatten() {
        let meta = entry.path().symlink_metadata().unwrap();
        out.push((entry.path(), if meta.is_file() { meta.len() } else { 0 }));
        if meta.is_dir() {
            walk(&entry.path(), out);
        }
    }
}

/// `sha256:…` of bytes.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Puts content into a registry without any client.
pub struct Far<'a> {
    pub sandbox: &'a Sandbox,
    pub host: String,
    pub repository: &'a str,
}

impl Far<'_> {
    /// Stores a blob; answers its digest.
    pub fn blob(&self, bytes: &[u8]) -> String {
        let begin = format!("/v2/{}/blobs/uploads/", self.repository);
        let reply = http::call(self.sandbox, &self.host, "POST", &begin, "application/json", b"");
        let location = reply.header("location").expect("a place to upload to").to_owned();
        let path = location.split_once("://").and_then(|(_, l)| l.find('/').map(|at| l[at..].to_owned()));
        let digest = digest(bytes);
        let target = format!("{}&digest={digest}", path.unwrap_or(location));
        let reply = http::call(self.sandbox, &self.host, "PUT", &target, "application/octet-stream", bytes);
        assert_eq!(reply.status, 201, "{}", reply.text());
        digest
    }

    /// Stores a manifest under a tag (or its digest); answers its descriptor.
    pub fn manifest(&self, pick: Option<&str>, kind: &str, value: &Value) -> Value {
        let bytes = value.to_string();
        let digest = digest(bytes.as_bytes());
        let target = format!("/v2/{}/manifests/{}", self.repository, pick.unwrap_or(&digest));
        let reply = http::call(self.sandbox, &self.host, "PUT", &target, kind, bytes.as_bytes());
        assert_eq!(reply.status, 201, "{}", reply.text());
        json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    }

    /// Stores an image of plain layers, packed by `pack` as `layer_kind`; answers the manifest's descriptor.
    pub fn image(&self, tag: Option<&str>, platform: &str, layers: &[Layer<'_>]) -> Value {
        let (os, rest) = platform.split_once('/').unwrap();
        let (architecture, variant) = rest.split_once('/').unwrap_or((rest, ""));
        let diff_ids: Vec<String> = layers.iter().map(|l| digest(l.plain)).collect();
        let config = json!({
            "os": os, "architecture": architecture, "variant": variant, "created": "2020-01-01T00:00:00Z",
            "config": {"Cmd": ["sh"], "Labels": {"platform": platform}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": layers.iter().map(|_| json!({"created_by": "by hand"})).collect::<Vec<_>>(),
        });
        let config = config.to_string();
        let descriptors: Vec<Value> = layers
            .iter()
            .map(|l| json!({"mediaType": l.kind, "digest": self.blob(&l.packed), "size": l.packed.len()}))
            .collect();
        let kind = "application/vnd.oci.image.config.v1+json";
        let config = json!({"mediaType": kind, "digest": self.blob(config.as_bytes()), "size": config.len()});
        let manifest =
            json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": descriptors});
        self.manifest(tag, OCI_MANIFEST, &manifest)
    }
}

/// A layer by hand.
pub struct Layer<'a> {
    pub plain: &'a [u8],
    pub packed: Vec<u8>,
    pub kind: &'static str,
}

impl<'a> Layer<'a> {
    pub fn gzip(plain: &'a [u8]) -> Self {
        use std::io::Write as _;
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(plain).unwrap();
        let packed = out.finish().unwrap();
        Self { plain, packed, kind: "application/vnd.oci.image.layer.v1.tar+gzip" }
    }

    /// Packed as no manifest has a word for, under the word for gzip, as some tools do it.
    pub fn xz(plain: &'a [u8]) -> Self {
        use std::io::Write as _;
        let mut out = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
        out.write_all(plain).unwrap();
        Self { packed: out.finish().unwrap(), ..Self::gzip(plain) }
    }

    /// The same by bzip2.
    pub fn bzip2(plain: &'a [u8]) -> Self {
        use std::io::Write as _;
        let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        out.write_all(plain).unwrap();
        Self { packed: out.finish().unwrap(), ..Self::gzip(plain) }
    }

    pub fn zstd(plain: &'a [u8]) -> Self {
        let packed = zstd::encode_all(plain, 3).unwrap();
        Self { plain, packed, kind: "application/vnd.oci.image.layer.v1.tar+zstd" }
    }
}

/// A layer of this machine's busybox, so that the image runs, and of one file.
pub fn tree(file: &str, bytes: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, mode: u32, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        header.set_mtime(1_577_836_800);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    add("bin/sh", 0o755, &std::fs::read("/bin/busybox").unwrap());
    add(file, 0o644, bytes);
    tar.into_inner().unwrap()
}

/// Bytes that no packing makes smaller.
pub fn noise(n: u64) -> Vec<u8> {
    use std::io::Read as _;
    let mut out = Vec::new();
    std::fs::File::open("/dev/urandom").unwrap().take(n).read_to_end(&mut out).unwrap();
    out
}

/// What a command answered. Every check panics with the whole answer.
pub struct Out {
    what: String,
    code: i32,
    stdout: String,
    stderr: String,
}

impl Out {
    pub fn new(args: &[String], output: &Output) -> Self {
        Self {
            what: args.join(" "),
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    fn check(self, good: bool, wanted: &str) -> Self {
        let Self { what, code, stdout, stderr } = &self;
        assert!(good, "`{what}`: wanted {wanted}\nexit code: {code}\nstdout: {stdout}\nstderr: {stderr}");
        self
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        let good = self.code == 0;
        self.check(good, "success")
    }

    /// Fails with this in its error text.
    #[track_caller]
    pub fn fails(self, text: &str) -> Self {
        let good = self.code != 0 && self.stderr.to_lowercase().contains(&text.to_lowercase());
        self.check(good, &format!("a failure that says {text:?}"))
    }

    #[track_caller]
    pub fn has(self, text: &str) -> Self {
        let good = self.stdout.contains(text);
        self.check(good, &format!("{text:?} in stdout"))
    }

    pub fn text(&self) -> String {
        self.stdout.trim().to_owned()
    }
}
