//! What a webhook or a policy sees of a request: the objects in the version that its rules name,
//! which need not be the one of the request.
//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#matching-requests-matchpolicy>

use std::borrow::Cow;
use std::sync::Arc;

use hub_api::{Resource, Status};
use serde_json::Value;

use super::{Attributes, Operation};
use crate::registry::Registry;

/// The objects of a request in one version.
pub(super) struct View<'a> {
    pub(super) row: Arc<Resource>,
    pub(super) object: Option<Cow<'a, Value>>,
    pub(super) old: Option<Cow<'a, Value>>,
}

impl View<'_> {
    pub(super) fn object(&self) -> Option<&Value> {
        self.object.as_deref()
    }

    pub(super) fn old(&self) -> Option<&Value> {
        self.old.as_deref()
    }
}

/// The views of one request. Each is made once: a webhook may have to be asked for it.
pub(super) struct Views<'a> {
    attributes: Attributes<'a>,
    object: Option<&'a Value>,
    made: Vec<Arc<View<'a>>>,
}

impl<'a> Views<'a> {
    pub(super) fn new(attributes: &Attributes<'a>, object: Option<&'a Value>) -> Self {
        Self { attributes: *attributes, object, made: Vec::new() }
    }

    /// The view in this version.
    ///
    /// # Errors
    /// An object cannot be converted.
    pub(super) async fn of(
        &mut self,
        registry: &Registry,
        row: &Arc<Resource>,
    ) -> Result<Arc<View<'a>>, Status> {
        let version = row.api_version();
        if let Some(view) = self.made.iter().find(|it| it.row.api_version() == version) {
            return Ok(view.clone());
        }
        let view = Arc::new(View {
            row: row.clone(),
            object: self.seen(registry, row, self.object).await?,
            old: self.seen(registry, row, self.attributes.old).await?,
        });
        self.made.push(view.clone());
        Ok(view)
    }

    async fn seen(
        &self,
        registry: &Registry,
        row: &Resource,
        object: Option<&'a Value>,
    ) -> Result<Option<Cow<'a, Value>>, Status> {
        match object {
            Some(object) if has_versions(&self.attributes) => {
                registry.in_row(self.attributes.resource, row, object).await.map(Some)
            }
            Some(object) => Ok(Some(Cow::Borrowed(object))),
            None => Ok(None),
        }
    }
}

/// What was made of an object in the version of a view, in the version in which admission handles
/// it.
///
/// # Errors
/// It cannot be converted.
pub(super) async fn taken_back(
    registry: &Registry,
    attributes: &Attributes<'_>,
    row: &Resource,
    made: Value,
) -> Result<Value, Status> {
    if !has_versions(attributes) {
        return Ok(made);
    }
    let converted = match registry.in_row(row, attributes.resource, &made).await? {
        Cow::Owned(converted) => Some(converted),
        Cow::Borrowed(_) => None,
    };
    Ok(converted.unwrap_or(made))
}

/// Whether the objects of the request are of the resource's own kind: what else is exchanged below
/// an object, such as a `Scale`, has one version.
fn has_versions(attributes: &Attributes<'_>) -> bool {
    let resource = attributes.resource;
    if attributes.operation == Operation::Connect {
        return false;
    }
    let Some(subresource) = attributes.subresource else { return true };
    let below = resource.subresource(subresource);
    below.is_some_and(|it| resource.exchanged(it).2 == resource.kind)
}
