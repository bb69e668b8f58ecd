//! Rules for names, labels, keys and ports. Each returns what is wrong, in Kubernetes' words;
//! an empty list means valid.

use crate::status::FieldError;

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// Checks an RFC 1123 label: names of namespaces and containers.
pub fn dns1123_label(name: &str) -> Vec<String> {
    let mut out = limit(name, 63);
    if !is_dns1123_label(name) {
        out.push(regex_error(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
            LABEL,
            &["my-name", "123-abc"],
        ));
    }
    out
}

/// Checks an RFC 1123 subdomain: names of most objects.
pub fn dns1123_subdomain(name: &str) -> Vec<String> {
    let mut out = limit(name, 253);
    if !name.split('.').all(is_dns1123_label) {
        out.push(regex_error(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            SUBDOMAIN,
            &["example.com"],
        ));
    }
    out
}

/// Checks an RFC 1123 subdomain whose first label is `*`: hosts of Ingresses.
pub fn wildcard_subdomain(name: &str) -> Vec<String> {
    let mut out = limit(name, 253);
    let rest = name.strip_prefix("*.").unwrap_or_default();
    if !rest.split('.').all(is_dns1123_label) {
        out.push(regex_error(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            &format!("\\*\\.{SUBDOMAIN}"),
            &["*.example.com"],
        ));
    }
    out
}

/// Checks a C identifier: names of attributes of devices.
pub fn c_identifier(name: &str) -> Vec<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts && name.bytes().all(plain) {
        return Vec::new();
    }
    vec![regex_error(
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'",
        "[A-Za-z_][A-Za-z0-9_]*",
        &["my_name", "MY_NAME", "MyName"],
    )]
}

/// Checks an RFC 1035 label: names of services.
pub fn dns1035_label(name: &str) -> Vec<String> {
    let mut out = limit(name, 63);
    if !(is_dns1123_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase())) {
        out.push(regex_error(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    out
}

/// Checks a name that only has to fit into a path.
pub fn path_segment(name: &str) -> Vec<String> {
    if name == "." || name == ".." {
        return vec![format!("may not be '{name}'")];
    }
    ["/", "%"]
        .iter()
        .filter(|it| name.contains(**it))
        .map(|it| format!("may not contain '{it}'"))
        .collect()
}

/// Checks a qualified name: keys of labels, annotations, taints and extended resources.
pub fn qualified_name(name: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut parts = name.split('/');
    let short = match (parts.next(), parts.next(), parts.next()) {
        (Some(short), None, _) => short,
        (Some(prefix), Some(short), None) => {
            if prefix.is_empty() {
                out.push("prefix part must be non-empty".to_owned());
            } else {
                let wrong = dns1123_subdomain(prefix);
                out.extend(wrong.into_iter().map(|it| format!("prefix part {it}")));
            }
            short
        }
        (None, ..) | (_, _, Some(_)) => {
            let rule = regex_error(
                "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
                QUALIFIED,
                &["MyName", "my.name", "123-abc"],
            );
            return vec![format!(
                "{rule} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if short.is_empty() {
        out.push("name part must be non-empty".to_owned());
    } else if short.len() > 63 {
        out.push("name part must be no more than 63 bytes".to_owned());
    }
    if !is_qualified(short) {
        out.push(regex_error(
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            QUALIFIED,
            &["MyName", "my.name", "123-abc"],
        ));
    }
    out
}

/// Checks the value of a label.
pub fn label_value(value: &str) -> Vec<String> {
    let mut out = limit(value, 63);
    if !value.is_empty() && !is_qualified(value) {
        out.push(regex_error(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    out
}

/// Checks a key of a ConfigMap or Secret, and thereby a file name.
pub fn config_key(key: &str) -> Vec<String> {
    let mut out = limit(key, 253);
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if key.is_empty() || !key.bytes().all(plain) {
        out.push(regex_error(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    if key == "." {
        out.push("must not be '.'".to_owned());
    } else if key == ".." {
        out.push("must not be '..'".to_owned());
    } else if key.starts_with("..") {
        out.push("must not start with '..'".to_owned());
    }
    out
}

/// Checks the name of an environment variable.
pub fn env_name(name: &str) -> Vec<String> {
    let mut out = Vec::new();
    if name.is_empty() {
        out.push("environment variable names must be non-empty".to_owned());
    }
    if !name.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'=') {
        out.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .to_owned(),
        );
    }
    out
}

/// Checks the name of a port of a container (IANA service name).
pub fn port_name(name: &str) -> Vec<String> {
    let mut out = limit(name, 15);
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        out.push(
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned(),
        );
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        out.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        out.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        out.push("must not begin or end with a hyphen".to_owned());
    }
    out
}

/// Checks the number of a port.
pub fn port_number(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) {
        Vec::new()
    } else {
        vec!["must be between 1 and 65535, inclusive".to_owned()]
    }
}

/// Turns what is wrong with one value into field errors.
pub fn errors(field: &str, value: &str, wrong: Vec<String>) -> Vec<FieldError> {
    wrong.into_iter().map(|it| FieldError::invalid(field, value, it)).collect()
}

fn is_dns1123_label(label: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = label.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            inner(*first) && inner(*last) && bytes.iter().all(|b| inner(*b) || *b == b'-')
        }
        _ => false,
    }
}

fn is_qualified(name: &str) -> bool {
    let bytes = name.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            first.is_ascii_alphanumeric()
                && last.is_ascii_alphanumeric()
                && bytes
                    .iter()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        }
        _ => false,
    }
}

fn limit(text: &str, max: usize) -> Vec<String> {
    if text.len() > max { vec![format!("must be no more than {max} bytes")] } else { Vec::new() }
}

fn regex_error(message: &str, regex: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|it| format!("'{it}', ")).collect();
    format!("{message} (e.g. {}regex used for validation is '{regex}')", examples.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rule = fn(&str) -> Vec<String>;

    #[test]
    fn valid_and_invalid_names() {
        let long = "a".repeat(64);
        let cases: &[(Rule, &[&str], &[&str])] = &[
            (dns1123_label, &["a", "0-a", "a--b"], &["", "-a", "a-", "A", "a.b", "ä", &long]),
            (dns1123_subdomain, &["a.b", "0", &long], &["a..b", ".a", "a_b", "a."]),
            (dns1035_label, &["a0", "web"], &["0a", "", "a.b"]),
            (qualified_name, &["A_b", "x.y/Z", "a"], &["", "/a", "a/", "a/b/c", "X/a", "-a"]),
            (label_value, &["", "A.b_c-d", "1"], &["-", "a b", "a-", &long]),
            (config_key, &["a", ".a", "A_B.c", "a..b"], &["", ".", "..", "..a", "a/b", "a b"]),
            (env_name, &["A", "a.b", "1 x"], &["", "A=B", "\n", "é"]),
            (port_name, &["http", "a-1"], &["", "1", "a--b", "-a", "A", "more-than-15-chars"]),
            (path_segment, &["a:b", "A"], &[".", "..", "a/b", "a%2"]),
        ];
        for (rule, valid, invalid) in cases {
            for name in *valid {
                assert_eq!(rule(name), Vec::<String>::new(), "{name}");
            }
            for name in *invalid {
                assert_ne!(rule(name), Vec::<String>::new(), "{name}");
            }
        }
    }

    #[test]
    fn messages_are_those_of_kubernetes() {
        assert_eq!(
            dns1123_label("A"),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
    }
}
