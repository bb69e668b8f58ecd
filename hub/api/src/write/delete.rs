//! Deleting objects: preconditions, grace, finalizers.
//!
//! ```text
//! present ──delete──> terminating (grace runs, finalizers hold) ──last hold gone──> removed
//!    └───────────────── nothing holds it ────────────────────────────────────────────┘
//! ```

use serde_json::{Value, json};

use super::{WriteContext, strip_server_fields};
use crate::decode::{FieldValidation, Target, conform_kind};
use crate::object;
use crate::resource::Resource;
use crate::status::{FieldError, Status};
use crate::time;

/// `metav1.DeleteOptions`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DeleteOptions {
    /// Seconds to terminate in; absent means the object's own.
    pub grace_period_seconds: Option<i64>,
    /// What happens to dependents.
    pub propagation_policy: Option<Propagation>,
    /// What must hold of the object.
    pub preconditions: Preconditions,
    /// Whether nothing is stored.
    pub dry_run: bool,
}

/// What happens to the dependents of what is deleted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Propagation {
    /// Deleted after the owner is gone.
    Background,
    /// Deleted before the owner goes.
    Foreground,
    /// Kept.
    Orphan,
}

/// What must hold of the object that is deleted.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Preconditions {
    /// Its UID.
    pub uid: Option<String>,
    /// Its resourceVersion.
    pub resource_version: Option<String>,
}

/// What a deletion comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Deletion {
    /// The object leaves storage.
    Remove,
    /// The object is stored as terminating, and shown to the client.
    Mark(Value),
    /// The object is terminating as it should: nothing is written, the object is shown.
    Pending,
}

const DELETE_OPTIONS: Target<'static> = Target {
    group: "",
    version: "v1",
    kind: "DeleteOptions",
    schema: "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
};
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
const JOB_WARNING: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";

impl DeleteOptions {
    /// Reads `DeleteOptions` from a request's body or from query parameters put into its shape.
    /// `null`, for an empty body, asks for nothing special.
    pub fn from_value(value: &Value) -> Result<Self, Status> {
        if value.is_null() {
            return Ok(Self::default());
        }
        let mut value = value.clone();
        if let Some(map) = value.as_object_mut() {
            // The kind is the same in every group that has it.
            map.remove("apiVersion");
            map.remove("kind");
        }
        let value = &conform_kind(DELETE_OPTIONS, &value, FieldValidation::Ignore)?.object;
        let mut errors = Vec::new();
        let propagation_policy = match object::text(value, "propagationPolicy") {
            "" => None,
            "Background" => Some(Propagation::Background),
            "Foreground" => Some(Propagation::Foreground),
            "Orphan" => Some(Propagation::Orphan),
            other => {
                errors.push(FieldError::not_supported(
                    "propagationPolicy",
                    other,
                    &["Foreground", "Background", "Orphan", "nil"],
                ));
                None
            }
        };
        let orphan = object::get(value, "orphanDependents").and_then(Value::as_bool);
        if orphan.is_some() && propagation_policy.is_some() {
            errors.push(FieldError::invalid(
                "propagationPolicy",
                object::text(value, "propagationPolicy"),
                "orphanDependents and deletionPropagation cannot be both set",
            ));
        }
        let orphan_policy =
            orphan.map(|it| if it { Propagation::Orphan } else { Propagation::Background });
        let dry_run = object::list(value, "dryRun");
        if dry_run.iter().any(|it| it != "All") {
            let shown = Value::from(dry_run.to_vec());
            errors.push(FieldError::not_supported("dryRun", shown, &["All"]));
        }
        if !errors.is_empty() {
            return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", errors));
        }
        let precondition = |key: &str| {
            Some(object::text(value, &format!("preconditions.{key}")))
                .filter(|it| !it.is_empty())
                .map(str::to_owned)
        };
        Ok(Self {
            grace_period_seconds: object::int(value, "gracePeriodSeconds"),
            propagation_policy: propagation_policy.or(orphan_policy),
            preconditions: Preconditions {
                uid: precondition("uid"),
                resource_version: precondition("resourceVersion"),
            },
            dry_run: !dry_run.is_empty(),
        })
    }
}

/// Decides what the deletion of `object` comes to.
///
/// The precondition on resourceVersion is checked only if the object carries one.
pub fn delete(
    object: &Value,
    options: &DeleteOptions,
    context: &WriteContext<'_>,
) -> Result<Deletion, Status> {
    check_preconditions(object, options, context)?;
    let mut new = object.clone();
    strip_server_fields(&mut new);

    let strategy = &*context.resource.strategy;
    let graceful = match strategy.grace_period(object, options.grace_period_seconds) {
        None => false,
        Some(period) => {
            let period = if period < 0 { 1 } else { period };
            match grace(&mut new, options, period, context) {
                Grace::Pending => return Ok(Deletion::Pending),
                Grace::Over => false,
                Grace::Set => true,
            }
        }
    };
    let finalizers = finalizers_after(object, options, context.resource);
    let held = !finalizers.is_empty() || strategy.holds_deletion(object);
    let metadata = object::ensure(&mut new, "metadata");
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".to_owned(), json!(finalizers));
    }
    if !graceful && held {
        mark(&mut new, context);
    }
    strategy.prepare_delete(&mut new);
    let grace_left = object::int(&new, "metadata.deletionGracePeriodSeconds").unwrap_or(0);
    if !(held || graceful && grace_left > 0) {
        return Ok(Deletion::Remove);
    }
    let mut old = object.clone();
    strip_server_fields(&mut old);
    Ok(if new == old { Deletion::Pending } else { Deletion::Mark(new) })
}

/// Whether an object that was written holds nothing any more that keeps it: the caller then
/// removes it instead of storing it.
pub fn is_gone(object: &Value, context: &WriteContext<'_>) -> bool {
    object::is_terminating(object)
        && object::list(object, "metadata.finalizers").is_empty()
        && object::int(object, "metadata.deletionGracePeriodSeconds").unwrap_or(0) == 0
        && !context.resource.strategy.holds_deletion(object)
}

enum Grace {
    /// Terminates already, and not slower than asked for.
    Pending,
    /// Grace is no longer counted.
    Over,
    /// Terminates from now on, or faster than before.
    Set,
}

fn grace(
    new: &mut Value,
    options: &DeleteOptions,
    period: i64,
    context: &WriteContext<'_>,
) -> Grace {
    let since = time::parse(object::text(new, "metadata.deletionTimestamp"));
    let Some(deadline) = since else {
        let deadline = context.now.saturating_add(jiff::SignedDuration::from_secs(period));
        set_deadline(new, deadline.unwrap_or(context.now), period);
        bump_generation(new);
        return Grace::Set;
    };
    let Some(before) = object::int(new, "metadata.deletionGracePeriodSeconds") else {
        return Grace::Over;
    };
    // A second deletion may only shorten the grace.
    if options.grace_period_seconds.is_none() || period >= before {
        return Grace::Pending;
    }
    let shorter = jiff::SignedDuration::from_secs(period.saturating_sub(before));
    set_deadline(new, deadline.saturating_add(shorter).unwrap_or(deadline), period);
    Grace::Set
}

fn set_deadline(new: &mut Value, deadline: jiff::Timestamp, period: i64) {
    let metadata = object::ensure(new, "metadata");
    metadata.insert("deletionTimestamp".to_owned(), json!(time::format(deadline)));
    metadata.insert("deletionGracePeriodSeconds".to_owned(), json!(period));
}

fn mark(new: &mut Value, context: &WriteContext<'_>) {
    if !object::is_terminating(new) {
        bump_generation(new);
        let now = json!(time::format(context.now));
        object::ensure(new, "metadata").insert("deletionTimestamp".to_owned(), now);
    }
    object::ensure(new, "metadata").insert("deletionGracePeriodSeconds".to_owned(), json!(0));
}

fn bump_generation(new: &mut Value) {
    if let Some(generation) = object::int(new, "metadata.generation").filter(|it| *it > 0) {
        new["metadata"]["generation"] = json!(generation.saturating_add(1));
    }
}

fn check_preconditions(
    object: &Value,
    options: &DeleteOptions,
    context: &WriteContext<'_>,
) -> Result<(), Status> {
    let resource = context.resource;
    let conflict = |what: &str, wanted: &str, found: &str| {
        let why = format!(
            "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
        );
        Err(Status::conflict(&resource.group, &resource.plural, object::name(object), &why))
    };
    if let Some(wanted) = &options.preconditions.uid
        && wanted != object::uid(object)
    {
        return conflict("UID", wanted, object::uid(object));
    }
    let found = object::resource_version(object);
    if let Some(wanted) = &options.preconditions.resource_version
        && !found.is_empty()
        && wanted != found
    {
        return conflict("ResourceVersion", wanted, found);
    }
    Ok(())
}

/// Whether dependents are kept where neither the client nor the object says what becomes of them: so it was before there
/// was a garbage collector, and clients of these versions rely on it (`DefaultGarbageCollectionPolicy` of Kubernetes'
/// registries).
fn orphans_by_default(resource: &Resource) -> bool {
    let kind = (&*resource.group, &*resource.version, &*resource.plural);
    matches!(kind, ("batch", "v1", "jobs") | ("", "v1", "replicationcontrollers"))
}

/// What a client should know who deletes and does not say what becomes of dependents.
pub fn delete_warning(resource: &Resource, options: &DeleteOptions) -> Option<&'static str> {
    let is_told = resource.plural == "jobs" && orphans_by_default(resource);
    (is_told && options.propagation_policy.is_none()).then_some(JOB_WARNING)
}

/// The finalizers that hold the object from now on: the garbage collector's two are as the
/// options say; if they say nothing, as they were or as is usual for the kind.
fn finalizers_after(object: &Value, options: &DeleteOptions, resource: &Resource) -> Vec<String> {
    let before: Vec<&str> =
        object::list(object, "metadata.finalizers").iter().filter_map(Value::as_str).collect();
    let (orphan, foreground) = match options.propagation_policy {
        Some(Propagation::Orphan) => (true, false),
        Some(Propagation::Foreground) => (false, true),
        Some(Propagation::Background) => (false, false),
        None if before.contains(&ORPHAN) || before.contains(&FOREGROUND) => {
            (before.contains(&ORPHAN), before.contains(&FOREGROUND))
        }
        None => (orphans_by_default(resource), false),
    };
    let mut out: Vec<String> = before
        .iter()
        .filter(|it| **it != ORPHAN && **it != FOREGROUND)
        .map(|it| (*it).to_owned())
        .collect();
    if orphan {
        out.push(ORPHAN.to_owned());
    }
    if foreground {
        out.push(FOREGROUND.to_owned());
    }
    out
}
