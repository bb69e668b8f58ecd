//! Security contexts of pods and containers.

use serde_json::Value;

use super::super::{optional_one_of, required};
use super::container::descending;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

/// Bytes of the name of an AppArmor profile: what the kernel takes.
const MAX_APP_ARMOR_PROFILE: usize = 4095;
const ID_RANGE: &str = "must be between 0 and 2147483647, inclusive";

pub(super) fn pod(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let at = path.field("securityContext");
    let context = object::get(spec, "securityContext").unwrap_or(&Value::Null);
    if object::flag(spec, "shareProcessNamespace") && object::flag(spec, "hostPID") {
        errors.push(FieldError::invalid(
            path.field("shareProcessNamespace"),
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        ));
    }
    if object::get(spec, "hostUsers").and_then(Value::as_bool) == Some(false) {
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            if object::flag(spec, field) {
                errors.push(FieldError::forbidden(path.field(field), "when `hostUsers` is false"));
            }
        }
    }
    errors.extend(ids(context, &["runAsUser", "runAsGroup", "fsGroup"], &at));
    let groups = at.field("supplementalGroups");
    for (i, group) in object::list(context, "supplementalGroups").iter().enumerate() {
        let group = group.as_i64().unwrap_or(-1);
        if !valid_id(group) {
            errors.push(FieldError::invalid(groups.index(i), group, ID_RANGE));
        }
    }
    errors.extend(optional_one_of(
        context,
        "fsGroupChangePolicy",
        &at,
        &["Always", "OnRootMismatch"],
    ));
    errors.extend(optional_one_of(
        context,
        "seLinuxChangePolicy",
        &at,
        &["MountOption", "Recursive"],
    ));
    errors.extend(optional_one_of(context, "supplementalGroupsPolicy", &at, &["Merge", "Strict"]));
    let sysctls = at.field("sysctls");
    for (i, sysctl) in object::list(context, "sysctls").iter().enumerate() {
        errors.extend(self::sysctl(sysctl, &sysctls.index(i)));
    }
    errors.extend(profiles(context, &at));
    errors
}

pub(super) fn container(spec: &Value, container: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let Some(context) = object::get(container, "securityContext") else {
        return errors;
    };
    errors.extend(ids(context, &["runAsUser", "runAsGroup"], path));
    let privileged = object::flag(context, "privileged");
    let escalation = object::get(context, "allowPrivilegeEscalation").and_then(Value::as_bool);
    if escalation == Some(false) {
        if privileged {
            errors.push(FieldError::invalid(
                path,
                context.clone(),
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            ));
        }
        let added = object::list(context, "capabilities.add");
        if added.iter().any(|it| it == "CAP_SYS_ADMIN") {
            errors.push(FieldError::invalid(
                path,
                context.clone(),
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            ));
        }
    }
    errors.extend(optional_one_of(context, "procMount", path, &["Default", "Unmasked"]));
    if object::text(context, "procMount") == "Unmasked"
        && object::get(spec, "hostUsers").and_then(Value::as_bool) != Some(false)
    {
        errors.push(FieldError::invalid(
            path.field("procMount"),
            "Unmasked",
            "`hostUsers` must be false to use `Unmasked`",
        ));
    }
    errors.extend(profiles(context, path));
    errors
}

fn profiles(context: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (field, short) in [("seccompProfile", "seccomp"), ("appArmorProfile", "AppArmor")] {
        if let Some(profile) = object::get(context, field) {
            errors.extend(self::profile(profile, field, short, &path.field(field)));
        }
    }
    errors
}

fn profile(profile: &Value, field: &str, short: &str, at: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = at.field("localhostProfile");
    let ty = object::text(profile, "type");
    let file = object::get(profile, "localhostProfile").and_then(Value::as_str);
    match (ty, file) {
        ("Localhost", None) => {
            let why = format!("must be set when {short} type is Localhost");
            errors.push(FieldError::required(path, why));
        }
        ("Localhost", Some(file)) if field == "seccompProfile" => {
            errors.extend(descending(file, &path));
        }
        ("Localhost", Some(file)) => {
            if file.trim().is_empty() {
                let why = format!("must be set when {short} type is Localhost");
                errors.push(FieldError::required(path, why));
            } else if file.trim() != file {
                errors.push(FieldError::invalid(path, file, "must not be padded with whitespace"));
            }
            if file.len() > MAX_APP_ARMOR_PROFILE {
                errors.push(FieldError::too_long(path, MAX_APP_ARMOR_PROFILE));
            }
        }
        (_, Some(file)) => {
            let why = format!("can only be set when {short} type is Localhost");
            errors.push(FieldError::invalid(path, file, why));
        }
        (_, None) => {}
    }
    match ty {
        "" => {
            let why = format!("type is required when {field} is set");
            errors.push(FieldError::required(at.field("type"), why));
        }
        "Localhost" | "RuntimeDefault" | "Unconfined" => {}
        ty => errors.push(FieldError::not_supported(
            at.field("type"),
            ty,
            &["Localhost", "RuntimeDefault", "Unconfined"],
        )),
    }
    errors
}

fn sysctl(sysctl: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(required(sysctl, "name", path));
    let name = object::text(sysctl, "name");
    let part = |it: &str| {
        let bytes = it.as_bytes();
        let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        bytes.first().is_some_and(inner)
            && bytes.last().is_some_and(inner)
            && bytes.iter().all(|b| inner(b) || matches!(b, b'-' | b'_'))
    };
    let valid = name.len() <= 253 && name.split(['.', '/']).all(part);
    if !name.is_empty() && !valid {
        errors.push(FieldError::invalid(
            path.field("name"),
            name,
            "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
        ));
    }
    errors
}

fn ids(context: &Value, fields: &[&str], path: &Path<'_>) -> Vec<FieldError> {
    fields
        .iter()
        .filter_map(|field| {
            let id = object::int(context, field).filter(|it| !valid_id(*it))?;
            Some(FieldError::invalid(path.field(field), id, ID_RANGE))
        })
        .collect()
}

fn valid_id(id: i64) -> bool {
    (0..=i64::from(i32::MAX)).contains(&id)
}
