//! Image defaults merged under what people asked for (moby `runconfig` and `daemon/commit.go` `merge`).

use std::collections::BTreeMap;

use weft_model::{HealthCheck, HealthTest, Labels, MountKind, MountSpec, Notation, Propagation};

use super::ContainerDraft;
use crate::{CloudError, Result};

/// What an image says of the containers made from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageDefaults {
    /// Entry point.
    pub entrypoint: Option<Vec<String>>,
    /// Command.
    pub command: Option<Vec<String>>,
    /// Environment.
    pub env: Vec<String>,
    /// Working directory.
    pub working_dir: String,
    /// User.
    pub user: String,
    /// Declared ports.
    pub exposed: Vec<String>,
    /// Declared volumes.
    pub volumes: Vec<String>,
    /// Labels.
    pub labels: Labels,
    /// Stop signal.
    pub stop_signal: String,
    /// Shell.
    pub shell: Option<Vec<String>>,
    /// Health check.
    pub health: Option<HealthCheck>,
}

/// Fills what `draft` leaves open from `image`.
pub(super) fn merge(draft: &mut ContainerDraft, image: &ImageDefaults) -> Result<()> {
    let p = &mut draft.process;
    if p.user.is_empty() {
        p.user.clone_from(&image.user);
    }
    if p.working_dir.is_empty() {
        p.working_dir.clone_from(&image.working_dir);
    }
    if p.shell.is_none() {
        p.shell.clone_from(&image.shell);
    }
    if draft.stop_signal.is_empty() {
        draft.stop_signal.clone_from(&image.stop_signal);
    }
    merge_command(&mut p.entrypoint, &mut p.command, image);
    if p.argv().is_empty() {
        return Err(CloudError::Invalid("no command specified".into()));
    }
    let set: Vec<String> = p.env.iter().map(|e| key(e).to_owned()).collect();
    p.env.extend(image.env.iter().filter(|e| set.iter().all(|s| s != key(e))).cloned());
    for port in &image.exposed {
        if !draft.exposed.contains(port) {
            draft.exposed.push(port.clone());
        }
    }
    for publish in &draft.publish {
        let port = format!("{}/{}", publish.container_port, publish.protocol.as_str());
        if !draft.exposed.contains(&port) {
            draft.exposed.push(port);
        }
    }
    for (name, value) in &image.labels {
        draft.labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
    for target in &image.volumes {
        if draft.mounts.iter().all(|m| m.target.trim_end_matches('/') != target.trim_end_matches('/')) {
            draft.mounts.push(anonymous(target));
        }
    }
    merge_health(&mut draft.health, image.health.as_ref());
    Ok(())
}

fn key(pair: &str) -> &str {
    pair.split_once('=').map_or(pair, |(k, _)| k)
}

fn merge_command(
    entrypoint: &mut Option<Vec<String>>,
    command: &mut Option<Vec<String>>,
    image: &ImageDefaults,
) {
    let none_given = entrypoint.as_ref().is_none_or(Vec::is_empty);
    if none_given {
        if command.as_ref().is_none_or(Vec::is_empty) {
            command.clone_from(&image.command);
        }
        if entrypoint.is_none() {
            entrypoint.clone_from(&image.entrypoint);
        }
    }
    // One empty string resets the image's entry point.
    if entrypoint.as_ref().is_some_and(|e| e.len() == 1 && e[0].is_empty()) {
        *entrypoint = None;
    }
}

fn anonymous(target: &str) -> MountSpec {
    MountSpec {
        target: target.to_owned(),
        kind: MountKind::Volume {
            name: String::new(),
            anonymous: true,
            no_copy: false,
            subpath: String::new(),
            driver: String::new(),
            options: BTreeMap::new(),
            labels: Labels::new(),
        },
        read_only: false,
        propagation: Propagation::RPrivate,
        mode: String::new(),
        notation: Notation::Implied,
    }
}

fn merge_health(given: &mut Option<HealthCheck>, image: Option<&HealthCheck>) {
    let Some(image) = image else {
        // Times without any test mean no check.
        if given.as_ref().is_some_and(|g| g.test == HealthTest::Exec(Vec::new())) {
            *given = None;
        }
        return;
    };
    let Some(check) = given else {
        *given = Some(image.clone());
        return;
    };
    if check.test == HealthTest::Exec(Vec::new()) {
        check.test.clone_from(&image.test);
    }
    for (mine, theirs) in [
        (&mut check.interval, image.interval),
        (&mut check.timeout, image.timeout),
        (&mut check.retries, image.retries),
        (&mut check.start_period, image.start_period),
        (&mut check.start_interval, image.start_interval),
    ] {
        if *mine == 0 {
            *mine = theirs;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Option<Vec<String>> {
        Some(list.iter().map(|w| (*w).to_owned()).collect())
    }

    #[test]
    fn entry_point_and_command() {
        let image =
            ImageDefaults { entrypoint: words(&["/e"]), command: words(&["c"]), ..ImageDefaults::default() };
        for (entrypoint, command, expected) in [
            (None, None, vec!["/e", "c"]),
            (None, words(&["x"]), vec!["/e", "x"]),
            (words(&["/n"]), None, vec!["/n"]),
            (words(&[""]), words(&["x"]), vec!["x"]),
            (words(&["/n"]), words(&["x"]), vec!["/n", "x"]),
        ] {
            let mut draft = ContainerDraft::default();
            draft.process.entrypoint = entrypoint;
            draft.process.command = command;
            merge(&mut draft, &image).unwrap();
            assert_eq!(draft.process.argv(), expected);
        }
        let error = merge(&mut ContainerDraft::default(), &ImageDefaults::default()).unwrap_err();
        assert_eq!(error.to_string(), "no command specified");
    }

    #[test]
    fn environment_keeps_what_people_set() {
        let image = ImageDefaults {
            command: words(&["c"]),
            env: vec!["A=image".into(), "B=image".into()],
            ..ImageDefaults::default()
        };
        let mut draft = ContainerDraft::default();
        draft.process.env = vec!["A=mine".into()];
        merge(&mut draft, &image).unwrap();
        assert_eq!(draft.process.env, ["A=mine", "B=image"]);
    }
}
