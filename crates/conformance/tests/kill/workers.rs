//! Those who use the API all the time: whole lives of containers, `run --rm`, volumes and networks, logs and exits.
//!
//! Each repeats one story with fresh names. A request that was refused is sent again; after one that was cut off the
//! worker asks what came of it, and goes on from there: whatever the daemon says is there must work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{Api, escape};
use crate::chance::Chance;
use crate::ledger::{Container, Ledger, container};
use crate::stories::{auto_removed, ends_by_itself, life, networks, volumes};
use crate::teller::Teller;

/// What workers did.
#[derive(Debug)]
pub struct Did {
    pub acknowledged: u64,
    pub trouble: Vec<String>,
}

/// The running workers.
pub struct Workers {
    stop: Arc<AtomicBool>,
    trouble: Arc<Mutex<Vec<String>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    ledger: Arc<Ledger>,
}

impl Workers {
    /// Somebody has seen what must not be.
    pub fn failed(&self) -> bool {
        !self.trouble.lock().unwrap().is_empty()
    }

    /// Ends the stories where they are, and says what came of them.
    pub fn stop(&self) -> Did {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.lock().unwrap().drain(..).for_each(|thread| thread.join().unwrap());
        Did { acknowledged: self.ledger.acknowledged(), trouble: self.trouble.lock().unwrap().clone() }
    }
}

type Story = fn(&mut Teller) -> Result<(), String>;

/// Starts all workers.
pub fn start(api: &Api, ledger: &Arc<Ledger>, seed: u64) -> Workers {
    let stories: [(&str, Story); 6] = [
        ("life", life),
        ("life2", life),
        ("gone", auto_removed),
        ("ends", ends_by_itself),
        ("vols", volumes),
        ("nets", networks),
    ];
    let (stop, trouble) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let threads = stories.into_iter().enumerate().map(|(index, (name, story))| {
        let mut teller = Teller {
            api: api.clone(),
            ledger: Arc::clone(ledger),
            chance: Chance::new(seed ^ (index as u64 + 1) << 40),
            stop: Arc::clone(&stop),
            name,
            count: 0,
            kept: Vec::new(),
        };
        let trouble = Arc::clone(&trouble);
        std::thread::spawn(move || {
            while !teller.stop.load(Ordering::SeqCst) {
                teller.count += 1;
                if let Err(error) = story(&mut teller) {
                    trouble.lock().unwrap().push(format!("{}{}: {error}", teller.name, teller.count));
                    return;
                }
                std::thread::sleep(Duration::from_millis(teller.chance.below(20)));
            }
        })
    });
    Workers { threads: Mutex::new(threads.collect()), stop, trouble, ledger: Arc::clone(ledger) }
}

/// The payloads of a framed log, by lines.
pub fn log_lines(mut bytes: &[u8]) -> Vec<String> {
    let mut text = Vec::new();
    while let [_, _, _, _, a, b, c, d, rest @ ..] = bytes {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        text.extend_from_slice(&rest[..length.min(rest.len())]);
        bytes = &rest[length.min(rest.len())..];
    }
    String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
}

/// One container of each kind comes and goes, so that what is made once is there before things are counted.
pub fn warm_up(api: &Api) {
    let body = json!({"Image": "busybox", "Cmd": ["sleep", "1000"], "StopSignal": "SIGKILL",
        "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": ""}]}}});
    let made = api.post("/containers/create?name=warm", &body).unwrap();
    assert_eq!(made.status, 201, "{}", made.text());
    for (method, path, status) in
        [("POST", "/containers/warm/start", 204), ("DELETE", "/containers/warm?force=1&v=1", 204)]
    {
        let answer = api.call(method, path, None).unwrap();
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
    }
}

/// Removes every container, network and volume.
pub fn remove_all(api: &Api) {
    let items = |path: &str| api.get(path).json();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut doomed = Vec::new();
    for item in items("/containers/json?all=1").as_array().into_iter().flatten() {
        doomed.push(format!("/containers/{}?force=1&v=1", text(&item["Id"])));
    }
    for item in items("/networks").as_array().into_iter().flatten() {
        if !["bridge", "host", "none"].contains(&text(&item["Name"]).as_str()) {
            doomed.push(format!("/networks/{}", text(&item["Id"])));
        }
    }
    for path in doomed {
        let answer = api.call("DELETE", &path, None).unwrap();
        // 409: an automatic removal is at it already.
        assert!(matches!(answer.status, 204 | 404 | 409), "{path}: {} {}", answer.status, answer.text());
    }
    // Anonymous volumes went with their containers: only named ones may be there.
    for item in items("/volumes")["Volumes"].as_array().into_iter().flatten() {
        let name = text(&item["Name"]);
        assert!(name.starts_with("vols-"), "an anonymous volume stayed behind: {item}");
        let answer = api.call("DELETE", &format!("/volumes/{}", escape(&name)), None).unwrap();
        assert_eq!(answer.status, 204, "{name}: {}", answer.text());
    }
}

/// A container as the ledger would know it, for those who keep no ledger.
pub fn known(api: &Api, name: &str) -> (Container, Value) {
    let seen = api.get(&format!("/containers/{name}/json")).json();
    (container(&seen), seen)
}
