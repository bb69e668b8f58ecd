//! The rules of writes of `CustomResourceDefinition`s.

use serde_json::{Value, json};

use super::conversion::REVIEW_VERSIONS;
use super::{columns, jsonpath, names, schema_rules, structural::texts};
use crate::names::{dns1035_label, dns1123_subdomain};
use crate::object;
use crate::path::Path;
use crate::status::FieldError;
use crate::strategy::Strategy;
use crate::validation::admissionregistration;
use crate::write::WriteContext;

/// Keeps a deleted definition until its objects are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
const APPROVAL: &str = "api-approved.kubernetes.io";
/// Versions of one definition.
const MAX_VERSIONS: usize = 100;
/// Selectable fields of one version.
const MAX_SELECTABLE: usize = 8;

/// `CustomResourceDefinition`.
#[derive(Debug)]
pub struct CustomResourceDefinition;

impl Strategy for CustomResourceDefinition {
    fn default(&self, object: &mut Value) {
        let kind = object::text(object, "spec.names.kind").to_owned();
        let spec = object::ensure(object, "spec");
        let names = object::as_map(spec.entry("names").or_insert(Value::Null));
        if !kind.is_empty() {
            object::default_text(names, "singular", &kind.to_lowercase());
            object::default_text(names, "listKind", &format!("{kind}List"));
        }
        let conversion = object::as_map(spec.entry("conversion").or_insert(Value::Null));
        object::default_text(conversion, "strategy", "None");
        let webhook = conversion.get_mut("webhook").and_then(|it| it.get_mut("clientConfig"));
        if let Some(service) =
            webhook.and_then(|it| it.get_mut("service")).filter(|it| it.is_object())
        {
            object::default(object::as_map(service), "port", 443);
        }
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        object::as_map(object).remove("status");
        add_stored_version(object);
    }

    fn prepare_update(&self, new: &mut Value, _old: &Value) {
        add_stored_version(new);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let spec = Path::Root.field("spec");
        group(object, &spec, &mut errors);
        scope(object, &spec, &mut errors);
        names_of(object, &spec.field("names"), &mut errors);
        versions(object, &spec, &mut errors);
        conversion(object, &spec.field("conversion"), &mut errors);
        stored_versions(object, &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut fixed = vec!["spec.group", "spec.names.plural"];
        if names::is_true(old, "Established") {
            fixed.extend(["spec.scope", "spec.names.kind"]);
        }
        for path in fixed {
            if object::text(new, path) != object::text(old, path) {
                let what = "field is immutable";
                errors.push(FieldError::invalid(path, object::text(new, path), what));
            }
        }
        errors
    }

    fn validate_status(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        stored_versions(new, &mut errors);
        errors
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }

    /// The first deletion only marks: the objects go first.
    fn holds_deletion(&self, object: &Value) -> bool {
        !object::is_terminating(object)
    }

    fn prepare_delete(&self, object: &mut Value) {
        if names::is_true(object, "Terminating") {
            return;
        }
        let now = crate::time::parse(object::text(object, "metadata.deletionTimestamp"));
        let metadata = object::ensure(object, "metadata");
        let finalizers = metadata.entry("finalizers").or_insert_with(|| json!([]));
        if let Some(finalizers) = finalizers.as_array_mut()
            && !finalizers.iter().any(|it| it == FINALIZER)
        {
            finalizers.push(json!(FINALIZER));
        }
        let condition = names::Condition {
            kind: "Terminating",
            status: "True",
            reason: "InstanceDeletionPending",
            message: "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon".to_owned(),
        };
        names::set(object, &condition, now.unwrap_or(jiff::Timestamp::UNIX_EPOCH));
    }
}

/// Objects are stored in the storage version from now on.
fn add_stored_version(object: &mut Value) {
    let versions = object::list(object, "spec.versions");
    let storage = versions.iter().find(|it| object::flag(it, "storage"));
    let Some(storage) = storage.map(|it| object::text(it, "name").to_owned()) else { return };
    let status = object::ensure(object, "status");
    let stored = status.entry("storedVersions").or_insert_with(|| json!([]));
    if let Some(stored) = stored.as_array_mut()
        && !stored.iter().any(|it| *it == storage)
    {
        stored.push(json!(storage));
    }
}

fn group(object: &Value, spec: &Path<'_>, errors: &mut Vec<FieldError>) {
    let group = object::text(object, "spec.group");
    let at = spec.field("group");
    if group.is_empty() {
        errors.push(FieldError::required(at, ""));
    } else {
        for wrong in dns1123_subdomain(group) {
            errors.push(FieldError::invalid(at, group, wrong));
        }
        if !group.contains('.') {
            let what = "should be a domain with at least one dot";
            errors.push(FieldError::invalid(at, group, what));
        }
        if group == super::OWN_GROUP {
            errors.push(FieldError::invalid(at, group, "is kept for the server itself"));
        }
    }
    let name = object::name(object);
    if name != format!("{}.{group}", object::text(object, "spec.names.plural")) {
        let what = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid("metadata.name", name, what));
    }
    let is_protected = group.ends_with(".k8s.io") || group.ends_with(".kubernetes.io");
    let approval = object::annotation(object, APPROVAL).unwrap_or_default();
    let at = format!("metadata.annotations[{APPROVAL}]");
    if is_protected && approval.is_empty() {
        let what = "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111";
        errors.push(FieldError::required(at, what));
    } else if is_protected && !approval.starts_with("unapproved") && !approval.contains("://") {
        let what = "protected groups must have approval annotation \"api-approved.kubernetes.io\" with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111";
        errors.push(FieldError::invalid(at, approval, what));
    }
}

fn scope(object: &Value, spec: &Path<'_>, errors: &mut Vec<FieldError>) {
    let at = spec.field("scope");
    match object::text(object, "spec.scope") {
        "" => errors.push(FieldError::required(at, "")),
        "Cluster" | "Namespaced" => {}
        other => errors.push(FieldError::not_supported(at, other, &["Cluster", "Namespaced"])),
    }
    if object::flag(object, "spec.preserveUnknownFields") {
        let at = spec.field("preserveUnknownFields");
        let what = "must be false in order to use defaults in the schema";
        errors.push(FieldError::invalid(at, true, what));
    }
}

fn names_of(object: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let names = object::get(object, "spec.names").unwrap_or(&Value::Null);
    let text = |key: &str| object::text(names, key);
    for key in ["plural", "singular"] {
        let at = path.field(key);
        if text(key).is_empty() {
            if key == "plural" {
                errors.push(FieldError::required(at, ""));
            }
            continue;
        }
        for wrong in dns1035_label(text(key)) {
            errors.push(FieldError::invalid(at, text(key), wrong));
        }
    }
    for key in ["kind", "listKind"] {
        let at = path.field(key);
        if text(key).is_empty() {
            errors.push(FieldError::required(at, ""));
            continue;
        }
        for wrong in dns1035_label(&text(key).to_lowercase()) {
            let what = format!("may have mixed case, but should otherwise match: {wrong}");
            errors.push(FieldError::invalid(at, text(key), what));
        }
    }
    if !text("kind").is_empty() && text("kind") == text("listKind") {
        let what = "kind and listKind may not be the same";
        errors.push(FieldError::invalid(path.field("listKind"), text("listKind"), what));
    }
    for key in ["shortNames", "categories"] {
        let at = path.field(key);
        for (index, name) in texts(names.get(key)).iter().enumerate() {
            for wrong in dns1035_label(name) {
                errors.push(FieldError::invalid(at.index(index), name.as_str(), wrong));
            }
        }
    }
}

fn versions(object: &Value, spec: &Path<'_>, errors: &mut Vec<FieldError>) {
    let versions = object::list(object, "spec.versions");
    let at = spec.field("versions");
    if versions.is_empty() {
        errors.push(FieldError::required(at, "must have at least one version"));
        return;
    }
    if versions.len() > MAX_VERSIONS {
        errors.push(FieldError::too_many(at, versions.len(), MAX_VERSIONS));
        return;
    }
    let mut seen: Vec<&str> = Vec::new();
    for (index, version) in versions.iter().enumerate() {
        let at = at.index(index);
        let name = object::text(version, "name");
        if seen.contains(&name) {
            let what = "must contain unique version names";
            errors.push(FieldError::invalid(at.field("name"), name, what));
        }
        seen.push(name);
        for wrong in dns1035_label(name) {
            errors.push(FieldError::invalid(at.field("name"), name, wrong));
        }
        version_of(version, &at, errors);
    }
    if versions.iter().filter(|it| object::flag(it, "storage")).count() != 1 {
        let what = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid(at, json!(seen), what));
    }
}

fn version_of(version: &Value, at: &Path<'_>, errors: &mut Vec<FieldError>) {
    let schema_at = at.field("schema");
    let schema_at = schema_at.field("openAPIV3Schema");
    match version.pointer("/schema/openAPIV3Schema").filter(|it| !it.is_null()) {
        None => errors.push(FieldError::required(schema_at, "schemas are required")),
        Some(schema) => errors.extend(schema_rules::validate(schema, &schema_at)),
    }
    if !object::flag(version, "deprecated") && object::get(version, "deprecationWarning").is_some()
    {
        let what = "can only be set for deprecated versions";
        let warning = object::text(version, "deprecationWarning");
        errors.push(FieldError::invalid(at.field("deprecationWarning"), warning, what));
    }
    let columns_at = at.field("additionalPrinterColumns");
    for (index, column) in object::list(version, "additionalPrinterColumns").iter().enumerate() {
        let at = columns_at.index(index);
        if object::text(column, "name").is_empty() {
            errors.push(FieldError::required(at.field("name"), ""));
        }
        let types = ["boolean", "date", "integer", "number", "string"];
        match object::text(column, "type") {
            "" => errors.push(FieldError::required(
                at.field("type"),
                format!("must be one of {}", types.join(",")),
            )),
            ty if !types.contains(&ty) => {
                let what = format!("must be one of {}", types.join(","));
                errors.push(FieldError::invalid(at.field("type"), ty, what));
            }
            _ => {}
        }
        match object::text(column, "jsonPath") {
            "" => errors.push(FieldError::required(at.field("jsonPath"), "")),
            path if !columns::is_path(path) => {
                let what = "must be a simple json path starting with .";
                errors.push(FieldError::invalid(at.field("jsonPath"), path, what));
            }
            _ => {}
        }
    }
    selectable(version, at, errors);
    scale(version, at, errors);
}

fn selectable(version: &Value, at: &Path<'_>, errors: &mut Vec<FieldError>) {
    let fields = object::list(version, "selectableFields");
    let fields_at = at.field("selectableFields");
    if fields.len() > MAX_SELECTABLE {
        errors.push(FieldError::too_many(fields_at, fields.len(), MAX_SELECTABLE));
    }
    let schema = version.pointer("/schema/openAPIV3Schema").unwrap_or(&Value::Null);
    for (index, field) in fields.iter().enumerate() {
        let at = fields_at.index(index);
        let at = at.field("jsonPath");
        let path = object::text(field, "jsonPath");
        let keys = jsonpath::simple(path).unwrap_or_default();
        let below = |schema, key: &String| Value::get(schema, "properties")?.get(key);
        let found = keys.iter().try_fold(schema, below).filter(|_| !keys.is_empty());
        let Some(found) = found else {
            errors.push(FieldError::invalid(at, path, "is an invalid path"));
            continue;
        };
        if keys.first().is_some_and(|it| it == "metadata") {
            errors.push(FieldError::invalid(at, path, "must not point to fields in metadata"));
        }
        if !["boolean", "integer", "string"].contains(&object::text(found, "type")) {
            let what = "must point to a field of type string, boolean or integer";
            errors.push(FieldError::invalid(at, path, what));
        }
    }
}

fn scale(version: &Value, at: &Path<'_>, errors: &mut Vec<FieldError>) {
    let Some(scale) = object::get(version, "subresources.scale") else { return };
    let at = at.field("subresources");
    let at = at.field("scale");
    for (key, below, is_required) in [
        ("specReplicasPath", ".spec", true),
        ("statusReplicasPath", ".status", true),
        ("labelSelectorPath", ".status", false),
    ] {
        let path = object::text(scale, key);
        if path.is_empty() {
            if is_required {
                errors.push(FieldError::required(at.field(key), ""));
            }
            continue;
        }
        if jsonpath::simple(path).is_none() {
            errors.push(FieldError::invalid(at.field(key), path, "must be a simple json path"));
        }
        let is_below = path.starts_with(&format!("{below}."))
            || key == "labelSelectorPath" && path.starts_with(".spec.");
        if !is_below {
            let what = match key {
                "labelSelectorPath" => {
                    "should be a json path under either .spec or .status".to_owned()
                }
                _ => format!("should be a json path under {below}"),
            };
            errors.push(FieldError::invalid(at.field(key), path, what));
        }
    }
}

fn conversion(object: &Value, at: &Path<'_>, errors: &mut Vec<FieldError>) {
    let conversion = object::get(object, "spec.conversion").unwrap_or(&Value::Null);
    match object::text(conversion, "strategy") {
        "None" => {
            let what = "should not be set when strategy is not set to Webhook";
            if object::get(conversion, "webhook.clientConfig").is_some() {
                errors.push(FieldError::forbidden(at.field("webhookClientConfig"), what));
            }
            if !object::list(conversion, "webhook.conversionReviewVersions").is_empty() {
                errors.push(FieldError::forbidden(at.field("conversionReviewVersions"), what));
            }
        }
        "Webhook" => {
            webhook(conversion, at, errors);
        }
        other => {
            let at = at.field("strategy");
            errors.push(FieldError::not_supported(at, other, &["None", "Webhook"]));
        }
    }
}

/// Paths are those of the internal form, as the real server names them.
fn webhook(conversion: &Value, at: &Path<'_>, errors: &mut Vec<FieldError>) {
    let config_at = at.field("webhookClientConfig");
    match object::get(conversion, "webhook.clientConfig") {
        Some(config) => errors.extend(admissionregistration::client(config, &config_at)),
        None => {
            let what = "required when strategy is set to Webhook";
            errors.push(FieldError::required(config_at, what));
        }
    }
    let at = at.field("conversionReviewVersions");
    let versions = texts(conversion.pointer("/webhook/conversionReviewVersions"));
    if versions.is_empty() {
        errors.push(FieldError::required(at, ""));
        return;
    }
    for (index, version) in versions.iter().enumerate() {
        if versions.iter().take(index).any(|it| it == version) {
            errors.push(FieldError::invalid(
                at.index(index),
                version.as_str(),
                "duplicate version",
            ));
            continue;
        }
        for wrong in dns1035_label(version) {
            errors.push(FieldError::invalid(at.index(index), version.as_str(), wrong));
        }
    }
    if !versions.iter().any(|it| REVIEW_VERSIONS.contains(&it.as_str())) {
        let what = format!("must include at least one of {}", REVIEW_VERSIONS.join(", "));
        errors.push(FieldError::invalid(at, json!(versions), what));
    }
}

fn stored_versions(object: &Value, errors: &mut Vec<FieldError>) {
    let stored = texts(object.pointer("/status/storedVersions"));
    let at = Path::Root.field("status");
    let at = at.field("storedVersions");
    if stored.is_empty() {
        let what = "must have at least one stored version";
        errors.push(FieldError::invalid(at, json!([]), what));
        return;
    }
    let versions = object::list(object, "spec.versions");
    for (index, name) in stored.iter().enumerate() {
        if !versions.iter().any(|it| object::text(it, "name") == name) {
            let what = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            errors.push(FieldError::invalid(at.index(index), name.as_str(), what));
        }
    }
    let storage = versions.iter().find(|it| object::flag(it, "storage"));
    if let Some(name) = storage.map(|it| object::text(it, "name"))
        && !stored.iter().any(|it| it == name)
    {
        let what = format!("must have the storage version {name}");
        errors.push(FieldError::invalid(at, json!(stored), what));
    }
}
