//! The formats of texts that schemas may ask for. Unknown ones ask for nothing.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::names;

/// Whether the format says anything.
pub(super) fn is_known(format: &str) -> bool {
    const KNOWN: [&str; 22] = [
        "bsonobjectid",
        "byte",
        "cidr",
        "creditcard",
        "date",
        "date-time",
        "datetime",
        "duration",
        "email",
        "hexcolor",
        "hostname",
        "ipv4",
        "ipv6",
        "isbn",
        "k8s-long-name",
        "k8s-short-name",
        "mac",
        "rgbcolor",
        "uri",
        "uuid",
        "uuid3",
        "uuid4",
    ];
    KNOWN.contains(&format) || format == "uuid5"
}

/// Whether a text has the format.
pub(super) fn fits(format: &str, text: &str) -> bool {
    match format {
        "byte" => {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.decode(text).is_ok()
        }
        "cidr" => is_cidr(text),
        "date" => text.parse::<jiff::civil::Date>().is_ok() && text.len() == 10,
        "date-time" | "datetime" => is_time(text),
        "duration" => is_duration(text),
        "email" => {
            text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && is_host(host))
        }
        "hexcolor" => {
            let digits = text.strip_prefix('#').unwrap_or(text);
            matches!(digits.len(), 3 | 6) && digits.bytes().all(|it| it.is_ascii_hexdigit())
        }
        "hostname" => is_host(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "k8s-short-name" => names::dns1123_label(text).is_empty(),
        "k8s-long-name" => names::dns1123_subdomain(text).is_empty(),
        "mac" => is_mac(text),
        "rgbcolor" => is_rgb(text),
        "uri" => is_uri(text),
        "uuid" => is_uuid(text, None),
        "uuid3" => is_uuid(text, Some(b'3')),
        "uuid4" => is_uuid(text, Some(b'4')),
        "uuid5" => is_uuid(text, Some(b'5')),
        "bsonobjectid" => text.len() == 24 && text.bytes().all(|it| it.is_ascii_hexdigit()),
        "creditcard" => is_luhn(text, 13..=19),
        "isbn" => {
            let digits = text.chars().filter(|it| !matches!(it, '-' | ' ')).count();
            matches!(digits, 10 | 13)
        }
        _ => true,
    }
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let Ok(bits) = bits.parse::<u8>() else { return false };
    address.parse::<Ipv4Addr>().is_ok() && bits <= 32
        || address.parse::<Ipv6Addr>().is_ok() && bits <= 128
}

fn is_time(text: &str) -> bool {
    // RFC 3339: jiff takes more than that, so the form is looked at as well.
    let has_form = text.len() >= 20 && matches!(text.as_bytes().get(10), Some(b'T' | b't'));
    has_form && text.parse::<jiff::Timestamp>().is_ok()
}

/// Go's durations, and the longer units of the validator.
fn is_duration(text: &str) -> bool {
    const UNITS: [&str; 20] = [
        "ns", "us", "\u{b5}s", "\u{3bc}s", "ms", "s", "m", "h", "d", "w", "sec", "secs", "min",
        "mins", "hr", "hrs", "day", "days", "week", "weeks",
    ];
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let digits = rest.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters =
            after.find(|it: char| it.is_ascii_digit() || it == ' ').unwrap_or(after.len());
        let (unit, left) = after.split_at(letters);
        if number.parse::<f64>().is_err() || !UNITS.contains(&unit) {
            return false;
        }
        rest = left.trim_start();
    }
    true
}

fn is_host(text: &str) -> bool {
    let label = |it: &str| {
        !it.is_empty()
            && it.len() <= 63
            && !it.starts_with('-')
            && !it.ends_with('-')
            && it.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-')
    };
    !text.is_empty() && text.len() <= 255 && text.trim_end_matches('.').split('.').all(label)
}

fn is_mac(text: &str) -> bool {
    let separator = if text.contains('-') { '-' } else { ':' };
    let groups: Vec<&str> = text.split(separator).collect();
    matches!(groups.len(), 6 | 8 | 20)
        && groups.iter().all(|it| it.len() == 2 && it.bytes().all(|it| it.is_ascii_hexdigit()))
}

fn is_rgb(text: &str) -> bool {
    let inner = text.strip_prefix("rgb(").and_then(|it| it.strip_suffix(')'));
    inner.is_some_and(|it| {
        let parts: Vec<&str> = it.split(',').map(str::trim).collect();
        parts.len() == 3 && parts.iter().all(|it| it.parse::<u8>().is_ok())
    })
}

/// What Go's `url.ParseRequestURI` takes: an absolute address, or an absolute path.
fn is_uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|it| it.is_ascii_control() || it == b' ') {
        return false;
    }
    if text.starts_with('/') {
        return true;
    }
    text.split_once(':').is_some_and(|(scheme, rest)| {
        let is_scheme = scheme.bytes().next().is_some_and(|it| it.is_ascii_alphabetic())
            && scheme.bytes().all(|it| it.is_ascii_alphanumeric() || b"+-.".contains(&it));
        is_scheme && !rest.is_empty()
    })
}

fn is_uuid(text: &str, version: Option<u8>) -> bool {
    let hex: Vec<u8> = text.bytes().filter(|it| *it != b'-').collect();
    let is_plain = text.len() == 32 || text.len() == 36 && text.matches('-').count() == 4;
    is_plain
        && hex.len() == 32
        && hex.iter().all(u8::is_ascii_hexdigit)
        && version.is_none_or(|it| hex.get(12) == Some(&it))
}

fn is_luhn(text: &str, lengths: std::ops::RangeInclusive<usize>) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|it| it.to_digit(10)).collect();
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(index, digit)| match index % 2 {
            0 => *digit,
            _ if *digit > 4 => digit * 2 - 9,
            _ => digit * 2,
        })
        .sum();
    lengths.contains(&digits.len()) && sum.is_multiple_of(10)
}
