//! `docker import URL`: the daemon fetches a root file system from a web server.

use serde_json::Value;

use crate::bed::{Bed, Layer, newer, noise, tree};
use crate::http::{Reply, Request, listen, serve};

const HOST: &str = "127.0.0.1:8000";

fn files(request: &Request) -> Reply {
    let root = tree("etc/from", b"the web\n");
    let ok = |body: Vec<u8>| Reply { status: 200, headers: Vec::new(), body };
    match request.path() {
        "/root.tar" => ok(root),
        "/root.tar.gz" => ok(Layer::gzip(&root).packed),
        "/large.tar" => ok(tree("large", &noise(4 << 20))),
        "/moved" => {
            Reply { headers: vec![("location".into(), "/root.tar".into())], status: 302, body: Vec::new() }
        }
        "/short.tar" => {
            let headers = vec![("content-length".into(), root.len().to_string())];
            Reply { status: 200, headers, body: root[..root.len() / 2].to_vec() }
        }
        "/page.html" => {
            ok(b"<html>this is no archive, but a page that says so at some length</html>".repeat(20))
        }
        "/secret" => Reply { status: 403, headers: Vec::new(), body: b" not for you\n".to_vec() },
        "/broken" => Reply { status: 500, headers: Vec::new(), body: b"out of order".to_vec() },
        _ => Reply { status: 404, headers: Vec::new(), body: b"nothing here".to_vec() },
    }
}

fn bed() -> Bed {
    let bed = Bed::new();
    serve(listen(&bed.sandbox, HOST), files);
    bed
}

fn import(bed: &Bed, source: &str) -> Reply {
    bed.api("POST", &format!("/v1.41/images/create?fromSrc={source}&repo=imported"), b"")
}

#[test]
fn a_root_file_system_is_fetched() {
    let bed = bed();
    for source in ["root.tar", "root.tar.gz", "moved"].map(|f| format!("http://{HOST}/{f}")) {
        bed.docker(["import", "-c", "ENTRYPOINT [\"/bin/sh\"]", &source, "imported:v1"]).ok().has("sha256:");
        let run = ["run", "--rm", "--network", "none", "imported:v1", "-c", "read x < /etc/from; echo $x"];
        bed.docker(run).ok().has("the web");
        let comment = bed.docker(["inspect", "-f", "{{.Comment}}", "imported:v1"]).ok().text();
        assert_eq!(comment, format!("Imported from {source}"));
    }
    // Without a scheme, which the client would take for a file.
    assert_eq!(import(&bed, &format!("{HOST}/root.tar")).status, 200);
    let comment = bed.docker(["inspect", "-f", "{{.Comment}}", "imported"]).ok().text();
    assert_eq!(comment, format!("Imported from http://{HOST}/root.tar"));
}

#[test]
fn progress_is_told() {
    let bed = bed();
    let reply = import(&bed, &format!("http://{HOST}/large.tar"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    let lines: Vec<Value> = reply.text().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines[0], serde_json::json!({"status": format!("Downloading from http://{HOST}/large.tar")}));
    let (steps, last) = (&lines[1..lines.len() - 1], lines.last().unwrap());
    assert!(!steps.is_empty(), "{lines:?}");
    for step in steps {
        assert_eq!(step["status"], "Importing");
        assert!(step.get("id").is_none(), "{step}");
        assert!(
            step["progressDetail"]["current"].as_u64() <= step["progressDetail"]["total"].as_u64(),
            "{step}"
        );
        assert!(step["progress"].as_str().unwrap().starts_with('['), "{step}");
    }
    assert!(steps.iter().any(|s| s["progressDetail"]["total"].as_u64() > Some(4 << 20)), "{steps:?}");
    assert!(last["status"].as_str().unwrap().starts_with("sha256:"), "{last}");
}

#[test]
fn refusals_of_the_server_are_passed_on() {
    let bed = bed();
    let before = (!newer("its store has another layout")).then(|| bed.on_disk());
    for (source, status, text) in [
        ("nosuch", 404, format!("failed to GET http://{HOST}/nosuch with status 404 X: nothing here")),
        ("secret", 403, format!("failed to GET http://{HOST}/secret with status 403 X: not for you")),
        ("broken", 500, format!("failed to GET http://{HOST}/broken with status 500 X: out of order")),
    ] {
        let reply = import(&bed, &format!("http://{HOST}/{source}"));
        assert_eq!(reply.status, status, "{}", reply.text());
        // The reason phrase is the server's own here, which a client need not keep (RFC 9112, section 4).
        let phrase = |t: &str| t.replace(" X:", ":").replace(" Not Found:", ":").replace(" Forbidden:", ":");
        let phrase = |t: &str| phrase(t).replace(" Internal Server Error:", ":");
        assert_eq!(phrase(reply.value()["message"].as_str().unwrap()), phrase(&text));
    }
    for (source, status, text) in [
        (
            "http://127.0.0.1:8001/x",
            500,
            "Get \"http://127.0.0.1:8001/x\": dial tcp 127.0.0.1:8001: connect: connection refused",
        ),
        ("ftp://127.0.0.1/x", 500, "Get \"ftp://127.0.0.1/x\": unsupported protocol scheme \"ftp\""),
    ] {
        let reply = import(&bed, source);
        assert_eq!((reply.status, reply.value()["message"].as_str().unwrap()), (status, text));
    }
    for source in ["page.html", "short.tar"] {
        let reply = import(&bed, &format!("http://{HOST}/{source}"));
        assert!(reply.text().lines().last().unwrap().contains("errorDetail"), "{}", reply.text());
    }
    assert_eq!(bed.docker(["images", "-q", "-a"]).ok().text(), "");
    if let Some(before) = before {
        assert_eq!(bed.on_disk(), before);
    }
}
