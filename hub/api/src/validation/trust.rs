//! Checks of what is trusted: ClusterTrustBundles and PodCertificateRequests.

use serde_json::Value;

use super::{fields, immutable, required};
use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

const MAX_DOMAIN: usize = 253;
const MAX_SIGNER_PATH: usize = 253 + 63 + 1;
const MAX_TRUST_BUNDLE: usize = 1024 * 1024;

/// Checks a ClusterTrustBundle.
pub fn trust_bundle(object: &Value) -> Vec<FieldError> {
    let path = Path::Root.field("spec");
    let signer = object::text(object, "spec.signerName");
    let meta = Path::Root.field("metadata");
    let mut errors = Vec::new();
    let name = object::name(object);
    let prefix = format!("{}:", signer.replace('/', ":"));
    let (at_name, rest) = (meta.field("name"), name.strip_prefix(&prefix));
    match (signer, rest) {
        ("", _) => errors.extend(fields::all_wrong(&at_name, name, names::dns1123_subdomain(name))),
        (_, Some(rest)) => {
            errors.extend(signer_name(signer, &path.field("signerName")));
            errors.extend(fields::all_wrong(&at_name, name, names::dns1123_subdomain(rest)));
        }
        (_, None) => {
            errors.extend(signer_name(signer, &path.field("signerName")));
            let detail = format!(
                "ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"
            );
            errors.push(FieldError::invalid(at_name, name, detail));
        }
    }
    let bundle = object::text(object, "spec.trustBundle");
    let at = path.field("trustBundle");
    if bundle.len() > MAX_TRUST_BUNDLE {
        errors.push(FieldError::too_long(at, MAX_TRUST_BUNDLE));
    } else if !bundle.contains("-----BEGIN CERTIFICATE-----") {
        let detail = "at least one trust anchor must be provided";
        errors.push(FieldError::invalid(at, "<value omitted>", detail));
    }
    errors
}

/// Checks a changed ClusterTrustBundle: who signs stays.
pub fn trust_bundle_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let signer = |it| object::get(it, "spec.signerName");
    let spec = Path::Root.field("spec");
    immutable(signer(new), signer(old), &spec.field("signerName")).into_iter().collect()
}

/// Checks a PodCertificateRequest.
pub fn pod_request(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let mut errors = signer_name(object::text(spec, "signerName"), &path.field("signerName"));
    for field in ["podName", "serviceAccountName", "nodeName"] {
        errors.extend(fields::required_name(spec, field, &path, names::dns1123_subdomain));
    }
    for field in ["podUID", "serviceAccountUID", "nodeUID"] {
        errors.extend(required(spec, field, &path));
    }
    let seconds = object::int(spec, "maxExpirationSeconds").unwrap_or(0);
    let at = path.field("maxExpirationSeconds");
    if seconds < 3600 {
        errors.push(FieldError::invalid(at, seconds, "must be at least 3600"));
    } else if seconds > 91 * 86400 {
        let detail = format!("must be no more than {}", 91 * 86400);
        errors.push(FieldError::invalid(at, seconds, detail));
    }
    errors
}

/// Checks a changed PodCertificateRequest.
pub fn pod_request_update(new: &Value, old: &Value) -> Vec<FieldError> {
    immutable(new.get("spec"), old.get("spec"), &Path::Root.field("spec")).into_iter().collect()
}

/// Checks `example.com/signer-name`.
fn signer_name(name: &str, at: &Path<'_>) -> Vec<FieldError> {
    if name.is_empty() {
        return vec![FieldError::required(at, "")];
    }
    let Some((domain, path)) = name.split_once('/').filter(|(_, path)| !path.contains('/')) else {
        let detail =
            "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return vec![FieldError::invalid(at, name, detail)];
    };
    let mut errors = Vec::new();
    let check = |text: &str, rule: fn(&str) -> Vec<String>| -> Vec<FieldError> {
        let labels = text.split('.').flat_map(|label| {
            let wrong = rule(label).into_iter();
            wrong.map(move |it| format!("validating label {label:?}: {it}"))
        });
        fields::all_wrong(at, text, labels.collect())
    };
    if domain.len() > MAX_DOMAIN {
        errors.push(FieldError::too_long(at, MAX_DOMAIN));
    }
    errors.extend(check(domain, names::dns1123_label));
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(at, domain, detail));
    }
    errors.extend(check(path, names::dns1123_subdomain));
    if path.len() > MAX_SIGNER_PATH {
        errors.push(FieldError::too_long(at, MAX_SIGNER_PATH));
    }
    errors
}
