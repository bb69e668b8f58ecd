//! Projected volumes: files from several sources in one directory.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::{required, selector};
use super::volume::{downward_items, key_items, local_path};
use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

const KEY_TYPES: &[&str] =
    &["ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072", "RSA4096"];
const CERTIFICATE_PATHS: [&str; 3] = ["credentialBundlePath", "keyPath", "certificateChainPath"];
/// Seconds that a certificate for a pod may be valid for: an hour to 91 days.
const CERTIFICATE_SECONDS: std::ops::RangeInclusive<i64> = 3600..=7_862_400;

/// Checks the sources of a projected volume.
pub(super) fn sources(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let sources = path.field("sources");
    let mut paths = BTreeSet::new();
    for (i, source) in object::list(source, "sources").iter().enumerate() {
        let at = sources.index(i);
        let mut first = true;
        for (kind, part) in source.as_object().into_iter().flatten() {
            if part.is_null() {
                continue;
            }
            let part_path = at.field(kind);
            if !first {
                let why = "may not specify more than 1 volume type per source";
                errors.push(FieldError::forbidden(part_path, why));
                continue;
            }
            first = false;
            one(kind, part, &part_path, errors);
            for file in files(kind, part) {
                if !paths.insert(file) {
                    let why = "conflicting duplicate paths";
                    errors.push(FieldError::invalid(*path, file, why));
                }
            }
        }
        if first {
            errors.push(FieldError::required(at, "must specify a volume source"));
        }
    }
}

fn one(kind: &str, part: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match kind {
        "configMap" | "secret" => {
            errors.extend(required(part, "name", path));
            key_items(part, path, errors);
        }
        "downwardAPI" => downward_items(part, path, errors),
        "serviceAccountToken" => {
            let seconds = object::int(part, "expirationSeconds").unwrap_or(3600);
            let at = path.field("expirationSeconds");
            if seconds < 600 {
                let why = "may not specify a duration less than 10 minutes";
                errors.push(FieldError::invalid(at, seconds, why));
            } else if seconds > 1 << 32 {
                let why = "may not specify a duration larger than 2^32 seconds";
                errors.push(FieldError::invalid(at, seconds, why));
            }
            file(part, "path", path, errors);
        }
        "clusterTrustBundle" => {
            trust_bundle(part, path, errors);
            file(part, "path", path, errors);
        }
        "podCertificate" => certificate(part, path, errors),
        _ => {}
    }
}

/// Where a source puts its files.
fn files<'a>(kind: &str, part: &'a Value) -> Vec<&'a str> {
    let fields: &[&str] = match kind {
        "podCertificate" => &CERTIFICATE_PATHS,
        "serviceAccountToken" | "clusterTrustBundle" => &["path"],
        _ => &[],
    };
    let own = fields.iter().map(|it| object::text(part, it));
    let items = object::list(part, "items").iter().map(|it| object::text(it, "path"));
    own.chain(items).filter(|it| !it.is_empty()).collect()
}

fn file(part: &Value, field: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    errors.extend(required(part, field, path));
    local_path(object::text(part, field), &path.field(field), errors);
}

fn trust_bundle(part: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let name = object::get(part, "name").and_then(Value::as_str);
    let signer = object::get(part, "signerName").and_then(Value::as_str);
    let labels = object::get(part, "labelSelector");
    match (name, signer) {
        (Some(_), Some(_)) => {
            let why = "only one of name and signerName may be used";
            errors.push(FieldError::invalid(path, part.clone(), why));
        }
        (Some(""), None) => {
            let why = "must be a valid object name";
            errors.push(FieldError::required(path.field("name"), why));
        }
        (Some(name), None) => {
            // The bundles of a signer carry its name in front.
            let own = name.rsplit(':').next().unwrap_or(name);
            for wrong in names::dns1123_subdomain(own) {
                let why = format!("not a valid clustertrustbundlename: {wrong}");
                errors.push(FieldError::invalid(path.field("name"), name, why));
            }
            if let Some(labels) = labels {
                errors.push(FieldError::invalid(
                    path.field("labelSelector"),
                    labels.clone(),
                    "labelSelector must be unset if name is specified",
                ));
            }
        }
        (None, Some(signer)) => {
            signer_name(signer, &path.field("signerName"), errors);
            if let Some(labels) = labels {
                let at = path.field("labelSelector");
                errors.extend(selector::label_selector(labels, &at));
            }
        }
        (None, None) => {
            let why = "either name or signerName must be specified";
            errors.push(FieldError::required(*path, why));
        }
    }
}

fn certificate(part: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    signer_name(object::text(part, "signerName"), &path.field("signerName"), errors);
    let ty = object::text(part, "keyType");
    if !KEY_TYPES.contains(&ty) {
        errors.push(FieldError::not_supported(path.field("keyType"), ty, KEY_TYPES));
    }
    if let Some(seconds) = object::int(part, "maxExpirationSeconds")
        && !CERTIFICATE_SECONDS.contains(&seconds)
    {
        let at = path.field("maxExpirationSeconds");
        let why = "must be between 1 hour and 91 days";
        errors.push(FieldError::invalid(at, seconds, why));
    }
    let set: Vec<&str> =
        CERTIFICATE_PATHS.into_iter().filter(|it| !object::text(part, it).is_empty()).collect();
    if set.is_empty() {
        let why = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        errors.push(FieldError::required(*path, why));
    }
    for field in set {
        local_path(object::text(part, field), &path.field(field), errors);
    }
}

fn signer_name(name: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if name.is_empty() {
        errors.push(FieldError::required(path, "must be a valid signer name"));
        return;
    }
    let parts: Vec<&str> = name.split('/').collect();
    let [domain, own] = parts.as_slice() else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(FieldError::invalid(path, name, why));
        return;
    };
    for part in [domain, own] {
        for wrong in names::dns1123_subdomain(part) {
            errors.push(FieldError::invalid(path, name, format!("validating label: {wrong}")));
        }
    }
}
