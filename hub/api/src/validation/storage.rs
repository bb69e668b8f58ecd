//! Checks of the kinds of `storage.k8s.io`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{IMMUTABLE, NOT_NEGATIVE, fields, immutable, one_of, optional_one_of, same, selector};
use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

const MAX_PARAMETERS: usize = 512;
const MAX_PARAMETERS_SIZE: usize = 256 * 1024;
const MAX_NODE_ID: usize = 192;
const MAX_VOLUME_ERROR: usize = 1024;
const MAX_ATTACHMENT_METADATA: usize = 256 * 1024;

/// Checks a StorageClass.
pub fn storage_class(object: &Value) -> Vec<FieldError> {
    let root = Path::Root;
    let provisioner = object::text(object, "provisioner");
    let at = root.field("provisioner");
    let mut errors = match provisioner {
        "" => vec![FieldError::required(at, "")],
        it => fields::all_wrong(&at, it, names::qualified_name(&it.to_lowercase())),
    };
    errors.extend(parameters(object, true));
    errors.extend(optional_one_of(object, "reclaimPolicy", &root, &["Delete", "Retain"]));
    let modes = ["Immediate", "WaitForFirstConsumer"];
    errors.extend(one_of(object, "volumeBindingMode", &root, &modes));
    errors.extend(topologies(object));
    errors
}

/// Checks a changed StorageClass: what volumes were made by stays.
pub fn storage_class_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in ["parameters", "provisioner", "reclaimPolicy"] {
        errors.extend(forbidden_change(new, old, field));
    }
    let at = Path::Root.field("volumeBindingMode");
    errors.extend(immutable(new.get("volumeBindingMode"), old.get("volumeBindingMode"), &at));
    errors
}

/// Checks a VolumeAttributesClass.
pub fn attributes_class(object: &Value) -> Vec<FieldError> {
    let driver = object::text(object, "driverName");
    let mut errors = fields::driver_name(driver, &Path::Root.field("driverName"));
    errors.extend(parameters(object, false));
    errors
}

/// Checks a changed VolumeAttributesClass.
pub fn attributes_class_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let changes = ["driverName", "parameters"].into_iter();
    changes.filter_map(|field| forbidden_change(new, old, field)).collect()
}

/// Checks a CSIDriver.
pub fn csi_driver(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let mut errors = fields::driver_name(object::name(object), &Path::Root.field("name"));
    for (field, shown) in [
        // The path says `attachedRequired`, as Kubernetes has it.
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
    ] {
        if object::get(spec, field).is_none() {
            errors.push(FieldError::required(path.field(shown), ""));
        }
    }
    let policies = ["File", "None", "ReadWriteOnceWithFSType"];
    errors.extend(one_of(spec, "fsGroupPolicy", &path, &policies));
    errors.extend(token_requests(spec, &path.field("tokenRequests")));
    let list = path.field("volumeLifecycleModes");
    for mode in object::list(spec, "volumeLifecycleModes") {
        if mode != "Ephemeral" && mode != "Persistent" {
            let known = ["Ephemeral", "Persistent"];
            errors.push(FieldError::not_supported(list, mode.clone(), &known));
        }
    }
    if let Some(period) = object::int(spec, "nodeAllocatableUpdatePeriodSeconds")
        && period < 10
    {
        errors.push(FieldError::invalid(
            path.field("nodeAllocatableUpdatePeriodSeconds"),
            period,
            "must be greater than or equal to 10 seconds",
        ));
    }
    errors
}

/// Checks a changed CSIDriver.
pub fn csi_driver_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let spec = Path::Root.field("spec");
    let mut errors = Vec::new();
    for (field, shown) in
        [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")]
    {
        let (new, old) = (new["spec"].get(field), old["spec"].get(field));
        errors.extend(immutable(new, old, &spec.field(shown)));
    }
    errors
}

/// Checks a CSINode.
pub fn csi_node(object: &Value) -> Vec<FieldError> {
    let spec = Path::Root.field("spec");
    let list = spec.field("drivers");
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, driver) in object::list(object, "spec.drivers").iter().enumerate() {
        let at = list.index(i);
        let name = object::text(driver, "name");
        errors.extend(fields::driver_name(name, &at.field("name")));
        let (id, at_id) = (object::text(driver, "nodeID"), at.field("nodeID"));
        if id.is_empty() {
            errors.push(FieldError::required(at_id, ""));
        } else if id.len() > MAX_NODE_ID {
            let detail = format!("must be {MAX_NODE_ID} characters or less");
            errors.push(FieldError::invalid(at_id, id, detail));
        }
        let count = object::int(driver, "allocatable.count").filter(|it| *it < 0);
        if let Some(count) = count {
            let allocatable = at.field("allocatable");
            errors.push(FieldError::invalid(allocatable.field("count"), count, NOT_NEGATIVE));
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(at.field("name"), name));
        }
        let keys = at.field("topologyKeys");
        let mut known = BTreeSet::new();
        for key in object::list(driver, "topologyKeys").iter().filter_map(Value::as_str) {
            if !known.insert(key) {
                errors.push(FieldError::duplicate(keys, key));
            }
            errors.extend(fields::all_wrong(&keys, key, names::qualified_name(key)));
        }
    }
    errors
}

/// Checks a changed CSINode: a driver that is there stays as it is.
pub fn csi_node_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for before in object::list(old, "spec.drivers") {
        let mut drivers = object::list(new, "spec.drivers").iter();
        let Some(after) = drivers.find(|it| it["name"] == before["name"]) else { continue };
        let changed =
            ["nodeID", "topologyKeys"].into_iter().any(|it| !same(&after[it], &before[it]));
        if changed {
            errors.push(FieldError::invalid("CSINodeDriver", after.clone(), IMMUTABLE));
        }
    }
    errors
}

/// Checks a VolumeAttachment.
pub fn attachment(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let mut errors = fields::driver_name(object::text(spec, "attacher"), &path.field("attacher"));
    let source = path.field("source");
    let volume = object::get(spec, "source.persistentVolumeName").and_then(Value::as_str);
    let exactly = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (object::get(spec, "source.inlineVolumeSpec"), volume) {
        (None, None) => errors.push(FieldError::required(source, exactly)),
        (Some(_), Some(_)) => errors.push(FieldError::forbidden(source, exactly)),
        (None, Some("")) => errors.push(FieldError::required(
            source.field("persistentVolumeName"),
            "must specify non empty persistentVolumeName",
        )),
        (None, Some(_)) | (Some(_), None) => {}
    }
    let node = object::text(spec, "nodeName");
    errors.extend(fields::all_wrong(&path.field("nodeName"), node, names::dns1123_subdomain(node)));
    errors
}

/// Checks a changed VolumeAttachment.
pub fn attachment_update(new: &Value, old: &Value) -> Vec<FieldError> {
    immutable(new.get("spec"), old.get("spec"), &Path::Root.field("spec")).into_iter().collect()
}

/// Checks the status of a VolumeAttachment.
pub fn attachment_status(object: &Value) -> Vec<FieldError> {
    let path = Path::Root.field("status");
    let mut errors = Vec::new();
    let size = |it: &Value| it.as_str().unwrap_or_default().len();
    let metadata = object::entries(object, "status.attachmentMetadata");
    if metadata.map(|(key, it)| key.len() + size(it)).sum::<usize>() > MAX_ATTACHMENT_METADATA {
        errors
            .push(FieldError::too_long(path.field("attachmentMetadata"), MAX_ATTACHMENT_METADATA));
    }
    for field in ["attachError", "detachError"] {
        if size(&object["status"][field]["message"]) > MAX_VOLUME_ERROR {
            let at = path.field(field);
            errors.push(FieldError::too_long(at.field("message"), MAX_VOLUME_ERROR));
        }
    }
    errors
}

/// Checks a CSIStorageCapacity.
pub fn capacity(object: &Value) -> Vec<FieldError> {
    let root = Path::Root;
    let class = object::text(object, "storageClassName");
    let mut errors =
        fields::all_wrong(&root.field("storageClassName"), class, names::dns1123_subdomain(class));
    errors.extend(selector::label_selector(&object["nodeTopology"], &root.field("nodeTopology")));
    for field in ["capacity", "maximumVolumeSize"] {
        errors.extend(fields::quantity_not_negative(object, field, &root));
    }
    errors
}

/// Checks a changed CSIStorageCapacity.
pub fn capacity_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let fields = ["nodeTopology", "storageClassName"].into_iter();
    fields.filter_map(|it| immutable(new.get(it), old.get(it), &Path::Root.field(it))).collect()
}

fn forbidden_change(new: &Value, old: &Value, field: &str) -> Option<FieldError> {
    let (new, old) = (&new[field], &old[field]);
    let detail = format!("updates to {field} are forbidden.");
    (!same(new, old)).then(|| FieldError::forbidden(field, detail))
}

fn parameters(object: &Value, may_be_empty: bool) -> Vec<FieldError> {
    let at = Path::Root.field("parameters");
    let (mut n_entries, mut size) = (0, 0);
    let mut errors = Vec::new();
    for (key, value) in object::entries(object, "parameters") {
        n_entries += 1;
        size += key.len() + value.as_str().unwrap_or_default().len();
        if key.is_empty() {
            errors.push(FieldError::invalid(at, "", "field can not be empty."));
        }
    }
    if n_entries > MAX_PARAMETERS {
        return vec![FieldError::too_long(at, MAX_PARAMETERS)];
    }
    if size > MAX_PARAMETERS_SIZE {
        errors.push(FieldError::too_long(at, MAX_PARAMETERS_SIZE));
    }
    if n_entries == 0 && !may_be_empty {
        errors.push(FieldError::required(at, "must contain at least one key/value pair"));
    }
    errors
}

fn topologies(object: &Value) -> Vec<FieldError> {
    let at = Path::Root.field("allowedTopologies");
    let list = at.field("matchLabelExpressions");
    let mut errors = Vec::new();
    let mut seen: Vec<BTreeMap<&str, BTreeSet<&str>>> = Vec::new();
    for (i, term) in object::list(object, "allowedTopologies").iter().enumerate() {
        let expressions = object::list(term, "matchLabelExpressions");
        if expressions.is_empty() {
            errors.push(FieldError::required(list, ""));
        }
        let mut found = BTreeMap::new();
        for (j, it) in expressions.iter().enumerate() {
            let item = list.index(j);
            let key = object::text(it, "key");
            let values = object::list(it, "values");
            if values.is_empty() {
                errors.push(FieldError::required(item.field("values"), ""));
            }
            errors.extend(fields::duplicates(values, &item.field("values")));
            errors.extend(fields::all_wrong(&item.field("key"), key, names::qualified_name(key)));
            let values = values.iter().filter_map(Value::as_str).collect();
            if found.insert(key, values).is_some() {
                errors.push(FieldError::duplicate(item.field("key"), key));
            }
        }
        if seen.contains(&found) {
            let item = at.index(i);
            errors.push(FieldError::duplicate(item.field("matchLabelExpressions"), ""));
        }
        seen.push(found);
    }
    errors
}

fn token_requests(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, request) in object::list(spec, "tokenRequests").iter().enumerate() {
        let at = path.index(i);
        let audience = object::text(request, "audience");
        if !seen.insert(audience) {
            errors.push(FieldError::duplicate(at.field("audience"), audience));
        }
        let why = match object::int(request, "expirationSeconds") {
            Some(it) if it < 600 => "may not specify a duration less than 10 minutes",
            Some(it) if it > 1 << 32 => "may not specify a duration larger than 2^32 seconds",
            _ => continue,
        };
        let seconds = request["expirationSeconds"].clone();
        errors.push(FieldError::invalid(at.field("expirationSeconds"), seconds, why));
    }
    errors
}
