//! The unmodified `docker` client where a suite with one daemon for all cannot go: over TLS, and across a `kill -9`.

use std::{
    path::Path,
    process::{Command, Output},
};

use crate::{Host, run, text, until};

/// Makes an authority, and certificates of a server and of a client that it signed.
fn certificates(dir: &Path) {
    let openssl = |args: &[&str]| {
        run(Command::new("openssl").args(args).current_dir(dir));
    };
    let request = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    for name in ["ca", "stranger-ca"] {
        let key = format!("{name}-key.pem");
        let file = format!("{name}.pem");
        openssl(
            &[&request[..], &["-x509", "-days", "2", "-subj", "/CN=ca", "-keyout", &key, "-out", &file]]
                .concat(),
        );
    }
    let signed = [
        ("server", "ca", "extendedKeyUsage=serverAuth\nsubjectAltName=IP:127.0.0.1"),
        ("client", "ca", "extendedKeyUsage=clientAuth"),
        ("stranger", "stranger-ca", "extendedKeyUsage=clientAuth"),
    ];
    for (name, ca, extension) in signed {
        std::fs::write(dir.join("ext"), extension).unwrap();
        let subject = format!("/CN={name}");
        let key = format!("{name}-key.pem");
        openssl(&[&request[..], &["-subj", &subject, "-keyout", &key, "-out", "csr"]].concat());
        let (ca, ca_key, out) = (format!("{ca}.pem"), format!("{ca}-key.pem"), format!("{name}.pem"));
        openssl(&[
            "x509",
            "-req",
            "-in",
            "csr",
            "-days",
            "2",
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-CAcreateserial",
            "-extfile",
            "ext",
            "-out",
            &out,
        ]);
    }
}

#[test]
fn the_client_verifies_and_is_verified() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let at = |name: &str| dir.path().join(name).display().to_string();
    let listen = format!(
        "docker=tls://127.0.0.1:2376?cert={}&key={}&ca={}",
        at("server.pem"),
        at("server-key.pem"),
        at("ca.pem")
    );
    let host = Host::with(crate::plain(), |_| (), &["--listen", &listen]);
    let docker = |who: &str, ca: &str, args: &[&str]| -> Output {
        let mut command = host.sandbox.command("docker");
        command.args(["--host", "tcp://127.0.0.1:2376", "--tlsverify", "--tlscacert", &at(ca)]);
        if !who.is_empty() {
            let (cert, key) = (at(&format!("{who}.pem")), at(&format!("{who}-key.pem")));
            command.args(["--tlscert", &cert, "--tlskey", &key]);
        }
        command.args(args).env("DOCKER_CONFIG", at("config")).output().unwrap()
    };
    let good = docker("client", "ca.pem", &["run", "--rm", "busybox", "echo", "over tls"]);
    assert_eq!(text(&good.stdout).trim(), "over tls", "{}", text(&good.stderr));
    let input = docker("client", "ca.pem", &["run", "--rm", "-i", "busybox", "wc", "-c"]);
    assert_eq!(
        text(&input.stdout).trim(),
        "0",
        "a hijacked stream half-closes over TLS: {}",
        text(&input.stderr)
    );
    for (who, ca) in [("stranger", "ca.pem"), ("", "ca.pem"), ("client", "stranger-ca.pem")] {
        let bad = docker(who, ca, &["version"]);
        assert!(!bad.status.success(), "{who} {ca}: {}", text(&bad.stdout));
        let told = text(&bad.stderr);
        assert!(told.contains("tls: ") || told.contains("certificate"), "{who} {ca}: {told}");
    }
    let mut clear = host.sandbox.command("docker");
    let clear = clear.args(["--host", "tcp://127.0.0.1:2376", "version"]).output().unwrap();
    assert!(!clear.status.success(), "clear text is no way in");
}

#[test]
fn what_a_client_sees_survives_kill_9() {
    let mut host = Host::start(crate::plain());
    let docker = |host: &Host, args: &[&str]| {
        let output = host.daemon.docker().args(args).output().unwrap();
        assert!(output.status.success(), "docker {args:?}: {}", text(&output.stderr));
        text(&output.stdout).trim().to_owned()
    };
    let script = "i=0; while :; do echo line-$i; i=$((i+1)); sleep 0.1; done";
    docker(&host, &["run", "-d", "--name", "log", "busybox", "sh", "-c", script]);
    docker(&host, &["run", "-d", "--name", "code", "busybox", "sh", "-c", "sleep 2; exit 23"]);
    docker(
        &host,
        &[
            "run",
            "-d",
            "--name",
            "back",
            "--restart",
            "on-failure:5",
            "busybox",
            "sh",
            "-c",
            "sleep 1; exit 1",
        ],
    );
    let probe = ["--health-cmd", "test -e /well", "--health-interval", "200ms", "--health-retries", "1"];
    docker(&host, &[&["run", "-d", "--name", "sick"], &probe[..], &["busybox", "sleep", "1000"]].concat());
    docker(&host, &["exec", "sick", "touch", "/well"]);
    let see = |host: &Host, name: &str, what: &str| docker(host, &["inspect", "-f", what, name]);
    until("health", || see(&host, "sick", "{{.State.Health.Status}}") == "healthy");
    until("a restart", || see(&host, "back", "{{.RestartCount}}") == "1");
    let before = see(&host, "log", "{{.State.Pid}} {{.State.StartedAt}}");
    host.daemon.kill9().unwrap();
    // One ends while there is no daemon; the log goes on.
    std::thread::sleep(std::time::Duration::from_secs(3));
    host.daemon.boot(&host.sandbox).unwrap();
    assert_eq!(see(&host, "log", "{{.State.Pid}} {{.State.StartedAt}}"), before);
    let lines = docker(&host, &["logs", "log"]);
    let wanted: Vec<String> = (0..lines.lines().count()).map(|i| format!("line-{i}")).collect();
    assert!(wanted.len() > 25, "{}", wanted.len());
    assert_eq!(lines.lines().collect::<Vec<_>>(), wanted, "no line is lost or doubled");
    assert_eq!(see(&host, "code", "{{.State.ExitCode}} {{.State.Status}}"), "23 exited");
    assert_eq!(docker(&host, &["wait", "code"]), "23");
    until("the other restarts", || see(&host, "back", "{{.RestartCount}} {{.State.Status}}") == "5 exited");
    assert_eq!(see(&host, "sick", "{{.State.Health.Status}}"), "healthy");
    docker(&host, &["exec", "sick", "rm", "/well"]);
    until("illness", || see(&host, "sick", "{{.State.Health.Status}}") == "unhealthy");
    docker(&host, &["stop", "-t", "0", "log"]);
    docker(&host, &["rm", "-f", "log", "code", "back", "sick"]);
}
