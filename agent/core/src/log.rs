//! Lines of container logs as the runtime writes them: `TIME STREAM TAG TEXT`.

use jiff::Timestamp;

/// One line, or a part of a long one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogLine<'a> {
    /// As written, with nanoseconds.
    pub time: &'a str,
    pub stderr: bool,
    /// More of the same line follows.
    pub partial: bool,
    /// Without the line feed.
    pub text: &'a [u8],
}

impl LogLine<'_> {
    /// When it was written.
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }
}

/// Parses a line without its line feed; `None` for what the runtime did not write.
pub fn parse(line: &[u8]) -> Option<LogLine<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stderr = match parts.next()? {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    let partial = parts.next()?.starts_with(b"P");
    Some(LogLine { time, stderr, partial, text: parts.next().unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_parse() {
        let line = parse(b"2026-11-20T08:00:00.123456789Z stderr P some  text").unwrap();
        assert!(line.stderr && line.partial);
        assert_eq!(line.text, b"some  text");
        assert_eq!(line.timestamp().unwrap().subsec_nanosecond(), 123_456_789);
        assert_eq!(parse(b"2026-11-20T08:00:00Z stdout F ").unwrap().text, b"");
        assert_eq!(parse(b"garbage"), None);
    }
}
