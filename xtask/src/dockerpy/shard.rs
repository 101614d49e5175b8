//! Cutting the suite into shards, and running one shard against a subject of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use weft_testkit::{Daemon, DaemonOptions, Registry, Sandbox, Subject, sandbox};

use super::{IMAGES, Outcome, Place};

/// Longest a single test may take before pytest ends it, in seconds.
const TEST_LIMIT: &str = "120";

/// Splits tests into at most `jobs` lists of about equal time, whole classes together (they share fixtures),
/// longest first. A test not seen before counts one second.
pub fn split(ids: &[String], known: &BTreeMap<String, f64>, jobs: usize) -> Vec<Vec<String>> {
    let mut classes: BTreeMap<&str, (f64, Vec<String>)> = BTreeMap::new();
    for id in ids {
        let class = id.rsplit_once("::").map_or(id.as_str(), |(class, _)| class);
        let entry = classes.entry(class).or_default();
        entry.0 += known.get(id).copied().unwrap_or(1.0);
        entry.1.push(id.clone());
    }
    let mut classes: Vec<_> = classes.into_values().collect();
    classes.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut shards = vec![(0.0_f64, Vec::new()); jobs.max(1)];
    for (seconds, tests) in classes {
        let lightest = shards.iter_mut().min_by(|a, b| a.0.total_cmp(&b.0));
        if let Some(shard) = lightest {
            shard.0 += seconds;
            shard.1.extend(tests);
        }
    }
    let mut shards: Vec<Vec<String>> =
        shards.into_iter().map(|(_, tests)| tests).filter(|tests| !tests.is_empty()).collect();
    // It removes every image that no container uses, also those that later tests of the shard take for granted.
    shards.iter_mut().for_each(|tests| tests.sort_by_key(|id| id.contains("PruneImagesTest")));
    shards
}

/// Runs every shard on a thread and a subject of its own; gathers what they reported.
pub fn run_all(place: &Place, subject: Subject, shards: &[Vec<String>]) -> Result<Vec<Outcome>> {
    let results: Vec<Result<Vec<Outcome>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = shards
            .iter()
            .enumerate()
            .map(|(index, tests)| scope.spawn(move || run_one(place, subject, index, tests)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| bail!("a shard panicked")))
            .collect()
    });
    let mut all = Vec::new();
    for (index, result) in results.into_iter().enumerate() {
        all.extend(result.with_context(|| format!("shard {index}"))?);
    }
    Ok(all)
}

fn run_one(place: &Place, subject: Subject, index: usize, tests: &[String]) -> Result<Vec<Outcome>> {
    let sandbox = Sandbox::new()?;
    let _registry = fill_registry(place, &sandbox)?;
    // The suite asks for 172.28.0.0/16 by number: what the subject chooses itself must not be in its way.
    let pools = serde_json::json!([{ "base": "10.200.0.0/16", "size": 24 }]);
    let config = [("default-address-pools".to_owned(), pools)].into_iter().collect();
    let mirrors = vec!["http://127.0.0.1:5000".to_owned()];
    let options = DaemonOptions { mirrors, config, ..Default::default() };
    let daemon = Daemon::start(&sandbox, subject, "subject", options)?;
    for tag in IMAGES.iter().filter(|tag| !tag.starts_with("hello")) {
        sandbox::run(daemon.docker().args(["load", "-q", "-i"]).arg(place.image(tag)))?;
    }
    let report = place.root.join(format!("report-{}-{index}.jsonl", subject.name()));
    let _ = std::fs::remove_file(&report);
    let log = std::fs::File::create(place.root.join(format!("pytest-{}-{index}.log", subject.name())))?;
    let home = sandbox.dir().join("home");
    // Without a configuration file docker-py keeps its contexts in the working directory, for all shards and runs.
    std::fs::create_dir_all(home.join(".docker"))?;
    std::fs::write(home.join(".docker/config.json"), "{}")?;
    let mut pytest = sandbox.command("env");
    pytest
        .arg(format!("--chdir={}", place.suite().display()))
        .arg(place.python())
        .args(["-m", "pytest", "-p", "no:cacheprovider", "-p", "weft_report", "--timeout", TEST_LIMIT])
        .args(tests)
        .env("DOCKER_HOST", daemon.docker_host())
        .env("DOCKER_TEST_API_VERSION", "1.41")
        .env("PYTHONPATH", &place.data)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("WEFT_REPORT", &report)
        .env("HOME", &home)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    sandbox::die_with_parent(&mut pytest);
    let status = pytest.status().context("start pytest")?;
    std::fs::copy(daemon.log_path(), place.root.join(format!("daemon-{}-{index}.log", subject.name())))?;
    println!("shard {index}: {} tests, {status}", tests.len());
    read_report(&report)
}

/// The images as Docker Hub would have them, put there without the subject's help.
fn fill_registry(place: &Place, sandbox: &Sandbox) -> Result<Registry> {
    let registry = Registry::start(sandbox, 5000, None)?;
    for tag in IMAGES {
        let mut copy = sandbox.command("skopeo");
        copy.args(["--insecure-policy", "copy", "-q", "--dest-tls-verify=false"]);
        copy.arg(format!("docker-archive:{}", place.image(tag).display()));
        sandbox::run(copy.arg(format!("docker://{}/library/{tag}", registry.host())))?;
    }
    Ok(registry)
}

fn read_report(path: &Path) -> Result<Vec<Outcome>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("no report {}", path.display()))?;
    text.lines().map(|line| serde_json::from_str(line).context("a report's line")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_stay_whole_and_shards_are_balanced() {
        let ids: Vec<String> =
            ["f.py::A::x", "f.py::A::y", "f.py::B::x", "g.py::C::x"].map(String::from).into();
        let known = BTreeMap::from([("f.py::B::x".to_owned(), 2.0)]);
        let shards = split(&ids, &known, 2);
        assert_eq!(shards.iter().map(Vec::len).sum::<usize>(), 4);
        let with_a = shards.iter().find(|shard| shard.contains(&ids[0])).map(|shard| shard.contains(&ids[1]));
        assert_eq!(with_a, Some(true));
        assert_eq!(split(&ids, &known, 9).len(), 3);
    }
}
