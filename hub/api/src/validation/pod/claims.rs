//! Devices that a pod claims, and which containers use them.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

const ONE_OF: &str = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
const NOT_BOTH: &str =
    "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";

/// Checks `resourceClaims`.
pub(super) fn claims(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, claim) in object::list(spec, "resourceClaims").iter().enumerate() {
        let at = path.index(i);
        let name = object::text(claim, "name");
        if name.is_empty() {
            errors.push(FieldError::required(at.field("name"), ""));
        } else if !seen.insert(name) {
            errors.push(FieldError::duplicate(at.field("name"), name));
        } else {
            for wrong in names::dns1123_label(name) {
                errors.push(FieldError::invalid(at.field("name"), name, wrong));
            }
        }
        let sources = ["resourceClaimName", "resourceClaimTemplateName"];
        let given: Vec<&str> =
            sources.into_iter().filter(|it| object::get(claim, it).is_some()).collect();
        match given.as_slice() {
            [] => errors.push(FieldError::invalid(at, claim.clone(), ONE_OF)),
            [field] => {
                let name = object::text(claim, field);
                for wrong in names::dns1123_subdomain(name) {
                    errors.push(FieldError::invalid(at.field(field), name, wrong));
                }
            }
            _ => errors.push(FieldError::invalid(at, claim.clone(), NOT_BOTH)),
        }
    }
    errors
}

/// Checks the claims that a container uses: the pod must have them.
pub(super) fn used(spec: &Value, resources: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let at = path.field("claims");
    let mut seen = BTreeSet::new();
    for (i, claim) in object::list(resources, "claims").iter().enumerate() {
        let at = at.index(i);
        let (name, request) = (object::text(claim, "name"), object::text(claim, "request"));
        if name.is_empty() {
            errors.push(FieldError::required(at.field("name"), ""));
            continue;
        }
        if !seen.insert((name, request)) {
            errors.push(FieldError::duplicate(at, name));
        }
        let known = object::list(spec, "resourceClaims");
        if !known.iter().any(|it| object::text(it, "name") == name) {
            errors.push(FieldError::not_found(at.field("name"), name));
        }
    }
    errors
}
