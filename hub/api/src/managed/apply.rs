//! Server-side apply: the applied object says what its manager wants, and nothing more.

use std::borrow::Cow;

use serde_json::Value;

use super::entries::{self, Entries, Manager, Owned};
use super::model::Model;
use super::set::{FieldPath, Set};
use super::track::{after_update, changes_for, reconciled, shown, stripped};
use super::versions::Versions;
use super::walk;
use super::{Writer, set_entries, take_entries};
use crate::object;
use crate::status::{Cause, Details, Status};

/// What client-side apply remembers itself by.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The one manager that follows client-side apply.
const KUBECTL: &str = "kubectl";
/// Who manages what was there before the first apply.
const BEFORE_APPLY: &str = "before-first-apply";

/// A field that somebody else owns and the applied object wants otherwise.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Conflict {
    manager: Manager,
    path: FieldPath,
}

/// Why an object cannot be applied.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// The request is malformed.
    #[error("{0}")]
    BadRequest(String),
    /// Others own what it wants to change.
    #[error("apply failed with {} conflicts", .0.len())]
    Conflicts(Vec<Conflict>),
    /// The object, or the live one, does not fit its type.
    #[error("{0}")]
    DoesNotFit(String),
}

impl ApplyError {
    /// As clients see it.
    pub fn to_status(&self) -> Status {
        match self {
            Self::BadRequest(why) => Status::bad_request(why.clone()),
            Self::Conflicts(conflicts) => conflict_status(conflicts),
            // The real server takes this for an error of its own.
            Self::DoesNotFit(why) => Status::unknown(why.clone()),
        }
    }
}

fn conflict_status(conflicts: &[Conflict]) -> Status {
    let message = match conflicts {
        [one] => format!(
            "Apply failed with 1 conflict: conflict with {}: {}",
            shown(&one.manager),
            one.path
        ),
        many => {
            let mut lines = Vec::new();
            let mut last = None;
            for conflict in many {
                if last != Some(&conflict.manager) {
                    lines.push(format!("conflicts with {}:", shown(&conflict.manager)));
                    last = Some(&conflict.manager);
                }
                lines.push(format!("- {}", conflict.path));
            }
            format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n"))
        }
    };
    let causes = conflicts.iter().map(|it| Cause {
        reason: Cow::Borrowed("FieldManagerConflict"),
        message: format!("conflict with {}", shown(&it.manager)),
        field: it.path.to_string(),
    });
    let details = Details { causes: causes.collect(), ..Details::default() };
    Status {
        code: 409,
        reason: Cow::Borrowed("Conflict"),
        message,
        details: Some(Box::new(details)),
        continue_token: None,
    }
}

/// The object after `applied` was applied to `live` (an empty object of the kind if there is none),
/// with its entries. Neither defaults nor validation have seen it.
///
/// # Errors
/// Conflicts unless `force`; and whatever does not fit.
pub fn apply(
    live: &Value,
    applied: &Value,
    force: bool,
    writer: &Writer<'_>,
    versions: &dyn Versions,
) -> Result<Value, ApplyError> {
    check_meta(applied, writer)?;
    let model = versions
        .model(writer.api_version)
        .ok_or_else(|| ApplyError::DoesNotFit(format!("no type for {}", writer.api_version)))?;
    let mut bare = live.clone();
    let stored = take_entries(&mut bare);
    let entries = entries::read(stored.as_ref())
        .map_err(|why| ApplyError::DoesNotFit(format!("failed to decode managed fields: {why}")))?;
    walk::check(applied, model).map_err(|why| {
        let what = described(applied);
        ApplyError::DoesNotFit(format!("failed to create typed patch object ({what}): {why}"))
    })?;
    let application = Application { live: &bare, applied, model, writer, versions };
    let entries = application.before_first(entries)?;
    let result = match application.run(entries.clone(), force) {
        Err(ApplyError::Conflicts(conflicts)) if writer.manager == KUBECTL => {
            let left = application.not_of_client(conflicts);
            if left.is_empty() {
                application.run(entries, true)
            } else {
                Err(ApplyError::Conflicts(left))
            }
        }
        result => result,
    };
    let (mut new, entries) = result?;
    if writer.manager == KUBECTL {
        update_last_applied(&mut new, applied)?;
    }
    set_entries(&mut new, entries::write(&entries));
    Ok(new)
}

fn check_meta(applied: &Value, writer: &Writer<'_>) -> Result<(), ApplyError> {
    let (version, kind) = (object::text(applied, "apiVersion"), object::text(applied, "kind"));
    if (version, kind) != (writer.api_version, writer.kind) {
        return Err(ApplyError::BadRequest(format!("invalid object type: {}", type_of(applied))));
    }
    if applied.pointer("/metadata/managedFields").is_some_and(|it| !it.is_null()) {
        return Err(ApplyError::BadRequest("metadata.managedFields must be nil".to_owned()));
    }
    Ok(())
}

/// `default/web; apps/v1, Kind=Deployment`.
fn described(object: &Value) -> String {
    format!("{}/{}; {}", object::namespace(object), object::name(object), type_of(object))
}

/// `apps/v1, Kind=Deployment`, or `/v1, Kind=Pod`.
fn type_of(object: &Value) -> String {
    let version = object::text(object, "apiVersion");
    let slash = if version.contains('/') { "" } else { "/" };
    format!("{slash}{version}, Kind={}", object::text(object, "kind"))
}

struct Application<'a> {
    live: &'a Value,
    applied: &'a Value,
    model: &'a dyn Model,
    writer: &'a Writer<'a>,
    versions: &'a dyn Versions,
}

impl Application<'_> {
    /// If nobody owns anything, what is there belongs to whoever was there before the first apply.
    fn before_first(&self, entries: Entries) -> Result<Entries, ApplyError> {
        if !entries.is_empty() {
            return Ok(entries);
        }
        let empty = serde_json::json!({});
        let comparison = walk::compare(&empty, self.live, self.model)
            .map_err(|why| {
                ApplyError::DoesNotFit(format!(
                    "failed to create manager for existing fields: {why}"
                ))
            })?
            .map(|it| self.writer.scope.filter(it));
        let before = Writer { manager: BEFORE_APPLY, ..*self.writer };
        after_update(&empty, self.live, entries, &comparison, &before, self.versions)
            .map_err(ApplyError::DoesNotFit)
    }

    fn run(&self, entries: Entries, force: bool) -> Result<(Value, Entries), ApplyError> {
        let Self { live, applied, model, writer, versions } = *self;
        let fits = ApplyError::DoesNotFit;
        let mut entries = reconciled(entries, versions);
        let merged = walk::merge(live, applied, model)
            .map_err(|why| fits(format!("failed to merge config: {why}")))?;
        let manager = Manager::applier(writer.manager, writer.subresource);
        let last = entries.remove(&manager);
        let fields = writer.scope.filter(&walk::fields(applied, model));
        let owned = Owned {
            api_version: writer.api_version.to_owned(),
            fields,
            time: Some(writer.time.to_owned()),
        };
        entries.insert(manager.clone(), owned);
        let new = match last {
            Some(last) if !last.fields.is_empty() => self
                .pruned(merged, &entries, &last)
                .map_err(|why| fits(format!("failed to prune fields: {why}")))?,
            Some(_) | None => merged,
        };
        let comparison =
            walk::compare(live, &new, model).map_err(fits)?.map(|it| writer.scope.filter(it));
        let mut conflicts = Vec::new();
        let mut left = Entries::new();
        for (other, mut owned) in entries {
            if other == manager {
                owned.fields = stripped(&owned.fields);
            } else {
                let lost =
                    changes_for(&owned, live, &new, &comparison, writer, versions).map_err(fits)?;
                let taken = owned.fields.intersection(&lost.changed());
                conflicts.extend(
                    taken.paths().into_iter().map(|path| Conflict { manager: other.clone(), path }),
                );
                owned.fields = owned.fields.difference(&taken).difference(&lost.removed);
            }
            if !owned.fields.is_empty() {
                left.insert(other, owned);
            }
        }
        if !force && !conflicts.is_empty() {
            return Err(ApplyError::Conflicts(conflicts));
        }
        Ok((new, left))
    }

    /// Takes away what the manager applied last time and does not now, unless somebody else owns it.
    fn pruned(&self, merged: Value, entries: &Entries, last: &Owned) -> Result<Value, String> {
        let Self { versions, writer, .. } = *self;
        // What is left of a version that is gone stays.
        let Some(model) = versions.model(&last.api_version) else { return Ok(merged) };
        let merged = versions.convert(&merged, &last.api_version)?.into_owned();
        let last_fields = last.fields.with_named_fields(model);
        let mut pruned = walk::remove(&merged, &last_fields, model);
        // The version of the last apply first: what it needs must be there to be converted.
        let mut by_version: Vec<(&str, Set)> = vec![(&last.api_version, Set::default())];
        for owned in entries.values() {
            match by_version.iter_mut().find(|(version, _)| *version == owned.api_version) {
                Some((_, fields)) => fields.add(&owned.fields),
                None => by_version.push((&owned.api_version, owned.fields.clone())),
            }
        }
        for (version, owned) in by_version {
            let Some(model) = versions.model(version) else { continue };
            let all = versions.convert(&merged, version)?;
            let converted = versions.convert(&pruned, version)?;
            let left = walk::fields(&converted, model);
            let keep = left.with_named_fields(model).union(&owned.with_named_fields(model));
            let gone = walk::fields(&all, model).with_named_fields(model).difference(&keep);
            pruned = walk::remove(&all, &gone, model);
            pruned = versions.convert(&pruned, &last.api_version)?.into_owned();
        }
        let left = walk::fields(&pruned, model).with_named_fields(model);
        let all = walk::fields(&merged, model).with_named_fields(model);
        let gone = all.difference(&left).intersection(&last_fields);
        let pruned = walk::remove(&merged, &gone, model);
        Ok(versions.convert(&pruned, writer.api_version)?.into_owned())
    }

    /// The conflicts about fields that are not as client-side apply left them.
    fn not_of_client(&self, conflicts: Vec<Conflict>) -> Vec<Conflict> {
        let Some(own) = self.set_by_client() else { return conflicts };
        conflicts.into_iter().filter(|it| !own.has(&it.path.0)).collect()
    }

    /// The fields that client-side apply set, and that are still as it set them.
    fn set_by_client(&self) -> Option<Set> {
        let text = object::annotation(self.live, LAST_APPLIED).filter(|it| !it.is_empty())?;
        let last: Value = serde_json::from_str(text).ok()?;
        if object::text(&last, "apiVersion") != self.writer.api_version {
            return None;
        }
        walk::check(&last, self.model).ok()?;
        let comparison = walk::compare(&last, self.live, self.model).ok()?;
        let fields = walk::fields(&last, self.model);
        Some(fields.difference(&comparison.changed()).difference(&comparison.removed))
    }
}

/// Keeps client-side apply's memory true, where there is one.
fn update_last_applied(new: &mut Value, applied: &Value) -> Result<(), ApplyError> {
    if object::annotation(new, LAST_APPLIED).is_none_or(str::is_empty) {
        return Ok(());
    }
    let mut applied = applied.clone();
    if let Some(annotations) =
        applied.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut)
    {
        annotations.remove(LAST_APPLIED);
    }
    let text = format!("{applied}\n");
    let annotations =
        object::as_map(object::ensure(new, "metadata").entry("annotations").or_insert(Value::Null));
    annotations.insert(LAST_APPLIED.to_owned(), Value::from(text));
    Ok(())
}
