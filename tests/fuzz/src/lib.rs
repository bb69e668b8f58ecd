//! Fuzzing on a stable toolchain: valid inputs are mutated, by bytes and by structure, and given to a parser.
//!
//! A target is a test like any other, beside the parser that it tries: `cargo test` runs it for a bounded number of inputs
//! from a fixed seed. `cargo xtask fuzz <target>` runs the same test for as long as is wanted, with another seed each
//! time. A panic, an input that takes too long, and memory without bound are failures; the input that caused one is
//! printed in a form that can be added to the target's seeds, where it is tried first in every run from then on.
//!
//! Must never be a dependency of the product.

mod mutate;
mod random;
mod watch;

use std::{
    any::Any,
    fmt::Write,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{mutate::Mutator, random::Random, watch::Watch};

/// Set by `cargo xtask fuzz`: how many seconds to go on.
pub const SECONDS: &str = "OUTBYE_FUZZ_SECONDS";
/// Set by `cargo xtask fuzz`: where inputs are written.
pub const DIR: &str = "OUTBYE_FUZZ_DIR";

/// An input that takes longer, in a build without optimisation, is a hang.
const PATIENCE: Duration = Duration::from_secs(4);
/// What the process may have taken at its worst moment, in KiB. Inputs are of some kilobytes.
const MEMORY_KIB: u64 = 1 << 20;
/// Seeds of one target that are remembered while it runs.
const POOL: usize = 256;

/// One parser and what it is tried with.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    name: &'a str,
    seeds: &'a [&'a [u8]],
    words: &'a [&'a str],
    runs: u32,
    longest: usize,
}

impl<'a> Target<'a> {
    /// A target with valid inputs, and inputs that once caused a failure.
    pub const fn new(name: &'a str, seeds: &'a [&'a [u8]]) -> Self {
        Self { name, seeds, words: &[], runs: 2000, longest: 1 << 14 }
    }

    /// Words of the language, to be strewn in.
    #[must_use]
    pub const fn words(self, words: &'a [&'a str]) -> Self {
        Self { words, ..self }
    }

    /// How many inputs are tried where the time is not given.
    #[must_use]
    pub const fn runs(self, runs: u32) -> Self {
        Self { runs, ..self }
    }

    /// Bytes of an input, at most.
    #[must_use]
    pub const fn longest(self, longest: usize) -> Self {
        Self { longest, ..self }
    }

    /// Tries inputs. `interesting` is told by the return value: inputs that got far are mutated again.
    ///
    /// # Panics
    /// If an input makes `check` panic, take too long, or take too much memory.
    pub fn check(self, check: impl Fn(&[u8]) -> bool) {
        let length = std::env::var(SECONDS).ok().and_then(|it| it.parse().ok());
        let dir = std::env::var_os(DIR).map(PathBuf::from);
        let mut random = match length {
            Some(_) => Random::drawn(),
            None => Random::new(0x6f75_7462_7965),
        };
        let watch = Watch::new(self.name);
        let until = length.map(|seconds| watch.now() + Duration::from_secs(seconds));
        let mut pool: Vec<Vec<u8>> = self.seeds.iter().map(|it| it.to_vec()).collect();
        for input in &pool {
            self.try_one(input, &check, &watch, dir.as_deref());
        }
        let mutator = Mutator::new(self.words, self.longest);
        let mut run = 0;
        loop {
            match until {
                Some(until) if watch.now() >= until => break,
                None if run >= self.runs => break,
                Some(_) | None => {}
            }
            run += 1;
            let input = mutator.mutate(&pool, &mut random);
            let good = self.try_one(&input, &check, &watch, dir.as_deref());
            if good && random.below(8) == 0 {
                if pool.len() < POOL {
                    pool.push(input);
                } else {
                    let place = self.seeds.len() + random.below(POOL - self.seeds.len());
                    pool[place] = input;
                }
            }
        }
        let most = watch::peak_kib();
        assert!(most < MEMORY_KIB, "{}: the process took {most} KiB", self.name);
        if until.is_some() {
            watch.say(run);
        }
    }

    /// Whether the parser liked the input.
    fn try_one(
        &self,
        input: &[u8],
        check: &impl Fn(&[u8]) -> bool,
        watch: &Watch,
        dir: Option<&Path>,
    ) -> bool {
        if let Some(dir) = dir {
            // Should the process end without a word, this is the input.
            write(&dir.join(format!("{}.current", self.name)), input);
        }
        watch.begin(input);
        let before = watch.now();
        let result = catch_unwind(AssertUnwindSafe(|| check(input)));
        let took = watch.now() - before;
        watch.end();
        match result {
            Ok(good) => {
                if took > PATIENCE {
                    self.fail(input, dir, &format!("took {took:?}"));
                }
                good
            }
            Err(payload) => {
                let smaller =
                    smallest(input, |it| catch_unwind(AssertUnwindSafe(|| check(it))).is_err());
                self.fail(&smaller, dir, &text_of(&*payload))
            }
        }
    }

    fn fail(&self, input: &[u8], dir: Option<&Path>, why: &str) -> ! {
        if let Some(dir) = dir {
            write(&dir.join(format!("{}.failure", self.name)), input);
        }
        panic!("{}: {why}\ninput ({} bytes): {}", self.name, input.len(), literal(input))
    }
}

/// The input without what is not needed for it to fail.
fn smallest(input: &[u8], fails: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut input = input.to_vec();
    let mut piece = input.len() / 2;
    let mut tries = 2000;
    while piece > 0 {
        let mut at = 0;
        while at < input.len() && tries > 0 {
            tries -= 1;
            let end = (at + piece).min(input.len());
            let shorter = [&input[..at], &input[end..]].concat();
            if fails(&shorter) {
                input = shorter;
            } else {
                at = end;
            }
        }
        piece /= 2;
    }
    input
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}

/// As it can be added to a target's seeds.
fn literal(input: &[u8]) -> String {
    let mut out = String::from("b\"");
    for byte in input {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            b'\n' => out.push_str("\\n"),
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
    out.push('"');
    out
}

#[expect(clippy::disallowed_methods, reason = "a note for whoever looks for the failure, not data")]
fn write(path: &Path, input: &[u8]) {
    // Without it the failure is still printed, if the process lives to print it.
    let _ = fs::write(path, input);
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn failure(target: Target<'_>, check: impl Fn(&[u8]) -> bool) -> String {
        let result = catch_unwind(AssertUnwindSafe(|| target.check(check)));
        text_of(&*result.unwrap_err())
    }

    #[test]
    fn a_panic_is_found_and_its_input_made_small() {
        let target = Target::new("digits", &[b"some text, 100 and more of it"]);
        let text = failure(target, |input| {
            assert!(!input.windows(2).any(|it| it == b"99"), "a pair of nines");
            true
        });
        assert_eq!(text, "digits: a pair of nines\ninput (2 bytes): b\"99\"");
    }

    #[test]
    fn structure_is_mutated_as_well_as_bytes() {
        let deepest = Cell::new(0);
        let null = Cell::new(false);
        let target = Target::new("json", &[br#"{"a":{"b":[1,"x"]},"c":true}"#]);
        target.check(|input| {
            let text = String::from_utf8_lossy(input);
            let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) else { return false };
            deepest.set(deepest.get().max(text.matches('[').count()));
            null.set(null.get() || value["a"]["b"][0].is_null() && value["c"] == true);
            true
        });
        assert!(deepest.get() > 50 && null.get());
    }

    #[test]
    fn the_same_inputs_are_tried_in_every_run() {
        let inputs = |seed| {
            let (mutator, mut random) = (Mutator::new(&["word"], 100), Random::new(seed));
            let pool = [b"abc".to_vec(), b"{\"a\":1}".to_vec()];
            (0..100).map(|_| mutator.mutate(&pool, &mut random)).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        assert!(inputs(1).iter().all(|it| it.len() <= 100));
    }

    #[test]
    fn literals_can_be_pasted() {
        assert_eq!(literal(b"a\"\\\n\x00\xff~"), r#"b"a\"\\\n\x00\xff~""#);
    }
}
