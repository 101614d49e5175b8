//! Clients that go away while what they asked for is under way: it is done all the same, whole.

use std::{io::Write, os::unix::net::UnixStream, time::Duration};

use crate::dsl::{IMG, T, cases};

/// Sends a request and goes away a moment later.
fn ask_and_leave(t: &T, method: &str, path: &str, stay: Duration) {
    let mut stream = UnixStream::connect(t.socket()).unwrap();
    let request = format!("{method} /v1.41{path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    std::thread::sleep(stay);
}

fn moments() -> impl Iterator<Item = (String, Duration)> {
    (0..12).map(|n| (format!("c{n}"), Duration::from_micros(300 * n)))
}

cases! {
    fn removals_come_to_their_end(t) {
        let made: Vec<_> = moments().map(|(name, stay)| (t.sleeper(&name, [""; 0]), stay)).collect();
        for (c, stay) in &made {
            ask_and_leave(t, "DELETE", &format!("/containers/{c}?force=1"), *stay);
        }
        // Whether the daemon came to read the request or not: nothing is in the way of the next one.
        for (c, _) in &made {
            t.until("it can be removed", || {
                let out = t.docker(["rm", "-f", c]);
                out.stderr.is_empty() || out.stderr.contains("No such container")
            });
        }
        t.docker(["ps", "-aq", "-f", &format!("name={}", t.ctr("c"))]).ok().is("");
    }
    fn stops_come_to_their_end(t) {
        let made: Vec<_> = moments().map(|(name, _)| t.sleeper(&name, [""; 0])).collect();
        for c in &made {
            ask_and_leave(t, "POST", &format!("/containers/{c}/stop?t=0"), Duration::from_millis(3));
        }
        for c in &made {
            t.until("it stops", || t.inspect(c, "{{.State.Running}}") == "false");
        }
    }
    fn starts_come_to_their_end(t) {
        let made: Vec<_> = moments().map(|(name, _)| t.ctr(&name)).collect();
        for c in &made {
            t.docker(["create", "--name", c, IMG, "sleep", "1000"]).ok();
            ask_and_leave(t, "POST", &format!("/containers/{c}/start"), Duration::from_millis(3));
        }
        for c in &made {
            t.until("it runs", || t.inspect(c, "{{.State.Running}}") == "true");
        }
    }
    fn a_commit_lets_its_container_go_on(t) {
        let c = t.sleeper("a", [""; 0]);
        t.docker(["exec", &c, "dd", "if=/dev/urandom", "of=/big", "bs=1M", "count=60"]).ok();
        ask_and_leave(t, "POST", &format!("/commit?container={c}"), Duration::from_millis(40));
        t.until("it is not frozen", || t.docker(["exec", &c, "true"]).stderr.is_empty());
        t.docker(["unpause", &c]).fails();
    }
}
