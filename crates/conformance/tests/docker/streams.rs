//! What no verb of the client reaches, on the daemon's own socket: `attach/ws` by a WebSocket client, every condition of
//! `wait`, and the sizes of terminals.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

use crate::dsl::{IMG, T, cases};

fn send(t: &T, method: &str, path: &str) -> UnixStream {
    let mut stream = UnixStream::connect(t.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(format!("{method} {path} HTTP/1.0\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
    stream
}

/// A request of HTTP/1.1 with a body of JSON, the last on its connection unless it is upgraded.
fn post(t: &T, path: &str, headers: &str, body: &str) -> UnixStream {
    let mut stream = UnixStream::connect(t.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let headers = if headers.is_empty() { "Connection: close\r\n" } else { headers };
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// Reads an answer to its end: status, and what follows the head.
fn finish(mut stream: UnixStream) -> (u16, String) {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(|| panic!("no answer: {answer:?}"));
    (status, answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).trim().to_owned())
}

fn ask(t: &T, method: &str, path: &str) -> (u16, String) {
    finish(send(t, method, path))
}

/// Bytes up to the end of the head.
fn head(stream: &mut UnixStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// The key and what it is answered with are those of RFC 6455, section 1.3.
fn handshake(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: http://x\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// A WebSocket client (RFC 6455) on the daemon's socket.
struct Socket(UnixStream);

impl Socket {
    fn open(t: &T, path: &str) -> Self {
        let mut stream = UnixStream::connect(t.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(handshake(path).as_bytes()).unwrap();
        let head = head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.to_lowercase().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
        Self(stream)
    }

    /// One masked frame.
    fn frame(&mut self, opcode: u8, payload: &[u8]) {
        let length = u8::try_from(payload.len()).unwrap();
        let mask = [7, 21, 99, 250];
        let masked = payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key);
        let frame: Vec<u8> = [0x80 | opcode, 0x80 | length].into_iter().chain(mask).chain(masked).collect();
        self.0.write_all(&frame).unwrap();
    }

    /// The next frame: opcode and payload; `None` at the end.
    fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).ok()?;
        assert_eq!(head[1] & 0x80, 0, "a server masks nothing");
        let length = match head[1] {
            126 => {
                let mut long = [0; 2];
                self.0.read_exact(&mut long).unwrap();
                usize::from(u16::from_be_bytes(long))
            }
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).unwrap();
        Some((head[0] & 0x0f, payload))
    }

    /// Messages joined, until the text is in them or the server closes.
    fn until(&mut self, text: &str) -> String {
        let mut all = Vec::new();
        while !String::from_utf8_lossy(&all).contains(text) {
            match self.next() {
                Some((1 | 2, payload)) => all.extend(payload),
                Some((8, _)) | None => break,
                Some(_) => {}
            }
        }
        String::from_utf8(all).unwrap()
    }
}

/// All that a wait on `condition` answers, begun now.
fn waiting(t: &T, c: &str, condition: &str) -> UnixStream {
    let stream = send(t, "POST", &format!("/v1.41/containers/{c}/wait?condition={condition}"));
    std::thread::sleep(Duration::from_millis(300));
    stream
}

#[track_caller]
fn code_is(stream: UnixStream, code: i64) {
    let (status, body) = finish(stream);
    assert!(status == 200 && body.contains(&format!("\"StatusCode\":{code}")), "{status} {body}");
}

cases! {
    fn websocket_with_stdin(t) {
        let c = t.ctr("a");
        t.docker(["run", "-d", "-i", "--name", &c, IMG, "sh", "-c", "while read x; do echo got-$x; done"]).ok();
        let mut socket = Socket::open(t, &format!("/v1.41/containers/{c}/attach/ws?stream=1&stdin=1&stdout=1&stderr=1"));
        socket.frame(2, b"one\n");
        assert_eq!(socket.until("got-one"), "got-one\n", "the stream as it is, without Docker's frames");
        socket.frame(1, b"two\n");
        assert_eq!(socket.until("got-two"), "got-two\n");
    }
    fn websocket_of_a_terminal(t) {
        let c = t.ctr("a");
        t.docker(["run", "-d", "-it", "--name", &c, IMG, "sh"]).ok();
        let mut socket = Socket::open(t, &format!("/v1.41/containers/{c}/attach/ws?stream=1&stdin=1&stdout=1"));
        socket.frame(2, b"echo $((40+2)); tty\n");
        let seen = socket.until("/dev/pts/0\r\n");
        assert!(seen.contains("\r\n42\r\n"), "{seen:?}");
    }
    fn websocket_shows_what_was_logged(t) {
        let c = t.ctr("a");
        t.docker(["run", "-d", "--name", &c, IMG, "sh", "-c", "echo early; sleep 3; echo late; sleep 1"]).ok();
        t.until("early", || t.docker(["logs", &c]).ok().text() == "early");
        let mut both = Socket::open(t, &format!("/v1.41/containers/{c}/attach/ws?logs=1&stream=1&stdout=1"));
        let mut live = Socket::open(t, &format!("/v1.41/containers/{c}/attach/ws?stream=1&stdout=1"));
        assert_eq!(both.until("late"), "early\nlate\n");
        assert_eq!(live.until("late"), "late\n");
    }
    fn websocket_detaches(t) {
        let c = t.ctr("a");
        t.docker(["run", "-d", "-it", "--name", &c, IMG, "sh"]).ok();
        let mut socket = Socket::open(t, &format!("/v1.41/containers/{c}/attach/ws?stream=1&stdin=1&stdout=1&detachKeys=ctrl-e"));
        socket.frame(2, b"\x05");
        socket.until("\u{0}");
        assert_eq!(t.inspect(&c, "{{.State.Running}}"), "true");
    }
    fn websocket_streams_are_chosen(t) [newer = "API 1.42"] {
        let c = t.ctr("a");
        t.docker(["run", "-d", "-i", "--name", &c, IMG, "sh", "-c", "read x; echo out; echo err >&2"]).ok();
        let mut errors = Socket::open(t, &format!("/v1.42/containers/{c}/attach/ws?stream=1&stderr=1"));
        let mut all = Socket::open(t, &format!("/v1.41/containers/{c}/attach/ws?stream=1&stdin=1"));
        all.frame(2, b"go\n");
        assert_eq!(errors.until("err"), "err\n");
        let seen = all.until("err");
        assert!(seen.contains("out\n"), "{seen:?}");
    }
    fn websocket_answers_pings(t) {
        let c = t.sleeper("a", [""; 0]);
        let mut socket = Socket::open(t, &format!("/v1.41/containers/{c}/attach/ws?stream=1&stdout=1"));
        socket.frame(9, b"alive");
        assert_eq!(socket.next(), Some((10, b"alive".to_vec())));
    }
    fn websocket_to_nobody(t) {
        let request = handshake("/v1.41/containers/nosuch/attach/ws?stream=1");
        let mut stream = UnixStream::connect(t.socket()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        assert!(head(&mut stream).starts_with("HTTP/1.1 404 "));
    }
    fn wait_opened_before_the_start(t) {
        let c = t.ctr("a");
        t.docker(["create", "--name", &c, IMG, "sh", "-c", "exit 7"]).ok();
        // Not running is true already; the next exit is to come.
        code_is(waiting(t, &c, "not-running"), 0);
        let (next, removed) = (waiting(t, &c, "next-exit"), waiting(t, &c, "removed"));
        t.docker(["start", &c]).ok();
        code_is(next, 7);
        t.docker(["rm", &c]).ok();
        code_is(removed, 7);
    }
    fn wait_for_the_next_exit_of_one_that_ended(t) {
        let c = t.ctr("a");
        t.docker(["run", "--name", &c, IMG, "sh", "-c", "exit 3"]).exits(3);
        code_is(waiting(t, &c, ""), 3);
        let next = waiting(t, &c, "next-exit");
        t.docker(["start", &c]).ok();
        code_is(next, 3);
    }
    fn wait_ends_with_a_removal(t) {
        let c = t.sleeper("a", [""; 0]);
        let all = ["not-running", "next-exit", "removed"].map(|condition| waiting(t, &c, condition));
        t.docker(["rm", "-f", &c]).ok();
        all.into_iter().for_each(|wait| code_is(wait, 137));
        let c = t.ctr("b");
        t.docker(["create", "--name", &c, IMG]).ok();
        let all = ["next-exit", "removed"].map(|condition| waiting(t, &c, condition));
        t.docker(["rm", &c]).ok();
        all.into_iter().for_each(|wait| code_is(wait, 0));
    }
    fn wait_of_a_start_that_fails(t) {
        let c = t.ctr("a");
        t.docker(["create", "--rm", "--name", &c, IMG, "nosuch"]).ok();
        let wait = waiting(t, &c, "removed");
        assert_eq!(ask(t, "POST", &format!("/v1.41/containers/{c}/start")).0, 400);
        let (_, body) = finish(wait);
        assert!(body.contains("\"StatusCode\":127") && !body.contains("Message"), "{body}");
        t.docker(["run", "--rm", IMG, "nosuch"]).exits(127).lacks("Error waiting");
    }
    fn wait_sends_its_head_first_since_1_30(t) {
        let c = t.ctr("a");
        t.docker(["run", "-d", "--name", &c, IMG, "sleep", "3"]).ok();
        let path = |version: &str| format!("/{version}/containers/{c}/wait?condition=removed");
        let (mut new, mut old) = (send(t, "POST", &path("v1.30")), send(t, "POST", &path("v1.29")));
        new.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        assert!(head(&mut new).contains(" 200 "));
        old.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        assert!(old.read(&mut [0]).is_err(), "the head comes with the result");
        old.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // It knew no conditions: the end is enough.
        code_is(old, 0);
    }
    fn wait_for_what_is_no_condition(t) [newer = "20.10 takes it for not-running"] {
        let c = t.sleeper("a", [""; 0]);
        assert_eq!(ask(t, "POST", &format!("/v1.41/containers/{c}/wait?condition=nosuch")), (400, "{\"message\":\"invalid condition: \\\"nosuch\\\"\"}".to_owned()));
        assert_eq!(ask(t, "POST", "/v1.41/containers/nosuch/wait").0, 404);
    }
    // The client looks for the keys itself and hangs up; here the daemon has to.
    fn detach_keys_are_the_daemons_too(t) [newer = "20.10 detaches and does not tell"] {
        let c = t.sleeper("a", ["-it"]);
        let body = r#"{"Cmd":["sh"],"Tty":true,"AttachStdin":true,"AttachStdout":true,"DetachKeys":"ctrl-x,x"}"#;
        let (status, made) = finish(post(t, &format!("/v1.41/containers/{c}/exec"), "", body));
        assert_eq!(status, 201, "{made}");
        let exec: serde_json::Value = serde_json::from_str(&made).unwrap();
        let upgrade = "Upgrade: tcp\r\nConnection: Upgrade\r\n";
        let path = format!("/v1.41/exec/{}/start", exec["Id"].as_str().unwrap());
        let mut stream = post(t, &path, upgrade, r#"{"Tty":true}"#);
        assert!(head(&mut stream).starts_with("HTTP/1.1 101 "));
        stream.write_all(b"\x18x").unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        t.until("told", || {
            let until = t.soon(1);
            let filter = format!("container={c}");
            let args = ["events", "--since", "10m", "--until", &until, "-f", &filter, "-f", "event=exec_detach", "--format", "{{.Action}}"];
            t.docker(args).ok().text() == "exec_detach"
        });
    }
    fn resize_of_a_container(t) {
        let c = t.sleeper("a", ["-t"]);
        assert_eq!(ask(t, "POST", &format!("/v1.41/containers/{c}/resize?h=31&w=97")).0, 200);
        t.docker(["exec", &c, "sh", "-c", "stty size < /dev/pts/0"]).ok().is("31 97");
        for query in ["h=x&w=1", "w=1", "h=1&w=", "h=1.5&w=2"] {
            let (status, body) = ask(t, "POST", &format!("/v1.41/containers/{c}/resize?{query}"));
            assert!(status == 400 && body.contains("invalid syntax"), "{query}: {status} {body}");
        }
        assert_eq!(ask(t, "POST", "/v1.41/containers/nosuch/resize?h=1&w=1").0, 404);
        t.docker(["stop", "-t", "0", &c]).ok();
        let (status, body) = ask(t, "POST", &format!("/v1.41/containers/{c}/resize?h=1&w=1"));
        assert!(status == 409 && body.contains("is not running"), "{status} {body}");
    }
    fn resize_without_a_terminal(t) {
        let c = t.sleeper("a", [""; 0]);
        assert_eq!(ask(t, "POST", &format!("/v1.41/containers/{c}/resize?h=31&w=97")), (200, String::new()));
    }
    fn resize_of_an_exec(t) {
        let c = t.sleeper("a", [""; 0]);
        let running = t.start(["exec", "-t", &c, "sh", "-c", "sleep 2; stty size"]);
        t.until("an exec", || t.inspect(&c, "{{len .ExecIDs}}") == "1");
        let exec = t.inspect(&c, "{{index .ExecIDs 0}}");
        t.until("resized", || ask(t, "POST", &format!("/v1.41/exec/{exec}/resize?h=41&w=83")).0 == 200);
        running.end().ok().has("41 83");
        let (status, body) = ask(t, "POST", "/v1.41/exec/nosuch/resize?h=1&w=1");
        assert!(status == 404 && body.contains("No such exec instance: nosuch"), "{status} {body}");
        assert_eq!(ask(t, "POST", &format!("/v1.41/exec/{exec}/resize?h=x&w=1")).0, 400);
    }
}
