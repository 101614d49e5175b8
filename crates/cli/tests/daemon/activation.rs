//! Started as systemd starts a service: a listening socket at descriptor 3, a notification socket, SIGHUP to reload.

use std::{
    os::{
        fd::OwnedFd,
        unix::net::{UnixDatagram, UnixListener},
    },
    process::{Child, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use weft_testkit::{Sandbox, http::get_unix};

use crate::until;

struct Service {
    sandbox: Sandbox,
    notify: UnixDatagram,
    listener: UnixListener,
}

impl Service {
    fn new() -> Self {
        let sandbox = Sandbox::new().unwrap();
        let notify = UnixDatagram::bind(sandbox.dir().join("notify")).unwrap();
        notify.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let listener = UnixListener::bind(sandbox.dir().join("docker.sock")).unwrap();
        std::fs::write(sandbox.dir().join("daemon.json"), r#"{"hosts": ["fd://"], "labels": ["a=1"]}"#)
            .unwrap();
        Self { sandbox, notify, listener }
    }

    /// The shell moves the socket from standard input to 3 and says that it is for the process it becomes.
    fn start(&self, fds: usize) -> Child {
        let dir = self.sandbox.dir();
        let script = format!(
            "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS={fds} LISTEN_FDNAMES=docker; \
             exec {} up --root {d}/root --run {d}/run --docker-config {d}/daemon.json",
            env!("CARGO_BIN_EXE_weft"),
            d = dir.display(),
        );
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let mut command = self.sandbox.command("sh");
        command
            .args(["-c", &script])
            .env("NOTIFY_SOCKET", dir.join("notify"))
            .stdout(Stdio::null())
            .stderr(log);
        command.stdin(OwnedFd::from(self.listener.try_clone().unwrap()));
        weft_testkit::sandbox::die_with_parent(&mut command);
        command.spawn().unwrap()
    }

    fn told(&self) -> String {
        let mut buffer = [0; 256];
        let length = self.notify.recv(&mut buffer).expect("a notification");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    /// nsenter forks to enter the pid namespace; the daemon is its only child.
    fn daemon(child: &Child) -> Pid {
        let path = format!("/proc/{0}/task/{0}/children", child.id());
        Pid::from_raw(
            std::fs::read_to_string(path).unwrap().split_whitespace().next().unwrap().parse().unwrap(),
        )
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.sandbox.dir().join("log")).unwrap()
    }
}

#[test]
fn passed_socket_is_served_reloaded_and_left_to_its_owner() {
    let service = Service::new();
    let mut child = service.start(1);
    assert_eq!(service.told(), "READY=1", "{}", service.log());
    let socket = service.sandbox.dir().join("docker.sock");
    assert_eq!(get_unix(&socket, "/_ping").unwrap(), (200, "OK".to_owned()));
    assert!(!service.sandbox.dir().join("run/docker.sock").exists(), "no second listener was opened");
    let pid = Service::daemon(&child);
    let info = || get_unix(&socket, "/info").unwrap().1;
    assert!(info().contains("a=1"));
    // A new configuration, then a wrong one that changes nothing.
    let file = service.sandbox.dir().join("daemon.json");
    let fresh =
        r#"{"hosts": ["fd://"], "labels": ["b=2"], "registry-mirrors": ["http://127.0.0.1:9"], "mtu": 1400}"#;
    std::fs::write(&file, fresh).unwrap();
    kill(pid, Signal::SIGHUP).unwrap();
    assert!(service.told().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(service.told(), "READY=1");
    assert!(info().contains("b=2") && info().contains("http://127.0.0.1:9"), "{}", info());
    until("the log", || service.log().contains("these changes need a restart"));
    assert!(service.log().contains("networks"), "{}", service.log());
    std::fs::write(&file, "{").unwrap();
    kill(pid, Signal::SIGHUP).unwrap();
    assert!(service.told().starts_with("RELOADING=1"));
    assert_eq!(service.told(), "READY=1");
    assert!(info().contains("b=2"));
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(service.told(), "STOPPING=1");
    assert!(child.wait().unwrap().success());
    // The next client waits in the socket that its owner kept, and is served by the next start.
    assert!(socket.exists());
    std::fs::write(&file, fresh).unwrap();
    let early = std::thread::spawn(move || get_unix(&socket, "/_ping").unwrap().0);
    let mut child = service.start(1);
    assert_eq!(service.told(), "READY=1");
    assert_eq!(early.join().unwrap(), 200);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn fd_without_a_passed_socket_is_refused_as_by_dockerd() {
    let service = Service::new();
    let mut child = service.start(0);
    assert!(!child.wait().unwrap().success());
    assert!(service.log().contains("no sockets found via socket activation"), "{}", service.log());
}

#[test]
fn a_service_manager_that_went_away_is_no_trouble() {
    let mut service = Service::new();
    let mut child = service.start(1);
    assert_eq!(service.told(), "READY=1");
    std::fs::remove_file(service.sandbox.dir().join("notify")).unwrap();
    service.notify = UnixDatagram::unbound().unwrap();
    kill(Service::daemon(&child), Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
    let log = service.log();
    assert!(log.contains("stopping on SIGTERM") && !log.contains("service manager"), "{log}");
}
