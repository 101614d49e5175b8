//! Who is let in: users, tokens that grow old, permissions, certificates.
#![allow(clippy::unwrap_used, reason = "helpers of tests say what they expect")]

mod common;

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use common::{config, next, open, put, quick, refused, shown, try_put, value};
use weft_store::{Kv, StoreError};
use weft_testkit::{EtcdSetup, etcd::Etcd, registry::ServerTls};

const KEY: &str = "/weft/v1/a/b";

fn file(cluster: &Etcd, name: &str, text: &str) -> String {
    let path = cluster.home().join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

const ROOT: [&str; 2] = ["--user", "root:root"];

fn as_root(cluster: &Etcd, arguments: &[&str]) -> String {
    cluster.ctl(&[&ROOT, arguments].concat()).unwrap()
}

/// A cluster with users: `root`, and `weft`, who may use what is below `/w/`.
fn with_users(arguments: &[&str]) -> Etcd {
    let arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
    let cluster = Etcd::start(EtcdSetup { arguments, ..EtcdSetup::default() }).unwrap();
    for words in [
        &["user", "add", "root:root"][..],
        &["user", "add", "weft:secret"],
        &["role", "add", "weft"],
        &["role", "grant-permission", "weft", "--prefix=true", "readwrite", "/w/"],
        &["user", "grant-role", "weft", "weft"],
        &["user", "grant-role", "root", "root"],
        &["auth", "enable"],
    ] {
        cluster.ctl(words).unwrap();
    }
    cluster
}

fn address(cluster: &Etcd, prefix: &str, user: &str, password: &str) -> String {
    let password = file(cluster, &format!("password-{user}"), &format!("{password}\n"));
    format!("{}{prefix}?user={user}&password-file={password}", cluster.endpoints())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_are_let_in_where_they_may() {
    let cluster = with_users(&[]);
    let kv = open(&address(&cluster, "/w", "weft", "secret")).await;
    let mut watch = kv.watch(b"/weft/", 0).await.unwrap();
    put(&kv, KEY, "1").await;
    assert_eq!(shown(&next(&mut watch).await.unwrap()), [format!("{KEY}=1")]);
    let wrong = refused(&address(&cluster, "/w", "weft", "wrong")).await;
    assert!(matches!(wrong, StoreError::LoginRefused { .. }), "{wrong}");
    assert!(wrong.to_string().contains("refuses the login of weft: authentication failed"), "{wrong}");
    assert!(!wrong.to_string().contains("wrong"), "the password is never shown: {wrong}");
    let unknown = refused(&address(&cluster, "/w", "nobody", "x")).await;
    assert!(matches!(unknown, StoreError::LoginRefused { .. }), "{unknown}");
    let none = refused(&format!("{}/w", cluster.endpoints())).await;
    assert!(none.to_string().contains("refuses the login of nobody: it wants a login"), "{none}");
    let elsewhere = refused(&address(&cluster, "/other", "weft", "secret")).await;
    assert!(matches!(elsewhere, StoreError::NoPermission { .. }), "{elsewhere}");
    let words = "the store's user weft has no permission to open the store below /other/";
    assert!(elsewhere.to_string().contains(words), "{elsewhere}");
    assert!(!as_root(&cluster, &["get", "", "--from-key", "--keys-only"]).contains("/other"));
}

/// A right that is taken away under a running store: each call says so, a watch that is asked for says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_is_taken_away_is_told() {
    let cluster = with_users(&[]);
    let kv = open(&address(&cluster, "/w", "weft", "secret")).await;
    put(&kv, KEY, "1").await;
    as_root(&cluster, &["role", "revoke-permission", "weft", "--prefix=true", "/w/"]);
    as_root(&cluster, &["role", "grant-permission", "weft", "--prefix=true", "read", "/w/weft/v1/a/"]);
    let written = try_put(&kv, KEY, "2").await;
    assert!(matches!(written, Err(StoreError::NoPermission { doing: "write", .. })), "{written:?}");
    assert_eq!(value(&kv, KEY).await.as_deref(), Some("1"));
    let read = kv.range(b"/weft/v1/").await;
    assert!(matches!(read, Err(StoreError::NoPermission { doing: "read", .. })), "{read:?}");
    let mut watch = kv.watch(b"/weft/v1/", 1).await.unwrap();
    let told = next(&mut watch).await;
    assert!(matches!(told, Err(StoreError::NoPermission { doing: "watch", .. })), "{told:?}");
    let mut watch = kv.watch(b"/weft/v1/a/", 1).await.unwrap();
    assert_eq!(shown(&next(&mut watch).await.unwrap()), [format!("{KEY}=1")]);
}

/// Tokens that live for a second, in a store that is idle for longer; a watch that is asked for on an old stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_tokens_are_renewed() {
    let cluster = with_users(&["--auth-token-ttl=1"]);
    let kv = open(&address(&cluster, "/w", "weft", "secret")).await;
    let mut first = kv.watch(b"/weft/", 0).await.unwrap();
    put(&kv, KEY, "1").await;
    assert_eq!(shown(&next(&mut first).await.unwrap()), [format!("{KEY}=1")]);
    for round in 2..4 {
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let from = kv.revision().await.unwrap() + 1;
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let mut later = kv.watch(b"/weft/", from).await.unwrap();
        put(&kv, KEY, &round.to_string()).await;
        for watch in [&mut first, &mut later] {
            assert_eq!(shown(&next(watch).await.unwrap()), [format!("{KEY}={round}")]);
        }
    }
    let lease = kv.lease(Duration::from_secs(60)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    kv.keepalive(lease).await.unwrap();
    kv.revoke(lease).await.unwrap();
}

/// Signed tokens end when anybody changes any user or role, and by their own time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signed_tokens_are_renewed_when_users_change() {
    let dir = tempfile::tempdir().unwrap();
    let (key, public) = (dir.path().join("key"), dir.path().join("public"));
    openssl(&["genrsa", "-out", path(&key), "2048"]);
    openssl(&["rsa", "-in", path(&key), "-pubout", "-out", path(&public)]);
    let token = format!("jwt,pub-key={},priv-key={},sign-method=RS256,ttl=3s", path(&public), path(&key));
    let cluster = with_users(&["--auth-token", &token]);
    let kv = open(&address(&cluster, "/w", "weft", "secret")).await;
    put(&kv, KEY, "1").await;
    for n in 0..3 {
        as_root(&cluster, &["user", "add", &format!("other{n}:x")]);
        put(&kv, KEY, &n.to_string()).await;
        as_root(&cluster, &["role", "add", &format!("role{n}")]);
        assert_eq!(value(&kv, KEY).await, Some(n.to_string()));
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    put(&kv, KEY, "4").await;
}

/// The password's file is read at each login.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_change_under_a_running_store() {
    let mut cluster = with_users(&[]);
    let kv = open(&address(&cluster, "/w", "weft", "secret")).await;
    as_root(&cluster, &["user", "delete", "weft"]);
    as_root(&cluster, &["user", "add", "weft:other"]);
    as_root(&cluster, &["user", "grant-role", "weft", "weft"]);
    cluster.kill(0).unwrap();
    cluster.restart(0).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let refused = loop {
        match try_put(&kv, KEY, "1").await {
            Err(StoreError::Unavailable { .. } | StoreError::Unknown { .. }) => {}
            other => break other,
        }
    };
    assert!(matches!(refused, Err(StoreError::LoginRefused { .. })), "{refused:?}");
    file(&cluster, "password-weft", "other\n");
    let begun = std::time::Instant::now();
    while let Err(error) = try_put(&kv, KEY, "1").await {
        assert!(begun.elapsed() < common::PATIENCE, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A login to a cluster that asks for none is let in, as by etcd's own clients.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_where_none_is_asked_for() {
    let cluster = Etcd::single().unwrap();
    let kv = open(&address(&cluster, "/w", "weft", "secret")).await;
    put(&kv, KEY, "1").await;
    // And when logins are asked for from now on.
    for words in [
        &["user", "add", "root:root"][..],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "weft:secret"],
        &["user", "grant-role", "weft", "root"],
        &["auth", "enable"],
    ] {
        cluster.ctl(words).unwrap();
    }
    put(&kv, KEY, "2").await;
}

fn openssl(arguments: &[&str]) {
    let done = Command::new("openssl").args(arguments).output().unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// An authority, and what it signed: `<name>.pem` and `<name>.key`.
struct Authority(PathBuf);

impl Authority {
    fn new(dir: &Path, name: &str) -> Self {
        let dir = dir.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let (pem, key) = (dir.join("ca.pem"), dir.join("ca.key"));
        let subject = format!("/CN={name}");
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &subject,
            "-keyout",
            path(&key),
            "-out",
            path(&pem),
        ]);
        Self(dir)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn sign(&self, name: &str, names: &str) -> (String, String) {
        let (pem, key, request) =
            (self.file(&format!("{name}.pem")), self.file(&format!("{name}.key")), self.file("request"));
        let subject = format!("/CN={name}");
        openssl(&[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            &subject,
            "-keyout",
            &key,
            "-out",
            &request,
        ]);
        let extensions = self.file("extensions");
        let text = format!("subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n");
        std::fs::write(&extensions, text).unwrap();
        openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            &self.file("ca.pem"),
            "-CAkey",
            &self.file("ca.key"),
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            &extensions,
            "-out",
            &pem,
        ]);
        (pem, key)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_judged_on_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(dir.path(), "ours"), Authority::new(dir.path(), "theirs"));
    let (certificate, key) = ours.sign("server", "IP:127.0.0.1,DNS:etcd.example");
    let (cert, cert_key) = ours.sign("client", "DNS:client");
    let (stranger, stranger_key) = theirs.sign("stranger", "DNS:stranger");
    let (ca, their_ca) = (ours.file("ca.pem"), theirs.file("ca.pem"));
    let setup = EtcdSetup {
        tls: Some(ServerTls {
            certificate: certificate.clone().into(),
            key: key.clone().into(),
            clients: Some(ca.clone().into()),
        }),
        ctl: ["--cacert", &ca, "--cert", &cert, "--key", &cert_key].map(str::to_owned).to_vec(),
        ..EtcdSetup::default()
    };
    let mut cluster = Etcd::start(setup).unwrap();
    let at = |options: &str| format!("{}/w?{options}", cluster.endpoints());
    let identity = format!("cert={cert}&key={cert_key}");
    let good = at(&format!("ca={ca}&{identity}"));
    let kv = open(&good).await;
    let mut watch = kv.watch(b"/weft/", 0).await.unwrap();
    put(&kv, KEY, "1").await;
    open(&at(&format!("ca={ca}&{identity}&server-name=etcd.example"))).await;
    let wrong = [
        (format!("ca={their_ca}&{identity}"), "UnknownIssuer"),
        (format!("tls=on&{identity}"), "UnknownIssuer"),
        (format!("ca={ca}&{identity}&server-name=other.example"), "not valid for name"),
        (format!("ca={ca}"), "it may want another certificate of ours"),
        (format!("ca={ca}&cert={stranger}&key={stranger_key}"), "it may want another certificate of ours"),
        (String::new(), "it may want TLS"),
    ];
    for (options, expected) in wrong {
        let error = refused(&at(&options)).await;
        assert!(matches!(error, StoreError::Unavailable { .. }), "{options}: {error}");
        assert!(error.to_string().contains(expected), "{options}: {error}");
    }
    // Files are read at each connection: a host's certificate is renewed without a restart.
    let (renewed, renewed_key) = ours.sign("renewed", "DNS:client");
    std::fs::copy(renewed, &cert).unwrap();
    std::fs::copy(renewed_key, &cert_key).unwrap();
    cluster.kill(0).unwrap();
    cluster.restart(0).unwrap();
    common::put_at_last(&kv, KEY, "2").await;
    assert_eq!(shown(&next(&mut watch).await.unwrap()), [format!("{KEY}=1")]);
    assert_eq!(shown(&next(&mut watch).await.unwrap()), [format!("{KEY}=2")]);
    let gone = config(&format!("etcd://{good}"));
    std::fs::remove_file(&cert).unwrap();
    assert!(gone.check().unwrap_err().to_string().contains("option cert: cannot use"));
    assert!(weft_store_etcd::Etcd::connect(gone, quick()).await.is_err());
}
