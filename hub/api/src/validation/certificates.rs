//! Checks of the kinds of `certificates.k8s.io`.

use serde_json::Value;

use super::one_of;
use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

/// Uses that a certificate may be asked for.
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// Checks a CertificateSigningRequest, but for what is inside of `spec.request`.
pub fn request(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    if object::text(spec, "request").is_empty() {
        errors.push(FieldError::invalid(
            path.field("request"),
            "",
            "PEM block type must be CERTIFICATE REQUEST",
        ));
    }
    let usages = object::list(spec, "usages");
    let at = path.field("usages");
    if usages.is_empty() {
        errors.push(FieldError::required(at, "usages is required"));
    }
    for (i, usage) in usages.iter().enumerate() {
        let text = usage.as_str().unwrap_or_default();
        if !USAGES.contains(&text) {
            errors.push(FieldError::not_supported(at.index(i), text, USAGES));
        }
        if usages.iter().take(i).any(|it| it == usage) {
            errors.push(FieldError::duplicate(at.index(i), text));
        }
    }
    let signer = object::text(spec, "signerName");
    if signer == "kubernetes.io/legacy-unknown" {
        errors.push(FieldError::invalid(
            path.field("signerName"),
            signer,
            "the legacy signerName is not allowed via this API version",
        ));
    }
    errors.extend(signer_name(signer, &path.field("signerName")));
    if let Some(seconds) = object::int(spec, "expirationSeconds").filter(|it| *it < 600) {
        errors.push(FieldError::invalid(
            path.field("expirationSeconds"),
            seconds,
            "may not specify a duration less than 600 seconds (10 minutes)",
        ));
    }
    errors.extend(conditions(object));
    errors
}

/// `domain/path`, as `kubernetes.io/kubelet-serving`.
fn signer_name(name: &str, path: &Path<'_>) -> Vec<FieldError> {
    if name.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let Some((domain, rest)) = name.split_once('/').filter(|(_, rest)| !rest.contains('/')) else {
        let detail =
            "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return vec![FieldError::invalid(path, name, detail)];
    };
    let mut errors = Vec::new();
    let wrong = names::dns1123_subdomain(domain).into_iter().chain(names::dns1123_subdomain(rest));
    errors.extend(wrong.map(|it| FieldError::invalid(path, name, it)));
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, domain, detail));
    }
    errors
}

fn conditions(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let status = Path::Root.field("status");
    let path = status.field("conditions");
    let all = object::list(object, "status.conditions");
    let kind = |it: &Value| object::text(it, "type").to_owned();
    for (i, condition) in all.iter().enumerate() {
        let at = path.index(i);
        let ty = kind(condition);
        if ty.is_empty() {
            errors.push(FieldError::required(at.field("type"), ""));
        }
        let statuses: &[&str] = match ty.as_str() {
            "Approved" | "Denied" | "Failed" => &["True"],
            _ => &["True", "False", "Unknown"],
        };
        errors.extend(one_of(condition, "status", &at, statuses));
        let before: Vec<String> = all.iter().take(i).map(kind).collect();
        if before.contains(&ty) {
            errors.push(FieldError::duplicate(at.field("type"), ty.as_str()));
        }
        let other = match ty.as_str() {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => continue,
        };
        if before.iter().any(|it| it == other) {
            errors.push(FieldError::invalid(
                at.field("type"),
                ty.as_str(),
                "Approved and Denied conditions are mutually exclusive",
            ));
        }
    }
    errors
}

/// Checks a changed status, or a decision: what is decided stays decided.
pub fn status_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = conditions(new);
    let has = |object: &Value, ty: &str| {
        object::list(object, "status.conditions").iter().any(|it| object::text(it, "type") == ty)
    };
    for ty in ["Approved", "Denied", "Failed"] {
        if has(old, ty) && !has(new, ty) {
            errors.push(FieldError::forbidden(
                "status.conditions",
                format!("updates may not remove a condition of type \"{ty}\""),
            ));
        }
    }
    let certificate = object::text(old, "status.certificate");
    if !certificate.is_empty() && certificate != object::text(new, "status.certificate") {
        errors.push(FieldError::forbidden(
            "status.certificate",
            "updates may not change a certificate once it is set",
        ));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn requests_name_signer_and_usages() {
        let good = json!({"request": "x", "usages": ["client auth"], "signerName": "a.io/b"});
        for (field, value, expected) in [
            ("request", json!("x"), None),
            ("signerName", json!("a"), Some("spec.signerName")),
            ("signerName", json!("a/b"), Some("spec.signerName")),
            ("signerName", json!("kubernetes.io/legacy-unknown"), Some("spec.signerName")),
            ("usages", json!([]), Some("spec.usages")),
            ("usages", json!(["climbing"]), Some("spec.usages[0]")),
            ("expirationSeconds", json!(599), Some("spec.expirationSeconds")),
        ] {
            let mut spec = good.clone();
            spec[field] = value.clone();
            let errors = request(&json!({"spec": spec}));
            assert_eq!(errors.first().map(|it| &*it.field), expected, "{field} {value}");
        }
    }

    #[test]
    fn decisions_stay() {
        let with = |ty: &str| json!({"status": {"conditions": [{"type": ty, "status": "True"}]}});
        assert_eq!(status_update(&with("Approved"), &json!({})), []);
        assert_eq!(status_update(&json!({}), &with("Approved")).len(), 1);
        let both = json!({"status": {"conditions": [
            {"type": "Approved", "status": "True"}, {"type": "Denied", "status": "True"}]}});
        assert_eq!(
            status_update(&both, &with("Approved"))[0].detail,
            "Approved and Denied conditions are mutually exclusive"
        );
    }
}
