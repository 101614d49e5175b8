//! What dockerd passes is the measure: writing it down, and holding Weft to it.
//!
//! Lists are lines of `node id`, or `node id<TAB>reason`; `#` opens a comment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{Outcome, Place};

/// Reads a list: id (or its beginning) to reason; the reason is empty where none stands.
pub fn reasons(path: &Path) -> Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    Ok(lines
        .map(|line| line.split_once('\t').unwrap_or((line, "")))
        .map(|(id, why)| (id.trim().to_owned(), why.trim().to_owned()))
        .collect())
}

/// Writes `dockerd-passes.txt`, and `dockerd-fails.txt` with the first line of each reason.
pub fn bless(place: &Place, outcomes: &[Outcome]) -> Result<()> {
    let mut passes = String::from(
        "# docker-py 6.1.3 integration tests in scope that dockerd 20.10.24 passes on this project's machine.\n\
         # Written by `cargo xtask dockerpy --subject dockerd --bless`.\n",
    );
    let mut rest =
        String::from("# In scope, but not passed by dockerd 20.10.24 there: failed or skipped, and why.\n");
    for outcome in outcomes {
        if outcome.outcome == "passed" {
            passes.push_str(&format!("{}\n", outcome.id));
        } else {
            let why = outcome.why.replace(['\n', '\t'], " ");
            rest.push_str(&format!("{}\t{}: {:.200}\n", outcome.id, outcome.outcome, why));
        }
    }
    std::fs::write(place.data.join("dockerd-passes.txt"), passes)?;
    std::fs::write(place.data.join("dockerd-fails.txt"), rest)?;
    Ok(())
}

/// Fails when a test that dockerd passes does not pass here and is not excused with a reason; an excuse
/// for a test that passes is told, so that the list only shrinks.
pub fn compare(place: &Place, outcomes: &[Outcome]) -> Result<()> {
    let wanted = reasons(&place.data.join("dockerd-passes.txt"))?;
    let excused = reasons(&place.data.join("known-failures.txt"))?;
    let unreasoned: Vec<_> = excused.iter().filter(|(_, why)| why.is_empty()).map(|(id, _)| id).collect();
    ensure!(unreasoned.is_empty(), "known-failures.txt: no reason for {unreasoned:?}");
    let passed: BTreeSet<&str> = outcomes
        .iter()
        .filter(|outcome| outcome.outcome == "passed")
        .map(|outcome| outcome.id.as_str())
        .collect();
    let why: BTreeMap<&str, &str> =
        outcomes.iter().map(|outcome| (outcome.id.as_str(), outcome.why.as_str())).collect();
    let mut broken = 0;
    for id in wanted.keys().filter(|id| !passed.contains(id.as_str()) && !excused.contains_key(*id)) {
        broken += 1;
        let reason = why.get(id.as_str()).copied().unwrap_or("not run");
        println!("MISSING {id}: {}", reason.lines().next().unwrap_or_default());
    }
    for id in excused.keys().filter(|id| passed.contains(id.as_str())) {
        println!("PASSES, strike it from known-failures.txt: {id}");
    }
    let held = wanted.keys().filter(|id| passed.contains(id.as_str())).count();
    println!("{held} of {} that dockerd passes, {} excused, {broken} missing", wanted.len(), excused.len());
    ensure!(broken == 0, "{broken} tests that dockerd passes do not pass");
    Ok(())
}
