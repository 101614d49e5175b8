//! `up --detach` as scripts use it: it returns when the daemon is ready, and nothing of who called it lives on in the daemon.

use weft_testkit::Sandbox;

use crate::{run, until};

/// A caller has a lock, a pipe that somebody reads to its end, and a socket open. None of them is the daemon's: the lock would be
/// held for as long as it runs, and the reader would wait for ever.
#[test]
fn what_the_caller_has_open_is_not_the_daemons() {
    let sandbox = Sandbox::new().unwrap();
    let dir = sandbox.dir().display().to_string();
    let weft = env!("CARGO_BIN_EXE_weft");
    let up = format!(
        "{weft} up --detach --root {dir}/root --run {dir}/run --name d --listen docker=unix://{dir}/s"
    );
    // Descriptors of one and of several digits; 8 is what this very command's output is read from.
    let script = format!(
        "exec 7>{dir}/caller.lock 8>&1 9<{dir} && exec 123>{dir}/caller.far && flock 7 && readlink /proc/$$/fd/7 && {up} 2>&1"
    );
    let shell = |script: &str| run(sandbox.command("bash").args(["-c", script]));
    // Ends only when nobody has the pipe any more.
    let told = shell(&script);
    assert!(told.contains("/caller.lock") && told.contains("ready, pid "), "{told}");

    let open = shell(&format!("for fd in /proc/$(cat {dir}/run/weft.pid)/fd/*; do readlink $fd; done; true"));
    assert!(open.contains("/run/weft.log"), "the daemon's own are seen: {open}");
    let callers: Vec<&str> = open.lines().filter(|to| to.contains("/caller.") || *to == dir).collect();
    assert!(callers.is_empty(), "{callers:?} of {open}");
    shell(&format!("flock -n {dir}/caller.lock true"));

    shell(&format!("kill $(cat {dir}/run/weft.pid)"));
    until("its end", || {
        !shell(&format!("cat {dir}/run/weft.pid 2>/dev/null; true")).contains(char::is_numeric)
    });
}
