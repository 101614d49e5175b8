//! What policy between containers costs: under one policy, beside the same network without, and beside a table made by hand
//! ([`Hand::with_policy`]), in turns of the same sample.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use weft_testkit::Subject;

use super::hand::{Hand, LEFT, RIGHT};
use super::paths::{address, stream, trips};
use super::publish::ask;
use super::rig::Netns;
use crate::measure::{Bed, NAME, median};

/// Turns of a sample of round trips: a slow moment of the machine hits both sides.
const TURNS: usize = 5;

/// A policy that lets the two containers talk, and so subjects their bridge to policy, for as long as it lives.
struct Policy {
    socket: PathBuf,
    id: String,
}

impl Policy {
    fn new(bed: &Bed) -> Result<Self> {
        ensure!(bed.daemon.subject() == Subject::Weft, "it has no policies");
        let socket = bed.sandbox.dir().join(NAME).join("run/native.sock");
        let body = r#"{"from":"name=left","to":"name=right","action":"allow"}"#;
        let told: serde_json::Value = serde_json::from_str(&ask(&socket, "POST", "/v1/policies", body)?)?;
        let id = told["policy"]["spec"]["id"].as_str().context("a policy has an id")?.to_owned();
        Ok(Self { socket, id })
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        let _ = ask(&self.socket, "DELETE", &format!("/v1/policies/{}", self.id), "");
    }
}

fn both(bed: &Bed) -> Result<[Netns; 2]> {
    Ok([Netns::of(bed, "left")?, Netns::of(bed, "right")?])
}

/// Round trips of both sides, as [`super::paths::round_trip`].
pub fn round_trip_by_hand(bed: &mut Bed) -> Result<f64> {
    let _policy = Policy::new(bed)?;
    let ([left, right], hand) = (both(bed)?, Hand::new()?.with_policy()?);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        theirs.push(trips(&hand.left, &hand.right, LEFT, RIGHT)?);
        ours.push(trips(&left, &right, "0.0.0.0", &address(bed, "right")?)?);
    }
    Ok(median(ours) / median(theirs))
}

/// One stream of both sides.
pub fn stream_by_hand(bed: &mut Bed) -> Result<f64> {
    let _policy = Policy::new(bed)?;
    let ([left, right], hand) = (both(bed)?, Hand::new()?.with_policy()?);
    let reference = stream(&hand.left, &hand.right, RIGHT, 1)?;
    Ok(stream(&left, &right, &address(bed, "right")?, 1)? / reference)
}

/// Round trips with a policy and without, in turns.
pub fn round_trip_without(bed: &mut Bed) -> Result<f64> {
    let ([left, right], to) = (both(bed)?, address(bed, "right")?);
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        without.push(trips(&left, &right, "0.0.0.0", &to)?);
        let _policy = Policy::new(bed)?;
        with.push(trips(&left, &right, "0.0.0.0", &to)?);
    }
    Ok(median(with) / median(without))
}

/// One stream with a policy and without.
pub fn stream_without(bed: &mut Bed) -> Result<f64> {
    let ([left, right], to) = (both(bed)?, address(bed, "right")?);
    let without = stream(&left, &right, &to, 1)?;
    let _policy = Policy::new(bed)?;
    Ok(stream(&left, &right, &to, 1)? / without)
}
