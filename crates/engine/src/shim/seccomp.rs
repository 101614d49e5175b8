//! Seccomp profiles compiled once and kept.
//!
//! Compiling Docker's default profile takes libseccomp milliseconds; the program it gives depends on nothing but the
//! profile (and libseccomp). So the program is kept in a file named by the profile's digest, and a start only
//! loads it. The runtime's own handling is bypassed also because it gives execs no filter at all and, with
//! `noNewPrivileges: false` written out, loads the filter when it no longer may.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall,
};
use sha2::{Digest, Sha256};
use weft_sys::process::SeccompProgram;

use super::types::{Fault, SeccompFile};

/// Changes whenever the translation below would give other programs for the same profile.
const GENERATION: &str = "2";

/// Whether the profile asks a supervisor for decisions; such filters need a listener and are left to the runtime.
pub(super) fn needs_listener(profile: &LinuxSeccomp) -> bool {
    profile.syscalls().iter().flatten().any(|s| s.action() == LinuxSeccompAction::ScmpActNotify)
        || profile.default_action() == LinuxSeccompAction::ScmpActNotify
}

/// Finds the compiled program in `cache`, or compiles it and puts it there.
pub(super) fn compiled(profile: &LinuxSeccomp, cache: &Path) -> Result<SeccompFile, Fault> {
    let text = serde_json::to_vec(profile).map_err(|e| Fault::because("writing the seccomp profile", &e))?;
    let version = libseccomp::ScmpVersion::current().map(|v| format!("{v:?}")).unwrap_or_default();
    let mut digest = Sha256::new();
    digest.update(GENERATION);
    digest.update(version);
    digest.update(&text);
    let path = cache.join(format!("{}.bpf", hex::encode(digest.finalize())));
    let flags = flags(profile);
    if load(&path).is_ok() {
        return Ok(SeccompFile { path, flags });
    }
    let filter = compile(profile).map_err(|e| Fault::because("compiling the seccomp profile", &e))?;
    let program = export(&filter).map_err(|e| Fault::because("compiling the seccomp profile", &*e))?;
    store(&path, &program).map_err(|e| Fault::because("keeping the compiled seccomp profile", &e))?;
    Ok(SeccompFile { path, flags })
}

/// Reads a compiled program.
pub(super) fn load(path: &Path) -> io::Result<SeccompProgram> {
    SeccompProgram::from_bytes(&fs::read(path)?).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{} is no program", path.display()))
    })
}

fn store(path: &Path, program: &[u8]) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    // Several shims may compile the same profile at once: each writes its own file, the last rename wins.
    let part = PathBuf::from(format!("{}.{}", path.display(), std::process::id()));
    fs::write(&part, program)?;
    fs::rename(&part, path)
}

fn flags(profile: &LinuxSeccomp) -> u64 {
    profile.flags().iter().flatten().fold(0, |all, flag| {
        all | match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 1,
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => 1 << 1,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => 1 << 2,
            // Means something only to filters with a listener.
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
        }
    })
}

fn compile(profile: &LinuxSeccomp) -> Result<ScmpFilterContext, libseccomp::error::SeccompError> {
    let default = action(profile.default_action(), profile.default_errno_ret());
    let mut filter = ScmpFilterContext::new(default)?;
    for arch in profile.architectures().iter().flatten() {
        filter.add_arch(translate_arch(*arch))?;
    }
    for rule in profile.syscalls().iter().flatten() {
        let action = action(rule.action(), rule.errno_ret());
        if action != default {
            add_rule(&mut filter, rule, action)?;
        }
    }
    Ok(filter)
}

fn export(filter: &ScmpFilterContext) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut file = tempfile::tempfile()?;
    filter.export_bpf(&file)?;
    let mut bytes = Vec::new();
    io::Seek::rewind(&mut file)?;
    io::Read::read_to_end(&mut file, &mut bytes)?;
    Ok(bytes)
}

fn add_rule(
    filter: &mut ScmpFilterContext,
    rule: &LinuxSyscall,
    action: ScmpAction,
) -> Result<(), libseccomp::error::SeccompError> {
    let conditions: Vec<(usize, ScmpArgCompare)> = rule
        .args()
        .iter()
        .flatten()
        .filter_map(|a| {
            let index = u32::try_from(a.index()).ok()?;
            let second = a.value_two().unwrap_or(0);
            // A masked comparison has its mask first (runtime-spec, config-linux.md): the other way round, the
            // default profile's rule would let every `clone` pass, new user namespaces among them.
            let condition = match a.op() {
                LinuxSeccompOperator::ScmpCmpMaskedEq => {
                    ScmpArgCompare::new(index, ScmpCompareOp::MaskedEqual(a.value()), second)
                }
                op => ScmpArgCompare::new(index, translate_op(op, second), a.value()),
            };
            Some((a.index(), condition))
        })
        .collect();
    // libseccomp takes one condition for each argument of a rule; more of them are alternatives, as in runc.
    let repeated =
        conditions.iter().enumerate().any(|(n, (index, _))| conditions[..n].iter().any(|(i, _)| i == index));
    for name in rule.names() {
        // A name that this libseccomp does not know is a call this kernel need not have: it stays at the default.
        let Ok(syscall) = ScmpSyscall::from_name(name) else { continue };
        if conditions.is_empty() {
            filter.add_rule(action, syscall)?;
        } else if repeated {
            for (_, condition) in &conditions {
                filter.add_rule_conditional(action, syscall, std::slice::from_ref(condition))?;
            }
        } else {
            let all: Vec<_> = conditions.iter().map(|(_, c)| *c).collect();
            filter.add_rule_conditional(action, syscall, &all)?;
        }
    }
    Ok(())
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> ScmpAction {
    let errno = i32::try_from(errno.unwrap_or(1)).unwrap_or(libc::EPERM);
    match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => ScmpAction::KillThread,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(errno),
        LinuxSeccompAction::ScmpActTrace => ScmpAction::Trace(u16::try_from(errno).unwrap_or(1)),
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActNotify => ScmpAction::Notify,
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
    }
}

fn translate_op(op: LinuxSeccompOperator, mask: u64) -> ScmpCompareOp {
    match op {
        LinuxSeccompOperator::ScmpCmpNe => ScmpCompareOp::NotEqual,
        LinuxSeccompOperator::ScmpCmpLt => ScmpCompareOp::Less,
        LinuxSeccompOperator::ScmpCmpLe => ScmpCompareOp::LessOrEqual,
        LinuxSeccompOperator::ScmpCmpEq => ScmpCompareOp::Equal,
        LinuxSeccompOperator::ScmpCmpGe => ScmpCompareOp::GreaterEqual,
        LinuxSeccompOperator::ScmpCmpGt => ScmpCompareOp::Greater,
        LinuxSeccompOperator::ScmpCmpMaskedEq => ScmpCompareOp::MaskedEqual(mask),
    }
}

fn translate_arch(arch: Arch) -> ScmpArch {
    match arch {
        Arch::ScmpArchNative => ScmpArch::Native,
        Arch::ScmpArchX86 => ScmpArch::X86,
        Arch::ScmpArchX86_64 => ScmpArch::X8664,
        Arch::ScmpArchX32 => ScmpArch::X32,
        Arch::ScmpArchArm => ScmpArch::Arm,
        Arch::ScmpArchAarch64 => ScmpArch::Aarch64,
        Arch::ScmpArchMips => ScmpArch::Mips,
        Arch::ScmpArchMips64 => ScmpArch::Mips64,
        Arch::ScmpArchMips64n32 => ScmpArch::Mips64N32,
        Arch::ScmpArchMipsel => ScmpArch::Mipsel,
        Arch::ScmpArchMipsel64 => ScmpArch::Mipsel64,
        Arch::ScmpArchMipsel64n32 => ScmpArch::Mipsel64N32,
        Arch::ScmpArchPpc => ScmpArch::Ppc,
        Arch::ScmpArchPpc64 => ScmpArch::Ppc64,
        Arch::ScmpArchPpc64le => ScmpArch::Ppc64Le,
        Arch::ScmpArchS390 => ScmpArch::S390,
        Arch::ScmpArchS390x => ScmpArch::S390X,
        Arch::ScmpArchRiscv64 => ScmpArch::Riscv64,
        Arch::ScmpArchParisc => ScmpArch::Parisc,
        Arch::ScmpArchParisc64 => ScmpArch::Parisc64,
        _ => ScmpArch::Native,
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{LinuxSeccompArgBuilder, LinuxSeccompBuilder, LinuxSyscallBuilder};

    use super::*;

    fn program(masked: Option<u64>) -> Vec<u8> {
        let args = masked.map(|mask| {
            let arg = LinuxSeccompArgBuilder::default().index(0usize).value(mask).value_two(0u64);
            vec![arg.op(LinuxSeccompOperator::ScmpCmpMaskedEq).build().unwrap()]
        });
        let rule = LinuxSyscallBuilder::default()
            .names(vec!["clone".to_owned()])
            .action(LinuxSeccompAction::ScmpActAllow)
            .args(args.unwrap_or_default())
            .build()
            .unwrap();
        let profile = LinuxSeccompBuilder::default()
            .default_action(LinuxSeccompAction::ScmpActErrno)
            .architectures(vec![Arch::ScmpArchX86_64])
            .syscalls(vec![rule])
            .build()
            .unwrap();
        export(&compile(&profile).unwrap()).unwrap()
    }

    #[test]
    fn the_mask_of_a_comparison_reaches_the_program() {
        // All namespace flags, as in Docker's default profile: `clone` with one of them must not pass.
        let mask = 0x7e02_0000;
        let masked = program(Some(mask));
        assert!(masked.windows(4).any(|w| w == u32::try_from(mask).unwrap().to_le_bytes()), "{masked:x?}");
        assert_ne!(masked, program(None));
    }
}
