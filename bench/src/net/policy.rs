//! What policy between containers costs: under one policy, beside the same network without, and beside a table made by hand
//! ([`Hand::with_policy`]), in turns of the same sample.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use weft_testkit::Subject;

use super::hand::{Hand, LEFT, RIGHT};
use super::paths::{STREAMS, address, ours, stream};
use super::publish::ask;
use super::rig::Netns;
use super::trips::{self, Path};
use super::turns::ratio;
use crate::measure::Bed;

/// Where policies are made.
pub(super) fn native(bed: &Bed) -> PathBuf {
    bed.daemon.socket().with_file_name("run/native.sock")
}

/// A policy that lets the two containers talk, and so subjects their bridge to policy, for as long as it lives.
struct Policy {
    socket: PathBuf,
    id: String,
}

impl Policy {
    fn new(bed: &Bed) -> Result<Self> {
        ensure!(bed.daemon.subject() == Subject::Weft, "it has no policies");
        let socket = native(bed);
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
    let hand = Hand::new()?.with_policy()?;
    let (ours, theirs) = (ours(bed)?, Path::new(&hand.left, &hand.right, LEFT, RIGHT)?);
    ratio(trips::TURNS, || ours.turn(), || theirs.turn())
}

/// One stream of both sides.
pub fn stream_by_hand(bed: &mut Bed) -> Result<f64> {
    let _policy = Policy::new(bed)?;
    let ([left, right], hand, to) = (both(bed)?, Hand::new()?.with_policy()?, address(bed, "right")?);
    ratio(STREAMS, || stream(&left, &right, &to, 1), || stream(&hand.left, &hand.right, RIGHT, 1))
}

/// Round trips with a policy and without, in turns.
pub fn round_trip_without(bed: &mut Bed) -> Result<f64> {
    let path = ours(bed)?;
    let with = || {
        let _policy = Policy::new(bed)?;
        path.turn()
    };
    ratio(trips::TURNS, with, || path.turn())
}

/// One stream with a policy and without.
pub fn stream_without(bed: &mut Bed) -> Result<f64> {
    let ([left, right], to) = (both(bed)?, address(bed, "right")?);
    let with = || {
        let _policy = Policy::new(bed)?;
        stream(&left, &right, &to, 1)
    };
    ratio(STREAMS, with, || stream(&left, &right, &to, 1))
}
