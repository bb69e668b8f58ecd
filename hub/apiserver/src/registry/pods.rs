//! What is done to pods beside writing them: binding to a node, eviction.

use hub_api::{DeleteOptions, Resource, Status, object, resources, write};

use super::{Deleted, Fresh, Registry, WriteOptions, Written};

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

    /// Evicts a pod: deletes it as the eviction says.
    ///
    /// # Errors
    /// As [`Self::delete`].
    pub async fn evict(
        &self,
        namespace: &str,
        pod: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, Status> {
        self.delete(pods()?, Some(namespace), pod, options).await
    }
}

fn pods() -> Result<&'static Resource, Status> {
    resources::find("", "v1", "pods").ok_or_else(Status::no_such_resource)
}
