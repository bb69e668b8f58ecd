//! ResourceSlices: the devices that a driver offers.

use serde_json::Value;

use super::resource::{each, unique};
use super::{fields, immutable, one_of, pod};
use crate::names;
use crate::object;
use crate::path::Path;
use crate::quantity::Quantity;
use crate::status::FieldError;

/// What a taint of a device does to pods.
pub(super) const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];

const MAX_DEVICES: usize = 128;
/// Devices of a slice where any has taints or counters.
const MAX_ADVANCED_DEVICES: usize = 64;
const MAX_COUNTER_SETS: usize = 8;
const MAX_COUNTERS: usize = 32;
const MAX_CONSUMPTIONS: usize = 2;
const MAX_ATTRIBUTES: usize = 32;
const MAX_TAINTS: usize = 16;
const MAX_TEXT: usize = 64;
const MAX_IDENTIFIER: usize = 32;
const MAX_POOL_NAME: usize = 253;
const MAX_CONDITIONS: usize = 4;

/// Checks a ResourceSlice.
pub fn slice(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let mut errors = fields::driver_name(object::text(spec, "driver"), &path.field("driver"));
    errors.extend(pool(&spec["pool"], &path.field("pool")));
    let fields = ["nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection"];
    let exactly = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    errors.extend(places(spec, &path, &fields, exactly));
    let (counters, devices) = (object::get(spec, "sharedCounters"), object::get(spec, "devices"));
    if counters.is_some() && devices.is_some() {
        let detail = "only one of `sharedCounters` or `devices` is allowed";
        errors.push(FieldError::invalid(path, "", detail));
    }
    let advanced = |it: &Value| {
        ["taints", "consumesCounters"].iter().any(|field| !object::list(it, field).is_empty())
    };
    let max = match object::list(spec, "devices").iter().any(advanced) {
        true => MAX_ADVANCED_DEVICES,
        false => MAX_DEVICES,
    };
    let per_device = object::flag(spec, "perDeviceNodeSelection");
    errors.extend(each(spec, "devices", &path, max, |it, at| device(it, per_device, at)));
    errors.extend(unique(spec, "devices", "name", &path));
    errors.extend(each(spec, "sharedCounters", &path, MAX_COUNTER_SETS, |it, at| {
        let mut errors = fields::required_name(it, "name", at, names::dns1123_label);
        errors.extend(counters_of(it, at));
        errors
    }));
    errors.extend(unique(spec, "sharedCounters", "name", &path));
    errors
}

/// Checks a changed ResourceSlice: whose devices they are stays.
pub fn slice_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let spec = Path::Root.field("spec");
    let pool = spec.field("pool");
    let fields = [
        ("spec.pool.name", pool.field("name")),
        ("spec.driver", spec.field("driver")),
        ("spec.nodeName", spec.field("nodeName")),
    ];
    let check = |(path, at): (&str, Path<'_>)| {
        immutable(object::get(new, path), object::get(old, path), &at)
    };
    fields.into_iter().filter_map(check).collect()
}

/// Checks the name of a pool: subdomains joined by slashes.
pub(super) fn pool_name(name: &str, at: &Path<'_>) -> Vec<FieldError> {
    if name.is_empty() {
        return vec![FieldError::required(at, "")];
    }
    let mut errors = Vec::new();
    if name.len() > MAX_POOL_NAME {
        errors.push(FieldError::too_long(at, MAX_POOL_NAME));
    }
    errors.extend(
        name.split('/')
            .flat_map(|part| fields::all_wrong(at, part, names::dns1123_subdomain(part))),
    );
    errors
}

/// Checks a taint of a device.
pub(super) fn taint(taint: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let mut errors = fields::required_name(taint, "key", at, names::qualified_name);
    errors.extend(fields::optional_name(taint, "value", at, names::label_value));
    errors.extend(one_of(taint, "effect", at, EFFECTS));
    errors
}

/// Checks the conditions that binding waits for.
pub(super) fn binding_conditions(object: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let lists = ["bindingConditions", "bindingFailureConditions"];
    let mut errors: Vec<FieldError> = Vec::new();
    for field in lists {
        errors.extend(each(object, field, at, MAX_CONDITIONS, |it, at| {
            let name = it.as_str().unwrap_or_default();
            fields::all_wrong(at, name, names::qualified_name(name))
        }));
    }
    let [conditions, failures] = lists.map(|field| object::list(object, field).is_empty());
    if conditions != failures {
        let (missing, given) = if conditions { (lists[0], lists[1]) } else { (lists[1], lists[0]) };
        let detail = format!("{missing} are required to use {given}");
        errors.push(FieldError::invalid(at.field(missing), Value::Array(Vec::new()), detail));
    }
    errors
}

/// Checks a name of an attribute or capacity, with or without its domain.
pub(super) fn qualified_name(name: &str, at: &Path<'_>) -> Vec<FieldError> {
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        [id] => identifier(id, at),
        [domain, id] => {
            let mut errors = match *domain {
                "" => vec![FieldError::invalid(at, "", "the domain must not be empty")],
                domain => fields::driver_name(domain, at),
            };
            match *id {
                "" => errors.push(FieldError::invalid(at, "", "the name must not be empty")),
                id => errors.extend(identifier(id, at)),
            }
            errors
        }
        _ => vec![FieldError::invalid(at, name, "must not contain more than one slash")],
    }
}

fn identifier(id: &str, at: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if id.len() > MAX_IDENTIFIER {
        errors.push(FieldError::too_long(at, MAX_IDENTIFIER));
    }
    errors.extend(fields::all_wrong(at, id, names::c_identifier(id)));
    errors
}

fn pool(pool: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let mut errors = pool_name(object::text(pool, "name"), &at.field("name"));
    let count = object::int(pool, "resourceSliceCount").unwrap_or(0);
    if count <= 0 {
        let path = at.field("resourceSliceCount");
        errors.push(FieldError::invalid(path, count, "must be greater than zero"));
    }
    let generation = object::int(pool, "generation").unwrap_or(0);
    if generation < 0 {
        let detail = "must be greater than or equal to zero";
        errors.push(FieldError::invalid(at.field("generation"), generation, detail));
    }
    errors
}

/// Checks that it is said in one way where devices can be reached from.
fn places(object: &Value, at: &Path<'_>, fields: &[&str], exactly: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut set = Vec::new();
    for field in fields {
        let path = at.field(field);
        match object::get(object, field) {
            None => continue,
            Some(Value::Bool(false)) => {
                let detail = "must be either unset or set to true";
                errors.push(FieldError::invalid(path, false, detail));
                continue;
            }
            Some(Value::String(name)) if name.is_empty() => {
                let detail = "must be either unset or set to a non-empty string";
                errors.push(FieldError::invalid(path, "", detail));
                continue;
            }
            Some(Value::String(name)) => {
                errors.extend(fields::all_wrong(&path, name, names::dns1123_subdomain(name)));
            }
            Some(selector @ Value::Object(_)) => {
                errors.extend(pod::node_selector(selector, &path));
                let terms = object::list(selector, "nodeSelectorTerms");
                if terms.len() != 1 {
                    let detail = "must have exactly one node selector term";
                    let at = path.field("nodeSelectorTerms");
                    errors.push(FieldError::invalid(at, terms.to_vec(), detail));
                }
            }
            Some(_) => {}
        }
        set.push(format!("`{field}`"));
    }
    match set.len() {
        0 => errors.push(FieldError::required(at, exactly)),
        1 => {}
        _ => {
            let detail = format!("{exactly}, but multiple fields are set");
            errors.push(FieldError::invalid(at, format!("{{{}}}", set.join(", ")), detail));
        }
    }
    errors
}

fn device(device: &Value, per_device: bool, at: &Path<'_>) -> Vec<FieldError> {
    let mut errors = fields::required_name(device, "name", at, names::dns1123_label);
    let n_entries =
        object::entries(device, "attributes").count() + object::entries(device, "capacity").count();
    if n_entries > MAX_ATTRIBUTES {
        let detail = format!(
            "the total number of attributes and capacities must not exceed {MAX_ATTRIBUTES}"
        );
        errors.push(FieldError::invalid(at, n_entries, detail));
    }
    let attributes = at.field("attributes");
    for (name, it) in object::entries(device, "attributes") {
        errors.extend(qualified_name(name, &attributes.key(name)));
        errors.extend(attribute(it, &attributes.key(name)));
    }
    let shared = object::flag(device, "allowMultipleAllocations");
    let capacities = at.field("capacity");
    for (name, it) in object::entries(device, "capacity") {
        let path = capacities.key(name);
        errors.extend(qualified_name(name, &path));
        if let Some(policy) = object::get(it, "requestPolicy") {
            let path = path.field("requestPolicy");
            if shared {
                errors.extend(request_policy(policy, &path));
            } else {
                let detail = "allowMultipleAllocations must be true";
                errors.push(FieldError::forbidden(path, detail));
            }
        }
    }
    errors.extend(each(device, "taints", at, MAX_TAINTS, taint));
    errors.extend(each(device, "consumesCounters", at, MAX_CONSUMPTIONS, |it, at| {
        let mut errors = fields::required_name(it, "counterSet", at, names::dns1123_label);
        errors.extend(counters_of(it, at));
        errors
    }));
    errors.extend(unique(device, "consumesCounters", "counterSet", at));
    let fields = ["nodeName", "nodeSelector", "allNodes"];
    if per_device {
        let exactly = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
        errors.extend(places(device, at, &fields, exactly));
    } else if fields.iter().any(|it| object::get(device, it).is_some()) {
        let detail = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
        errors.push(FieldError::invalid(at, Value::Null, detail));
    }
    errors.extend(binding_conditions(device, at));
    errors
}

fn attribute(attribute: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let scalars = ["bool", "int", "string", "version"];
    let lists = ["bools", "ints", "strings", "versions"];
    let n_values =
        scalars.iter().chain(&lists).filter(|it| object::get(attribute, it).is_some()).count();
    for field in lists {
        if object::get(attribute, field).and_then(Value::as_array).is_some_and(Vec::is_empty) {
            let empty = Value::Array(Vec::new());
            let detail = "must not be empty if specified";
            errors.push(FieldError::invalid(at.field(field), empty, detail));
        }
    }
    for field in ["string", "version"] {
        let path = at.field(field);
        if let Some(text) = object::get(attribute, field).and_then(Value::as_str) {
            errors.extend(attribute_text(text, field == "version", &path));
        }
    }
    for field in ["strings", "versions"] {
        let list = at.field(field);
        let texts = object::list(attribute, field).iter().filter_map(Value::as_str);
        for (i, text) in texts.enumerate() {
            errors.extend(attribute_text(text, field == "versions", &list.index(i)));
        }
    }
    if n_values != 1 {
        let shown = if n_values == 0 { Value::from("") } else { attribute.clone() };
        errors.push(FieldError::invalid(at, shown, "exactly one value must be specified"));
    }
    errors
}

fn attribute_text(text: &str, is_version: bool, at: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if is_version && !is_semantic_version(text) {
        let detail = "must be a string compatible with semver.org spec 2.0.0";
        errors.push(FieldError::invalid(at, text, detail));
    }
    if text.len() > MAX_TEXT {
        errors.push(FieldError::too_long(at, MAX_TEXT));
    }
    errors
}

/// `1.2.3-alpha.1+build`, as semver.org has it.
fn is_semantic_version(text: &str) -> bool {
    let plain =
        |it: &str| !it.is_empty() && it.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let number = |it: &str| {
        !it.is_empty()
            && it.bytes().all(|b| b.is_ascii_digit())
            && (it == "0" || !it.starts_with('0'))
    };
    let (rest, build) = text.split_once('+').map_or((text, None), |(a, b)| (a, Some(b)));
    let (core, release) = rest.split_once('-').map_or((rest, None), |(a, b)| (a, Some(b)));
    let of_release =
        |it: &str| plain(it) && (number(it) || !it.bytes().all(|b| b.is_ascii_digit()));
    core.split('.').count() == 3
        && core.split('.').all(number)
        && release.is_none_or(|it| it.split('.').all(of_release))
        && build.is_none_or(|it| it.split('.').all(plain))
}

fn request_policy(policy: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let values = object::list(policy, "validValues");
    let range = object::get(policy, "validRange");
    if !values.is_empty() && range.is_some() {
        let detail = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
        return vec![FieldError::forbidden(at, detail)];
    }
    let parse = |it: Option<&Value>| Quantity::parse(it?.as_str()?).ok();
    let default = parse(object::get(policy, "default"));
    let mut errors = Vec::new();
    let which = if values.is_empty() { "validRange" } else { "validValues" };
    if (!values.is_empty() || range.is_some()) && default.is_none() {
        let detail = format!("required when {which} is defined");
        errors.push(FieldError::required(at.field("default"), detail));
    }
    if let Some(range) = range {
        let path = at.field("validRange");
        let (min, max) = (parse(object::get(range, "min")), parse(object::get(range, "max")));
        match (min, max) {
            (None, _) => errors.push(FieldError::required(
                path.field("min"),
                "required when validRange is defined",
            )),
            (Some(min), Some(max)) if min > max => errors.push(FieldError::invalid(
                path.field("max"),
                min.to_string(),
                format!("min is larger than max: {max}"),
            )),
            _ => {}
        }
        if let Some(step) = parse(object::get(range, "step"))
            && (step.is_zero() || step.is_negative())
        {
            let detail = "must be greater than zero";
            errors.push(FieldError::invalid(path.field("step"), step.to_string(), detail));
        }
    }
    let list = at.field("validValues");
    let values: Vec<Option<Quantity>> = values.iter().map(|it| parse(Some(it))).collect();
    for (i, pair) in values.windows(2).enumerate() {
        if let [Some(a), Some(b)] = pair
            && a > b
        {
            let detail = "values must be sorted in ascending order";
            errors.push(FieldError::invalid(list.index(i + 1), b.to_string(), detail));
        }
    }
    if let Some(default) = default
        && !values.is_empty()
        && !values.contains(&Some(default))
    {
        let detail = "default value is not valid according to the requestPolicy";
        errors.push(FieldError::invalid(list, default.to_string(), detail));
    }
    errors
}

fn counters_of(set: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let path = at.field("counters");
    let n_counters = object::entries(set, "counters").count();
    if n_counters == 0 {
        return vec![FieldError::required(path, "")];
    }
    if n_counters > MAX_COUNTERS {
        return vec![FieldError::too_many(path, n_counters, MAX_COUNTERS)];
    }
    let mut errors = Vec::new();
    for (name, _) in object::entries(set, "counters") {
        errors.extend(fields::all_wrong(&path.key(name), name, names::dns1123_label(name)));
    }
    errors
}
