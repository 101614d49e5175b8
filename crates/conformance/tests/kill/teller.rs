//! One worker's hands: requests that are sent until something came of them, with the ledger told of each.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::{Answer, Api, Lost};
use crate::chance::Chance;
use crate::ledger::{Fact, Ledger, container};

/// A story gives up on one request after so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// One worker.
pub struct Teller {
    pub api: Api,
    pub ledger: Arc<Ledger>,
    pub chance: Chance,
    pub stop: Arc<AtomicBool>,
    pub name: &'static str,
    pub count: u64,
    pub kept: Vec<String>,
}

impl Teller {
    pub fn fresh(&self) -> String {
        format!("{}-{}", self.name, self.count)
    }

    /// Sends a request until it is answered; true beside the answer when an earlier try was cut off.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(Answer, bool), String> {
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
    pub fn change(
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

    pub fn create(&self, name: &str, body: &Value) -> Result<(), String> {
        let path = format!("/containers/create?name={name}");
        let request = ("POST", path.as_str(), Some(body));
        self.change(("container", name), request, &[201], &[409], |api, _| inspected(api, name)).map(drop)
    }

    pub fn act(&self, name: &str, what: &str) -> Result<(), String> {
        let path = format!("/containers/{name}/{what}");
        let request = ("POST", path.as_str(), None);
        self.change(("container", name), request, &[204], &[304], |api, _| inspected(api, name)).map(drop)
    }

    /// Starts it, and starts it again only when nothing came of the request that was cut off.
    pub fn start_once(&self, name: &str) -> Result<(), String> {
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

    pub fn remove(&self, name: &str) -> Result<(), String> {
        let path = format!("/containers/{name}?force=1&v=1");
        let request = ("DELETE", path.as_str(), None);
        self.change(("container", name), request, &[204], &[404], |_, _| Fact::Gone).map(drop)
    }

    /// Asks until the container is as `want` has it.
    pub fn until(&self, name: &str, want: impl Fn(&Answer) -> bool) -> Result<Answer, String> {
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
    pub fn exec(&self, name: &str) -> Result<(), String> {
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
pub fn inspected(api: &Api, name: &str) -> Fact {
    match api.call("GET", &format!("/containers/{name}/json"), None) {
        Ok(answer) if answer.status == 200 => Fact::Container(container(&answer.json())),
        _ => Fact::Unsure,
    }
}
