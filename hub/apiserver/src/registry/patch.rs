//! Patches: the change is applied to the newest object, read again by its schema, and stored.

use std::sync::{Mutex, PoisonError};

use hub_api::decode::{self, Target};
use hub_api::{Resource, Status, patch};
use serde_json::Value;

use super::{PatchKind, Registry, WriteOptions, Written};

/// What `scale` subresources exchange.
pub(crate) const SCALE: Target<'_> = Target {
    group: "autoscaling",
    version: "v1",
    kind: "Scale",
    schema: "io.k8s.api.autoscaling.v1.Scale",
};

/// What a patch is refused with whose result cannot be read again.
fn unreadable(kind: PatchKind, patch: &Value, patched: &Value, status: &Status) -> Status {
    let shown = match kind {
        PatchKind::Json | PatchKind::Merge => patched.to_string(),
        PatchKind::Strategic => patch::go_text(patch),
    };
    patch::invalid_result(&shown, &status.message)
}

impl Registry {
    /// Patches an object, or the part of it that `subresource` names. Returns warnings as well.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` if the patch names another `resourceVersion`, `Invalid`.
    #[expect(clippy::too_many_arguments, reason = "each names a part of one request")]
    pub async fn patch(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        kind: PatchKind,
        patch: &Value,
        subresource: Option<&str>,
        options: &WriteOptions,
    ) -> Result<(Written, Vec<String>), Status> {
        if kind != PatchKind::Json {
            patch::check_object(patch)?;
        }
        let warnings = Mutex::new(Vec::new());
        let scale = subresource == Some("scale");
        let written = self
            .modify(resource, namespace, name, subresource, options, |view, _| {
                let target = if scale { SCALE } else { Target::of(resource) };
                // A patch is written for the version that it is sent to.
                let shown =
                    (!scale && resource.version_of.is_some()).then(|| resource.show(view.clone()));
                let view = shown.as_ref().unwrap_or(view);
                let patched = match kind {
                    PatchKind::Json => patch::json(view, patch)?,
                    PatchKind::Merge => patch::merge(view, patch),
                    PatchKind::Strategic => patch::strategic(view, patch, target.schema)?,
                };
                let decoded = if scale {
                    decode::conform_kind(target, &patched, options.field_validation)
                } else {
                    decode::conform(resource, &patched, options.field_validation)
                };
                let decoded =
                    decoded.map_err(|status| unreadable(kind, patch, &patched, &status))?;
                *warnings.lock().unwrap_or_else(PoisonError::into_inner) = decoded.warnings;
                Ok(if scale { decoded.object } else { resource.store(decoded.object) })
            })
            .await?;
        Ok((written, warnings.into_inner().unwrap_or_else(PoisonError::into_inner)))
    }
}
