//! Query parameters turned into options, refused in Kubernetes' words.

use hub_api::selector::{FieldSelector, LabelSelector};
use hub_api::{DeleteOptions, FieldError, FieldValidation, Status, managed};
use serde_json::{Value, json};

use super::Call;
use crate::registry::{ListOptions, Selection, VersionMatch, WatchOptions, WriteOptions};

/// Which objects a list, watch or deletecollection means.
fn selection(call: &Call) -> Result<Selection, Status> {
    let mut selection = Selection::default();
    if let Some(text) = call.query.text("labelSelector") {
        selection.labels = LabelSelector::parse(text)?;
    }
    let mut fields = call.query.text("fieldSelector").unwrap_or_default().to_owned();
    // `GET .../pods/x?watch=true` means one object, if the selector means it: who was let in because of the selector
    // must not see more than it selects.
    if call.verb == "watch"
        && let Some(name) = &call.path.name
    {
        fields = format!("metadata.name={name},{fields}");
    }
    selection.fields = FieldSelector::parse(&fields, &call.resource)?;
    Ok(selection)
}

/// `resourceVersion`, if there is one.
pub(super) fn revision(call: &Call) -> Result<Option<u64>, Status> {
    let Some(text) = call.query.text("resourceVersion") else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        Status::bad_request(format!(
            "resourceVersion: Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": invalid syntax"
        ))
    })
}

fn version_match(call: &Call, errors: &mut Vec<FieldError>, known: &[&str]) -> VersionMatch {
    const FIELD: &str = "resourceVersionMatch";
    let text = call.query.text(FIELD).unwrap_or_default();
    match text {
        "" => VersionMatch::Unset,
        "Exact" if known.contains(&"Exact") => VersionMatch::Exact,
        "NotOlderThan" => VersionMatch::NotOlderThan,
        _ => {
            errors.push(FieldError::not_supported(FIELD, text, known));
            VersionMatch::Unset
        }
    }
}

fn refuse_unless_empty(errors: Vec<FieldError>) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid("meta.k8s.io", "ListOptions", "", errors))
}

pub(super) fn list(call: &Call) -> Result<ListOptions, Status> {
    const FIELD: &str = "resourceVersionMatch";
    let text = call.query.text(FIELD);
    let version = call.query.text("resourceVersion");
    let continue_token = call.query.text("continue").unwrap_or_default().to_owned();
    let mut errors = Vec::new();
    if text.is_some() && version.is_none() {
        errors.push(FieldError::forbidden(
            FIELD,
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        ));
    }
    if text.is_some() && !continue_token.is_empty() {
        errors.push(FieldError::forbidden(
            FIELD,
            "resourceVersionMatch is forbidden when continue is provided",
        ));
    }
    let version_match = version_match(call, &mut errors, &["Exact", "NotOlderThan", ""]);
    if version_match == VersionMatch::Exact && version == Some("0") {
        errors.push(FieldError::forbidden(
            FIELD,
            "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        ));
    }
    if call.query.text("sendInitialEvents").is_some() {
        errors.push(FieldError::forbidden(
            "sendInitialEvents",
            "sendInitialEvents is forbidden for list",
        ));
    }
    refuse_unless_empty(errors)?;
    let limit = call.query.number::<i64>("limit")?;
    Ok(ListOptions {
        selection: selection(call)?,
        limit: limit.and_then(|it| usize::try_from(it).ok()).filter(|it| *it > 0),
        continue_token,
        revision: revision(call)?,
        version_match,
    })
}

pub(super) fn watch(call: &Call) -> Result<WatchOptions, Status> {
    const FIELD: &str = "resourceVersionMatch";
    let text = call.query.text(FIELD);
    let initial_events = call.query.optional_flag("sendInitialEvents");
    let mut errors = Vec::new();
    if initial_events.is_some() && text != Some("NotOlderThan") {
        errors.push(FieldError::forbidden(
            FIELD,
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ));
    }
    if text.is_some() && initial_events.is_none() {
        errors.push(FieldError::forbidden(
            FIELD,
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ));
    }
    version_match(call, &mut errors, &["NotOlderThan"]);
    if text.is_some() && call.query.text("continue").is_some() {
        errors.push(FieldError::forbidden(
            FIELD,
            "resourceVersionMatch is forbidden when continue is provided",
        ));
    }
    refuse_unless_empty(errors)?;
    Ok(WatchOptions { selection: selection(call)?, revision: revision(call)?, initial_events })
}

/// Options of create, update and patch. `kind` is the name of the options in messages.
pub(super) fn write(call: &Call, kind: &str) -> Result<WriteOptions, Status> {
    write_after(call, kind, Vec::new())
}

/// Options of a server-side apply, and whether it is forced.
pub(super) fn apply(call: &Call) -> Result<(WriteOptions, bool), Status> {
    let mut errors = Vec::new();
    if call.query.text("fieldManager").is_none() {
        errors.push(FieldError::required("fieldManager", "is required for apply patch"));
    }
    Ok((write_after(call, PATCH_OPTIONS, errors)?, call.query.flag("force")))
}

/// Options of any other patch.
pub(super) fn patch(call: &Call) -> Result<WriteOptions, Status> {
    let mut errors = Vec::new();
    if call.query.first("force").is_some() {
        errors.push(FieldError::forbidden("force", "may not be specified for non-apply patch"));
    }
    write_after(call, PATCH_OPTIONS, errors)
}

const PATCH_OPTIONS: &str = "PatchOptions";
/// Bytes that the name of a field manager may have.
const MAX_FIELD_MANAGER: usize = 128;

fn check_field_manager(name: &str, errors: &mut Vec<FieldError>) {
    const FIELD: &str = "fieldManager";
    if name.len() > MAX_FIELD_MANAGER {
        errors.push(FieldError::too_long(FIELD, MAX_FIELD_MANAGER));
    }
    for (at, c) in name.char_indices().filter(|(_, c)| c.is_control()) {
        let code = u32::from(c);
        errors.push(FieldError::invalid(
            FIELD,
            name,
            format!("invalid character U+{code:04X} (at position {at})"),
        ));
    }
}

fn write_after(
    call: &Call,
    kind: &str,
    mut errors: Vec<FieldError>,
) -> Result<WriteOptions, Status> {
    let mut field_manager = call.query.text("fieldManager").unwrap_or_default().to_owned();
    check_field_manager(&field_manager, &mut errors);
    let dry_run = dry_run(call, &mut errors);
    if field_manager.is_empty() {
        let agent = call.header(http::header::USER_AGENT).unwrap_or_default();
        field_manager = managed::manager_from_user_agent(agent);
    }
    let validation = call.query.text("fieldValidation").unwrap_or_default();
    let field_validation = match validation {
        "" | "Warn" => FieldValidation::Warn,
        "Ignore" => FieldValidation::Ignore,
        "Strict" => FieldValidation::Strict,
        _ => {
            errors.push(FieldError::not_supported(
                "fieldValidation",
                validation,
                &["", "Ignore", "Strict", "Warn"],
            ));
            FieldValidation::Warn
        }
    };
    if !errors.is_empty() {
        return Err(Status::invalid("meta.k8s.io", kind, "", errors));
    }
    Ok(WriteOptions {
        dry_run,
        field_manager,
        user: call.user.clone(),
        field_validation,
        create_refusal: None,
    })
}

fn dry_run(call: &Call, errors: &mut Vec<FieldError>) -> bool {
    let values: Vec<&str> = call.query.all("dryRun").filter(|it| !it.is_empty()).collect();
    if values.iter().any(|it| *it != "All") {
        errors.push(FieldError::not_supported("dryRun", json!(values), &["All"]));
    }
    !values.is_empty()
}

/// Options of a deletion: the body, completed by the query.
pub(super) fn delete(call: &Call, mut body: Value) -> Result<DeleteOptions, Status> {
    let map = hub_api::object::as_map(&mut body);
    if let Some(seconds) = call.query.number::<i64>("gracePeriodSeconds")? {
        map.entry("gracePeriodSeconds").or_insert(json!(seconds));
    }
    if let Some(policy) = call.query.text("propagationPolicy") {
        map.entry("propagationPolicy").or_insert(json!(policy));
    }
    if let Some(orphan) = call.query.optional_flag("orphanDependents") {
        map.entry("orphanDependents").or_insert(json!(orphan));
    }
    let dry_run: Vec<&str> = call.query.all("dryRun").filter(|it| !it.is_empty()).collect();
    if !dry_run.is_empty() {
        map.entry("dryRun").or_insert(json!(dry_run));
    }
    DeleteOptions::from_value(&body)
}
