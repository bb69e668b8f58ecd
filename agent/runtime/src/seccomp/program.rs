//! From rules to a program of classic BPF, as the kernel runs it at every system call.

use std::collections::BTreeMap;
use std::io;

use agent_sys::BpfInstruction;
use nix::libc;

/// What becomes of one call. Arguments are looked at by their first, as 32 bits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Check {
    Allow,
    /// If the argument has none of these bits.
    AllowWithout(u32),
    /// If the argument is none of these.
    AllowExcept(&'static [u32]),
    /// If the argument is one of these.
    AllowOnly(&'static [u32]),
    /// As if the kernel did not know it: whoever asks falls back to what came before.
    NotImplemented,
    /// No rule speaks of it.
    Forbid,
}

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const FORBIDDEN: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
const NOT_IMPLEMENTED: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();

/// Where `seccomp_data` holds the number, the architecture, and the lower half of the first argument.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENT: u32 = if cfg!(target_endian = "little") { 16 } else { 20 };

/// First number of the x32 interface, and of what is no system call at all.
const FOREIGN: u32 = 0x4000_0000;

// Operations: load a word, jump, jump if equal, if not less, if a bit is set, answer.
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const EQUAL: u16 = 0x15;
const AT_LEAST: u16 = 0x35;
const ANY_BIT: u16 = 0x45;
const ANSWER: u16 = 0x06;

fn native_architecture() -> io::Result<u32> {
    Ok(match std::env::consts::ARCH {
        "x86_64" => 0xc000_003e,
        "aarch64" => 0xc000_00b7,
        "riscv64" => 0xc000_00f3,
        other => return Err(io::Error::other(format!("no system call numbers for {other}"))),
    })
}

fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> BpfInstruction {
    BpfInstruction { code, jt, jf, k }
}

fn answer(verdict: u32) -> BpfInstruction {
    instruction(ANSWER, 0, 0, verdict)
}

/// The whole program. Calls after `youngest` are answered as not implemented.
pub(super) fn assemble(
    rules: &BTreeMap<u32, Check>,
    youngest: i64,
) -> io::Result<Vec<BpfInstruction>> {
    let youngest = u32::try_from(youngest).map_err(io::Error::other)?;
    let mut program = vec![
        instruction(LOAD, 0, 0, ARCHITECTURE),
        instruction(EQUAL, 1, 0, native_architecture()?),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
        instruction(LOAD, 0, 0, NUMBER),
    ];
    program.extend(search(&ranges(rules, youngest))?);
    Ok(program)
}

/// All numbers, cut where something else becomes of them: first number of each range, and what.
fn ranges(rules: &BTreeMap<u32, Check>, youngest: u32) -> Vec<(u32, Check)> {
    let mut points: BTreeMap<u32, Check> = BTreeMap::from([(0, Check::Forbid)]);
    for (number, check) in rules {
        points.insert(*number, *check);
        points.entry(number + 1).or_insert(Check::Forbid);
    }
    points.retain(|number, _| *number <= youngest);
    points.insert(youngest + 1, Check::NotImplemented);
    points.insert(FOREIGN, Check::Forbid);
    let mut ranges: Vec<(u32, Check)> = Vec::new();
    for (number, check) in points {
        if ranges.last().is_none_or(|(_, before)| *before != check) {
            ranges.push((number, check));
        }
    }
    ranges
}

/// Halves the ranges until one is left.
fn search(ranges: &[(u32, Check)]) -> io::Result<Vec<BpfInstruction>> {
    if let [(_, check)] = ranges {
        return verdict(*check);
    }
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let Some((first, _)) = upper.first() else { return verdict(Check::Forbid) };
    let (lower, upper) = (search(lower)?, search(upper)?);
    let mut program = match u8::try_from(lower.len()) {
        Ok(skip) => vec![instruction(AT_LEAST, skip, 0, *first)],
        // Too far for a jump with a condition.
        Err(_) => vec![
            instruction(AT_LEAST, 0, 1, *first),
            instruction(JUMP, 0, 0, u32::try_from(lower.len()).map_err(io::Error::other)?),
        ],
    };
    program.extend(lower);
    program.extend(upper);
    Ok(program)
}

fn verdict(check: Check) -> io::Result<Vec<BpfInstruction>> {
    let load = instruction(LOAD, 0, 0, ARGUMENT);
    Ok(match check {
        Check::Allow => vec![answer(ALLOW)],
        Check::NotImplemented => vec![answer(NOT_IMPLEMENTED)],
        Check::Forbid => vec![answer(FORBIDDEN)],
        Check::AllowWithout(bits) => {
            vec![load, instruction(ANY_BIT, 1, 0, bits), answer(ALLOW), answer(FORBIDDEN)]
        }
        Check::AllowExcept(values) => one_of(load, values, FORBIDDEN, ALLOW)?,
        Check::AllowOnly(values) => one_of(load, values, ALLOW, FORBIDDEN)?,
    })
}

/// One verdict for these values of the argument, another for all others.
fn one_of(
    load: BpfInstruction,
    values: &[u32],
    listed: u32,
    others: u32,
) -> io::Result<Vec<BpfInstruction>> {
    let mut program = vec![load];
    for (at, value) in values.iter().enumerate() {
        // Over the comparisons that follow, and the verdict for the others.
        let skip = u8::try_from(values.len() - at).map_err(io::Error::other)?;
        program.push(instruction(EQUAL, skip, 0, *value));
    }
    program.extend([answer(others), answer(listed)]);
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::super::{rules, table};
    use super::*;

    /// What the kernel would do.
    fn run(program: &[BpfInstruction], architecture: u32, number: u32, argument: u32) -> u32 {
        let (mut at, mut word) = (0, 0);
        loop {
            let BpfInstruction { code, jt, jf, k } = program[at];
            at += 1;
            let mut branch = |taken: bool| at += usize::from(if taken { jt } else { jf });
            match code {
                LOAD => {
                    word = match k {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        ARGUMENT => argument,
                        other => panic!("load from {other}"),
                    };
                }
                EQUAL => branch(word == k),
                AT_LEAST => branch(word >= k),
                ANY_BIT => branch(word & k != 0),
                JUMP => at += usize::try_from(k).unwrap(),
                ANSWER => return k,
                other => panic!("operation {other:#x}"),
            }
        }
    }

    /// What the rules say, one by one.
    fn expected(rules: &BTreeMap<u32, Check>, number: u32, argument: u32) -> u32 {
        let younger = i64::from(number) > table::YOUNGEST && number < FOREIGN;
        let allowed = match rules.get(&number) {
            Some(Check::NotImplemented) => return NOT_IMPLEMENTED,
            _ if younger => return NOT_IMPLEMENTED,
            Some(Check::Allow) => true,
            Some(Check::AllowWithout(bits)) => argument & bits == 0,
            Some(Check::AllowExcept(values)) => !values.contains(&argument),
            Some(Check::AllowOnly(values)) => values.contains(&argument),
            Some(Check::Forbid) | None => false,
        };
        if allowed { ALLOW } else { FORBIDDEN }
    }

    #[test]
    fn every_number_gets_the_verdict_of_its_rule() {
        let native = native_architecture().unwrap();
        let edges = [FOREIGN - 1, FOREIGN, FOREIGN + 1, FOREIGN + 59, u32::MAX];
        let arguments =
            [0, 1, 8, 37, 38, 39, 40, 41, 0x11, 0x80, 0x0002_0000, 0x1000_0000, u32::MAX];
        for capabilities in [0, 0xa804_25fb, 1 << table::CAP_SYS_ADMIN, u64::MAX] {
            let rules = rules(capabilities);
            let program = assemble(&rules, table::YOUNGEST).unwrap();
            for number in (0..1000).chain(edges) {
                for argument in arguments {
                    let verdict = run(&program, native, number, argument);
                    assert_eq!(
                        verdict,
                        expected(&rules, number, argument),
                        "{number}({argument:#x})"
                    );
                }
            }
            assert_eq!(run(&program, native ^ 1, 0, 0), libc::SECCOMP_RET_KILL_PROCESS);
        }
    }

    #[test]
    fn far_jumps_are_made_in_two_steps() {
        // Every other number: as many ranges as there can be.
        let rules: BTreeMap<u32, Check> = (0..300).map(|it| (it * 2, Check::Allow)).collect();
        let program = assemble(&rules, 600).unwrap();
        assert!(program.iter().any(|it| it.code == JUMP));
        let native = native_architecture().unwrap();
        for number in 0..601 {
            let want = if number % 2 == 0 && number < 600 { ALLOW } else { FORBIDDEN };
            assert_eq!(run(&program, native, number, 0), want, "{number}");
        }
    }
}
