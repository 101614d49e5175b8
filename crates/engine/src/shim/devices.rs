//! Device rules as a program for the kernel's in-kernel machine (cgroup version 2).
//!
//! The kernel hands over kind, access and numbers of the device (`struct bpf_cgroup_dev_ctx`), and takes 1 for "may".
//! Rules are tried from last to first, so that the last one that fits decides; where none fits, nothing is allowed.
//! A permission fits when it covers all that is asked for; a prohibition when it touches any of it.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use weft_sys::bpf::Instruction;

/// `BPF_DEVCG_ACC_*`.
const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;
/// `BPF_DEVCG_DEV_*`.
const BLOCK: i32 = 1;
const CHAR: i32 = 2;

/// Registers: the answer, scratch, kind, access, major, minor.
const R0: u8 = 0;
const R1: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// One rule in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    allow: bool,
    kind: Option<i32>,
    access: i32,
    major: Option<i32>,
    minor: Option<i32>,
}

impl Rule {
    fn of(rule: &LinuxDeviceCgroup) -> Self {
        let number = |n: Option<i64>| n.and_then(|n| i32::try_from(n).ok()).filter(|n| *n >= 0);
        let letters = rule.access().as_deref().unwrap_or("rwm");
        let bits = [('r', READ), ('w', WRITE), ('m', MKNOD)];
        Self {
            allow: rule.allow(),
            kind: match rule.typ() {
                Some(LinuxDeviceType::B) => Some(BLOCK),
                Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(CHAR),
                _ => None,
            },
            access: bits.iter().filter(|(letter, _)| letters.contains(*letter)).map(|(_, bit)| bit).sum(),
            major: number(rule.major()),
            minor: number(rule.minor()),
        }
    }

    fn same_devices(&self, other: &Self) -> bool {
        (self.allow, self.kind, self.major, self.minor) == (other.allow, other.kind, other.major, other.minor)
    }
}

/// What every runtime allows whatever the configuration says (config-linux.md, "Default Devices"; runc's
/// `specconv.AllowedDevices`): making any node, and null, random, full, tty, zero, urandom, ptmx, and terminals.
fn always() -> impl Iterator<Item = Rule> {
    let node = |kind, access, major, minor| Rule { allow: true, kind: Some(kind), access, major, minor };
    let make = [CHAR, BLOCK].map(|kind| node(kind, MKNOD, None, None));
    let all = READ | WRITE | MKNOD;
    let named = [(1, 3), (1, 8), (1, 7), (5, 0), (1, 5), (1, 9), (5, 2)];
    let named = named.into_iter().map(move |(major, minor)| node(CHAR, all, Some(major), Some(minor)));
    make.into_iter().chain(named).chain([node(CHAR, all, Some(136), None)])
}

/// The rules, last first; two permissions for the same devices are one.
fn resolved(rules: &[LinuxDeviceCgroup]) -> Vec<Rule> {
    let mut out: Vec<Rule> = Vec::new();
    let all: Vec<Rule> = rules.iter().map(Rule::of).chain(always()).collect();
    for rule in all.into_iter().rev() {
        match out.iter_mut().find(|known| rule.allow && known.same_devices(&rule)) {
            Some(known) => known.access |= rule.access,
            None => out.push(rule),
        }
    }
    out
}

/// `dst = src + …` in the encoding of `Documentation/bpf/instruction-set.rst`.
fn code(code: u8, dst: u8, src: u8, offset: i16, constant: i32) -> Instruction {
    Instruction { code, registers: src << 4 | dst, offset, constant }
}

/// `dst = *(u32 *)(r1 + offset)`.
fn load(dst: u8, offset: i16) -> Instruction {
    code(0x61, dst, R1, offset, 0)
}

/// `dst = constant`.
fn set(dst: u8, constant: i32) -> Instruction {
    code(0xb7, dst, 0, 0, constant)
}

const EXIT: Instruction = Instruction { code: 0x95, registers: 0, offset: 0, constant: 0 };

/// The program for these rules.
pub(super) fn program(rules: &[LinuxDeviceCgroup]) -> Vec<Instruction> {
    let mut out = vec![
        load(KIND, 0),
        code(0x54, KIND, 0, 0, 0xffff), // kind &= 0xffff
        load(ACCESS, 0),
        code(0x74, ACCESS, 0, 0, 16), // access >>= 16
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    for rule in resolved(rules) {
        let body = conditions(&rule);
        let always = body.is_empty();
        let length = body.len();
        for (n, mut instruction) in body.into_iter().enumerate() {
            // Jumps leave for the next rule: over the rest of the conditions and the two that answer.
            if instruction.code & 0x07 == 0x05 {
                instruction.offset = i16::try_from(length - n - 1 + 2).unwrap_or(i16::MAX);
            }
            out.push(instruction);
        }
        out.extend([set(R0, i32::from(rule.allow)), EXIT]);
        if always {
            // The verifier refuses what cannot be reached.
            return out;
        }
    }
    out.extend([set(R0, 0), EXIT]);
    out
}

/// What must hold for a rule to decide; each jump is taken when it does not.
fn conditions(rule: &Rule) -> Vec<Instruction> {
    let differs = |register, value| code(0x55, register, 0, 0, value); // if register != value goto
    let mut out = Vec::new();
    if let Some(kind) = rule.kind {
        out.push(differs(KIND, kind));
    }
    if rule.access != READ | WRITE | MKNOD {
        out.push(code(0xbc, R1, ACCESS, 0, 0)); // r1 = access
        out.push(code(0x54, R1, 0, 0, rule.access)); // r1 &= rule's
        out.push(match rule.allow {
            true => code(0x5d, R1, ACCESS, 0, 0), // if r1 != access goto
            false => code(0x15, R1, 0, 0, 0),     // if r1 == 0 goto
        });
    }
    out.extend(rule.major.map(|major| differs(MAJOR, major)));
    out.extend(rule.minor.map(|minor| differs(MINOR, minor)));
    out
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::LinuxDeviceCgroupBuilder;

    use super::*;

    fn rule(allow: bool, text: &str) -> LinuxDeviceCgroup {
        let words: Vec<&str> = text.split([' ', ':']).collect();
        let kind = match words[0] {
            "b" => LinuxDeviceType::B,
            "c" => LinuxDeviceType::C,
            _ => LinuxDeviceType::A,
        };
        let mut made =
            LinuxDeviceCgroupBuilder::default().allow(allow).typ(kind).access(words[3]).build().unwrap();
        made.set_major(words[1].parse().ok()).set_minor(words[2].parse().ok());
        made
    }

    /// Runs a program as the kernel would.
    fn ask(program: &[Instruction], kind: i32, access: i32, major: i32, minor: i32) -> bool {
        let mut r = [0_i64; 11];
        let mut at = 0_usize;
        for _ in 0..10_000 {
            let i = program[at];
            let (dst, src) = (usize::from(i.registers & 15), usize::from(i.registers >> 4));
            at += 1;
            let jumps = match i.code {
                0x61 => {
                    r[dst] = i64::from(
                        [access << 16 | kind, major, minor][usize::try_from(i.offset).unwrap() / 4],
                    );
                    false
                }
                0x54 => {
                    r[dst] &= i64::from(i.constant);
                    false
                }
                0x74 => {
                    r[dst] >>= i.constant;
                    false
                }
                0xb7 => {
                    r[dst] = i64::from(i.constant);
                    false
                }
                0xbc => {
                    r[dst] = r[src];
                    false
                }
                0x55 => r[dst] != i64::from(i.constant),
                0x15 => r[dst] == i64::from(i.constant),
                0x5d => r[dst] != r[src],
                0x95 => return r[0] == 1,
                other => panic!("instruction {other:#x}"),
            };
            if jumps {
                at += usize::try_from(i.offset).unwrap();
            }
        }
        panic!("it does not end")
    }

    #[test]
    fn the_last_rule_that_fits_decides() {
        let rules = [
            rule(false, "a *:* rwm"),
            rule(true, "b 254:* r"),
            rule(true, "c 5:1 r"),
            rule(true, "c 5:1 w"),
            rule(false, "b 254:7 rwm"),
        ];
        let program = program(&rules);
        for (kind, access, major, minor, may) in [
            (CHAR, READ | WRITE, 1, 3, true),
            (CHAR, READ, 1, 1, false),
            (CHAR, MKNOD, 1, 1, true),
            (CHAR, MKNOD | READ, 1, 1, false),
            (BLOCK, READ, 254, 0, true),
            (BLOCK, READ | WRITE, 254, 0, false),
            (BLOCK, READ, 254, 7, false),
            (BLOCK, MKNOD, 8, 0, true),
            (CHAR, READ | WRITE, 136, 3, true),
            (CHAR, READ | WRITE, 5, 1, true),
        ] {
            assert_eq!(ask(&program, kind, access, major, minor), may, "{kind} {access} {major}:{minor}");
        }
    }

    #[test]
    fn a_rule_for_all_ends_the_program() {
        let everything = program(&[rule(false, "b 1:1 r"), rule(true, "a *:* rwm")]);
        assert_eq!(everything[everything.len() - 2..], [set(R0, 1), EXIT]);
        assert!(ask(&everything, BLOCK, READ | WRITE | MKNOD, 1, 1));
        assert!(!ask(&program(&[]), CHAR, READ, 1, 1) && ask(&program(&[]), CHAR, READ, 1, 3));
    }
}
