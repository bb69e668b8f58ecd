//! Makes inputs of inputs.
//!
//! Half of them by bytes: flipped, removed, repeated, spliced, numbers at their limits, words strewn in. The other half, where
//! the input is JSON, by structure: nodes replaced, moved, doubled, nested; so that what comes out is still read.

use serde_json::{Map, Value};

use crate::random::Random;

const NUMBERS: [u64; 16] = [
    0,
    1,
    2,
    7,
    16,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x00ff_ffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];
const TEXTS: [&str; 24] = [
    "",
    "0",
    "-1",
    "1e400",
    "-0",
    "0.1",
    "9223372036854775808",
    "18446744073709551616",
    "NaN",
    "null",
    "true",
    "\u{0}",
    "\u{feff}",
    "\u{202e}",
    "\u{10ffff}",
    "ä",
    "..",
    "/",
    "%00",
    "\n",
    "\r\n\r\n",
    "{{}}",
    "[[[[",
    "\"",
];
/// Nested so deep, some texts and objects come to their bounds.
const DEEP: usize = 300;

pub(crate) struct Mutator<'a> {
    words: &'a [&'a str],
    longest: usize,
}

impl<'a> Mutator<'a> {
    pub(crate) fn new(words: &'a [&'a str], longest: usize) -> Self {
        Self { words, longest }
    }

    /// A new input from one or two of the pool.
    pub(crate) fn mutate(&self, pool: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
        let nothing = Vec::new();
        let from = random.pick(pool).unwrap_or(&nothing);
        let mut input = from.clone();
        if random.below(2) == 0
            && let Ok(mut value) = serde_json::from_slice::<Value>(&input)
        {
            let other = random.pick(pool).unwrap_or(&nothing);
            let other = serde_json::from_slice(other).unwrap_or(Value::Null);
            for _ in 0..=random.below(3) {
                self.mutate_value(&mut value, &other, random);
            }
            input = serde_json::to_vec(&value).unwrap_or(input);
            if random.below(4) != 0 {
                input.truncate(self.longest);
                return input;
            }
        }
        for _ in 0..=random.small(6) {
            let other = random.pick(pool).unwrap_or(&nothing);
            self.mutate_bytes(&mut input, other, random);
        }
        input.truncate(self.longest);
        input
    }

    fn mutate_bytes(&self, input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
        let at = random.below(input.len() + 1);
        let end = at + random.small(input.len() - at + 1);
        match random.below(12) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            1 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = random.byte();
                }
            }
            2 => drop(input.drain(at..end)),
            3 => input.truncate(at),
            4 => {
                let piece = input[at..end].to_vec();
                insert(input, at, &piece);
            }
            5 => {
                let piece = input[at..end].to_vec();
                let times = 1 + random.small(self.longest / piece.len().max(1) + 1);
                insert(input, at, &piece.repeat(times));
            }
            6 => {
                let from = random.below(other.len() + 1);
                let to = from + random.small(other.len() - from + 1);
                input.splice(at..end, other[from..to].iter().copied());
            }
            7 => {
                let number = random.pick(&NUMBERS).copied().unwrap_or(0);
                let width = 1 << random.below(4);
                let bytes = match random.below(2) {
                    0 => number.to_le_bytes()[..width].to_vec(),
                    _ => number.to_be_bytes()[8 - width..].to_vec(),
                };
                let to = (at + width).min(input.len());
                input.splice(at..to, bytes);
            }
            8 => {
                let bytes: Vec<u8> = (0..random.small(32)).map(|_| random.byte()).collect();
                insert(input, at, &bytes);
            }
            9 => {
                let text = random.pick(&TEXTS).copied().unwrap_or("");
                input.splice(at..end, text.bytes());
            }
            _ => {
                let word = random.pick(self.words).copied().unwrap_or(" ");
                let to = if random.below(2) == 0 { at } else { end };
                input.splice(at..to, word.bytes());
            }
        }
    }

    fn mutate_value(&self, value: &mut Value, other: &Value, random: &mut Random) {
        let size = count(value);
        let mut place = random.below(size);
        let Some(node) = nth(value, &mut place) else { return };
        match random.below(10) {
            0 | 1 => *node = self.leaf(random),
            2 => {
                let mut place = random.below(count(other));
                let mut other = other.clone();
                if let Some(found) = nth(&mut other, &mut place) {
                    *node = found.take();
                }
            }
            3 => {
                let mut deep = node.take();
                let list = random.below(2) == 0;
                for _ in 0..random.small(DEEP) {
                    deep = if list {
                        Value::Array(vec![deep])
                    } else {
                        Value::Object(
                            [(self.text(random), deep)].into_iter().collect::<Map<_, _>>(),
                        )
                    };
                }
                *node = deep;
            }
            _ => match node {
                Value::Array(items) => {
                    let at = random.below(items.len() + 1);
                    match random.below(4) {
                        0 if at < items.len() => drop(items.remove(at)),
                        1 => items.insert(at, self.leaf(random)),
                        2 if at > 0 => {
                            let item = items[at - 1].clone();
                            items.extend(vec![item; 1 + random.small(64)]);
                        }
                        _ => items.reverse(),
                    }
                }
                Value::Object(fields) => {
                    let keys: Vec<String> = fields.keys().cloned().collect();
                    let key = random.pick(&keys).cloned().unwrap_or_default();
                    let removed = fields.remove(&key);
                    match random.below(4) {
                        0 => {}
                        1 => {
                            fields.insert(self.text(random), removed.unwrap_or_default());
                        }
                        2 => {
                            fields.insert(key, removed.unwrap_or_default());
                            fields.insert(self.text(random), self.leaf(random));
                        }
                        _ => {
                            fields.insert(key, self.leaf(random));
                        }
                    }
                }
                Value::String(text) => {
                    let mut bytes = std::mem::take(text).into_bytes();
                    self.mutate_bytes(&mut bytes, b"", random);
                    *text = String::from_utf8_lossy(&bytes).into_owned();
                }
                Value::Null | Value::Bool(_) | Value::Number(_) => *node = self.leaf(random),
            },
        }
    }

    fn leaf(&self, random: &mut Random) -> Value {
        match random.below(9) {
            0 => Value::Null,
            1 => Value::Bool(random.below(2) == 0),
            2 => random.pick(&NUMBERS).copied().unwrap_or(0).into(),
            3 => i64::MIN.into(),
            4 => (-1).into(),
            5 => Value::Array(Vec::new()),
            6 => Value::Object(Map::new()),
            _ => self.text(random).into(),
        }
    }

    fn text(&self, random: &mut Random) -> String {
        let from = if random.below(3) == 0 { &TEXTS } else { self.words };
        let word = random.pick(from).copied().unwrap_or("x");
        match random.below(16) {
            0 => word.repeat(1 + random.small(300)),
            _ => word.to_owned(),
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    input.splice(at..at, bytes.iter().copied());
}

/// How many nodes there are.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// The node at this place, from the top.
fn nth<'a>(value: &'a mut Value, place: &mut usize) -> Option<&'a mut Value> {
    if *place == 0 {
        return Some(value);
    }
    *place -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|it| nth(it, place)),
        Value::Object(fields) => fields.values_mut().find_map(|it| nth(it, place)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}
