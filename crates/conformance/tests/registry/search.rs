//! `docker search` against a server of the first registry API, which is the only one that searches.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::bed::{Bed, newer};
use crate::http::{Reply, Request, listen, serve};

const HOST: &str = "127.0.0.1:8000";

/// Images of a small registry.
fn all() -> Vec<Value> {
    let one = |name: &str, stars: u64, official: bool| {
        json!({"name": name, "description": format!("all of {name}"), "star_count": stars,
               "is_official": official, "is_automated": false, "is_trusted": false})
    };
    vec![
        one("thing", 100, true),
        one("me/thing", 7, false),
        one("you/something", 3, false),
        one("other", 50, true),
    ]
}

fn answer(request: &Request) -> Reply {
    match request.path() {
        "/v1/_ping" => Reply::json(200, &json!(true)),
        "/v1/search" => {
            let (q, n) = (request.one("q").unwrap_or_default(), request.one("n").unwrap_or_default());
            match q.as_str() {
                "broken" => {
                    return Reply { status: 500, headers: Vec::new(), body: b"out of order".to_vec() };
                }
                "nonsense" => return Reply { status: 200, headers: Vec::new(), body: b"<html>".to_vec() },
                "private" if request.header("authorization") != Some("Basic d2VmdDpzZWNyZXQ=") => {
                    return Reply::json(401, &json!({"error": "who are you"}));
                }
                _ => {}
            }
            let q = if q == "private" { "thing".to_owned() } else { q };
            let found: Vec<Value> =
                all().into_iter().filter(|r| r["name"].as_str().unwrap().contains(&q)).collect();
            let found = &found[..found.len().min(n.parse().unwrap())];
            Reply::json(200, &json!({"query": q, "num_results": found.len(), "results": found}))
        }
        _ => Reply::json(404, &json!({})),
    }
}

type Seen = Arc<Mutex<Vec<String>>>;

fn bed() -> (Bed, Seen) {
    let bed = Bed::new();
    let seen = Seen::default();
    let note = Arc::clone(&seen);
    serve(listen(&bed.sandbox, HOST), move |request| {
        note.lock().unwrap().push(request.target.clone());
        answer(request)
    });
    (bed, seen)
}

fn search(bed: &Bed, query: &str) -> Reply {
    bed.api("GET", &format!("/v1.41/images/search?{query}"), b"")
}

fn names(reply: &Reply) -> Vec<String> {
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.value().as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_is_found_is_listed() {
    let (bed, seen) = bed();
    bed.docker(["search", "--format", "{{.Name}} {{.StarCount}} {{.IsOfficial}}", &format!("{HOST}/thing")])
        .ok()
        .has("thing 100 [OK]")
        .has("me/thing 7")
        .has("you/something 3");
    assert!(seen.lock().unwrap().contains(&"/v1/search?q=thing&n=25".to_owned()), "{seen:?}");
    let reply = search(&bed, &format!("term={HOST}/other"));
    assert_eq!(
        reply.value(),
        json!([{"name": "other", "description": "all of other", "star_count": 50, "is_official": true,
                "is_automated": false}])
    );
    let term = format!("term={HOST}/thing");
    assert_eq!(names(&search(&bed, &format!("{term}&limit=2"))), ["thing", "me/thing"]);
    for (filters, expected) in [
        (r#"{"is-official":["true"]}"#, vec!["thing"]),
        (r#"{"is-official":["false"]}"#, vec!["me/thing", "you/something"]),
        (r#"{"stars":["5"]}"#, vec!["thing", "me/thing"]),
        (r#"{"stars":["5"],"is-official":["false"]}"#, vec!["me/thing"]),
    ] {
        assert_eq!(
            names(&search(&bed, &format!("{term}&filters={}", escape(filters)))),
            expected,
            "{filters}"
        );
    }
    assert_eq!(names(&search(&bed, &format!("term={HOST}/nosuch"))), Vec::<String>::new());
}

fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

#[test]
fn refusals() {
    let (bed, _) = bed();
    let term = format!("term={HOST}/thing");
    let mut wrong = Vec::new();
    for (query, status, text) in [
        (format!("{term}&filters={}", escape(r#"{"nosuch":["1"]}"#)), 400, "invalid filter 'nosuch'"),
        (format!("{term}&filters={}", escape(r#"{"stars":["many"]}"#)), 400, "invalid filter 'stars=many'"),
        (
            format!("{term}&filters={}", escape(r#"{"is-official":["perhaps"]}"#)),
            400,
            "invalid filter 'is-official=",
        ),
        (format!("term={HOST}/broken"), 500, "Unexpected status code 500"),
        (format!("term={HOST}/nonsense"), 500, "invalid character '<' looking for beginning of value"),
        ("term=127.0.0.1:8001/thing".to_owned(), 500, "connect: connection refused"),
    ] {
        let reply = search(&bed, &query);
        let message = reply.value()["message"].as_str().unwrap().to_owned();
        if reply.status != status || !message.to_lowercase().contains(&text.to_lowercase()) {
            wrong.push(format!("{query}: {} {message}", reply.status));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    if !newer("its limits are not checked, and its words for schemes are others") {
        let reply = search(&bed, &format!("term=http://{HOST}/thing"));
        assert_eq!(reply.status, 400, "{}", reply.text());
        assert!(reply.text().contains("invalid repository name"), "{}", reply.text());
        for limit in ["0", "101", "-1"] {
            let reply = search(&bed, &format!("{term}&limit={limit}"));
            assert_eq!(reply.status, 400, "{limit}: {}", reply.text());
            assert!(
                reply.text().to_lowercase().contains("is outside the range of [1, 100]"),
                "{}",
                reply.text()
            );
        }
    }
}

#[test]
fn credentials_go_along() {
    let (bed, _) = bed();
    assert_ne!(search(&bed, &format!("term={HOST}/private")).status, 200);
    let stream = std::os::unix::net::UnixStream::connect(bed.daemon.socket()).unwrap();
    // {"username":"weft","password":"secret"}
    let auth = "eyJ1c2VybmFtZSI6IndlZnQiLCJwYXNzd29yZCI6InNlY3JldCJ9";
    let path = format!("/v1.41/images/search?term={HOST}/private");
    let reply = crate::http::exchange(stream, "GET", &path, &[("X-Registry-Auth", auth)], b"");
    assert_eq!(names(&reply), ["thing", "me/thing", "you/something"]);
}

#[test]
fn a_registry_without_search() {
    let bed = Bed::new();
    let _registry = bed.registry(5000);
    let reply = search(&bed, "term=127.0.0.1:5000/thing");
    assert_ne!(reply.status, 200, "{}", reply.text());
    assert!(reply.value()["message"].as_str().is_some_and(|m| m.contains("404")), "{}", reply.text());
}
