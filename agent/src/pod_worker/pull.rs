//! Fetches the image of a container beside the worker's loop.

use std::{sync::Arc, time::Duration};

use agent_core::{
    desired::{DesiredPod, PullPolicy},
    event::Subject,
    ids::ContainerName,
    image,
    pod::{Failure, ImageState},
};
use agent_image::{Auth, ImageRef, PullError};

use super::{Done, PodWorker, memory::failed_again};
use crate::{chain, clock, node::Node};

/// What came of a pull: nothing, or Kubernetes' reason and a message.
pub(super) type PullResult = Result<(), (&'static str, String)>;

impl PodWorker {
    /// Starts a pull. It ends in [`PodWorker::pulled`].
    pub(super) fn start_pull(&mut self, name: &ContainerName) {
        let Some(pod) = self.pod.clone() else { return };
        let Some(desired) = pod.container(name) else { return };
        let (node, image) = (Arc::clone(&self.node), desired.image.clone());
        let memory = self.memory.container(name);
        if memory.image == ImageState::Pulling {
            return;
        }
        memory.image = ImageState::Pulling;
        let name = name.clone();
        self.tasks.spawn(async move {
            let result = pull(&node, &pod, &name).await;
            Done::Pull { name, image, result }
        });
    }

    /// Takes the end of a pull to heart, if the image is still the one that is wanted.
    pub(super) fn pulled(&mut self, name: &ContainerName, image: &str, result: PullResult) {
        let now = self.node.clock.now();
        let memory = self.memory.container(name);
        if memory.image_name != image {
            memory.image = ImageState::Unknown;
            return;
        }
        memory.image = match result {
            Ok(()) => {
                memory.pull_failure = None;
                ImageState::Present
            }
            Err((reason, message)) => {
                let failure: Failure =
                    failed_again(memory.pull_failure.as_ref(), reason, message, now);
                memory.pull_failure = Some(failure.clone());
                ImageState::Failed(failure)
            }
        };
    }
}

async fn pull(node: &Node, pod: &DesiredPod, name: &ContainerName) -> PullResult {
    let Some(desired) = pod.container(name) else { return Ok(()) };
    let subject = || Subject::container(pod.uid, &pod.pod_ref, name, desired.role);
    let image = &desired.image;
    let reference: ImageRef = match image.parse() {
        Ok(reference) => reference,
        Err(err) => {
            let message = format!("Failed to apply default image tag {image:?}: {err}");
            node.events.warning(subject(), "InspectFailed", message.clone()).await;
            return Err(("InvalidImageName", message));
        }
    };
    if desired.pull_policy == PullPolicy::Never {
        let message = format!("Container image {image:?} is not present with pull policy of Never");
        node.events.warning(subject(), "ErrImageNeverPull", message.clone()).await;
        return Err(("ErrImageNeverPull", message));
    }
    node.events.normal(subject(), "Pulling", format!("Pulling image {image:?}")).await;
    let auth = auth(pod, image);
    let since = clock::monotonic();
    let result = match desired.pull_policy {
        PullPolicy::Always => node.images.refresh(&reference, &auth).await,
        PullPolicy::IfNotPresent | PullPolicy::Never => node.images.ensure(&reference, &auth).await,
    };
    let elapsed = clock::monotonic().saturating_sub(since);
    match result {
        Ok(found) => {
            let message = pulled_message(image, elapsed, found.size_bytes);
            node.events.normal(subject(), "Pulled", message).await;
            Ok(())
        }
        // A node without a road runs what it has.
        Err(err @ (PullError::Network { .. } | PullError::NoAuthorities { .. }))
            if node.images.lookup(&reference).is_some() =>
        {
            let message = format!(
                "The registry is out of reach, using the image {image:?} that is here: {}",
                chain(&err)
            );
            node.events.warning(subject(), "Pulled", message).await;
            Ok(())
        }
        Err(err) => {
            let why = chain(&err);
            let message = format!("Failed to pull image {image:?}: {why}");
            node.events.warning(subject(), "Failed", message).await;
            node.events.warning(subject(), "Failed", "Error: ErrImagePull".to_owned()).await;
            Err(("ErrImagePull", why))
        }
    }
}

fn pulled_message(image: &str, elapsed: Duration, size: u64) -> String {
    let elapsed = format!("{:.3}s", elapsed.as_secs_f64());
    format!(
        "Successfully pulled image {image:?} in {elapsed} ({elapsed} including waiting). Image \
         size: {size} bytes."
    )
}

fn auth(pod: &DesiredPod, image: &str) -> Auth {
    let names = pod.spec().image_pull_secrets.iter().flatten();
    let secrets = names.filter_map(|it| pod.references.secrets.get(&it.name)).map(|it| &**it);
    image::credential(secrets, image)
        .map_or(Auth::Anonymous, |it| Auth::Basic { username: it.username, password: it.password })
}
