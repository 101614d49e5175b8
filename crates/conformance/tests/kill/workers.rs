//! Those who use the API all the time: whole lives of containers, `run --rm`, volumes and networks, logs and exits.
//!
//! Each repeats one story with fresh names. A request that was refused is sent again; after one that was cut off the
//! worker asks what came of it, and goes on from there: whatever the daemon says is there must work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::{Answer, Api, Lost, escape};
use crate::chance::Chance;
use crate::ledger::{Container, Fact, Ledger, container};

/// A story gives up on one request after so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Containers that each storyteller leaves standing over kills.
const KEPT: usize = 4;

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

/// One worker.
struct Teller {
    api: Api,
    ledger: Arc<Ledger>,
    chance: Chance,
    stop: Arc<AtomicBool>,
    name: &'static str,
    count: u64,
    kept: Vec<String>,
}

impl Teller {
    fn fresh(&self) -> String {
        format!("{}-{}", self.name, self.count)
    }

    /// Sends a request until it is answered; true beside the answer when an earlier try was cut off.
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(Answer, bool), String> {
        let (begun, mut unsure) = (Instant::now(), false);
        let text = body.map(Value::to_string);
        while begun.elapsed() < PATIENCE {
            let kills = self.ledger.kills();
            match self.ledger.during(|| self.api.call(method, path, text.as_deref().map(str::as_bytes))) {
                // A daemon that is going down may say so.
                Ok(answer) if answer.status == 503 && self.ledger.kills() != kills => unsure = true,
                Ok(answer) => return Ok((answer, unsure)),
                Err(Lost::Refused) => {}
                Err(Lost::Cut(why)) => {
                    unsure = true;
                    // The kill is announced before it is done, so a cut without one is the daemon's own fault.
                    if self.ledger.kills() == 0 {
                        return Err(format!("cut off, and nobody was killed: {why}"));
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(format!("{method} {path}: no answer for a minute"))
    }

    /// A change of the thing called `name`, acknowledged by one of `good`, or after a cut by one of `after` too.
    fn change(
        &self,
        (kind, name): (&'static str, &str),
        (method, path, body): (&str, &str, Option<&Value>),
        good: &[u16],
        after: &[u16],
        fact: impl Fn(&Api, &Answer) -> Fact,
    ) -> Result<Answer, String> {
        let (begun, mut unsure) = (Instant::now(), false);
        loop {
            self.ledger.during(|| self.ledger.say(kind, name, Fact::Unsure));
            let (answer, cut) = self.ask(method, path, body)?;
            unsure |= cut;
            if good.contains(&answer.status) || unsure && after.contains(&answer.status) {
                self.ledger.during(|| {
                    let fact = fact(&self.api, &answer);
                    self.ledger.say(kind, name, fact);
                });
                return Ok(answer);
            }
            // A removal that a dead daemon had begun is finished by the next one.
            let busy = unsure && answer.status == 409 && answer.text().contains("already in progress");
            if !busy || begun.elapsed() > PATIENCE {
                return Err(format!("{method} {path}: {} {}", answer.status, answer.text()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn create(&self, name: &str, body: &Value) -> Result<(), String> {
        let path = format!("/containers/create?name={name}");
        let request = ("POST", path.as_str(), Some(body));
        self.change(("container", name), request, &[201], &[409], |api, _| inspected(api, name)).map(drop)
    }

    fn act(&self, name: &str, what: &str) -> Result<(), String> {
        let path = format!("/containers/{name}/{what}");
        let request = ("POST", path.as_str(), None);
        self.change(("container", name), request, &[204], &[304], |api, _| inspected(api, name)).map(drop)
    }

    /// Starts it, and starts it again only when nothing came of the request that was cut off.
    fn start_once(&self, name: &str) -> Result<(), String> {
        let path = format!("/containers/{name}/start");
        self.ledger.during(|| self.ledger.say("container", name, Fact::Unsure));
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            match self.ledger.during(|| self.api.call("POST", &path, None)) {
                Ok(answer) if matches!(answer.status, 204 | 304) => return Ok(()),
                Ok(answer) => return Err(format!("start {name}: {} {}", answer.status, answer.text())),
                Err(Lost::Refused) => std::thread::sleep(Duration::from_millis(10)),
                Err(Lost::Cut(_)) => {
                    let cut = Instant::now();
                    while cut.elapsed() < Duration::from_secs(4) {
                        let (seen, _) = self.ask("GET", &format!("/containers/{name}/json"), None)?;
                        if seen.json()["State"]["Status"] != "created" {
                            return Ok(());
                        }
                        std::thread::sleep(Duration::from_millis(20));
                    }
                }
            }
        }
        Err(format!("start {name}: no answer for a minute"))
    }

    fn remove(&self, name: &str) -> Result<(), String> {
        let path = format!("/containers/{name}?force=1&v=1");
        let request = ("DELETE", path.as_str(), None);
        self.change(("container", name), request, &[204], &[404], |_, _| Fact::Gone).map(drop)
    }

    /// Asks until the container is as `want` has it.
    fn until(&self, name: &str, want: impl Fn(&Answer) -> bool) -> Result<Answer, String> {
        let (begun, path) = (Instant::now(), format!("/containers/{name}/json"));
        loop {
            let (answer, _) = self.ask("GET", &path, None)?;
            if want(&answer) {
                return Ok(answer);
            }
            if begun.elapsed() > Duration::from_secs(20) {
                return Err(format!("{name} stays as it is: {} {}", answer.status, answer.json()["State"]));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs a command inside; skipped when a kill came between.
    fn exec(&self, name: &str) -> Result<(), String> {
        let kills = self.ledger.kills();
        let body = json!({"AttachStdout": true, "Cmd": ["sh", "-c", "echo ran; exit 4"]});
        let (made, unsure) = self.ask("POST", &format!("/containers/{name}/exec"), Some(&body))?;
        if made.status != 201 {
            return Err(format!("exec: {} {}", made.status, made.text()));
        }
        let id = made.json()["Id"].as_str().unwrap_or_default().to_owned();
        let body = json!({"Detach": false});
        let (ran, cut) = self.ask("POST", &format!("/exec/{id}/start"), Some(&body))?;
        let (seen, _) = self.ask("GET", &format!("/exec/{id}/json"), None)?;
        let good = ran.status == 200 && ran.text().ends_with("ran") && seen.json()["ExitCode"] == 4;
        if good || unsure || cut || self.ledger.kills() != kills {
            return Ok(());
        }
        Err(format!("exec: {} {:?}, then {}", ran.status, ran.text(), seen.text()))
    }
}

/// What an inspection says of a container, asked within the lock of the change that made it so. A cut answer (the
/// daemon dies right now) leaves it unsure.
fn inspected(api: &Api, name: &str) -> Fact {
    match api.call("GET", &format!("/containers/{name}/json"), None) {
        Ok(answer) if answer.status == 200 => Fact::Container(container(&answer.json())),
        _ => Fact::Unsure,
    }
}

/// Created, started, entered, stopped, removed; some stay over several kills in one of these states.
fn life(t: &mut Teller) -> Result<(), String> {
    let name = t.fresh();
    let script = "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done";
    let ports = if t.chance.once_in(2) { json!({"80/tcp": [{"HostPort": ""}]}) } else { json!({}) };
    let body = json!({"Image": "busybox", "Cmd": ["sh", "-c", script], "Volumes": {"/data": {}},
        "HostConfig": {"NetworkMode": "steady", "PortBindings": ports}});
    t.create(&name, &body)?;
    let stay = t.chance.once_in(3);
    if !(stay && t.chance.once_in(3)) {
        t.act(&name, "start")?;
        t.until(&name, |a| a.json()["State"]["Running"] == true)?;
        if t.chance.once_in(2) {
            t.exec(&name)?;
        }
        if !stay || t.chance.once_in(2) {
            t.act(&name, "stop?t=10")?;
            let code = t.until(&name, |a| a.json()["State"]["Running"] == false)?.json();
            // Stopped before the shell had its trap, it ends by the signal.
            if !matches!(code["State"]["ExitCode"].as_i64(), Some(5 | 143 | 137)) {
                return Err(format!("{name} ended otherwise: {}", code["State"]));
            }
        }
    }
    if stay {
        t.kept.push(name);
        if t.kept.len() > KEPT {
            let oldest = t.kept.remove(0);
            t.remove(&oldest)?;
        }
        return Ok(());
    }
    t.remove(&name)
}

/// `run --rm`: it goes by itself, with its anonymous volume.
fn auto_removed(t: &mut Teller) -> Result<(), String> {
    let name = t.fresh();
    let script = format!("sleep 0.{}; exit 3", t.chance.below(5));
    let body = json!({"Image": "busybox", "Cmd": ["sh", "-c", script], "Volumes": {"/data": {}},
        "HostConfig": {"AutoRemove": true}});
    t.create(&name, &body)?;
    let path = format!("/containers/{name}/start");
    let request = ("POST", path.as_str(), None);
    // After a cut it may have run and gone already.
    t.change(("container", &name), request, &[204], &[304, 404], |_, _| Fact::Unsure)?;
    t.until(&name, |answer| answer.status == 404)?;
    t.ledger.during(|| t.ledger.say("container", &name, Fact::Gone));
    Ok(())
}

/// Ends by itself, perhaps while no daemon is there; its exit code and every line of its log are kept.
fn ends_by_itself(t: &mut Teller) -> Result<(), String> {
    let name = t.fresh();
    let script = format!("seq 1 500; sleep 0.{}; seq 501 1000; exit 9", t.chance.below(8));
    let body =
        json!({"Image": "busybox", "Cmd": ["sh", "-c", script], "HostConfig": {"NetworkMode": "none"}});
    t.create(&name, &body)?;
    t.start_once(&name)?;
    let ended = t.until(&name, |a| a.json()["State"]["Status"] == "exited")?.json();
    if ended["State"]["ExitCode"] != 9 {
        return Err(format!("{name} ended with another code: {}", ended["State"]));
    }
    t.ledger.during(|| t.ledger.say("container", &name, Fact::Container(container(&ended))));
    let (logs, _) = t.ask("GET", &format!("/containers/{name}/logs?stdout=1"), None)?;
    let lines = log_lines(&logs.body);
    let wanted: Vec<String> = (1..=1000).map(|n| n.to_string()).collect();
    if lines != wanted {
        return Err(format!("{name}: {} lines of 1000: {:?} …", lines.len(), lines.last()));
    }
    t.kept.push(name);
    if t.kept.len() > KEPT {
        let oldest = t.kept.remove(0);
        t.remove(&oldest)?;
    }
    Ok(())
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

/// A volume, what a container writes into it, and another reads.
fn volumes(t: &mut Teller) -> Result<(), String> {
    let name = t.fresh();
    let body = json!({"Name": name});
    let request = ("POST", "/volumes/create", Some(&body));
    t.change(("volume", &name), request, &[201], &[], |_, _| Fact::Made(name.clone()))?;
    for script in ["echo kept > /v/f", "grep -q kept /v/f"] {
        let user = format!("{name}-{}", script.len());
        let body = json!({"Image": "busybox", "Cmd": ["sh", "-c", script],
            "HostConfig": {"NetworkMode": "none", "Binds": [format!("{name}:/v")]}});
        t.create(&user, &body)?;
        let path = format!("/containers/{user}/start");
        t.change(("container", &user), ("POST", &path, None), &[204], &[304], |_, _| Fact::Unsure)?;
        let ended = t.until(&user, |a| a.json()["State"]["Status"] == "exited")?.json();
        if ended["State"]["ExitCode"] != 0 {
            return Err(format!("{user}: {}", ended["State"]));
        }
        t.remove(&user)?;
    }
    let path = format!("/volumes/{name}");
    t.change(("volume", &name), ("DELETE", &path, None), &[204], &[404], |_, _| Fact::Gone).map(drop)
}

/// A network, a container that joins and leaves it, and its end.
fn networks(t: &mut Teller) -> Result<(), String> {
    let name = t.fresh();
    let body = json!({"Name": name, "CheckDuplicate": true});
    let request = ("POST", "/networks/create", Some(&body));
    let made = |api: &Api, _: &Answer| match api.call("GET", &format!("/networks/{name}"), None) {
        Ok(seen) if seen.status == 200 => {
            Fact::Made(seen.json()["Id"].as_str().unwrap_or_default().to_owned())
        }
        _ => Fact::Unsure,
    };
    t.change(("network", &name), request, &[201], &[409], made)?;
    let member = format!("{name}-m");
    let body = json!({"Image": "busybox", "Cmd": ["sleep", "1000"], "StopSignal": "SIGKILL",
        "HostConfig": {"NetworkMode": "steady"}});
    t.create(&member, &body)?;
    t.act(&member, "start")?;
    let body = json!({"Container": member});
    for (what, after) in [("connect", 403), ("disconnect", 403)] {
        let path = format!("/networks/{name}/{what}");
        let (answer, unsure) = t.ask("POST", &path, Some(&body))?;
        if answer.status != 200
            && !(unsure && (answer.status == after || answer.status == 404 || answer.status == 409))
        {
            return Err(format!("{what} {name}: {} {}", answer.status, answer.text()));
        }
    }
    t.remove(&member)?;
    let path = format!("/networks/{name}");
    t.change(("network", &name), ("DELETE", &path, None), &[204], &[404], |_, _| Fact::Gone).map(drop)
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
