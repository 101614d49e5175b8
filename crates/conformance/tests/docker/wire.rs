//! What no well-behaved client sends, on the daemon's own socket: malformed bodies, half-closed and vanishing connections.

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use crate::dsl::{IMG, T, cases};

fn connect(t: &T) -> UnixStream {
    let stream = UnixStream::connect(t.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Sends a request of HTTP/1.0; returns status and body.
fn ask(t: &T, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = connect(t);
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    (status.unwrap_or_else(|| panic!("no answer: {answer:?}")), body.trim().to_owned())
}

/// Open connections and threads of the daemon, as far as its process shows them.
fn descriptors(t: &T) -> Option<usize> {
    Some(std::fs::read_dir(format!("/proc/{}/fd", t.daemon_pid()?)).ok()?.count())
}

#[track_caller]
fn comes_back(t: &T, before: Option<usize>) {
    let Some(before) = before else { return };
    // A few may come and go for reasons of the daemon's own.
    t.until("connections are let go", || descriptors(t).is_some_and(|now| now <= before + 3));
}

cases! {
    fn malformed_bodies(t) [newer = "20.10 answers 500 to some"] {
        for (body, words) in [
            ("", "EOF"),
            ("{", "EOF"),
            ("{\"Image\": }", "invalid"),
            ("nonsense", "invalid"),
            ("{\"Image\": 5}", "Image"),
            ("{\"Image\": \"busybox\", \"Tty\": \"yes\"}", ""),
            ("{\"Image\": \"busybox\", \"HostConfig\": []}", ""),
            ("{\"Image\": \"busybox\", \"Cmd\": {\"a\": 1}}", ""),
            ("[]", ""),
            ("\"text\"", ""),
            ("{\"Image\": \"\\ud800\"}", ""),
        ] {
            let (status, answer) = ask(t, "POST", "/v1.41/containers/create", body);
            // Go replaces half a surrogate pair, and then there is no such image.
            let refused = status == 400 || (body.contains("ud800") && status == 404);
            assert!(refused, "{body:?}: {status} {answer}");
            assert!(answer.starts_with("{\"message\":"), "{body:?}: {answer}");
            if t.subject_is_weft() && words != "Image" {
                assert!(answer.contains(words), "{body:?}: {answer}");
            }
        }
        let nested = format!("{{\"Image\": {}{}}}", "[".repeat(50_000), "]".repeat(50_000));
        assert_eq!(ask(t, "POST", "/v1.41/containers/create", &nested).0, 400);
        assert_eq!(ask(t, "GET", "/v1.41/containers/json", "").0, 200);
    }
    fn types_are_named_as_by_go(t) {
        for (body, value, field, target) in [
            (r#"{"Image":5}"#, "number", ".Image", "string"),
            (r#"{"Tty":"yes"}"#, "string", ".Tty", "bool"),
            (r#"{"Cmd":{"a":1}}"#, "object", ".Cmd", "string"),
            (r#"{"Env":"A=1"}"#, "string", ".Env", "[]string"),
            (r#"{"Env":[1]}"#, "number", ".Env", "string"),
            (r#"{"Labels":["a=b"]}"#, "array", ".Labels", "map[string]string"),
            (r#"{"HostConfig":[]}"#, "array", ".HostConfig", "container.HostConfig"),
            (r#"{"HostConfig":{"Memory":"1g"}}"#, "string", "HostConfig.HostConfig.Memory", "int64"),
            (r#"{"HostConfig":{"Memory":1.5}}"#, "number 1.5", "HostConfig.HostConfig.Memory", "int64"),
            (r#"{"HostConfig":{"BlkioWeight":70000}}"#, "number 70000", "HostConfig.HostConfig.BlkioWeight", "uint16"),
            (r#"{"HostConfig":{"PortBindings":{"80/tcp":"x"}}}"#, "string", "HostConfig.HostConfig.PortBindings", "[]nat.PortBinding"),
            (r#"{"HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":80}]}}}"#, "number", "PortBinding.HostConfig.PortBindings.HostPort", "string"),
            (r#"{"HostConfig":{"Ulimits":[{"Soft":"a"}]}}"#, "string", "Ulimit.HostConfig.Ulimits.Soft", "int64"),
        ] {
            let (_, answer) = ask(t, "POST", "/v1.41/containers/create", body);
            let told = format!("json: cannot unmarshal {value} into Go struct field ");
            assert!(answer.contains(&told) && answer.contains(&format!("{field} of type {target}\"")), "{body}: {answer}");
        }
        let (_, answer) = ask(t, "POST", "/v1.41/containers/create", "[]");
        assert!(answer.contains("json: cannot unmarshal array into Go value of type "), "{answer}");
    }
    fn megabytes_of_labels(t) {
        let name = t.ctr("a");
        let body = format!(r#"{{"Image":"busybox","Cmd":["true"],"Labels":{{"big":"{}"}}}}"#, "x".repeat(3_000_000));
        let (status, answer) = ask(t, "POST", &format!("/v1.41/containers/create?name={name}"), &body);
        assert_eq!(status, 201, "{answer}");
        t.docker(["start", "-a", &name]).ok();
        assert_eq!(t.inspect(&name, "{{len .Config.Labels.big}} {{.State.Status}}"), "3000000 exited");
    }
    fn what_no_record_holds_is_refused_with_its_limit(t) [newer = "20.10 takes it"] {
        let body = format!(r#"{{"Image":"busybox","Labels":{{"big":"{}"}}}}"#, "x".repeat(5_000_000));
        let (status, answer) = ask(t, "POST", "/v1.41/containers/create", &body);
        assert!(status == 400 && answer.contains("at most 4194304") && !answer.contains("/weft/"), "{status} {answer}");
    }
    fn variables_without_names(t) {
        for (env, told) in [(r#"["="]"#, "invalid environment variable: ="), (r#"["","A"]"#, "invalid environment variable: "), (r#"["A=1","=b"]"#, "invalid environment variable: =b")] {
            let answer = ask(t, "POST", "/v1.41/containers/create", &format!(r#"{{"Image":"busybox","Env":{env}}}"#));
            assert_eq!(answer, (400, format!(r#"{{"message":"{told}"}}"#)));
        }
    }
    fn a_start_says_nothing(t) {
        let name = t.ctr("a");
        t.docker(["create", "--name", &name, IMG, "true"]).ok();
        let path = format!("/v1.41/containers/{name}/start");
        let (status, answer) = ask(t, "POST", &path, r#"{"Binds": ["/:/x"]}"#);
        assert!(status == 400 && answer.contains("starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"), "{status} {answer}");
        assert_eq!(ask(t, "POST", &path, "{}").0, 204);
    }
    fn paths_that_are_no_text(t) {
        let (status, answer) = ask(t, "GET", "/v1.41/containers/%ff%fe/json", "");
        assert_eq!(status, 404, "{answer}");
        assert!(answer.starts_with(r#"{"message":"No such container: "#), "{answer}");
    }
    fn paths_that_are_not_clean(t) {
        for (path, told) in [("/v1.41/containers/../info", "/v1.41/info"), ("//v1.41//info?a=b", "/v1.41/info?a=b"), ("//v1.41//info/", "/v1.41/info/")] {
            let mut stream = connect(t);
            stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            let location = answer.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("location: ").map(str::to_owned));
            assert!(answer.contains(" 301 ") && location.as_deref() == Some(told), "{path}: {answer}");
        }
        assert_eq!(ask(t, "OPTIONS", "/v1.41/containers/json", "").0, 200);
    }
    fn bodies_without_a_configuration(t) {
        for body in ["{}", "null", r#"{"HostConfig":{"Memory":67108864}}"#] {
            let (status, answer) = ask(t, "POST", "/v1.41/containers/create", body);
            assert!(status == 400 && answer.to_lowercase().contains("config cannot be empty in order to create a container"), "{body}: {status} {answer}");
        }
    }
    fn platforms_that_are_none(t) {
        let (status, answer) = ask(t, "POST", "/v1.41/containers/create?platform=foo/bar/baz/qux", r#"{"Image":"busybox"}"#);
        assert!(status == 400 && answer.contains("cannot parse platform specifier"), "{status} {answer}");
    }
    fn streams_of_nobody(t) {
        assert_eq!(ask(t, "GET", "/v1.41/containers/nosuch/attach/ws", "").0, 404);
        let (status, answer) = ask(t, "POST", "/v1.41/session", "");
        assert!(status == 400 && answer.contains("no upgrade proto in request"), "{status} {answer}");
    }
    fn a_tail_that_is_no_number_means_all(t) {
        let name = t.ctr("a");
        t.docker(["run", "--name", &name, IMG, "sh", "-c", "echo a; echo b"]).ok();
        let (status, answer) = ask(t, "GET", &format!("/v1.41/containers/{name}/logs?stdout=1&tail=abc"), "");
        assert!(status == 200 && answer.contains('a') && answer.contains('b'), "{status} {answer}");
    }
    fn content_behind_the_body(t) [newer = "20.10 ignores it"] {
        let name = t.ctr("a");
        let (status, answer) = ask(t, "POST", &format!("/v1.44/containers/create?name={name}"), "{\"Image\":\"busybox\"} {}");
        assert_eq!((status, answer.as_str()), (400, "{\"message\":\"unexpected content after JSON\"}"));
    }
    fn field_names_in_any_case(t) {
        let name = t.ctr("a");
        let body = "{\"image\": \"busybox\", \"CMD\": [\"true\"], \"labels\": {\"Tty\": \"x\"}, \"hostconfig\": {\"memory\": 67108864}, \"nosuch\": {\"a\": [1]}}";
        let (status, answer) = ask(t, "POST", &format!("/v1.41/containers/create?name={name}"), body);
        assert_eq!(status, 201, "{answer}");
        assert_eq!(t.inspect(&name, "{{.Config.Image}} {{.Config.Cmd}} {{.HostConfig.Memory}} {{.Config.Labels}}"), "busybox [true] 67108864 map[Tty:x]");
    }
    fn filters_that_are_none(t) [newer = "20.10 answers 500 to some"] {
        for filters in ["%7B", "nonsense", "%5B1%5D", "%7B%22a%22%3A1%7D", "%7B%22nosuch%22%3A%5B%22a%22%5D%7D"] {
            let (status, answer) = ask(t, "GET", &format!("/v1.41/containers/json?filters={filters}"), "");
            assert!(status == 400, "{filters}: {status} {answer}");
        }
        for path in ["/v1.41/containers/json?limit=x", "/v1.41/events?since=x", "/v9.99/info", "/v1.2/info"] {
            assert_eq!(ask(t, "GET", path, "").0, 400, "{path}");
        }
        assert_eq!(ask(t, "GET", "/v1.41/nosuch", "").0, 404);
    }
    fn a_client_that_still_sends_reads_why_it_was_refused(t) {
        let file = t.dir().join("noise.tar");
        std::fs::write(&file, vec![7_u8; 24 << 20]).unwrap();
        let out = t.docker(["load", "-i", file.to_str().unwrap()]).fails();
        assert!(!out.stderr.contains("broken pipe"), "{}", out.stderr);
    }
    fn half_closed_input_of_exec(t) {
        let c = t.sleeper("a", [""; 0]);
        t.docker_in(["exec", "-i", &c, "sh", "-c", "cat; sleep 0.5; echo after"], "input\n").ok().is("input\nafter");
    }
    fn half_closed_input_of_run(t) {
        t.docker_in(["run", "--rm", "-i", IMG, "sh", "-c", "cat; sleep 0.5; echo after"], "input\n").ok().is("input\nafter");
    }
    fn a_half_closed_request_is_answered(t) {
        let mut stream = connect(t);
        stream.write_all(b"GET /v1.41/containers/json HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.") && answer.contains(" 200 "), "{answer:?}");
    }
    fn vanishing_clients_leave_nothing(t) [alone = "counts the daemon's descriptors", newer = "20.10 keeps some of the connections"] {
        let c = t.sleeper("a", [""; 0]);
        let before = descriptors(t);
        let long = [
            "GET /v1.41/events".to_owned(),
            format!("GET /v1.41/containers/{c}/logs?follow=1&stdout=1"),
            format!("GET /v1.41/containers/{c}/stats"),
            format!("POST /v1.41/containers/{c}/wait"),
            format!("POST /v1.41/containers/{c}/attach?stream=1&stdout=1"),
            "POST /v1.41/images/create?fromImage=127.0.0.1:9/nosuch&tag=1".to_owned(),
        ];
        for _ in 0..3 {
            let clients: Vec<UnixStream> = long.iter().cycle().take(30).map(|request| {
                let mut stream = connect(t);
                stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").as_bytes()).unwrap();
                stream
            }).collect();
            std::thread::sleep(Duration::from_millis(300));
            drop(clients);
        }
        comes_back(t, before);
    }
    fn idle_and_trickling_clients_hold_nobody_up(t) [alone = "counts the daemon's descriptors"] {
        let before = descriptors(t);
        let mut held: Vec<UnixStream> = (0..900).map_while(|_| UnixStream::connect(t.socket()).ok()).collect();
        assert!(held.len() > 200, "{}", held.len());
        for (n, stream) in held.iter_mut().enumerate().take(200) {
            let start = if n % 2 == 0 { "GET /v1.41/con" } else { "POST /v1.41/containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{" };
            stream.write_all(start.as_bytes()).unwrap();
        }
        let begun = Instant::now();
        assert_eq!(ask(t, "GET", "/v1.41/containers/json", "").0, 200);
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        drop(held);
        comes_back(t, before);
    }
}
