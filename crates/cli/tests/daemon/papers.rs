//! What is derived from the command line: where flags clash, a debug build panics over it.

use std::process::{Command, Output};

use crate::{Host, plain, text};

fn weft(args: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_weft")).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    output
}

#[test]
fn completion_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = text(&weft(&["completion", shell]).stdout);
        assert!(script.contains("history") && script.contains("no-trunc"), "{shell}: {script}");
    }
    // The shell itself takes it.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("weft");
    std::fs::write(&file, weft(&["completion", "bash"]).stdout).unwrap();
    let script = format!("source {} && complete -p weft", file.display());
    let told = crate::run(Command::new("bash").args(["-c", &script]));
    assert!(told.contains("-F _weft"), "{told}");
}

#[test]
fn a_manual_page_for_each_command() {
    let dir = tempfile::tempdir().unwrap();
    weft(&["man", dir.path().to_str().unwrap()]);
    for page in ["weft.1", "weft-run.1", "weft-history.1", "weft-store-check.1", "weft-network-create.1"] {
        let content = std::fs::read_to_string(dir.path().join(page)).unwrap();
        assert!(content.contains(".TH ") && content.contains(".SH SYNOPSIS"), "{page}: {content}");
    }
}

#[test]
fn history_has_a_human_flag_beside_the_host_flag() {
    let host = Host::start(plain());
    let people = host.ok(&["history", "busybox"]);
    let exact = host.ok(&["history", "--human=false", "busybox"]);
    assert!(people.contains("ago") && !exact.contains("ago") && exact.contains('T'), "{people}\n{exact}");
}
