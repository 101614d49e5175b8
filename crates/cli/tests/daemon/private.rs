//! What people with a mere login on the host cannot reach.

use crate::{Host, plain, text};

#[test]
fn trees_and_secrets_are_closed_to_others() {
    let host = Host::start(plain());
    host.ok(&["run", "-d", "--name", "c1", "-e", "PASSWORD=hunter2", "busybox", "sleep", "1000"]);
    let (root, run) = (host.home().join("data"), host.home().join("run"));
    let id = host.json(&["inspect", "c1"])[0]["Id"].as_str().unwrap().to_owned();
    // The way there is open; only the daemon's own directories are not.
    for dir in host.home().ancestors().take(2) {
        std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let stranger = |script: &str| {
        let mut command = host.sandbox.command("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "sh", "-c", script]);
        text(&command.output().unwrap().stdout)
    };
    assert_eq!(stranger(&format!("ls {}", run.display())).lines().filter(|l| *l == "containers").count(), 1);
    for path in [
        root.join("store.redb"),
        root.join("events.log"),
        root.join("snapshots"),
        run.join("containers").join(&id).join("config.json"),
        run.join("runtime"),
    ] {
        assert!(path.exists(), "{}", path.display());
        let seen = stranger(&format!("cat {0} 2>/dev/null || ls {0}", path.display()));
        assert_eq!(seen, "", "{}", path.display());
    }
    host.ok(&["rm", "-f", "c1"]);
}
