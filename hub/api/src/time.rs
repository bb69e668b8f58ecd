//! Kubernetes' text forms of time: `Time` has whole seconds, `MicroTime` always six digits.

use jiff::Timestamp;

/// Formats as `metav1.Time`: `2026-11-20T08:00:00Z`.
pub fn format(ts: Timestamp) -> String {
    ts.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Formats as `metav1.MicroTime`: `2026-11-20T08:00:00.000000Z`.
pub fn format_micro(ts: Timestamp) -> String {
    ts.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Reads an RFC 3339 time with any offset.
pub fn parse(text: &str) -> Option<Timestamp> {
    // RFC 3339 demands an offset, a `T` and a full time: what jiff accepts beyond is refused here.
    let bytes = text.as_bytes();
    let shaped = bytes.len() >= 20
        && matches!(bytes[10], b'T' | b't')
        && bytes[..10].iter().enumerate().all(|(i, b)| match i {
            4 | 7 => *b == b'-',
            _ => b.is_ascii_digit(),
        })
        && bytes[13] == b':'
        && bytes[16] == b':';
    if shaped { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_round_trip() {
        for (text, seconds, micros) in [
            ("2026-11-20T08:00:00Z", "2026-11-20T08:00:00Z", "2026-11-20T08:00:00.000000Z"),
            ("2026-11-20T09:00:00.5+01:00", "2026-11-20T08:00:00Z", "2026-11-20T08:00:00.500000Z"),
            (
                "1970-01-01T00:00:00.123456789Z",
                "1970-01-01T00:00:00Z",
                "1970-01-01T00:00:00.123456Z",
            ),
        ] {
            let ts = parse(text).unwrap();
            assert_eq!((format(ts).as_str(), format_micro(ts).as_str()), (seconds, micros));
        }
    }

    #[test]
    fn what_is_not_rfc_3339_is_refused() {
        for text in ["", "now", "2026-11-20", "2026-11-20T08:00:00", "20261120T080000Z"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
