//! TLS listeners with certificates made by openssl, met by the real `docker` client, changed while it is connected.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};

use weft_testkit::Sandbox;

use crate::{Host, run, text, until};

const PORT: u16 = 2376;

/// An authority with a certificate for the server on loopback and one for a client, as `DIR/{ca,cert,key,client,client-key}.pem`.
fn make(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    let name = dir.file_name().unwrap().to_str().unwrap();
    let script = format!(
        "set -e; cd {dir}
         k='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
         openssl req -x509 $k -days 30 -subj /CN=authority-{name} -keyout ca-key.pem -out ca.pem
         openssl req $k -subj /CN=server-{name} -keyout key.pem -out s.csr
         openssl req $k -subj /CN=client-{name} -keyout client-key.pem -out c.csr
         printf 'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=serverAuth\\n' > s.ext
         printf 'extendedKeyUsage=clientAuth\\n' > c.ext
         openssl x509 -req -in s.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 30 -extfile s.ext -out cert.pem
         openssl x509 -req -in c.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 30 -extfile c.ext -out client.pem",
        dir = dir.display()
    );
    run(Command::new("sh").args(["-c", &script]));
}

/// `docker` over TLS with the certificates in `dir`.
fn docker(host: &Host, dir: &Path, args: &[&str]) -> Command {
    let at = |name: &str| dir.join(name).display().to_string();
    let mut command = host.sandbox.command("docker");
    command.args(["-H", &format!("tcp://127.0.0.1:{PORT}"), "--tlsverify"]);
    command.args([
        "--tlscacert",
        &at("ca.pem"),
        "--tlscert",
        &at("client.pem"),
        "--tlskey",
        &at("client-key.pem"),
    ]);
    command.args(args).env_remove("DOCKER_HOST").stdin(Stdio::null());
    command
}

fn version(host: &Host, dir: &Path) -> Output {
    docker(host, dir, &["version", "-f", "{{.Server.APIVersion}}"]).output().unwrap()
}

/// Puts the server's side of `from` where the daemon looks.
fn install(from: &Path, into: &Path) {
    fs::create_dir_all(into).unwrap();
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        fs::copy(from.join(name), into.join(name)).unwrap();
    }
}

#[test]
fn certificates_are_read_again_and_connections_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new, live) = (dir.path().join("old"), dir.path().join("new"), dir.path().join("live"));
    make(&old);
    make(&new);
    install(&old, &live);
    let at = |name: &str| live.join(name);
    let files = format!(
        "cert={}&key={}&ca={}",
        at("cert.pem").display(),
        at("key.pem").display(),
        at("ca.pem").display()
    );
    let listen = format!("docker=tls://127.0.0.1:{PORT}?{files}");
    let host = Host::with(crate::plain(), |_: &Sandbox| (), &["--listen", &listen]);
    let reload = |word: &str| {
        let log = || fs::read_to_string(host.daemon.log_path()).unwrap();
        let before = log().matches(word).count();
        run(Command::new("kill").args(["-HUP", &host.daemon.pid().to_string()]));
        until(word, || log().matches(word).count() > before);
    };
    assert!(version(&host, &old).status.success(), "{}", text(&version(&host, &old).stderr));
    assert!(!version(&host, &new).status.success());
    host.ok(&[
        "run",
        "-d",
        "--name",
        "c1",
        "busybox",
        "sh",
        "-c",
        "i=0; while true; do i=$((i+1)); echo line $i; sleep 0.05; done",
    ]);
    let mut follower =
        docker(&host, &old, &["logs", "-f", "--tail", "1", "c1"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let number = |line: Option<std::io::Result<String>>| -> u32 {
        line.unwrap().unwrap().strip_prefix("line ").unwrap().parse().unwrap()
    };
    let first = number(lines.next());

    // Wrong files change nothing.
    fs::copy(new.join("key.pem"), at("key.pem")).unwrap();
    reload("the old ones stay in use");
    assert!(version(&host, &old).status.success(), "a key of another certificate");
    fs::write(at("cert.pem"), "nonsense").unwrap();
    reload("the old ones stay in use");
    assert!(version(&host, &old).status.success(), "no certificate");

    install(&new, &live);
    reload("certificates read again");
    let answer = version(&host, &new);
    assert!(answer.status.success(), "{}", text(&answer.stderr));
    let refused = text(&version(&host, &old).stderr);
    assert!(refused.contains("certificate"), "{refused}");
    // A client of the old authority is refused also where it trusts the new server.
    let mixed = dir.path().join("mixed");
    fs::create_dir_all(&mixed).unwrap();
    for (from, name) in [(&new, "ca.pem"), (&old, "client.pem"), (&old, "client-key.pem")] {
        fs::copy(from.join(name), mixed.join(name)).unwrap();
    }
    assert!(!version(&host, &mixed).status.success());
    // What was connected all the time has missed nothing.
    let mut last = first;
    for _ in 0..20 {
        let next = number(lines.next());
        assert_eq!(next, last + 1);
        last = next;
    }
    host.ok(&["rm", "-f", "c1"]);
    assert!(follower.wait().unwrap().success(), "the stream ends with its container");
}
