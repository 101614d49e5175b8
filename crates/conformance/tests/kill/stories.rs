//! What the workers do, over and over: whole lives of containers, volumes, networks.

use serde_json::json;

use crate::api::{Answer, Api};
use crate::ledger::{Fact, container};
use crate::teller::Teller;
use crate::workers::log_lines;

/// Containers that each storyteller leaves standing over kills.
const KEPT: usize = 4;

/// Created, started, entered, stopped, removed; some stay over several kills in one of these states.
pub fn life(t: &mut Teller) -> Result<(), String> {
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
pub fn auto_removed(t: &mut Teller) -> Result<(), String> {
    let name = t.fresh();
    let script = format!("sleep 0.{}; exit 3", t.chance.below(5));
    let body = json!({"Image": "busybox", "Cmd": ["sh", "-c", script], "Volumes": {"/data": {}},
        "HostConfig": {"AutoRemove": true}});
    let create = format!("/containers/create?name={name}");
    let kills = t.ledger.kills();
    let made = ("POST", create.as_str(), Some(&body));
    t.change(("container", &name), made, &[201], &[409], |_, _| Fact::Unsure)?;
    let path = format!("/containers/{name}/start");
    let request = ("POST", path.as_str(), None);
    // After a cut it may have run and gone already; and a daemon that starts removes, as Docker's does, what was made for one
    // run and not started.
    let answer = t.change(("container", &name), request, &[204, 404], &[304], |_, _| Fact::Unsure)?;
    if answer.status == 404 && t.ledger.kills() == kills {
        return Err(format!("{path}: {}, and nobody was killed since it was made", answer.text()));
    }
    t.until(&name, |answer| answer.status == 404)?;
    t.ledger.during(|| t.ledger.say("container", &name, Fact::Gone));
    Ok(())
}

/// Ends by itself, perhaps while no daemon is there; its exit code and every line of its log are kept.
pub fn ends_by_itself(t: &mut Teller) -> Result<(), String> {
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

/// A volume, what a container writes into it, and another reads.
pub fn volumes(t: &mut Teller) -> Result<(), String> {
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
pub fn networks(t: &mut Teller) -> Result<(), String> {
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
