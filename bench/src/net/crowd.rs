//! Many policies: what the lookup of each packet pays for their number, and what one more costs who asks for it.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use weft_testkit::Subject;

use super::hand::PORT;
use super::paths::{ours, pair};
use super::policy::native;
use super::publish::ask;
use super::trips;
use super::turns::ratio;
use crate::measure::{Bed, median};
use crate::rows::fresh;

const MANY: u16 = 10_000;
const FEW: u16 = 10;
/// Policies more that are timed.
const MORE: u16 = 20;

/// Lets left reach a port of right by UDP.
fn allow(bed: &Bed, port: u16) -> Result<String> {
    let body = format!(
        r#"{{"from":"name=left","to":"name=right","protocol":"udp","ports":"{port}","action":"allow"}}"#
    );
    let told: serde_json::Value = serde_json::from_str(&ask(&native(bed), "POST", "/v1/policies", &body)?)?;
    Ok(told["policy"]["spec"]["id"].as_str().context("a policy has an id")?.to_owned())
}

/// The pair under ten thousand policies. They stay: rows that come after this must want them.
pub fn many(bed: &mut Bed) -> Result<()> {
    ensure!(bed.daemon.subject() == Subject::Weft, "it has no policies");
    pair(bed)?;
    let told: serde_json::Value = serde_json::from_str(&ask(&native(bed), "GET", "/v1/policies", "")?)?;
    if told.as_array().is_some_and(Vec::is_empty) {
        (0..MANY).try_for_each(|nth| allow(bed, PORT + nth).map(drop))?;
    }
    Ok(())
}

/// Round trips under many policies, as a share of those of another daemon's pair under few.
pub fn round_trip(bed: &mut Bed) -> Result<f64> {
    let (daemon, sandbox) = fresh(bed)?;
    let mut other = Bed { daemon, sandbox, big: bed.big.clone() };
    let small = other.big.with_file_name("small.tar");
    other.docker(&["load", "-q", "-i", &small.display().to_string()])?;
    pair(&mut other)?;
    (0..FEW).try_for_each(|nth| allow(&other, PORT + nth).map(drop))?;
    let (crowded, sparse) = (ours(bed)?, ours(&other)?);
    let told = ratio(trips::TURNS, || crowded.turn(), || sparse.turn());
    other.clear()?;
    told
}

/// Milliseconds until one policy more holds, as who asks by the socket sees it.
pub fn one_more(bed: &mut Bed) -> Result<f64> {
    let mut took = Vec::new();
    for nth in 0..MORE {
        let begun = Instant::now();
        let id = allow(bed, PORT + MANY + nth)?;
        took.push(begun.elapsed().as_secs_f64() * 1000.0);
        ask(&native(bed), "DELETE", &format!("/v1/policies/{id}"), "")?;
    }
    Ok(median(took))
}
