//! `cargo xtask bench net`: names, connections, published ports and throughput, dockerd's beside Weft's.
//!
//! As `bench engine`: interleaved samples, medians, a table. Throughput and round trips are told as a share of what
//! a veth pair and a bridge made by hand ([`hand`]) give in the same sample, in short turns ([`turns`]). All traffic
//! stays in namespaces.

mod crowd;
mod hand;
mod load;
mod names;
mod paths;
mod policy;
mod publish;
mod rig;
mod trips;
mod turns;

use anyhow::Result;

use crate::rows::{Row, Target};

fn nothing(_: &mut crate::measure::Bed) -> Result<()> {
    Ok(())
}

/// All rows, in the order.
#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    Row { name: "bridge-1", what: "container to container, 1 stream, share of hand-made", unit: "", target: Target::AtLeast(0.97), slow: true,
        before: paths::pair, sample: |bed| paths::bridge(bed, 1) },
    Row { name: "bridge-4", what: "container to container, 4 streams, share of hand-made", unit: "", target: Target::AtLeast(0.97), slow: true,
        before: paths::pair, sample: |bed| paths::bridge(bed, 4) },
    Row { name: "rtt", what: "round trip of 64 B on one core, share of hand-made", unit: "", target: Target::AtMost(1.03), slow: true,
        before: paths::pair, sample: paths::round_trip },
    Row { name: "policy-rtt", what: "round trip under a policy, share of a hand-made table's", unit: "", target: Target::Told, slow: true,
        before: paths::pair, sample: policy::round_trip_by_hand },
    Row { name: "policy-1", what: "1 stream under a policy, share of a hand-made table's", unit: "", target: Target::Told, slow: true,
        before: paths::pair, sample: policy::stream_by_hand },
    Row { name: "policy-rtt-cost", what: "round trip under a policy, share of the same network's without", unit: "", target: Target::Told, slow: true,
        before: paths::pair, sample: policy::round_trip_without },
    Row { name: "policy-1-cost", what: "1 stream under a policy, share of the same network's without", unit: "", target: Target::Told, slow: true,
        before: paths::pair, sample: policy::stream_without },
    Row { name: "publish", what: "another host to a published port, share of hand-made DNAT", unit: "", target: Target::AtLeast(0.97), slow: true,
        before: paths::published, sample: paths::inward },
    Row { name: "masquerade", what: "container to another host, share of hand-made", unit: "", target: Target::AtLeast(0.97), slow: true,
        before: paths::published, sample: paths::outward },
    Row { name: "connect", what: "network connect + disconnect, running container", unit: "ms", target: Target::OfDockerd(0.25), slow: false,
        before: publish::connectable, sample: publish::connect },
    Row { name: "range-time", what: "start with 1,000 published ports", unit: "ms", target: Target::OfDockerd(0.02), slow: true,
        before: nothing, sample: publish::range_time },
    Row { name: "range-memory", what: "memory for 1,000 published ports, PSS", unit: "MB", target: Target::OfDockerd(0.02), slow: true,
        before: nothing, sample: publish::range_memory },
    Row { name: "dns", what: "names resolved, daemon on one core, 16 outstanding", unit: "1/s", target: Target::TimesDockerd(5.0), slow: true,
        before: names::ready, sample: |bed| Ok(names::resolve(bed, 16)?.per_second) },
    Row { name: "dns-cpu", what: "names resolved in a second of the daemon's CPU time", unit: "1/s", target: Target::TimesDockerd(5.0), slow: true,
        before: names::ready, sample: |bed| Ok(names::resolve(bed, 16)?.per_cpu_second) },
    Row { name: "dns-one", what: "names resolved, one after another", unit: "1/s", target: Target::TimesDockerd(1.0), slow: true,
        before: names::ready, sample: |bed| Ok(names::resolve(bed, 1)?.per_second) },
    Row { name: "dns-p99", what: "99th percentile of an answer, 16 outstanding", unit: "ms", target: Target::AtMost(1.0), slow: true,
        before: names::ready, sample: |bed| Ok(names::resolve(bed, 16)?.p99) },
    Row { name: "dns-one-p99", what: "99th percentile of an answer, one after another", unit: "ms", target: Target::AtMost(1.0), slow: true,
        before: names::ready, sample: |bed| Ok(names::resolve(bed, 1)?.p99) },
    // The last, for their policies stay.
    Row { name: "policy-many", what: "round trip under 10,000 policies, share of that under 10", unit: "", target: Target::AtMost(1.03), slow: true,
        before: crowd::many, sample: crowd::round_trip },
    Row { name: "policy-add", what: "one policy more beside 10,000, by the API", unit: "ms", target: Target::Told, slow: true,
        before: crowd::many, sample: crowd::one_more },
];
