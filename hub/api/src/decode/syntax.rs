//! Broken JSON, told in the words of Go's parser.

use std::fmt::Write as _;

/// Bytes of a body that an error shows.
const SHOWN: usize = 30;

pub(super) fn go_json_error(error: &serde_json::Error, body: &[u8]) -> String {
    match error.classify() {
        serde_json::error::Category::Eof => "unexpected end of JSON input".to_owned(),
        serde_json::error::Category::Data => {
            let what = match body.trim_ascii_start().first() {
                Some(b'[') => "array",
                Some(b'"') => "string",
                Some(b't' | b'f') => "bool",
                _ => "number",
            };
            format!(
                "json: cannot unmarshal {what} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
            )
        }
        serde_json::error::Category::Io | serde_json::error::Category::Syntax => {
            let text = error.to_string();
            if text.starts_with("recursion limit exceeded") {
                return "exceeded max depth".to_owned();
            }
            let wrong = char_at(body, error.line(), error.column());
            match wrong {
                Some(c) if text.starts_with("trailing characters") => {
                    format!("invalid character {} after top-level value", go_char(c))
                }
                Some(c) if text.starts_with("key must be a string") => {
                    format!(
                        "invalid character {} looking for beginning of object key string",
                        go_char(c)
                    )
                }
                Some(c) if text.starts_with("expected `:`") => {
                    format!("invalid character {} after object key", go_char(c))
                }
                Some(c) if text.starts_with("expected `,` or `}`") => {
                    format!("invalid character {} after object key:value pair", go_char(c))
                }
                Some(c) if text.starts_with("expected `,` or `]`") => {
                    format!("invalid character {} after array element", go_char(c))
                }
                Some(c) => {
                    format!("invalid character {} looking for beginning of value", go_char(c))
                }
                None => "unexpected end of JSON input".to_owned(),
            }
        }
    }
}

/// The start of a body, as text if it looks like JSON, else as hexadecimal digits.
pub(super) fn summary(body: &[u8]) -> String {
    let shown = &body[..body.len().min(SHOWN)];
    let mut out = match shown.first() {
        None => return "<empty>".to_owned(),
        Some(b'{') => String::from_utf8_lossy(shown).into_owned(),
        Some(_) => shown.iter().fold(String::new(), |mut out, byte| {
            let _ = write!(out, "{byte:02x}");
            out
        }),
    };
    if body.len() > SHOWN {
        out.push_str(" ...");
    }
    out
}

fn char_at(body: &[u8], line: usize, column: usize) -> Option<char> {
    let line = body.split(|b| *b == b'\n').nth(line.checked_sub(1)?)?;
    let rest = line.get(column.saturating_sub(1)..)?;
    String::from_utf8_lossy(rest).chars().next()
}

fn go_char(c: char) -> String {
    match c {
        '\'' => "'\\''".to_owned(),
        '"' => "'\"'".to_owned(),
        c => format!("'{}'", c.escape_debug()),
    }
}
