//! Process limits (`getrlimit(2)`) and the out-of-memory score.

use std::collections::BTreeMap;

use oci_spec::runtime::{Capability, PosixRlimit, PosixRlimitBuilder};
use weft_model::Ulimit;

use super::{
    error::OciError,
    host::{HostFacts, RLIMITS},
};

fn value(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// The limits of a container: its own, and the daemon's defaults for those it does not name. Without
/// `CAP_SYS_RESOURCE` a hard limit cannot be raised; such a wish is cut to what can be had.
pub(super) fn rlimits(
    own: &[Ulimit],
    defaults: &[Ulimit],
    host: &HostFacts,
    warnings: &mut Vec<String>,
) -> Result<Vec<PosixRlimit>, OciError> {
    let mut all: BTreeMap<&str, &Ulimit> = defaults.iter().map(|u| (u.name.as_str(), u)).collect();
    all.extend(own.iter().map(|u| (u.name.as_str(), u)));
    let mut out = Vec::with_capacity(all.len());
    for (name, limit) in all {
        let Some((_, _, kind)) = RLIMITS.into_iter().find(|(n, _, _)| *n == name) else {
            return Err(OciError::Ulimit(name.to_owned()));
        };
        let (mut soft, mut hard) = (value(limit.soft), value(limit.hard));
        let most = host.rlimits.get(name).map_or(u64::MAX, |(_, hard)| *hard);
        if hard > most && !host.holds(Capability::SysResource) {
            warnings.push(format!(
                "ulimit {name} was lowered from {} to {most}: the daemon has no CAP_SYS_RESOURCE",
                if hard == u64::MAX { "unlimited".to_owned() } else { hard.to_string() }
            ));
            (soft, hard) = (soft.min(most), most);
        }
        out.push(PosixRlimitBuilder::default().typ(kind).soft(soft).hard(hard).build()?);
    }
    Ok(out)
}

/// The out-of-memory score adjustment that can be set.
pub(super) fn oom_score(wanted: i32, host: &HostFacts, warnings: &mut Vec<String>) -> i32 {
    if wanted >= host.oom_score_adj || host.holds(Capability::SysResource) {
        return wanted;
    }
    if wanted != 0 {
        warnings.push(format!(
            "oom_score_adj {wanted} was raised to {}: the daemon has no CAP_SYS_RESOURCE",
            host.oom_score_adj
        ));
    }
    host.oom_score_adj
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(name: &str, soft: i64, hard: i64) -> Ulimit {
        Ulimit { name: name.to_owned(), soft, hard }
    }

    #[test]
    fn defaults_are_overridden_and_wishes_are_cut() {
        let host = HostFacts { rlimits: [("nofile".to_owned(), (10, 100))].into(), ..HostFacts::default() };
        let mut warnings = Vec::new();
        let own = [limit("nofile", 50, 1000), limit("core", -1, -1)];
        let defaults = [limit("nofile", 1, 1), limit("nproc", 3, 4)];
        let got = rlimits(&own, &defaults, &host, &mut warnings).unwrap();
        let text: Vec<_> = got.iter().map(|r| format!("{:?} {} {}", r.typ(), r.soft(), r.hard())).collect();
        assert_eq!(
            text,
            [
                format!("RlimitCore {0} {0}", u64::MAX),
                "RlimitNofile 50 100".to_owned(),
                "RlimitNproc 3 4".to_owned()
            ]
        );
        assert_eq!(
            warnings,
            ["ulimit nofile was lowered from 1000 to 100: the daemon has no CAP_SYS_RESOURCE"]
        );
        let error = rlimits(&[limit("x", 1, 1)], &[], &host, &mut warnings).unwrap_err();
        assert_eq!(error.to_string(), "invalid ulimit type: x");
    }

    #[test]
    fn the_score_is_not_lowered_without_the_capability() {
        let mut host = HostFacts { oom_score_adj: 0, ..HostFacts::default() };
        let mut warnings = Vec::new();
        assert_eq!(oom_score(-500, &host, &mut warnings), 0);
        assert_eq!(warnings.len(), 1);
        assert_eq!(oom_score(500, &host, &mut warnings), 500);
        host.capabilities.insert(Capability::SysResource);
        assert_eq!(oom_score(-500, &host, &mut warnings), -500);
        assert_eq!(warnings.len(), 1);
    }
}
