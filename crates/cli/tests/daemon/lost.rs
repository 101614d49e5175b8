//! A daemon whose store is gone or damaged, or that lacks what containers need, says so and touches nothing.

use std::fs;

use weft_testkit::Sandbox;

use crate::{Host, plain};

/// The answer of a start that is refused.
fn refusal(host: &mut Host) -> String {
    let error = host.daemon.boot(&host.sandbox).expect_err("it started");
    format!("{error:#}")
}

#[test]
fn containers_survive_the_loss_of_the_store() {
    let mut host = Host::start(plain());
    host.ok(&["run", "-d", "--name", "c1", "-v", "kept:/data", "busybox", "sleep", "1000"]);
    let state = host.json(&["inspect", "c1"])[0]["State"].clone();
    host.daemon.stop().unwrap();
    let store = host.home().join("data/store.redb");
    let saved = fs::read(&store).unwrap();

    for lost in ["emptied", "deleted"] {
        if lost == "emptied" { fs::write(&store, "") } else { fs::remove_file(&store) }.unwrap();
        let told = refusal(&mut host);
        for part in ["is missing or empty", "1 running container in", "1 volume in", "begin anew"] {
            assert!(told.contains(part), "{lost}: {part:?} in {told}");
        }
    }
    fs::write(&store, saved).unwrap();
    host.daemon.boot(&host.sandbox).unwrap();
    assert_eq!(host.json(&["inspect", "c1"])[0]["State"], state);
    host.ok(&["rm", "-f", "c1"]);
}

#[test]
fn containers_survive_an_older_store() {
    let mut host = Host::start(plain());
    host.daemon.stop().unwrap();
    let store = host.home().join("data/store.redb");
    let old = fs::read(&store).unwrap();
    host.daemon.boot(&host.sandbox).unwrap();
    let id = host.ok(&["run", "-d", "--name", "c1", "-p", "18080:80", "busybox", "sleep", "1000"]);
    let seen = host.json(&["inspect", "c1"])[0]["State"].clone();
    let links = |host: &Host| crate::run(host.sandbox.command("ip").args(["-o", "link"])).lines().count();
    let wired = links(&host);
    host.daemon.stop().unwrap();
    let present = fs::read(&store).unwrap();

    fs::write(&store, &old).unwrap();
    let told = refusal(&mut host);
    for part in ["does not know", id.as_str(), "or an older copy", "kill -9 "] {
        assert!(told.contains(part), "{part:?} in {told}");
    }
    assert_eq!(links(&host), wired);
    fs::write(&store, present).unwrap();
    host.daemon.boot(&host.sandbox).unwrap();
    assert_eq!(host.json(&["inspect", "c1"])[0]["State"], seen);

    // Given up as the words say, nothing is in the way, and the left-overs go.
    host.daemon.stop().unwrap();
    fs::write(&store, old).unwrap();
    crate::run(host.sandbox.command("kill").args(["-9", &seen["Pid"].to_string()]));
    host.daemon.boot(&host.sandbox).unwrap();
    assert_eq!(host.ok(&["ps", "-aq"]), "");
    let live = host.home().join("run/containers").join(&id);
    crate::until("the left-overs go", || !live.exists());
}

#[test]
fn what_was_made_for_one_run_and_not_started_goes_with_the_next_daemon() {
    let mut host = Host::start(plain());
    host.ok(&["create", "--rm", "--name", "once", "-v", "/anonymous", "busybox", "true"]);
    host.ok(&["create", "--name", "stays", "busybox", "true"]);
    host.daemon.kill9().unwrap();
    host.daemon.boot(&host.sandbox).unwrap();
    let stays = |all: serde_json::Value| all.as_array().unwrap().len() == 1 && all[0]["Names"][0] == "/stays";
    crate::until("it goes", || stays(host.json(&["ps", "-a"])));
    crate::until("its volume goes", || host.ok(&["volume", "ls", "-q"]).is_empty());
}

#[test]
fn the_store_of_the_daemon_in_a_run_directory_is_looked_at() {
    let mut host = Host::start(plain());
    host.daemon.stop().unwrap();
    let store = host.home().join("data/store.redb").display().to_string();
    let told = host.ok(&["store", "check"]);
    assert!(told.starts_with(&format!("{store}: sound")), "{told}");
    assert!(host.ok(&["store", "dump"]).contains("/weft/v1/host/"));
    host.ok(&["feature", "disable", "dns"]);
    assert!(host.home().join("data/features.json").exists());

    let elsewhere = host.home().join("elsewhere").display().to_string();
    let mut command = host.sandbox.command(env!("CARGO_BIN_EXE_weft"));
    let output = command.args(["--run", &elsewhere, "store", "check"]).output().unwrap();
    let refused = crate::text(&output.stderr);
    assert!(!output.status.success());
    assert!(refused.contains("no daemon has run on") && refused.contains("--root"), "{refused}");
}

#[test]
fn a_damaged_store_is_told_without_a_panic() {
    let mut host = Host::start(plain());
    for n in 0..40 {
        host.ok(&["volume", "create", &format!("v{n}")]);
    }
    host.daemon.stop().unwrap();
    let store = host.home().join("data/store.redb");
    let sound = fs::read(&store).unwrap();
    let mut refused = 0;
    for seed in 1..=12 {
        let mut bytes = sound.clone();
        spoil(&mut bytes, seed);
        fs::write(&store, &bytes).unwrap();
        let logged = fs::metadata(host.daemon.log_path()).unwrap().len();
        // Where only what nothing uses was hit, there is nothing to tell.
        let Err(told) = host.daemon.boot(&host.sandbox) else {
            host.daemon.stop().unwrap();
            continue;
        };
        refused += 1;
        let told = format!("{told:#}");
        assert!(told.contains("store.redb") && told.contains("weft store check"), "{seed}: {told}");
        let log = fs::read(host.daemon.log_path()).unwrap();
        let log = crate::text(&log[usize::try_from(logged).unwrap()..]);
        assert!(!log.contains("panicked at"), "{seed}: {log}");
        for verb in ["check", "dump"] {
            let output = host.weft(&["store", verb]);
            let told = crate::text(&output.stdout) + &crate::text(&output.stderr);
            assert!(!output.status.success() && !told.contains("panicked at"), "{seed}: {told}");
            let word = if verb == "check" { "DAMAGED" } else { "the file is damaged" };
            assert!(told.contains(word), "{seed}: {told}");
        }
    }
    assert!(refused > 3, "{refused} of 12");
}

/// Overwrites 300 spots of 32 bytes.
fn spoil(bytes: &mut [u8], seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..300 {
        let at = usize::try_from(random() % (bytes.len() as u64 - 32)).unwrap();
        bytes[at..at + 32].fill_with(|| random().to_le_bytes()[0]);
    }
}

#[test]
fn without_cgroups_there_is_no_daemon() {
    let sandbox = Sandbox::new().unwrap();
    let (root, run) = (sandbox.dir().join("data"), sandbox.dir().join("run"));
    let hidden = |args: &[&str]| {
        let mut command = sandbox.command("unshare");
        let script = "umount -R /sys/fs/cgroup 2>/dev/null; mount -t tmpfs none /sys && exec \"$@\"";
        command.args(["-m", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_weft")]).args(args);
        let output = command.arg("--root").arg(&root).arg("--run").arg(&run).output().unwrap();
        assert!(!output.status.success(), "{args:?}");
        crate::text(&output.stdout) + &crate::text(&output.stderr)
    };
    let links = || crate::run(sandbox.command("ip").args(["-o", "link"]));
    let before = links();
    let told = hidden(&["up"]);
    assert!(told.contains("no cgroup file system") && told.contains("nsenter --net="), "{told}");
    // It was refused before anything was made.
    assert!(links() == before && !root.exists() && !run.join("docker.sock").exists());
    let told = hidden(&["doctor"]);
    assert!(told.contains("FATAL   cgroup file system"), "{told}");
}
