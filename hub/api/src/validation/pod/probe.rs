//! Probes and lifecycle handlers.

use serde_json::Value;

use super::super::service::port_or_name;
use super::super::{not_negative, one_of, required};
use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

const HANDLERS: [&str; 5] = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"];

pub(super) fn probe(probe: &Value, kind: &str, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], 0, path);
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        errors.extend(not_negative(probe, field, path));
    }
    let successes = object::int(probe, "successThreshold").unwrap_or(1);
    let grace = object::int(probe, "terminationGracePeriodSeconds");
    if kind == "readinessProbe" {
        if let Some(grace) = grace {
            errors.push(FieldError::invalid(
                path.field("terminationGracePeriodSeconds"),
                grace,
                "must not be set for readinessProbes",
            ));
        }
        return errors;
    }
    if let Some(grace) = grace.filter(|it| *it <= 0) {
        errors.push(FieldError::invalid(
            path.field("terminationGracePeriodSeconds"),
            grace,
            "must be greater than 0",
        ));
    }
    if successes != 1 {
        errors.push(FieldError::invalid(path.field("successThreshold"), successes, "must be 1"));
    }
    errors
}

pub(super) fn lifecycle_handler(it: &Value, grace: i64, path: &Path<'_>) -> Vec<FieldError> {
    handler(it, &["exec", "httpGet", "tcpSocket", "sleep"], grace, path)
}

fn handler(it: &Value, allowed: &[&str], grace: i64, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut count = 0;
    for kind in HANDLERS.iter().filter(|it| allowed.contains(it)) {
        let Some(action) = object::get(it, kind) else {
            continue;
        };
        let at = path.field(kind);
        if count > 0 {
            errors.push(FieldError::forbidden(at, "may not specify more than 1 handler type"));
            continue;
        }
        count += 1;
        match *kind {
            "exec" => {
                if object::list(action, "command").is_empty() {
                    errors.push(FieldError::required(at.field("command"), ""));
                }
            }
            "httpGet" => errors.extend(http(action, &at)),
            "tcpSocket" => errors.extend(port_or_name(&action["port"], &at.field("port"))),
            "grpc" => {
                let number = object::int(action, "port").unwrap_or(0);
                for wrong in names::port_number(number) {
                    errors.push(FieldError::invalid(at.field("port"), number, wrong));
                }
            }
            _ => {
                let seconds = object::int(action, "seconds").unwrap_or(0);
                if seconds < 0 || seconds > grace {
                    errors.push(FieldError::invalid(
                        at,
                        seconds,
                        format!(
                            "must be non-negative and less than terminationGracePeriodSeconds ({grace})"
                        ),
                    ));
                }
            }
        }
    }
    if count == 0 {
        errors.push(FieldError::required(*path, "must specify a handler type"));
    }
    errors
}

fn http(action: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(required(action, "path", path));
    errors.extend(port_or_name(&action["port"], &path.field("port")));
    errors.extend(one_of(action, "scheme", path, &["HTTP", "HTTPS"]));
    let headers = path.field("httpHeaders");
    for (i, header) in object::list(action, "httpHeaders").iter().enumerate() {
        let at = headers.index(i);
        let name = object::text(header, "name");
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            errors.push(FieldError::invalid(
                at.field("name"),
                name,
                "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
            ));
        }
    }
    errors
}
