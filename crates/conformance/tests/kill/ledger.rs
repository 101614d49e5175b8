//! What was acknowledged, and how it differs from what a daemon says.
//!
//! A worker marks a thing [`Fact::Unsure`] before it changes it and says what is so once the answer is there, all
//! under the read half of one lock; who compares takes the write half, so that no request is under way meanwhile.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use serde_json::Value;

use crate::api::Api;

/// What a container is known to be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Container {
    pub id: String,
    /// Process id and time of start, while it runs.
    pub running: Option<(i64, String)>,
    /// Exit code, once it has ended.
    pub exited: Option<i64>,
}

/// What is known of one name.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// A request was cut off.
    Unsure,
    /// Its removal was acknowledged.
    Gone,
    Container(Container),
    /// A volume or network, by its id or name.
    Made(String),
}

/// All facts, by kind and name.
pub type Facts = BTreeMap<(&'static str, String), Fact>;

#[derive(Default)]
pub struct Ledger {
    turn: RwLock<()>,
    facts: Mutex<Facts>,
    kills: AtomicU64,
    acknowledged: AtomicU64,
}

fn whole<T>(result: Result<T, PoisonError<T>>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        whole(self.facts.lock())
    }

    /// Said before each kill.
    pub fn killing(&self) {
        self.kills.fetch_add(1, Ordering::SeqCst);
    }

    /// How many kills there were.
    pub fn kills(&self) -> u64 {
        self.kills.load(Ordering::SeqCst)
    }

    /// How many changes were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Runs one request; nobody compares meanwhile.
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        let _turn = whole(self.turn.read());
        work()
    }

    /// Compares while no request is under way.
    pub fn quiet<T>(&self, work: impl FnOnce(&Facts) -> T) -> T {
        let _turn = whole(self.turn.write());
        work(&self.facts())
    }

    /// Says what is so.
    pub fn say(&self, kind: &'static str, name: &str, fact: Fact) {
        if fact != Fact::Unsure {
            self.acknowledged.fetch_add(1, Ordering::SeqCst);
        }
        self.facts().insert((kind, name.to_owned()), fact);
    }
}

/// What a container's inspection says, in the ledger's terms.
pub fn container(seen: &Value) -> Container {
    let state = &seen["State"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let runs = state["Running"] == true;
    Container {
        id: text(&seen["Id"]),
        running: runs.then(|| (state["Pid"].as_i64().unwrap_or(0), text(&state["StartedAt"]))),
        exited: (state["Status"] == "exited").then(|| state["ExitCode"].as_i64().unwrap_or(-1)),
    }
}

/// Names of all things of a kind that the daemon has.
fn names(api: &Api, kind: &str) -> Vec<String> {
    let (path, list) = match kind {
        "container" => ("/containers/json?all=1", None),
        "volume" => ("/volumes", Some("Volumes")),
        _ => ("/networks", None),
    };
    let answer = api.get(path).json();
    let items = list.map_or(&answer, |key| &answer[key]).as_array().cloned().unwrap_or_default();
    let name =
        |item: &Value| item["Names"][0].as_str().or(item["Name"].as_str()).unwrap_or_default().to_owned();
    items.iter().map(|item| name(item).trim_start_matches('/').to_owned()).collect()
}

/// How the daemon differs from the facts, in words.
pub fn differences(api: &Api, facts: &Facts) -> Vec<String> {
    let mut out = Vec::new();
    for kind in ["container", "volume", "network"] {
        let there = names(api, kind);
        for ((_, name), fact) in facts.iter().filter(|((k, _), _)| *k == kind) {
            let is_there = there.contains(name);
            match fact {
                Fact::Unsure => {}
                Fact::Gone if is_there => out.push(format!("{kind} {name}: removed, and back again")),
                Fact::Gone => {}
                Fact::Made(_) | Fact::Container(_) if !is_there => {
                    out.push(format!("{kind} {name}: acknowledged, and lost: {fact:?}"));
                }
                Fact::Made(id) => out.extend(other_id(api, kind, name, id)),
                Fact::Container(known) => {
                    let seen = container(&api.get(&format!("/containers/{name}/json")).json());
                    if seen != *known {
                        out.push(format!("container {name}: {known:?} became {seen:?}"));
                    }
                }
            }
        }
    }
    out
}

fn other_id(api: &Api, kind: &str, name: &str, id: &str) -> Option<String> {
    if kind != "network" {
        return None;
    }
    let seen = api.get(&format!("/networks/{name}")).json();
    (seen["Id"] != id).then(|| format!("network {name}: {id} became {}", seen["Id"]))
}
