//! Checks of the kinds of `apiregistration.k8s.io`.

use serde_json::Value;

use super::fields;
use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

/// Checks an APIService.
pub fn api_service(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let (group, version) = (object::text(spec, "group"), object::text(spec, "version"));
    let mut errors = Vec::new();
    let required = format!("{version}.{group}");
    let name = object::name(object);
    if name != required {
        let meta = Path::Root.field("metadata");
        let detail = format!("must be `spec.version+\".\"+spec.group`: {required:?}");
        errors.push(FieldError::invalid(meta.field("name"), name, detail));
    }
    let at = path.field("group");
    if group.is_empty() && version != "v1" {
        let detail = "only v1 may have an empty group and it better be legacy kube";
        errors.push(FieldError::required(at, detail));
    }
    errors.extend(fields::optional_name(spec, "group", &path, names::dns1123_subdomain));
    let wrong = names::dns1035_label(version);
    errors.extend(fields::all_wrong(&path.field("version"), version, wrong));
    for (field, max) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1_000)] {
        let value = object::int(spec, field).unwrap_or(0);
        if !(1..=max).contains(&value) {
            let detail = format!("must be positive and less than {max}");
            errors.push(FieldError::invalid(path.field(field), value, detail));
        }
    }
    let bundle = object::text(spec, "caBundle");
    let insecure = object::flag(spec, "insecureSkipTLSVerify");
    let (at_bundle, at_insecure) = (path.field("caBundle"), path.field("insecureSkipTLSVerify"));
    let Some(service) = object::get(spec, "service") else {
        if !bundle.is_empty() {
            let shown = format!("{} bytes", bundle.len() / 4 * 3);
            let detail = "local APIServices may not have a caBundle";
            errors.push(FieldError::invalid(at_bundle, shown, detail));
        }
        if insecure {
            let detail = "local APIServices may not have insecureSkipTLSVerify";
            errors.push(FieldError::invalid(at_insecure, true, detail));
        }
        return errors;
    };
    let at = path.field("service");
    for field in ["namespace", "name"] {
        if object::text(service, field).is_empty() {
            errors.push(FieldError::required(at.field(field), ""));
        }
    }
    if let Some(port) = object::int(service, "port") {
        for wrong in names::port_number(port) {
            let detail = format!("port is not valid: {wrong}");
            errors.push(FieldError::invalid(at.field("port"), port, detail));
        }
    }
    if insecure && !bundle.is_empty() {
        let detail = "may not be true if caBundle is present";
        errors.push(FieldError::invalid(at_insecure, true, detail));
    }
    errors
}

/// Checks the status of an APIService.
pub fn api_service_status(object: &Value) -> Vec<FieldError> {
    let status = Path::Root.field("status");
    let list = status.field("conditions");
    let conditions = object::list(object, "status.conditions").iter().enumerate();
    conditions
        .filter(|(_, it)| !matches!(object::text(it, "status"), "True" | "False" | "Unknown"))
        .map(|(i, it)| {
            let at = list.index(i);
            let known = ["False", "True", "Unknown"];
            FieldError::not_supported(at.field("status"), object::text(it, "status"), &known)
        })
        .collect()
}
