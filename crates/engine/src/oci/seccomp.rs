//! System call filters: Docker's default profile, and others in the same format, resolved for this machine.
//!
//! A profile has conditions (capabilities held, architecture, kernel version); what remains after them is the
//! filter of the configuration. Profile and capabilities decide it, so the result is kept: a host has few
//! different ones.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use oci_spec::runtime::{
    Arch, Capabilities, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall,
};
use parking_lot::Mutex;
use serde::Deserialize;
use weft_model::SeccompChoice;

use super::caps;

/// Docker's default profile (`profiles/seccomp/default.json`), as data.
const DEFAULT: &str = include_str!("data/seccomp-default.json");
/// Resolved profiles kept.
const KEPT: usize = 64;

/// Why a profile cannot be used; texts are Docker's.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// Not JSON of the known form.
    #[error("decoding seccomp profile failed: {0}")]
    Decode(String),
    /// Two fields that say the same.
    #[error("both '{0}' and '{1}' are specified in the seccomp profile, use either '{0}' or '{1}'")]
    Both(&'static str, &'static str),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: LinuxSeccompAction,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Option<Vec<Arch>>,
    #[serde(default)]
    arch_map: Option<Vec<ArchEntry>>,
    #[serde(default)]
    flags: Option<Vec<LinuxSeccompFilterFlag>>,
    listener_path: Option<std::path::PathBuf>,
    listener_metadata: Option<String>,
    #[serde(default)]
    syscalls: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchEntry {
    architecture: Arch,
    #[serde(default)]
    sub_architectures: Option<Vec<Arch>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    name: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Comparison>>,
    #[serde(default)]
    includes: Option<Condition>,
    #[serde(default)]
    excludes: Option<Condition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Comparison {
    index: usize,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: LinuxSeccompOperator,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// This machine's architecture as Go and as libseccomp name it.
const fn machine() -> (&'static str, Arch) {
    if cfg!(target_arch = "aarch64") {
        ("arm64", Arch::ScmpArchAarch64)
    } else if cfg!(target_arch = "riscv64") {
        ("riscv64", Arch::ScmpArchRiscv64)
    } else {
        ("amd64", Arch::ScmpArchX86_64)
    }
}

type Key = (Option<String>, u64, (u32, u32));
type Kept = Mutex<HashMap<Key, Arc<LinuxSeccomp>>>;

/// The filter for a choice, given the capabilities the container has and the kernel's version.
pub fn profile(
    choice: &SeccompChoice,
    granted: &Capabilities,
    kernel: (u32, u32),
) -> Result<Option<LinuxSeccomp>, SeccompError> {
    static CACHE: OnceLock<Kept> = OnceLock::new();
    let own = match choice {
        SeccompChoice::Unconfined => return Ok(None),
        SeccompChoice::Default => None,
        SeccompChoice::Profile(text) => Some(text.clone()),
    };
    let held = caps::ALL.iter().enumerate().filter(|(_, c)| granted.contains(c));
    let mask = held.fold(0u64, |mask, (bit, _)| mask | 1 << bit);
    let cache = CACHE.get_or_init(Kept::default);
    let key = (own, mask, kernel);
    if let Some(found) = cache.lock().get(&key) {
        return Ok(Some((**found).clone()));
    }
    let made = resolve(key.0.as_deref().unwrap_or(DEFAULT), granted, kernel)?;
    let mut cache = cache.lock();
    if cache.len() >= KEPT {
        cache.clear();
    }
    cache.insert(key, Arc::new(made.clone()));
    Ok(Some(made))
}

/// Checks a profile's form.
pub fn check(text: &str) -> Result<(), SeccompError> {
    resolve(text, &Capabilities::new(), (0, 0)).map(drop)
}

fn resolve(text: &str, granted: &Capabilities, kernel: (u32, u32)) -> Result<LinuxSeccomp, SeccompError> {
    let profile: Profile = serde_json::from_str(text).map_err(|e| SeccompError::Decode(e.to_string()))?;
    let (name, native) = machine();
    let architectures = match (profile.architectures, profile.arch_map) {
        (Some(a), Some(m)) if !a.is_empty() && !m.is_empty() => {
            return Err(SeccompError::Both("architectures", "archMap"));
        }
        (Some(a), _) if !a.is_empty() => Some(a),
        (_, Some(map)) => map.into_iter().find(|e| e.architecture == native).map(|entry| {
            let mut all = vec![entry.architecture];
            all.extend(entry.sub_architectures.unwrap_or_default());
            all
        }),
        _ => None,
    };
    let mut syscalls = Vec::new();
    for rule in profile.syscalls.unwrap_or_default() {
        let applies = rule.includes.as_ref().is_none_or(|c| c.included(granted, name, kernel))
            && !rule.excludes.as_ref().is_some_and(|c| c.excluded(granted, name, kernel));
        if applies {
            syscalls.push(rule.convert()?);
        } else if !rule.name.is_empty() && rule.names.is_some() {
            return Err(SeccompError::Both("name", "names"));
        }
    }
    let mut made = LinuxSeccomp::default();
    made.set_default_action(profile.default_action)
        .set_default_errno_ret(profile.default_errno_ret)
        .set_architectures(architectures)
        .set_flags(profile.flags)
        .set_listener_path(profile.listener_path)
        .set_listener_metadata(profile.listener_metadata)
        .set_syscalls(Some(syscalls));
    Ok(made)
}

impl Condition {
    /// All that is named holds.
    fn included(&self, granted: &Capabilities, arch: &str, kernel: (u32, u32)) -> bool {
        self.caps.iter().flatten().all(|c| holds(granted, c))
            && self.arches.as_ref().is_none_or(|a| a.is_empty() || a.iter().any(|a| a == arch))
            && self.min_kernel.as_deref().is_none_or(|v| kernel >= version(v))
    }

    /// Any that is named holds.
    fn excluded(&self, granted: &Capabilities, arch: &str, kernel: (u32, u32)) -> bool {
        self.caps.iter().flatten().any(|c| holds(granted, c))
            || self.arches.iter().flatten().any(|a| a == arch)
            || self.min_kernel.as_deref().is_some_and(|v| kernel >= version(v))
    }
}

fn holds(granted: &Capabilities, name: &str) -> bool {
    granted.iter().any(|c| caps::name(*c) == name)
}

fn version(text: &str) -> (u32, u32) {
    let mut parts = text.split('.').map(|n| n.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

impl Rule {
    fn convert(self) -> Result<LinuxSyscall, SeccompError> {
        let names = match (self.name.is_empty(), self.names) {
            (false, Some(names)) if !names.is_empty() => return Err(SeccompError::Both("name", "names")),
            (false, _) => vec![self.name],
            (true, names) => names.unwrap_or_default(),
        };
        let args = self.args.filter(|a| !a.is_empty()).map(|args| {
            let one = |a: Comparison| {
                let made = LinuxSeccompArgBuilder::default().index(a.index).value(a.value).op(a.op);
                made.value_two(a.value_two).build().map_err(|e| SeccompError::Decode(e.to_string()))
            };
            args.into_iter().map(one).collect::<Result<Vec<LinuxSeccompArg>, _>>()
        });
        let mut made = LinuxSyscall::default();
        made.set_names(names)
            .set_action(self.action)
            .set_errno_ret(self.errno_ret)
            .set_args(args.transpose()?);
        Ok(made)
    }
}
