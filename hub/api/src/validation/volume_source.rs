//! Sources of volumes that pods and PersistentVolumes have in common: disks and file systems that
//! something else provides.

use serde_json::Value;

use super::{optional_one_of, required};
use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

const BYTE_RANGE: &str = "must be between 0 and 255, inclusive";
const HOST_PATH_TYPES: &[&str] = &[
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];
const ONE_WAY_TO_FIND: &str = "must specify either targetWWNs or wwids, but not both";

/// Checks the source of a volume. Sources of a kind that is not known here are fine.
pub(super) fn check(kind: &str, source: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> =
        required_texts(kind).iter().filter_map(|field| required(source, field, path)).collect();
    for field in required_lists(kind) {
        if object::list(source, field).is_empty() {
            errors.push(FieldError::required(path.field(field), ""));
        }
    }
    match kind {
        "hostPath" => errors.extend(host_path(source, path)),
        "nfs" => {
            let text = object::text(source, "path");
            if !text.is_empty() && !text.starts_with('/') {
                let why = "must be an absolute path";
                errors.push(FieldError::invalid(path.field("path"), text, why));
            }
        }
        "awsElasticBlockStore" | "gcePersistentDisk" => {
            errors.extend(byte(source, "partition", path));
        }
        "iscsi" => errors.extend(iscsi(source, path)),
        "fc" => errors.extend(fibre_channel(source, path)),
        "flocker" => errors.extend(flocker(source, path)),
        "azureDisk" => {
            let modes = &["None", "ReadOnly", "ReadWrite"];
            errors.extend(optional_one_of(source, "cachingMode", path, modes));
            let kinds = &["Dedicated", "Managed", "Shared"];
            errors.extend(optional_one_of(source, "kind", path, kinds));
        }
        _ => {}
    }
    errors
}

fn required_texts(kind: &str) -> &'static [&'static str] {
    match kind {
        "awsElasticBlockStore" | "cinder" | "portworxVolume" => &["volumeID"],
        "azureDisk" => &["diskName", "diskURI"],
        "azureFile" => &["secretName", "shareName"],
        "flexVolume" => &["driver"],
        "gcePersistentDisk" => &["pdName"],
        "gitRepo" => &["repository"],
        "glusterfs" => &["endpoints", "path"],
        "hostPath" => &["path"],
        "iscsi" => &["targetPortal", "iqn"],
        "nfs" => &["server", "path"],
        "photonPersistentDisk" => &["pdID"],
        "quobyte" => &["registry", "volume"],
        "rbd" => &["image"],
        "scaleIO" => &["gateway", "system", "volumeName"],
        "storageos" => &["volumeName"],
        "vsphereVolume" => &["volumePath"],
        _ => &[],
    }
}

fn required_lists(kind: &str) -> &'static [&'static str] {
    match kind {
        "cephfs" | "rbd" => &["monitors"],
        _ => &[],
    }
}

fn host_path(source: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let text = object::text(source, "path");
    errors.extend(super::pod::no_back_steps(text, &path.field("path")));
    let ty = object::text(source, "type");
    if !HOST_PATH_TYPES.contains(&ty) {
        errors.push(FieldError::not_supported(path.field("type"), ty, HOST_PATH_TYPES));
    }
    errors
}

fn iscsi(source: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let iqn = object::text(source, "iqn");
    if !iqn.is_empty() && !["iqn", "eui", "naa"].iter().any(|it| iqn.starts_with(it)) {
        let why = "must be valid format starting with iqn, eui, or naa";
        errors.push(FieldError::invalid(path.field("iqn"), iqn, why));
    }
    errors.extend(byte(source, "lun", path));
    let authenticates =
        object::flag(source, "chapAuthDiscovery") || object::flag(source, "chapAuthSession");
    if authenticates && object::get(source, "secretRef").is_none() {
        errors.push(FieldError::required(path.field("secretRef"), ""));
    }
    if let Some(secret) = object::get(source, "secretRef") {
        errors.extend(required(secret, "name", &path.field("secretRef")));
    }
    errors
}

fn fibre_channel(source: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let targets = object::list(source, "targetWWNs");
    let at = path.field("targetWWNs");
    match (targets.is_empty(), object::list(source, "wwids").is_empty()) {
        (true, true) => errors.push(FieldError::required(at, ONE_WAY_TO_FIND)),
        (false, false) => errors.push(FieldError::invalid(at, targets.to_vec(), ONE_WAY_TO_FIND)),
        (true, false) | (false, true) => {}
    }
    if !targets.is_empty() && object::int(source, "lun").is_none() {
        let why = "lun is required if targetWWNs is specified";
        errors.push(FieldError::required(path.field("lun"), why));
    }
    errors.extend(byte(source, "lun", path));
    errors
}

fn flocker(source: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let name = object::text(source, "datasetName");
    let id = object::text(source, "datasetUUID");
    let mut errors = Vec::new();
    if name.is_empty() && id.is_empty() {
        let why = "one of datasetName and datasetUUID is required";
        errors.push(FieldError::required(*path, why));
    }
    if !name.is_empty() && !id.is_empty() {
        let why = "datasetName and datasetUUID can not be specified simultaneously";
        errors.push(FieldError::invalid(path, "resource", why));
    }
    if name.contains('/') {
        errors.push(FieldError::invalid(path.field("datasetName"), name, "must not contain '/'"));
    }
    errors
}

fn byte(source: &Value, field: &str, path: &Path<'_>) -> Option<FieldError> {
    let value = object::int(source, field).filter(|it| !(0..=255).contains(it))?;
    Some(FieldError::invalid(path.field(field), value, BYTE_RANGE))
}

/// Checks the name of a CSI driver.
pub(super) fn csi_driver(source: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let name = object::text(source, "driver");
    let at = path.field("driver");
    if name.is_empty() {
        return vec![FieldError::required(at, "")];
    }
    let mut errors = Vec::new();
    if name.len() > 63 {
        errors.push(FieldError::too_long(at, 63));
    }
    for wrong in names::dns1123_subdomain(&name.to_lowercase()) {
        errors.push(FieldError::invalid(at, name, wrong));
    }
    errors
}
