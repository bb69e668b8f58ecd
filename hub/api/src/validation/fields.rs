//! Small rules that the kinds of many groups share.

use std::collections::BTreeSet;

use serde_json::Value;

use super::one_of;
use crate::names;
use crate::object;
use crate::path::Path;
use crate::quantity::Quantity;
use crate::status::FieldError;

const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
const CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
/// Bytes that the reason of a condition may have.
const MAX_REASON: usize = 1024;
/// Bytes that the message of a condition may have.
const MAX_MESSAGE: usize = 32 * 1024;

/// Turns what is wrong with a value into errors about one field.
pub(super) fn all_wrong(path: &Path<'_>, value: &str, wrong: Vec<String>) -> Vec<FieldError> {
    wrong.into_iter().map(|it| FieldError::invalid(path, value, it)).collect()
}

/// Checks a text that must be there and hold to a rule of names.
pub(super) fn required_name(
    object: &Value,
    field: &str,
    path: &Path<'_>,
    rule: fn(&str) -> Vec<String>,
) -> Vec<FieldError> {
    match object::text(object, field) {
        "" => vec![FieldError::required(path.field(field), "")],
        text => all_wrong(&path.field(field), text, rule(text)),
    }
}

/// Checks a text that must hold to a rule of names if it is there.
pub(super) fn optional_name(
    object: &Value,
    field: &str,
    path: &Path<'_>,
    rule: fn(&str) -> Vec<String>,
) -> Vec<FieldError> {
    match object::text(object, field) {
        "" => Vec::new(),
        text => all_wrong(&path.field(field), text, rule(text)),
    }
}

/// Checks the name of a CSI or DRA driver.
pub(super) fn driver_name(name: &str, path: &Path<'_>) -> Vec<FieldError> {
    if name.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let mut errors = Vec::new();
    if name.len() > 63 {
        errors.push(FieldError::too_long(path, 63));
    }
    errors.extend(all_wrong(path, name, names::dns1123_subdomain(&name.to_lowercase())));
    errors
}

/// Checks a count, or a percentage of at most 100.
pub(super) fn count_or_share(value: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let Some(text) = value.as_str() else {
        let negative = value.as_i64().filter(|it| *it < 0);
        let error = |it| FieldError::invalid(path, it, super::NOT_NEGATIVE);
        return negative.map(error).into_iter().collect();
    };
    let digits = text.strip_suffix('%').unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return vec![FieldError::invalid(path, text, PERCENT)];
    }
    match digits.parse::<u32>() {
        Ok(0..=100) => Vec::new(),
        _ => vec![FieldError::invalid(path, text, "must not be greater than 100%")],
    }
}

/// An address range: its address and the length of its prefix.
pub(super) fn parse_cidr(text: &str) -> Option<(std::net::IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let address: std::net::IpAddr = address.parse().ok()?;
    let max = if address.is_ipv4() { 32 } else { 128 };
    let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
    let length = length.parse().ok().filter(|it| digits && *it <= max)?;
    Some((address, length))
}

/// Checks an address range.
pub(super) fn cidr(text: &str, path: &Path<'_>) -> Option<FieldError> {
    parse_cidr(text).is_none().then(|| FieldError::invalid(path, text, CIDR))
}

/// Whether `inner` lies in the range of `outer`.
pub(super) fn contains(outer: (std::net::IpAddr, u8), inner: std::net::IpAddr) -> bool {
    use std::net::IpAddr::{V4, V6};
    let (bits, length, width) = match (outer.0, inner) {
        (V4(a), V4(b)) => (u128::from(a.to_bits() ^ b.to_bits()), u32::from(outer.1), 32),
        (V6(a), V6(b)) => (a.to_bits() ^ b.to_bits(), u32::from(outer.1), 128),
        (V4(_), V6(_)) | (V6(_), V4(_)) => return false,
    };
    length == 0 || bits.checked_shr(width - length).unwrap_or(0) == 0
}

/// Checks that a quantity is not negative, if it is there.
pub(super) fn quantity_not_negative(
    object: &Value,
    field: &str,
    path: &Path<'_>,
) -> Option<FieldError> {
    let text = object::text(object, field);
    let negative = Quantity::parse(text).is_ok_and(Quantity::is_negative);
    negative.then(|| FieldError::invalid(path.field(field), text, super::NOT_NEGATIVE))
}

/// Checks a list of texts for one that stands there twice.
pub(super) fn duplicates(texts: &[Value], path: &Path<'_>) -> Vec<FieldError> {
    let mut seen = BTreeSet::new();
    let texts = texts.iter().filter_map(Value::as_str).enumerate();
    texts
        .filter(|(_, text)| !seen.insert(*text))
        .map(|(i, text)| FieldError::duplicate(path.index(i), text))
        .collect()
}

/// Checks conditions of the common form (`metav1.Condition`).
pub(super) fn conditions(status: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let list = path.field("conditions");
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, condition) in object::list(status, "conditions").iter().enumerate() {
        let at = list.index(i);
        let ty = object::text(condition, "type");
        if !seen.insert(ty) {
            errors.push(FieldError::duplicate(at.field("type"), ty));
        }
        errors.extend(all_wrong(&at.field("type"), ty, names::qualified_name(ty)));
        errors.extend(one_of(condition, "status", &at, &["False", "True", "Unknown"]));
        if object::get(condition, "lastTransitionTime").is_none() {
            errors.push(FieldError::required(at.field("lastTransitionTime"), "must be set"));
        }
        let reason = object::text(condition, "reason");
        if reason.is_empty() {
            errors.push(FieldError::required(at.field("reason"), "must be set"));
        } else if reason.len() > MAX_REASON {
            errors.push(FieldError::too_long(at.field("reason"), MAX_REASON));
        }
        if object::text(condition, "message").len() > MAX_MESSAGE {
            errors.push(FieldError::too_long(at.field("message"), MAX_MESSAGE));
        }
    }
    errors
}
