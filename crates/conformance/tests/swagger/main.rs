//! Answers of a real daemon against Docker's own document, version by version.
//!
//! The documents (`specs/docker/v1.*.json`) lie beside the checkout; the subject is `WEFT_CONFORMANCE_SUBJECT`, so that the
//! judge can be judged on dockerd.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::too_many_arguments, reason = "a request has as many parts")]

mod schema;

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use schema::Document;
use serde_json::{Value, json};
use weft_testkit::{Daemon, DaemonOptions, ImageSpec, Sandbox, Subject, busybox_archive};

const VERSIONS: [&str; 4] = ["1.41", "1.44", "1.47", "1.51"];

/// What the document does not say and dockerd does, with the reason. The start of a path is enough.
const KNOWN: &[(&str, &str)] = &[
    (
        "GET /containers/{id}/json 200.HostConfig.MemorySwappiness: null",
        "a pointer in Go, null when nothing was said",
    ),
    (
        "GET /containers/{id}/json 200.HostConfig.OomKillDisable: null",
        "a pointer in Go, null when nothing was said",
    ),
    ("GET /exec/{id}/json 200.ExitCode: null", "a pointer in Go, null until it ended"),
    ("GET /events 200.from: not", "shown below 1.52 (version history of the API)"),
    ("GET /events 200.id: not", "shown below 1.52 (version history of the API)"),
    ("GET /events 200.status: not", "shown below 1.52 (version history of the API)"),
    ("GET /system/df 200.BuilderSize: not", "shown below 1.42, never in the document"),
];

fn documents() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = here
        .ancestors()
        .map(|dir| dir.join("shared/specs/docker"))
        .find(|dir| dir.join("v1.41.json").exists());
    found.expect("shared/specs/docker with the upstream documents, beside the checkout")
}

struct Bed {
    socket: PathBuf,
    version: &'static str,
    document: Document,
    wrong: Vec<String>,
    seen: usize,
    /// dockerd 20.10 answers 500 to a wrong type.
    old: bool,
}

impl Bed {
    /// HTTP/1.0, so that the body ends with the connection.
    fn raw(&self, method: &str, target: &str, kind: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let head = format!(
            "{method} /v{}{target} HTTP/1.0\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            self.version,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let at = answer
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .unwrap_or_else(|| panic!("no answer to {method} {target}"));
        let head = String::from_utf8_lossy(&answer[..at]).into_owned();
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap();
        (status, answer[at + 4..].to_vec())
    }

    /// Asks, and holds the answer against the document. `fill` stands for the path's parameter.
    fn ask(&mut self, method: &str, path: &str, fill: &str, query: &str, body: &Value, status: u16) -> Value {
        let target = match (path.find('{'), path.find('}')) {
            (Some(from), Some(to)) => format!("{}{fill}{}{query}", &path[..from], &path[to + 1..]),
            _ => format!("{path}{query}"),
        };
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let (got, answer) = self.raw(method, &target, "application/json", text.as_bytes());
        let value: Value = serde_json::from_slice(&answer).unwrap_or(Value::Null);
        let place = format!("v{} {method} {path} {got}", self.version);
        if got != status {
            self.wrong.push(format!("{place}: wanted {status}: {}", String::from_utf8_lossy(&answer)));
        }
        self.judge(method, path, got, &value, &answer, &place);
        value
    }

    fn judge(&mut self, method: &str, path: &str, status: u16, value: &Value, answer: &[u8], place: &str) {
        self.seen += 1;
        match self.document.answer(method, path, status) {
            Err(why) => self.wrong.push(format!("{place}: {why}")),
            Ok(None) => {}
            Ok(Some(schema)) => {
                let found = if value.is_null() && !answer.starts_with(b"null") && schema["type"] != "string" {
                    vec![format!(
                        ": no JSON: {:?}",
                        String::from_utf8_lossy(&answer[..answer.len().min(200)])
                    )]
                } else if schema["type"] == "string" {
                    Vec::new()
                } else {
                    self.document.check(schema, value)
                };
                for one in found {
                    let line = format!("{place}{one}");
                    let bare = line.split_once(' ').map_or("", |(_, rest)| rest);
                    if !KNOWN.iter().any(|(start, _)| bare.starts_with(start)) {
                        self.wrong.push(line);
                    }
                }
            }
        }
    }

    fn get(&mut self, path: &str, fill: &str, query: &str) -> Value {
        self.ask("GET", path, fill, query, &Value::Null, 200)
    }

    fn containers(&mut self) {
        let none = &Value::Null;
        let body = json!({
            "Image": "busybox", "Cmd": ["sleep", "1000"], "Env": ["A=b"], "Labels": {"l": "v"}, "ExposedPorts": {"81/tcp": {}},
            "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1_000_000_000_u64}, "StopSignal": "SIGKILL",
            "Volumes": {"/anon": {}},
            "HostConfig": {
                "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}, "Memory": 64 << 20, "CpuShares": 100,
                "Binds": ["swag-vol:/vol:ro"], "Mounts": [{"Type": "tmpfs", "Target": "/mem"}], "Tmpfs": {"/t": "size=1m"},
                "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}], "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2},
                "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}}, "Devices": [], "CapAdd": ["NET_ADMIN"],
            },
            "NetworkingConfig": {"EndpointsConfig": {"swag-net": {"Aliases": ["alias"]}}},
        });
        let mut body = body;
        body["HostConfig"]["NetworkMode"] = json!("swag-net");
        self.ask("POST", "/containers/create", "", "?name=swag", &body, 201);
        self.ask("POST", "/containers/create", "", "?name=swag", &body, 409);
        self.ask("POST", "/containers/create", "", "", &json!({"Image": "no-such"}), 404);
        self.ask(
            "POST",
            "/containers/create",
            "",
            "",
            &json!({"Image": 5}),
            if self.old { 500 } else { 400 },
        );
        self.get("/containers/{id}/json", "swag", "?size=1");
        self.ask("POST", "/containers/{id}/start", "swag", "", none, 204);
        self.ask("POST", "/containers/{id}/start", "swag", "", none, 304);
        std::thread::sleep(Duration::from_millis(1500));
        self.get("/containers/{id}/json", "swag", "");
        self.get("/containers/json", "", "?all=1&size=1");
        self.get("/containers/{id}/top", "swag", "");
        self.get("/containers/{id}/stats", "swag", "?stream=false");
        self.get("/containers/{id}/stats", "swag", "?stream=false&one-shot=true");
        self.get("/containers/{id}/changes", "swag", "");
        self.ask(
            "POST",
            "/containers/{id}/update",
            "swag",
            "",
            &json!({"Memory": 48 << 20, "MemorySwap": 96 << 20}),
            200,
        );
        self.execs();
        for (path, method) in [
            ("/containers/{id}/json", "GET"),
            ("/containers/{id}/top", "GET"),
            ("/containers/{id}/stats", "GET"),
            ("/containers/{id}/changes", "GET"),
            ("/containers/{id}/logs", "GET"),
            ("/containers/{id}/start", "POST"),
            ("/containers/{id}/wait", "POST"),
            ("/containers/{id}", "DELETE"),
        ] {
            let query = if path.ends_with("logs") { "?stdout=1" } else { "" };
            self.ask(method, path, "no-such", query, none, 404);
        }
        self.ask("DELETE", "/containers/{id}", "swag", "", none, 409);
        self.ask("POST", "/containers/{id}/rename", "swag", "?name=swag2", none, 204);
        self.ask("POST", "/containers/{id}/pause", "swag2", "", none, 204);
        self.ask("POST", "/containers/{id}/unpause", "swag2", "", none, 204);
        self.ask("POST", "/containers/{id}/stop", "swag2", "?t=1", none, 204);
        self.ask("POST", "/containers/{id}/stop", "swag2", "?t=1", none, 304);
        self.ask("POST", "/containers/{id}/kill", "swag2", "", none, 409);
        self.ask("POST", "/containers/{id}/wait", "swag2", "", none, 200);
        self.get("/containers/{id}/json", "swag2", "");
        self.get("/containers/json", "", "?all=1");
        self.ask("DELETE", "/containers/{id}", "swag2", "?v=1", none, 204);
        self.ask("POST", "/containers/prune", "", "", none, 200);
    }

    fn execs(&mut self) {
        let made = self.ask(
            "POST",
            "/containers/{id}/exec",
            "swag",
            "",
            &json!({"Cmd": ["true"], "AttachStdout": true}),
            201,
        );
        let id = made["Id"].as_str().unwrap_or("none").to_owned();
        self.get("/exec/{id}/json", &id, "");
        self.ask("POST", "/exec/{id}/start", &id, "", &json!({"Detach": true}), 200);
        std::thread::sleep(Duration::from_millis(300));
        self.get("/exec/{id}/json", &id, "");
        self.ask("GET", "/exec/{id}/json", "no-such", "", &Value::Null, 404);
        self.ask("POST", "/containers/{id}/exec", "no-such", "", &json!({"Cmd": ["true"]}), 404);
    }

    fn images(&mut self) {
        let none = &Value::Null;
        self.get("/images/json", "", "?all=1&digests=1");
        self.get("/images/{name}/json", "busybox", "");
        self.get("/images/{name}/history", "busybox", "");
        self.ask("GET", "/images/{name}/json", "no-such", "", none, 404);
        self.ask("GET", "/images/{name}/history", "no-such", "", none, 404);
        self.ask("POST", "/images/{name}/tag", "busybox", "?repo=swag&tag=1", none, 201);
        self.ask("DELETE", "/images/{name}", "swag:1", "", none, 200);
        self.ask("DELETE", "/images/{name}", "no-such", "", none, 404);
        self.ask("POST", "/images/prune", "", "", none, 200);
        self.ask("GET", "/images/search", "", "?term=none", none, 500);
    }

    fn networks_and_volumes(&mut self) {
        let none = &Value::Null;
        let net = json!({"Name": "swag-net", "Labels": {"a": "b"}, "IPAM": {"Config": [{"Subnet": "172.31.9.0/24"}]}});
        self.ask("POST", "/networks/create", "", "", &net, 201);
        self.get("/networks", "", "");
        self.get("/networks/{id}", "swag-net", "");
        self.get("/networks/{id}", "bridge", "");
        self.ask("GET", "/networks/{id}", "no-such", "", none, 404);
        self.ask("POST", "/networks/{id}/connect", "no-such", "", &json!({"Container": "x"}), 404);
        self.ask("DELETE", "/networks/{id}", "bridge", "", none, 403);
        let volume = json!({"Name": "swag-vol", "Labels": {"a": "b"}});
        self.ask("POST", "/volumes/create", "", "", &volume, 201);
        self.get("/volumes", "", "");
        self.get("/volumes/{name}", "swag-vol", "");
        self.ask("GET", "/volumes/{name}", "no-such", "", none, 404);
    }

    fn system(&mut self) {
        let none = &Value::Null;
        self.get("/info", "", "");
        self.get("/version", "", "");
        self.get("/system/df", "", "");
        self.get("/_ping", "", "");
        self.ask(
            "POST",
            "/auth",
            "",
            "",
            &json!({"username": "a", "password": "b", "serveraddress": "127.0.0.1:1"}),
            500,
        );
        for (method, path) in [
            ("GET", "/swarm"),
            ("GET", "/nodes"),
            ("GET", "/services"),
            ("GET", "/tasks"),
            ("GET", "/secrets"),
            ("GET", "/configs"),
        ] {
            self.ask(method, path, "", "", none, 503);
        }
        self.get("/plugins", "", "");
        self.ask("GET", "/plugins/{name}/json", "no-such", "", none, 404);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let (status, answer) = self.raw("GET", &format!("/events?since=1&until={now}"), "text/plain", b"");
        assert_eq!(status, 200);
        let lines = String::from_utf8_lossy(&answer).into_owned();
        assert!(lines.lines().count() > 5, "{lines}");
        for line in lines.lines().filter(|line| !line.trim().is_empty()) {
            let value: Value = serde_json::from_str(line).unwrap();
            let place = format!("v{} GET /events 200", self.version);
            self.judge("GET", "/events", 200, &value, line.as_bytes(), &place);
        }
    }

    fn tidy(&mut self) {
        let none = &Value::Null;
        self.ask("DELETE", "/networks/{id}", "swag-net", "", none, 204);
        self.ask("DELETE", "/volumes/{name}", "swag-vol", "", none, 204);
        self.ask("POST", "/networks/prune", "", "", none, 200);
        self.ask("POST", "/volumes/prune", "", "", none, 200);
    }
}

#[test]
fn answers_are_those_of_the_document() {
    let subject = std::env::var("WEFT_CONFORMANCE_SUBJECT").unwrap_or_else(|_| "weft".to_owned());
    let sandbox = Sandbox::new().unwrap();
    let daemon =
        Daemon::start(&sandbox, Subject::parse(&subject).unwrap(), "swagger", DaemonOptions::default())
            .unwrap();
    let archive = sandbox.dir().join("busybox.tar");
    busybox_archive(&ImageSpec::tagged("busybox:latest"), &archive).unwrap();
    let loaded = daemon.docker().args(["load", "-q", "-i"]).arg(&archive).status().unwrap();
    assert!(loaded.success());
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for version in VERSIONS {
        if subject == "dockerd" && version != "1.41" {
            continue;
        }
        let text = std::fs::read_to_string(documents().join(format!("v{version}.json"))).unwrap();
        let document = Document(serde_json::from_str(&text).unwrap());
        let mut bed = Bed {
            socket: daemon.socket(),
            version,
            document,
            wrong: Vec::new(),
            seen: 0,
            old: subject == "dockerd",
        };
        bed.networks_and_volumes();
        bed.images();
        bed.containers();
        bed.system();
        bed.tidy();
        wrong.append(&mut bed.wrong);
        seen += bed.seen;
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{} of {seen} answers looked at:\n{}", wrong.len(), wrong.join("\n"));
}
