//! Shims with real containers: what a daemon relies on, seen from the daemon's side.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::{fs, process::Stdio};

use common::{PATIENCE, Sandbox, launcher, process, read_frames, read_until};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    time::timeout,
};
use weft_engine::shim::{Attach, ConsoleSize, ExecSpec, Exit, Phase, Shim, ShimError, client::last_exit};

const ALL: Attach = Attach { stdin: false, stdout: true, stderr: true };
const IN_OUT: Attach = Attach { stdin: true, stdout: true, stderr: true };

async fn end(shim: &Shim) -> Exit {
    timeout(PATIENCE, shim.wait()).await.expect("it ends").unwrap()
}

async fn exec(sandbox: &Sandbox, args: &[&str], change: impl FnOnce(&mut ExecSpec)) -> Shim {
    let dir = sandbox.dir.path().join(format!("exec-{}", fs::read_dir(sandbox.dir.path()).unwrap().count()));
    fs::create_dir_all(&dir).unwrap();
    let mut spec = ExecSpec {
        id: "e".to_owned(),
        container: sandbox.shim_dir(),
        process: serde_json::from_value(process(args)).unwrap(),
        tty: false,
        stdin: false,
        console_size: None,
    };
    change(&mut spec);
    Shim::exec(&launcher(), &dir, &spec).await.unwrap()
}

#[tokio::test]
async fn exit_codes_and_signals_arrive() {
    for (script, code, signal) in
        [("true", 0, None), ("exit 42", 42, None), ("kill -9 $$; kill -TERM $$; exit 3", 3, None)]
    {
        let sandbox = Sandbox::sh(script);
        let shim = sandbox.spawn().await.unwrap();
        let init = shim.start().await.unwrap();
        assert!(init.is_some());
        let exit = end(&shim).await;
        assert_eq!((exit.code, exit.signal), (code, signal), "{script}");
        assert_eq!(last_exit(&sandbox.shim_dir()), Some(exit));
        sandbox.assert_nothing_left();
    }
    let sandbox = Sandbox::new(&["sleep", "1000"]);
    let shim = sandbox.spawn().await.unwrap();
    shim.start().await.unwrap();
    shim.kill(9, false).await.unwrap();
    let exit = end(&shim).await;
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    sandbox.assert_nothing_left();
}

#[tokio::test]
async fn an_early_client_gets_every_byte_in_its_stream() {
    let sandbox = Sandbox::sh("echo out; echo err >&2; head -c 300000 /dev/zero");
    let shim = sandbox.spawn().await.unwrap();
    let mut stream = shim.attach(ALL).await.unwrap();
    shim.start().await.unwrap();
    // Slow on purpose: the container has to wait for us.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let (out, err) = read_frames(&mut stream).await;
    assert_eq!((out.len(), &out[..4], err.as_str()), (300_004, "out\n", "err\n"));
    assert_eq!(end(&shim).await.code, 0);
}

#[tokio::test]
async fn closing_input_ends_it() {
    let mut sandbox = Sandbox::new(&["cat"]);
    (sandbox.spec.stdin, sandbox.spec.stdin_once) = (true, true);
    let shim = sandbox.spawn().await.unwrap();
    let mut stream = shim.attach(IN_OUT).await.unwrap();
    shim.start().await.unwrap();
    let text = "x".repeat(500_000);
    let (mut read, mut write) = stream.split();
    let give = async {
        write.write_all(text.as_bytes()).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut seen = Vec::new();
    let (_, got) = tokio::join!(give, timeout(PATIENCE, read.read_to_end(&mut seen)));
    got.expect("ends").unwrap();
    let frames = seen.len() - text.len();
    assert!(frames.is_multiple_of(8) && frames > 0, "{} bytes came back", seen.len());
    assert_eq!(end(&shim).await.code, 0);
}

#[tokio::test]
async fn input_stays_open_without_stdin_once() {
    let mut sandbox = Sandbox::new(&["cat"]);
    sandbox.spec.stdin = true;
    let shim = sandbox.spawn().await.unwrap();
    shim.start().await.unwrap();
    for word in ["one\n", "two\n"] {
        let mut stream = shim.attach(IN_OUT).await.unwrap();
        stream.write_all(word.as_bytes()).await.unwrap();
        assert!(read_until(&mut stream, word).await.contains(word));
        stream.shutdown().await.unwrap();
    }
    shim.close_stdin().await.unwrap();
    assert_eq!(end(&shim).await.code, 0);
}

#[tokio::test]
async fn a_terminal_has_its_size_and_raw_output() {
    let mut sandbox = Sandbox::sh("stty size; read line; stty size; echo bye");
    (sandbox.spec.tty, sandbox.spec.stdin) = (true, true);
    sandbox.spec.console_size = Some(ConsoleSize { height: 33, width: 99 });
    let shim = sandbox.spawn().await.unwrap();
    let mut stream = shim.attach(IN_OUT).await.unwrap();
    shim.start().await.unwrap();
    assert!(read_until(&mut stream, "33 99\r\n").await.starts_with("33 99"));
    shim.resize(ConsoleSize { height: 44, width: 111 }).await.unwrap();
    stream.write_all(b"go\n").await.unwrap();
    let seen = read_until(&mut stream, "bye\r\n").await;
    assert!(seen.contains("44 111\r\n"), "{seen}");
    assert_eq!(end(&shim).await.code, 0);
    sandbox.assert_nothing_left();
}

#[tokio::test]
async fn what_cannot_run_is_said_in_dockers_words() {
    for (program, code, words) in [
        ("no-such", 127, "exec: \"no-such\": executable file not found in $PATH"),
        ("/no/such", 127, "exec: \"/no/such\": stat /no/such: no such file or directory"),
        ("/etc/passwd", 126, "exec: \"/etc/passwd\": permission denied"),
        ("/etc", 126, "exec: \"/etc\": is a directory"),
    ] {
        let sandbox = Sandbox::new(&[program]);
        let Err(error) = sandbox.spawn().await else { panic!("{program} ran") };
        assert_eq!((error.exit_code(), error.to_string().as_str()), (code, words));
        sandbox.assert_nothing_left();
    }
    let sandbox = Sandbox::new(&["/bin/junk"]);
    let junk = sandbox.spec.bundle.join("rootfs/bin/junk");
    fs::write(&junk, [0u8; 64]).unwrap();
    fs::set_permissions(&junk, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let shim = sandbox.spawn().await.unwrap();
    let error = shim.start().await.unwrap_err();
    assert_eq!((error.exit_code(), error.to_string().as_str()), (126, "exec /bin/junk: exec format error"));
    assert_eq!(end(&shim).await.code, 126);
    sandbox.assert_nothing_left();
}

#[tokio::test]
async fn a_bundle_that_cannot_be_made_leaves_nothing() {
    let mut sandbox = Sandbox::new(&["true"]);
    sandbox.config["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"destination": "/x", "type": "bind", "source": "/no/such/dir", "options": ["bind"]}));
    let error = sandbox.spawn().await.err().unwrap();
    assert!(matches!(error, ShimError::Other(_)), "{error:?}");
    sandbox.assert_nothing_left();
}

#[tokio::test]
async fn execs_have_streams_codes_and_the_containers_confinement() {
    let mut sandbox = Sandbox::new(&["sleep", "1000"]);
    sandbox.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
    });
    let shim = sandbox.spawn().await.unwrap();
    shim.start().await.unwrap();
    let script = "echo $HOME; echo $$ >&2; grep -E 'Seccomp:|CapEff|CapBnd' /proc/self/status; ls /proc/self/fd; exit 7";
    let run = exec(&sandbox, &["sh", "-c", script], |_| {}).await;
    let mut stream = run.attach(ALL).await.unwrap();
    let pid = run.start().await.unwrap().unwrap();
    assert!(pid.pid > 1);
    let (out, err) = read_frames(&mut stream).await;
    let lines: Vec<&str> = out.lines().map(|l| l.rsplit('\t').next().unwrap()).collect();
    assert_eq!(
        lines,
        ["/root", "00000000a80425fb", "00000000a80425fb", "2", "0", "1", "2", "3"],
        "{out}{err}"
    );
    assert_ne!(err.trim(), "1");
    assert_eq!(end(&run).await.code, 7);

    let run = exec(&sandbox, &["cat"], |s| s.stdin = true).await;
    let mut stream = run.attach(IN_OUT).await.unwrap();
    run.start().await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(read_frames(&mut stream).await.0, "hello");
    assert_eq!(end(&run).await.code, 0);

    let run = exec(&sandbox, &["sh", "-c", "stty size"], |s| {
        (s.tty, s.stdin) = (true, true);
        s.console_size = Some(ConsoleSize { height: 20, width: 70 });
    })
    .await;
    let mut stream = run.attach(IN_OUT).await.unwrap();
    run.start().await.unwrap();
    assert_eq!(read_until(&mut stream, "20 70\r\n").await, "20 70\r\n");
    assert_eq!(end(&run).await.code, 0);

    for (program, code) in [("no-such", 127), ("/etc/passwd", 126)] {
        let run = exec(&sandbox, &[program], |_| {}).await;
        assert_eq!(run.start().await.unwrap_err().exit_code(), code);
        assert_eq!(end(&run).await.code, code);
    }
    shim.kill(9, false).await.unwrap();
    end(&shim).await;
    sandbox.assert_nothing_left();
}

#[tokio::test]
async fn an_exec_does_not_wait_for_what_it_left_behind() {
    let sandbox = Sandbox::new(&["sleep", "1000"]);
    let shim = sandbox.spawn().await.unwrap();
    shim.start().await.unwrap();
    let run = exec(&sandbox, &["sh", "-c", "sleep 1000 & echo done"], |_| {}).await;
    let mut stream = run.attach(ALL).await.unwrap();
    run.start().await.unwrap();
    assert_eq!(read_frames(&mut stream).await.0, "done\n");
    assert_eq!(end(&run).await.code, 0);
    shim.kill(9, true).await.unwrap();
    end(&shim).await;
    sandbox.assert_nothing_left();
}

#[tokio::test]
async fn a_killed_daemon_loses_nothing() {
    let sandbox = Sandbox::sh("sleep 1000 & wait; exit 5");
    sandbox.write_config();
    let spec = sandbox.dir.path().join("spec.json");
    fs::write(&spec, serde_json::to_vec(&sandbox.spec).unwrap()).unwrap();
    let mut daemon = tokio::process::Command::new(env!("CARGO_BIN_EXE_weft-shim-test"))
        .arg("daemon")
        .arg(sandbox.shim_dir())
        .arg(&spec)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut said = BufReader::new(daemon.stdout.take().unwrap());
    timeout(PATIENCE, said.read_line(&mut line)).await.unwrap().unwrap();
    assert_eq!(line, "up\n");
    daemon.kill().await.unwrap();

    let shim = Shim::adopt(&sandbox.shim_dir()).await.unwrap().expect("it lives");
    let state = shim.state().await.unwrap();
    assert_eq!(state.phase, Phase::Running);
    let init = state.init.expect("a process");
    assert!(init.is_alive());
    drop(shim);
    // And while nobody at all is there, it ends.
    weft_sys::process::kill(init.pid, 9).unwrap();
    let found = timeout(PATIENCE, async {
        loop {
            if let Some(exit) = last_exit(&sandbox.shim_dir()) {
                break exit;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    });
    assert_eq!(found.await.unwrap().signal, Some(9));
    let gone = timeout(PATIENCE, async {
        while Shim::adopt(&sandbox.shim_dir()).await.unwrap().is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    });
    gone.await.unwrap();
    sandbox.assert_nothing_left();
}

#[tokio::test]
async fn pausing_stops_and_a_paused_container_can_be_killed() {
    let sandbox = Sandbox::sh("while true; do echo tick; sleep 0.01; done");
    let shim = sandbox.spawn().await.unwrap();
    shim.start().await.unwrap();
    shim.pause().await.unwrap();
    assert!(shim.state().await.unwrap().paused);
    assert!(matches!(shim.pause().await, Err(ShimError::State(_))));
    shim.resume().await.unwrap();
    shim.pause().await.unwrap();
    shim.kill(9, false).await.unwrap();
    assert_eq!(end(&shim).await.signal, Some(9));
    sandbox.assert_nothing_left();
}

#[tokio::test]
async fn memory_kills_are_seen_and_limits_can_change() {
    let mut sandbox = Sandbox::sh(
        "while [ ! -e /tmp/go ]; do sleep 0.05; done; dd if=/dev/zero of=/dev/null bs=200M count=1",
    );
    sandbox.config["linux"]["resources"]["memory"] = json!({"limit": 512 << 20});
    let shim = sandbox.spawn().await.unwrap();
    shim.start().await.unwrap();
    shim.update(json!({"memory": {"limit": 16 << 20}})).await.unwrap();
    fs::write(sandbox.spec.bundle.join("rootfs/tmp/go"), "").unwrap();
    let exit = end(&shim).await;
    assert!(exit.oom_killed, "{exit:?}");
    sandbox.assert_nothing_left();
}

#[tokio::test]
async fn runc_runs_the_same_bundles() {
    let mut sandbox = Sandbox::sh("echo hi; exit 9");
    sandbox.spec.runtime =
        weft_engine::shim::Runtime::External { path: "/usr/sbin/runc".into(), args: Vec::new() };
    let shim = sandbox.spawn().await.unwrap();
    let mut stream = shim.attach(ALL).await.unwrap();
    shim.start().await.unwrap();
    assert_eq!(read_frames(&mut stream).await.0, "hi\n");
    assert_eq!(end(&shim).await.code, 9);
    sandbox.assert_nothing_left();

    sandbox.config["process"]["args"] = json!(["no-such"]);

    let error = sandbox.spawn().await.err().expect("refused");
    assert_eq!(error.exit_code(), 127, "{error}");
    sandbox.assert_nothing_left();
}

#[tokio::test]
async fn the_programs_file_cannot_be_reached_from_inside() {
    // A container that holds on to the link of its first process until that has become another program, as
    // CVE-2019-5736 did: nothing executes the file any more, only the mount protects it.
    let sandbox = Sandbox::new(&["sleep", "1000"]);
    let program = sandbox.dir.path().join("program");
    fs::copy(env!("CARGO_BIN_EXE_weft-shim-test"), &program).unwrap();
    let launcher = weft_engine::shim::Launcher::of_program(&program, &["shim"]).unwrap();
    sandbox.write_config();
    let shim = Shim::spawn(&launcher, &sandbox.shim_dir(), &sandbox.spec).await.unwrap();
    let link = fs::File::open(format!("/proc/{}/exe", shim.init().unwrap().pid)).unwrap();
    shim.start().await.unwrap();
    shim.kill(9, false).await.unwrap();
    end(&shim).await;
    while Shim::adopt(&sandbox.shim_dir()).await.unwrap().is_some() {}
    let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&link));
    let error = fs::OpenOptions::new().write(true).open(again).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EROFS));
    assert!(fs::OpenOptions::new().write(true).open(&program).is_ok(), "only the mount was in the way");
}

#[tokio::test]
async fn a_memory_kill_is_told_while_the_container_goes_on() {
    // The victim is the shell's child, so the first process lives; each kill is told once.
    let mut sandbox = Sandbox::sh(
        "while :; do while [ ! -e /tmp/go ]; do sleep 0.05; done; \
         (dd if=/dev/zero of=/dev/null bs=200M count=1) 2>/dev/null; rm /tmp/go; done",
    );
    sandbox.config["linux"]["resources"]["memory"] = json!({"limit": 16 << 20, "swap": 16 << 20});
    let shim = sandbox.spawn().await.unwrap();
    shim.start().await.unwrap();
    for round in 0..2 {
        assert_eq!(shim.ooms(), round);
        fs::write(sandbox.spec.bundle.join("rootfs/tmp/go"), "").unwrap();
        timeout(PATIENCE, shim.oom_after(round)).await.expect("the kill is told");
        assert_eq!(shim.state().await.unwrap().phase, Phase::Running);
        while sandbox.spec.bundle.join("rootfs/tmp/go").exists() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    shim.kill(9, true).await.unwrap();
    assert!(end(&shim).await.oom_killed);
    sandbox.assert_nothing_left();
}

#[tokio::test]
async fn rotated_logs_are_compressed_though_the_container_goes_quiet() {
    for mode in ["blocking", "non-blocking"] {
        let mut sandbox =
            Sandbox::sh("i=0; while [ $i -lt 6000 ]; do echo line $i; i=$((i+1)); done; sleep 1000");
        let logs = sandbox.dir.path().join("logs");
        fs::create_dir(&logs).unwrap();
        let log = json!({
            "config": {"driver": "json-file", "options": {
                "max-size": "100k", "max-file": "3", "compress": "true", "mode": mode,
            }},
            "dir": logs, "facts": {"id": "c"},
        });
        sandbox.spec.log = Some(serde_json::from_value(log).unwrap());
        let shim = sandbox.spawn().await.unwrap();
        shim.start().await.unwrap();
        let names = || {
            let mut names: Vec<_> =
                fs::read_dir(&logs).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        let settled = async {
            while names() != ["c-json.log", "c-json.log.1.gz", "c-json.log.2.gz"] {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        assert!(timeout(PATIENCE, settled).await.is_ok(), "{mode}: {:?}", names());
        shim.kill(9, false).await.unwrap();
        end(&shim).await;
        sandbox.assert_nothing_left();
    }
}
