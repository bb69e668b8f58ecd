//! What a write can change at all: the rest of what it says is reset by the server, and owned by
//! nobody for having been said.

use super::set::Set;
use crate::resource::Resource;

/// What a write can change.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Scope {
    /// Fields that are reset, with all below them.
    reset: Set,
    /// The only fields that are not, if there are only some.
    only: Option<Set>,
}

impl Scope {
    /// All but these fields, dotted.
    pub fn without(reset: &[&str]) -> Self {
        Self { reset: Set::of_fields(reset), only: None }
    }

    /// These fields alone, dotted.
    pub fn only(fields: &[&str]) -> Self {
        Self { reset: Set::default(), only: Some(Set::of_fields(fields)) }
    }

    /// What writes of a resource, or of something below it, can change.
    pub fn of(resource: &Resource, subresource: Option<&str>) -> Self {
        let plural = &*resource.plural;
        match subresource {
            None if resource.has_status() => Self::without(&["status"]),
            None => Self::default(),
            Some("status") if resource.custom.is_some() => Self::without(&["metadata", "spec"]),
            Some("status") => match (&*resource.group, plural) {
                ("", "pods") => Self::without(&[
                    "spec",
                    "metadata.deletionTimestamp",
                    "metadata.ownerReferences",
                ]),
                ("apps", "deployments") => Self::without(&["spec", "metadata.labels"]),
                _ => Self::without(&["spec"]),
            },
            Some("ephemeralcontainers") => Self::only(&["spec.ephemeralContainers"]),
            Some("resize") => {
                Self::only(&["spec.containers", "spec.initContainers", "spec.resources"])
            }
            Some("finalize") => Self::only(&["spec.finalizers"]),
            Some("approval") => Self::only(&["status.conditions"]),
            Some(_) => Self::default(),
        }
    }

    /// The fields of the set that the write can change.
    pub(super) fn filter(&self, set: &Set) -> Set {
        let left = set.recursive_difference(&self.reset);
        match &self.only {
            Some(only) => left.within(only),
            None => left,
        }
    }
}
