//! A small mutational fuzzer: changes seeds at random and hands them to a target that must neither panic nor take long.
//!
//! A target is an ordinary test beside the parser it tries, so that it sees what is private. As a test it runs for a moment
//! with the same numbers each time; `cargo xtask fuzz` runs the same test for long, with numbers of its own
//! (`WEFT_FUZZ_SECONDS`). An input that breaks the target is written to `target/fuzz` and becomes a seed or a test.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How long a target runs as an ordinary test.
const MOMENT: Duration = Duration::from_millis(300);
/// An input that takes longer is a find.
const SLOW: Duration = Duration::from_secs(2);
/// Longest input.
const LONGEST: usize = 64 << 10;
/// Bytes at which parsers have their limits.
const ODD: &[u8] = &[0, 1, 0x1f, 0x20, b'"', b'\\', b'/', b'.', b'0', b'9', 0x7f, 0x80, 0xc3, 0xff];

/// Numbers by xorshift: the same for the same start.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap_or(0) % below.max(1)
    }
}

/// Tries `target` on mutations of `seeds`, with `words` of its language thrown in.
///
/// # Panics
/// When an input breaks the target; the message names the file it was written to.
pub fn run(name: &str, seeds: &[Vec<u8>], words: &[&str], mut target: impl FnMut(&[u8])) {
    let seconds = std::env::var("WEFT_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let start = match seconds {
        None => 1,
        Some(_) => {
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| u64::from(now.subsec_nanos()) | 1)
        }
    };
    let limit = seconds.map_or(MOMENT, Duration::from_secs);
    let mut dice = Dice(start.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let begun = Instant::now();
    let (mut tried, mut next) = (0_u64, seeds.to_vec());
    while begun.elapsed() < limit {
        for input in next.drain(..) {
            tried += 1;
            let from = Instant::now();
            let done = catch_unwind(AssertUnwindSafe(|| target(&input)));
            if done.is_err() || from.elapsed() > SLOW {
                let what = if done.is_err() { "breaks" } else { "is slow on" };
                panic!("{name} {what} {} (start {start}, input {tried})", keep(name, &input));
            }
        }
        next = (0..64).map(|_| mutate(seeds, words, &mut dice)).collect();
    }
    if seconds.is_some() {
        let _ = std::fs::create_dir_all(folder());
        let _ = std::fs::write(folder().join(format!("{name}.tried")), tried.to_string());
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/fuzz")
}

fn keep(name: &str, input: &[u8]) -> String {
    let sum = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(input));
    let path = folder().join(format!("{name}-{}", &sum[..12]));
    let written = std::fs::create_dir_all(folder()).and_then(|()| std::fs::write(&path, input));
    match written {
        Ok(()) => path.display().to_string(),
        Err(_) => format!("{input:?}"),
    }
}

fn mutate(seeds: &[Vec<u8>], words: &[&str], dice: &mut Dice) -> Vec<u8> {
    let pick = |dice: &mut Dice| seeds.get(dice.roll(seeds.len())).cloned().unwrap_or_default();
    let mut bytes = pick(dice);
    for _ in 0..=dice.roll(6) {
        let (at, other) = (dice.roll(bytes.len() + 1), dice.roll(bytes.len() + 1));
        let (from, to) = (at.min(other), at.max(other));
        match dice.roll(10) {
            0 => flip(&mut bytes, at, |byte, dice| byte ^ (1 << dice.roll(8)), dice),
            1 => flip(&mut bytes, at, |_, dice| ODD[dice.roll(ODD.len())], dice),
            2 => flip(&mut bytes, at, |_, dice| u8::try_from(dice.roll(256)).unwrap_or(0), dice),
            3 => bytes.truncate(at),
            4 => drop(bytes.drain(from..to.min(from + 64))),
            5 => {
                let piece = bytes[from..to.min(from + 512)].to_vec();
                bytes.splice(at..at, piece);
            }
            6 => {
                let seed = pick(dice);
                let cut = dice.roll(seed.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&seed[cut..]);
            }
            7 | 8 if !words.is_empty() => {
                let word = words[dice.roll(words.len())].as_bytes().to_vec();
                bytes.splice(at..at, word);
            }
            _ => {
                let byte = ODD[dice.roll(ODD.len())];
                bytes.splice(at..at, std::iter::repeat_n(byte, 1 << dice.roll(10)));
            }
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

fn flip(bytes: &mut [u8], at: usize, change: impl Fn(u8, &mut Dice) -> u8, dice: &mut Dice) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = change(*byte, dice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_found_and_kept() {
        let found = catch_unwind(|| {
            run("self-test", &[b"harmless".to_vec()], &["bug!"], |input| {
                assert!(!input.windows(4).any(|w| w == b"bug!"), "found");
            });
        });
        let text = found.expect_err("a find").downcast_ref::<String>().cloned().unwrap_or_default();
        assert!(text.starts_with("self-test breaks "), "{text}");
        let path = text.split(' ').nth(2).unwrap();
        assert!(std::fs::read(path).unwrap().windows(4).any(|w| w == b"bug!"));
        std::fs::remove_file(path).unwrap();
    }
}
