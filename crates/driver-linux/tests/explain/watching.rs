//! Counters, and what happens to real packets as it happens.

use std::{
    path::Path,
    process::Command,
    sync::mpsc,
    time::{Duration, Instant},
};

use weft_dataplane::{
    Driver as _,
    insight::{Question, TraceEvent},
};

use crate::{HOST4, Scene, at, connect_from, container, id, lan};

#[test]
fn counters_tell_what_was_dropped_and_why() {
    let scene = Scene::new(|_| ());
    scene.host.lan_routes_to_host();
    let insight = scene.host.driver().insight().unwrap();
    assert!(connect_from(&scene.paths[0], "10.2.0.2:80").is_err());
    assert!(connect_from(&scene.host.lan, "10.1.0.2:80").is_err());
    assert!(connect_from(&scene.paths[0], "10.1.0.3:80").is_ok());
    let figures = insight.figures().unwrap();
    let link = |nth: usize| scene.host.desired.segments.values().nth(nth).unwrap().link.clone();
    let dropped = |link: &str, reason: &str| {
        let mut found =
            figures.drops.iter().filter(|d| d.link.as_deref() == Some(link) && d.reason == reason);
        found.next().map(|d| d.packets).unwrap()
    };
    assert!(
        dropped(&link(1), "isolation") > 0 && dropped(&link(1), "unpublished") == 0,
        "{:?}",
        figures.drops
    );
    assert!(
        dropped(&link(0), "unpublished") > 0 && dropped(&link(0), "isolation") == 0,
        "{:?}",
        figures.drops
    );
    let port = scene.host.desired.ports.values().find(|p| p.sandbox == id(2)).unwrap();
    let seen = &figures.links[&port.link];
    assert!(seen.up && seen.counters.rx_packets > 0 && seen.counters.tx_bytes > 0, "{seen:?}");
}

fn tables(prefix: &str) -> usize {
    let list = Command::new("nft").args(["list", "tables"]).output().unwrap();
    String::from_utf8_lossy(&list.stdout).lines().filter(|l| l.contains(prefix)).count()
}

/// Watches until `enough`, with connections made meanwhile.
pub fn watched(
    scene: &Scene,
    question: &Question,
    from: &Path,
    to: &str,
    enough: impl Fn(&TraceEvent) -> bool,
) -> Vec<TraceEvent> {
    let (from, to) = (from.to_owned(), to.to_owned());
    let (start, wait) = mpsc::channel::<()>();
    let client = std::thread::spawn(move || {
        wait.recv().unwrap();
        let _ = connect_from(&from, &to);
    });
    let (mut events, begun, mut started) = (Vec::new(), Instant::now(), false);
    let insight = scene.host.driver().insight().unwrap();
    let mut tell = |event: Option<TraceEvent>| {
        if !std::mem::replace(&mut started, true) {
            assert!(tables("weft_trace") > 0, "a table of its own");
            start.send(()).unwrap();
        }
        let done = event.as_ref().is_some_and(&enough);
        events.extend(event);
        !done && begun.elapsed() < Duration::from_secs(8)
    };
    insight.watch(question, &mut tell).unwrap();
    client.join().unwrap();
    assert_eq!(tables("weft_trace"), 0, "nothing is left of it");
    events
}

#[test]
fn real_packets_are_watched() {
    let scene = Scene::new(|_| ());
    let question = scene.question(lan(), at(HOST4), 8080);
    let accepted = |e: &TraceEvent| e.rule.chain == "forward" && e.rule.comment == "established";
    let events = watched(&scene, &question, &scene.host.lan, &format!("{HOST4}:8080"), accepted);
    assert!(events.iter().any(|e| e.verdict == "seen" && e.what.contains(":8080 SYN")), "{events:#?}");
    assert!(
        events.iter().any(|e| e.rule.chain.starts_with("into_") && e.rule.comment == "published"),
        "{events:#?}"
    );
    assert!(events.iter().any(accepted), "{events:#?}");
    let question = scene.question(container(1), at("10.2.0.2"), 80);
    let dropped = |e: &TraceEvent| e.verdict == "drop";
    let events = watched(&scene, &question, &scene.paths[0], "10.2.0.2:80", dropped);
    let drop = events.iter().find(|e| dropped(e)).unwrap();
    assert_eq!((drop.rule.table.as_str(), drop.rule.comment.as_str()), ("weft", "isolation"));
}
