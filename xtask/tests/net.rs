//! The laboratory of `cargo xtask net`, by its own commands, with the weft that was built last.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::{Command, Output};

fn net(lab: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["net", "--name", lab]).args(args).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Ends the lab however the test ends.
struct Down(String);

impl Drop for Down {
    fn drop(&mut self) {
        net(&self.0, &["down"]);
    }
}

#[test]
fn hosts_stand_are_entered_cut_off_and_end() {
    let lab = Down(format!("test-{}", std::process::id()));
    let ok = |args: &[&str]| {
        let output = net(&lab.0, args);
        assert!(output.status.success(), "{args:?}: {}", text(&output));
        text(&output)
    };
    let fails = |args: &[&str]| {
        let output = net(&lab.0, args);
        assert!(!output.status.success(), "{args:?}: {}", text(&output));
        text(&output)
    };
    assert!(fails(&["run", "h1", "true"]).contains("no lab stands"));
    ok(&["up", "--hosts", "2", "--detach"]);
    assert!(fails(&["up"]).contains("stands already"));
    assert_eq!(ok(&["status"]).lines().count(), 2);
    // Two daemons, two stores, two networks.
    assert_eq!(ok(&["run", "h1", "docker", "info", "-f", "{{.Name}}"]).trim(), "h1");
    assert_eq!(ok(&["run", "h2", "docker", "info", "-f", "{{.Name}}"]).trim(), "h2");
    ok(&["run", "h1", "docker", "volume", "create", "only-here"]);
    let all = ok(&["run", "all", "docker", "volume", "ls", "-q"]);
    assert_eq!(all.matches("only-here").count(), 1, "{all}");
    assert!(ok(&["run", "h2", "weft", "status"]).contains("h2"));
    let ping = ["run", "h1", "busybox", "ping", "-c", "1", "-W", "1", "10.64.0.2"];
    ok(&ping);
    ok(&["link", "h2", "down"]);
    fails(&ping);
    ok(&["link", "h2", "up"]);
    ok(&ping);
    assert!(fails(&["run", "h3", "true"]).contains("no host h3: h1 h2"));
    let dir = ok(&["status"]).lines().next().unwrap().split("unix://").nth(1).unwrap().to_owned();
    ok(&["down"]);
    assert!(!std::path::Path::new(&dir).exists());
    assert!(fails(&["status"]).contains("no lab stands"));
    let left = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten();
    let left: Vec<_> = left.filter(|e| e.file_name().to_string_lossy().contains(&lab.0)).collect();
    assert!(left.is_empty(), "{left:?}");
}
