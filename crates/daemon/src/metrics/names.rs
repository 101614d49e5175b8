//! What the resolver counts.

use weft_base::metrics::{Exposition, Kind};
use weft_dns::{DnsStats, KINDS};

/// Response codes in the order of [`DnsStats::codes`], by the names of RFC 1035 and RFC 2136.
const CODES: [&str; 7] = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "other"];

pub(super) fn expose(text: &mut Exposition, stats: &DnsStats) {
    let name = "weft_dns_queries_total";
    let help = "Queries of containers: answered from the model, forwarded, or no queries at all.";
    text.family(name, Kind::Counter, help);
    for (result, count) in
        [("answered", stats.answered), ("forwarded", stats.forwarded), ("dropped", stats.dropped)]
    {
        text.sample(name, &[("result", result)], count);
    }
    let name = "weft_dns_questions_total";
    text.family(name, Kind::Counter, "Questions of containers, by type of record.");
    for (kind, count) in KINDS.iter().map(|(_, kind)| *kind).chain(["other"]).zip(stats.kinds) {
        text.sample(name, &[("type", kind)], count);
    }
    let name = "weft_dns_answers_total";
    text.family(name, Kind::Counter, "Answers to containers, by response code.");
    for (code, count) in CODES.into_iter().zip(stats.codes) {
        text.sample(name, &[("code", code)], count);
    }
    let help = "Forwarded queries that the cache answered.";
    text.single("weft_dns_cache_hits_total", Kind::Counter, help, stats.cached);
    text.single("weft_dns_cache_entries", Kind::Gauge, "Answers in the cache.", stats.kept);
    let help = "Forwarded queries that no server answered.";
    text.single("weft_dns_forward_failures_total", Kind::Counter, help, stats.failed);
    let help = "Forwarded queries that were refused, since too many were under way.";
    text.single("weft_dns_forwards_refused_total", Kind::Counter, help, stats.refused);
    let help = "Upstream servers that did not answer in time or could not be reached.";
    text.single("weft_dns_upstream_silent_total", Kind::Counter, help, stats.silent);
    let name = "weft_dns_upstream_duration_seconds";
    text.family(name, Kind::Histogram, "From query to answer, of upstream servers.");
    text.distribution(name, &[], &stats.upstream);
    text.single("weft_dns_containers", Kind::Gauge, "Containers with a resolver.", stats.containers);
}
