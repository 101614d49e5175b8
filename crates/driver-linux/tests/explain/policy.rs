//! What policy decides, within a bridge and beyond.

use weft_dataplane::{
    CLOSED, Driver as _, Flow, OUTSIDE,
    insight::{End, Explanation, Question, TraceEvent, Verdict},
};
use weft_model::{PolicyId, PortRange};

use crate::{HOST4, LAN4, Scene, at, connect_from, container, lan, watching::watched};

/// Classes of containers 1, 2 and 3.
const CLASSES: [u32; 3] = [1, 2, 3];

fn flow(from: u32, to: u32, port: Option<u16>) -> Flow {
    Flow { from, to, protocol: 6, ports: port.map(|port| PortRange { start: port, end: port }) }
}

/// `None` where the kernel lacks `br_netfilter`.
fn scene(closed: u32, verdicts: &[(Flow, bool)]) -> Option<Scene> {
    if !std::fs::exists("/proc/sys/net/bridge").unwrap() {
        return None;
    }
    Some(Scene::new(|host| {
        for (address, class) in ["10.1.0.2", "10.1.0.3", "10.2.0.2"].iter().zip(CLASSES) {
            host.desired.policy.endpoints.insert(address.parse().unwrap(), class | closed);
        }
        host.desired.policy.verdicts.extend(verdicts.iter().copied());
        host.desired.guarded = host.desired.segments.values().map(|s| s.link.clone()).collect();
    }))
}

/// Explained by somebody who knows which policy decides.
fn asked(scene: &Scene, from: End, to: &str, port: u16) -> Question {
    let mut question = scene.question(from, at(to), port);
    let id = PolicyId::from_bytes([0xab; 32]);
    question.known.policies.insert(id, "deny name=c1 -> any".into());
    question.known.decides.extend(scene.host.desired.policy.verdicts.keys().map(|flow| (*flow, id)));
    question
}

fn explained(scene: &Scene, from: End, to: &str, port: u16) -> Explanation {
    scene.host.driver().insight().unwrap().explain(&asked(scene, from, to, port)).unwrap()
}

#[test]
fn what_is_denied() {
    let [a, b, _] = CLASSES;
    let denied =
        [(flow(a, b, Some(80)), false), (flow(a, OUTSIDE, None), false), (flow(OUTSIDE, a, None), false)];
    let Some(scene) = scene(0, &denied) else { return };
    scene.agrees(container(1), "10.1.0.3", 80, "denied by a policy");
    scene.agrees(container(2), "10.1.0.2", 80, "reaches container c1");
    scene.agrees(container(1), "10.1.0.3", 81, "connection refused");
    scene.agrees(container(1), LAN4, 80, "denied by a policy");
    scene.agrees(container(2), LAN4, 80, "leaves this host by eth0");
    scene.agrees(lan(), HOST4, 8080, "denied by a policy");
    let seen = explained(&scene, container(1), "10.1.0.3", 80);
    assert_eq!(seen.reason, "denied by policy abababababab (deny name=c1 -> any)");
    assert!(seen.remedy.contains("weft policy rm abababababab"), "{}", seen.remedy);
}

#[test]
fn what_is_not_allowed_on_a_closed_network() {
    let [a, b, _] = CLASSES.map(|class| class | CLOSED);
    let allowed = [(flow(a, b, Some(80)), true), (flow(OUTSIDE, a, Some(80)), true)];
    let Some(scene) = scene(CLOSED, &allowed) else { return };
    scene.agrees(container(1), "10.1.0.3", 80, "reaches container c2");
    scene.agrees(container(1), "10.1.0.3", 81, "no policy allows it");
    scene.agrees(container(2), "10.1.0.2", 80, "no policy allows it");
    scene.agrees(container(2), LAN4, 80, "no policy allows it");
    scene.agrees(lan(), HOST4, 8080, "reaches container c1");
    let seen = explained(&scene, container(2), "10.1.0.2", 80);
    assert_eq!(seen.verdict, Verdict::Dropped);
    let add = "weft policy add --from name=c2 --to name=c1 --protocol tcp --port 80 allow";
    assert!(seen.remedy.starts_with(add), "{}", seen.remedy);
    assert!(connect_from(&scene.paths[1], "10.1.0.2:80").is_err());
}

#[test]
fn a_trace_names_the_policy() {
    let [a, b, _] = CLASSES;
    let Some(scene) = scene(0, &[(flow(a, b, Some(80)), false)]) else { return };
    let question = asked(&scene, container(1), "10.1.0.3", 80);
    let dropped = |e: &TraceEvent| e.verdict == "drop";
    let events = watched(&scene, &question, &scene.paths[0], "10.1.0.3:80", dropped);
    let drop = events.iter().find(|e| dropped(e)).unwrap();
    assert_eq!(
        drop.rule.comment, "by port: denied by policy abababababab (deny name=c1 -> any)",
        "{events:#?}"
    );
    // What is asked meanwhile does not see the trace.
    let tables =
        |e: &Explanation| e.hops.iter().any(|h| h.rule.as_ref().is_some_and(|r| r.table.contains("trace")));
    let insight = scene.host.driver().insight().unwrap();
    let mut seen = None;
    let tell = &mut |_| {
        seen = Some(insight.explain(&question).unwrap());
        false
    };
    insight.watch(&question, tell).unwrap();
    let seen = seen.unwrap();
    assert!(!tables(&seen), "{seen:#?}");
    assert_eq!(seen.ends, "c1 -> c2");
}
