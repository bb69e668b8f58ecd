//! Checks of the kinds of `resource.k8s.io`: what is asked for, and what was given.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{device, fields, immutable, meta_of_template, one_of, pod, required};
use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

const MAX_REQUESTS: usize = 32;
const MAX_ALTERNATIVES: usize = 8;
const MAX_RESERVATIONS: usize = 256;
const MAX_EXPRESSION: usize = 10 * 1024;
const MAX_PARAMETERS: usize = 10 * 1024;
const NO_SUCH_REQUEST: &str = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

/// Requests by name, each with the names of its alternatives.
type Requests<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// Checks a ResourceClaim.
pub fn claim(object: &Value) -> Vec<FieldError> {
    claim_spec(&object["spec"], &Path::Root.field("spec"))
}

/// Checks a ResourceClaimTemplate.
pub fn claim_template(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let mut errors = meta_of_template(spec, &path.field("metadata"));
    errors.extend(claim_spec(&spec["spec"], &path.field("spec")));
    errors
}

/// Checks that the specification stays.
pub fn spec_update(new: &Value, old: &Value) -> Vec<FieldError> {
    immutable(new.get("spec"), old.get("spec"), &Path::Root.field("spec")).into_iter().collect()
}

/// Checks a DeviceClass.
pub fn class(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let mut errors = selectors(spec, &path);
    errors.extend(each(spec, "config", &path, MAX_REQUESTS, opaque));
    let name = object::text(spec, "extendedResourceName");
    let own = name.contains("kubernetes.io/") || name.starts_with("requests.");
    if !name.is_empty() && (own || !name.contains('/') || !names::qualified_name(name).is_empty()) {
        let detail = "must be a valid extended resource name";
        errors.push(FieldError::invalid(path.field("extendedResourceName"), name, detail));
    }
    errors
}

/// Checks a DeviceTaintRule.
pub fn taint_rule(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let mut errors = Vec::new();
    if let Some(selector) = object::get(spec, "deviceSelector") {
        let at = path.field("deviceSelector");
        let driver = object::text(selector, "driver");
        if !driver.is_empty() {
            errors.extend(fields::driver_name(driver, &at.field("driver")));
        }
        if object::get(selector, "pool").is_some() {
            errors.extend(device::pool_name(object::text(selector, "pool"), &at.field("pool")));
        }
        errors.extend(fields::optional_name(selector, "device", &at, names::dns1123_label));
    }
    errors.extend(device::taint(&spec["taint"], &path.field("taint")));
    errors
}

/// Checks the conditions of a DeviceTaintRule.
pub fn taint_rule_status(object: &Value) -> Vec<FieldError> {
    fields::conditions(&object["status"], &Path::Root.field("status"))
}

/// Checks a changed status of a ResourceClaim.
pub fn claim_status(new: &Value, old: &Value) -> Vec<FieldError> {
    let status = &new["status"];
    let path = Path::Root.field("status");
    let names = requests_of(&new["spec"]["devices"]);
    let mut errors = each(status, "reservedFor", &path, MAX_RESERVATIONS, |it, at| {
        ["resource", "name", "uid"]
            .into_iter()
            .filter_map(|field| required(it, field, at))
            .collect()
    });
    errors.extend(unique(status, "reservedFor", "uid", &path));
    let allocation = object::get(status, "allocation");
    let before = object::get(old, "status.allocation");
    let reserved = object::list(status, "reservedFor");
    let at = path.field("reservedFor");
    if !reserved.is_empty() && allocation.is_none() {
        let detail = "may not be specified when `allocated` is not set";
        errors.push(FieldError::forbidden(at, detail));
    } else if object::is_terminating(new) {
        let known = object::list(old, "status.reservedFor");
        if reserved.iter().any(|it| !known.contains(it)) {
            let detail = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            errors.push(FieldError::forbidden(at, detail));
        }
    }
    match (allocation, before) {
        (Some(_), Some(_)) => {
            errors.extend(immutable(allocation, before, &path.field("allocation")))
        }
        (Some(it), None) => errors.extend(allocated(it, &names, &path.field("allocation"))),
        (None, _) => {}
    }
    errors.extend(device_statuses(status, allocation, &path));
    errors
}

fn device_statuses(status: &Value, given: Option<&Value>, path: &Path<'_>) -> Vec<FieldError> {
    let id = |it: &Value| {
        ["driver", "pool", "device", "shareID"].map(|field| object::text(it, field).to_owned())
    };
    let results = given.map_or(&[][..], |it| object::list(it, "devices.results"));
    let known: BTreeSet<[String; 4]> = results.iter().map(id).collect();
    let list = path.field("devices");
    let mut seen = BTreeSet::new();
    let mut errors = Vec::new();
    for (i, it) in object::list(status, "devices").iter().enumerate() {
        let at = list.index(i);
        errors.extend(fields::driver_name(object::text(it, "driver"), &at.field("driver")));
        errors.extend(device::pool_name(object::text(it, "pool"), &at.field("pool")));
        errors.extend(fields::required_name(it, "device", &at, names::dns1123_label));
        let id = id(it);
        let shown = id.iter().take(3).map(String::as_str).collect::<Vec<_>>().join("/");
        if !known.contains(&id) {
            let detail = "must be an allocated device in the claim";
            errors.push(FieldError::invalid(at, shown.clone(), detail));
        }
        if !seen.insert(id) {
            errors.push(FieldError::duplicate(at, shown));
        }
        errors.extend(fields::conditions(it, &at));
    }
    errors
}

fn allocated(allocation: &Value, names: &Requests<'_>, path: &Path<'_>) -> Vec<FieldError> {
    let devices = &allocation["devices"];
    let at = path.field("devices");
    let mut errors = each(devices, "results", &at, MAX_REQUESTS, |it, at| {
        let mut errors = request_ref(object::text(it, "request"), names, &at.field("request"));
        errors.extend(fields::driver_name(object::text(it, "driver"), &at.field("driver")));
        errors.extend(device::pool_name(object::text(it, "pool"), &at.field("pool")));
        errors.extend(fields::required_name(it, "device", at, names::dns1123_label));
        errors.extend(device::binding_conditions(it, at));
        errors
    });
    errors.extend(each(devices, "config", &at, 2 * MAX_REQUESTS, |it, at| {
        let mut errors: Vec<_> =
            one_of(it, "source", at, &["FromClaim", "FromClass"]).into_iter().collect();
        errors.extend(request_refs(it, names, at));
        errors.extend(opaque(it, at));
        errors
    }));
    if let Some(selector) = object::get(allocation, "nodeSelector") {
        errors.extend(pod::node_selector(selector, &path.field("nodeSelector")));
    }
    errors
}

fn claim_spec(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let claim = &spec["devices"];
    let at = path.field("devices");
    let names = requests_of(claim);
    let mut errors = each(claim, "requests", &at, MAX_REQUESTS, request);
    errors.extend(unique(claim, "requests", "name", &at));
    errors.extend(each(claim, "constraints", &at, MAX_REQUESTS, |it, at| {
        let mut errors = request_refs(it, &names, at);
        match (object::get(it, "matchAttribute"), object::get(it, "distinctAttribute")) {
            (Some(name), None) => {
                errors.extend(attribute_ref(name, &at.field("matchAttribute")));
            }
            (None, Some(name)) => {
                errors.extend(attribute_ref(name, &at.field("distinctAttribute")));
            }
            _ => errors.push(FieldError::required(
                at,
                "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
            )),
        }
        errors
    }));
    errors.extend(each(claim, "config", &at, MAX_REQUESTS, |it, at| {
        let mut errors = request_refs(it, &names, at);
        errors.extend(opaque(it, at));
        errors
    }));
    errors
}

fn attribute_ref(name: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let name = name.as_str().unwrap_or_default();
    let mut errors = device::qualified_name(name, at);
    if !name.contains('/') {
        let detail = "a fully qualified name must be a domain and a name separated by a slash";
        errors.push(FieldError::invalid(at, name, detail));
    }
    errors
}

fn request(request: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let mut errors = request_name(object::text(request, "name"), &at.field("name"));
    let alternatives = object::list(request, "firstAvailable");
    match (object::get(request, "exactly"), alternatives) {
        (None, []) => errors.push(FieldError::required(
            at,
            "exactly one of `exactly` or `firstAvailable` is required",
        )),
        (Some(it), []) => errors.extend(wanted(it, &at.field("exactly"))),
        (None, _) => {
            errors.extend(each(request, "firstAvailable", at, MAX_ALTERNATIVES, |it, at| {
                let mut errors = request_name(object::text(it, "name"), &at.field("name"));
                errors.extend(wanted(it, at));
                errors
            }));
            errors.extend(unique(request, "firstAvailable", "name", at));
        }
        (Some(_), _) => errors.push(FieldError::invalid(
            at,
            Value::Null,
            "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        )),
    }
    errors
}

/// Checks what is wanted of one device or more.
fn wanted(wanted: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let mut errors = fields::required_name(wanted, "deviceClassName", at, names::dns1123_subdomain);
    errors.extend(selectors(wanted, at));
    let count = object::int(wanted, "count").unwrap_or(0);
    match object::text(wanted, "allocationMode") {
        "All" if count != 0 => errors.push(FieldError::invalid(
            at.field("count"),
            count,
            "must not be specified when allocationMode is 'All'",
        )),
        "ExactCount" if count <= 0 => {
            errors.push(FieldError::invalid(at.field("count"), count, "must be greater than zero"));
        }
        "All" | "ExactCount" => {}
        other => errors.push(FieldError::not_supported(
            at.field("allocationMode"),
            other,
            &["All", "ExactCount"],
        )),
    }
    let list = at.field("tolerations");
    for (i, it) in object::list(wanted, "tolerations").iter().enumerate() {
        errors.extend(toleration(it, &list.index(i)));
    }
    errors
}

fn toleration(toleration: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let mut errors = fields::optional_name(toleration, "key", at, names::qualified_name);
    let (key, value) = (object::text(toleration, "key"), object::text(toleration, "value"));
    match object::text(toleration, "operator") {
        "Exists" if !value.is_empty() => errors.push(FieldError::invalid(
            at.field("value"),
            value,
            "must be empty for operator `Exists`",
        )),
        "Exists" => {}
        "Equal" => {
            if key.is_empty() {
                let detail = "must be `Exists` when `key` is empty, which means \"match all values and all keys\"";
                errors.push(FieldError::invalid(at.field("operator"), "Equal", detail));
            }
            errors.extend(fields::all_wrong(&at.field("value"), value, names::label_value(value)));
        }
        "" => errors.push(FieldError::required(at.field("operator"), "")),
        other => errors.push(FieldError::not_supported(
            at.field("operator"),
            other,
            &["Equal", "Exists"],
        )),
    }
    if object::get(toleration, "effect").is_some() {
        errors.extend(one_of(toleration, "effect", at, device::EFFECTS));
    }
    errors
}

fn selectors(object: &Value, at: &Path<'_>) -> Vec<FieldError> {
    each(object, "selectors", at, MAX_REQUESTS, |it, at| {
        let path = at.field("cel");
        let Some(expression) = object::get(it, "cel.expression").and_then(Value::as_str) else {
            return vec![FieldError::required(path, "")];
        };
        let too_long = expression.len() > MAX_EXPRESSION;
        let error = || FieldError::too_long(path.field("expression"), MAX_EXPRESSION);
        too_long.then(error).into_iter().collect()
    })
}

fn opaque(config: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let path = at.field("opaque");
    let Some(opaque) = object::get(config, "opaque") else {
        return vec![FieldError::required(path, "")];
    };
    let mut errors = fields::driver_name(object::text(opaque, "driver"), &path.field("driver"));
    let at = path.field("parameters");
    match object::get(opaque, "parameters") {
        None => errors.push(FieldError::required(at, "")),
        Some(it) if !it.is_object() => errors.push(FieldError::invalid(
            at,
            "<value omitted>",
            "parameters must be a valid JSON object",
        )),
        Some(it) if it.to_string().len() > MAX_PARAMETERS => {
            errors.push(FieldError::too_long(at, MAX_PARAMETERS));
        }
        Some(_) => {}
    }
    errors
}

fn requests_of(claim: &Value) -> Requests<'_> {
    let names = |it, field| -> BTreeSet<&str> {
        object::list(it, field).iter().map(|it| object::text(it, "name")).collect()
    };
    let requests = object::list(claim, "requests").iter();
    requests.map(|it| (object::text(it, "name"), names(it, "firstAvailable"))).collect()
}

fn request_refs(object: &Value, names: &Requests<'_>, at: &Path<'_>) -> Vec<FieldError> {
    let mut errors = each(object, "requests", at, MAX_REQUESTS, |it, at| {
        request_ref(it.as_str().unwrap_or_default(), names, at)
    });
    errors.extend(fields::duplicates(object::list(object, "requests"), &at.field("requests")));
    errors
}

fn request_ref(name: &str, names: &Requests<'_>, at: &Path<'_>) -> Vec<FieldError> {
    let parts: Vec<&str> = name.split('/').collect();
    let known = match parts.as_slice() {
        [request] => names.contains_key(request),
        [request, alternative] => names.get(request).is_some_and(|it| it.contains(alternative)),
        _ => return vec![FieldError::invalid(at, name, NO_SUCH_REQUEST)],
    };
    let mut errors: Vec<_> = parts.iter().flat_map(|it| request_name(it, at)).collect();
    if !known {
        errors.push(FieldError::invalid(at, name, NO_SUCH_REQUEST));
    }
    errors
}

fn request_name(name: &str, at: &Path<'_>) -> Vec<FieldError> {
    match name {
        "" => vec![FieldError::required(at, "")],
        name => fields::all_wrong(at, name, names::dns1123_label(name)),
    }
}

/// Checks every item of a list that has at most so many.
pub(super) fn each(
    object: &Value,
    field: &str,
    path: &Path<'_>,
    max: usize,
    check: impl Fn(&Value, &Path<'_>) -> Vec<FieldError>,
) -> Vec<FieldError> {
    let list = object::list(object, field);
    let at = path.field(field);
    if list.len() > max {
        // Nobody looks through what is too much.
        return vec![FieldError::too_many(at, list.len(), max)];
    }
    list.iter().enumerate().flat_map(|(i, it)| check(it, &at.index(i))).collect()
}

/// Checks that no two items of a list have the same key.
pub(super) fn unique(object: &Value, field: &str, key: &str, path: &Path<'_>) -> Vec<FieldError> {
    let at = path.field(field);
    let mut seen = BTreeSet::new();
    let items = object::list(object, field).iter().map(|it| object::text(it, key)).enumerate();
    items
        .filter(|(_, it)| !seen.insert(*it))
        .map(|(i, it)| FieldError::duplicate(at.index(i), it))
        .collect()
}
