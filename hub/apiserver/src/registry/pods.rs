//! What is done to pods beside writing them: binding to a node.

use hub_api::{Resource, Status, object, resources, write};
use serde_json::json;

use super::{Fresh, Registry, WriteOptions, Written};
use crate::admission::{Attributes, Operation, RequestOptions};

impl Registry {
    /// Binds a pod to a node.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if the pod is bound already, is being deleted, or its UID is another.
    pub async fn bind(
        &self,
        namespace: &str,
        pod: &str,
        node: &str,
        uid: Option<&str>,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let resource = pods()?;
        let mut binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod, "namespace": namespace},
            "target": {"kind": "Node", "name": node},
        });
        if let Some(uid) = uid.filter(|it| !it.is_empty()) {
            binding["metadata"]["uid"] = json!(uid);
        }
        let attributes = self.below_pod("binding", namespace, pod, options.dry_run);
        let attributes = Attributes { options: RequestOptions::Write(options), ..attributes? };
        self.admit_mutating(&attributes, Some(&mut binding)).await?;
        self.admit_validating(&attributes, Some(&binding)).await?;
        let node = object::text(&binding, "target.name");
        let fresh = Fresh::draw();
        let context = fresh.context(resource, Some(namespace), Some(pod), self.now());
        self.modify(resource, Some(namespace), pod, Some("binding"), options, |_, current| {
            let found = object::uid(current);
            if let Some(uid) = uid.filter(|it| !it.is_empty() && *it != found) {
                let why = format!(
                    "Precondition failed: UID in precondition: {uid}, UID in object meta: {found}"
                );
                return Err(Status::conflict("", "pods/binding", pod, &why));
            }
            write::bind(current, node, &context)
        })
        .await
    }

    /// The creation of something below a pod, for admission.
    pub(super) fn below_pod<'a>(
        &'a self,
        subresource: &'a str,
        namespace: &'a str,
        pod: &'a str,
        dry_run: bool,
    ) -> Result<Attributes<'a>, Status> {
        Ok(Attributes {
            operation: Operation::Create,
            resource: pods()?,
            requested: pods()?,
            subresource: Some(subresource),
            namespace: Some(namespace),
            name: pod,
            old: None,
            options: RequestOptions::None,
            dry_run,
            requester: self.requester(),
        })
    }
}

pub(super) fn pods() -> Result<&'static Resource, Status> {
    resources::find("", "v1", "pods").ok_or_else(Status::no_such_resource)
}
