//! The last words of a container: what it wrote to its termination log, or the end of its output.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use agent_core::log;

/// Longest message from the file, in bytes.
const MAX_MESSAGE: u64 = 4096;
/// Longest message from the log, in bytes and lines.
const MAX_LOG_MESSAGE: usize = 2048;
const MAX_LOG_LINES: usize = 80;
/// How much of the log's end is looked at.
const LOG_WINDOW: u64 = 16 << 10;

/// The message; empty if there is none. `log` is looked at when the file is empty.
pub fn message(file: &Path, log: Option<&Path>) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(file) {
        // What cannot be read is no message.
        let _ = file.take(MAX_MESSAGE).read_to_end(&mut bytes);
    }
    if bytes.is_empty()
        && let Some(log) = log
    {
        return from_log(log).unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn from_log(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(LOG_WINDOW))).ok()?;
    let mut bytes = Vec::new();
    file.take(LOG_WINDOW).read_to_end(&mut bytes).ok()?;
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let texts: Vec<_> = lines
        .iter()
        .filter_map(|line| log::parse(line))
        .map(|line| String::from_utf8_lossy(line.text).into_owned())
        .collect();
    let skip = texts.len().saturating_sub(MAX_LOG_LINES);
    let mut text = texts[skip..].join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    let mut from = text.len().saturating_sub(MAX_LOG_MESSAGE);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    Some(text.split_off(from))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_file_counts_before_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let (words, log) = (dir.path().join("w"), dir.path().join("l"));
        let mut out = File::create(&log).unwrap();
        for n in 0..100 {
            writeln!(out, "2026-11-20T08:00:00Z stderr F line {n}").unwrap();
        }
        assert_eq!(message(&words, None), "");
        let text = message(&words, Some(&log));
        assert!(text.starts_with("line 20\n") && text.ends_with("line 99\n"), "{text}");
        File::create(&words).unwrap().write_all(b"bye").unwrap();
        assert_eq!(message(&words, Some(&log)), "bye");
    }
}
