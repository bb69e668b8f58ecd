//! Webhooks: asks others about a request, as `MutatingWebhookConfiguration` and
//! `ValidatingWebhookConfiguration` say.
//!
//! Mutating ones are asked one after the other, by name of configuration and place in it;
//! validating ones all at once. A refusal counts whatever `failurePolicy` says: that is about
//! webhooks that cannot be asked.

mod client;
mod place;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use hub_api::{Status, object, patch};
use serde_json::Value;

use super::builtin::{Lookup, refuse};
use super::expression::Conditions;
use super::review::{self, Response};
use super::view::{self, View, Views};
use super::{Attributes, matching};
use crate::registry::Registry;
use crate::streaming::NodeStreams;
use client::CallError;
pub(super) use client::Clients;
pub(crate) use client::{authorities, distrust};

const GROUP: &str = "admissionregistration.k8s.io";

/// A webhook that is to be asked, and what it sees of the request.
struct Hook<'a> {
    /// Configuration and place: what tells it from all others.
    id: String,
    settings: Value,
    view: Arc<View<'a>>,
}

impl Hook<'_> {
    fn name(&self) -> &str {
        object::text(&self.settings, "name")
    }

    fn fails_closed(&self) -> bool {
        object::text(&self.settings, "failurePolicy") != "Ignore"
    }
}

/// Why a webhook does not let a request pass.
enum Refusal {
    /// It said so, or may not be asked: final.
    Final(Status),
    /// It could not be asked: `failurePolicy` decides.
    Failed(String),
}

impl Registry {
    /// Asks the mutating webhooks. Returns whether they changed the object, and which of them are
    /// to be asked again if others change it. `again` limits the question to those.
    pub(super) async fn call_mutating(
        &self,
        attributes: &Attributes<'_>,
        mut object: Option<&mut Value>,
        again: Option<&[String]>,
    ) -> Result<(bool, Vec<String>), Status> {
        let (mut changed, mut eager) = (false, Vec::new());
        if self.is_unquestioned() || matching::is_exempt(attributes) {
            return Ok((changed, eager));
        }
        for (id, settings) in self.webhooks("mutatingwebhookconfigurations") {
            if again.is_some_and(|again| !again.contains(&id)) {
                continue;
            }
            let mut views = Views::new(attributes, object.as_deref());
            let hook = self.hook(attributes, object.as_deref(), &mut views, id, settings).await?;
            let Some(hook) = hook else { continue };
            let response = match self.ask(attributes, &hook).await {
                Ok(response) => response,
                Err(refusal) => {
                    survive(&hook, refusal)?;
                    continue;
                }
            };
            let next = match &response.patch {
                Some(operations) => self.patched(attributes, &hook, operations).await?,
                None => None,
            };
            if object::text(&hook.settings, "reinvocationPolicy") == "IfNeeded" {
                eager.push(hook.id.clone());
            }
            if let (Some(object), Some(mut next)) = (object.as_deref_mut(), next) {
                super::keep_managed_fields(object, &mut next);
                changed |= next != *object;
                *object = next;
            }
        }
        Ok((changed, eager))
    }

    /// Asks the validating webhooks, all at once.
    pub(super) async fn call_validating(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
    ) -> Result<(), Status> {
        if self.is_unquestioned() || matching::is_exempt(attributes) {
            return Ok(());
        }
        let (mut hooks, mut views) = (Vec::new(), Views::new(attributes, object));
        for (id, settings) in self.webhooks("validatingwebhookconfigurations") {
            hooks.extend(self.hook(attributes, object, &mut views, id, settings).await?);
        }
        let asked = join_all(hooks.iter().map(|hook| self.ask(attributes, hook))).await;
        for (hook, answer) in hooks.iter().zip(asked) {
            if let Err(refusal) = answer {
                survive(hook, refusal)?;
            }
        }
        Ok(())
    }

    fn webhooks(&self, plural: &str) -> Vec<(String, Value)> {
        let mut out = Vec::new();
        for mut configuration in self.find_all(GROUP, plural, None) {
            let name = object::name(&configuration).to_owned();
            let hooks = configuration.get_mut("webhooks").map(Value::take).unwrap_or_default();
            let Value::Array(hooks) = hooks else { continue };
            let ids = (0..).map(|index: usize| format!("{name}/{index}"));
            out.extend(ids.zip(hooks));
        }
        out
    }

    /// The webhook, if it is to be asked about the request.
    async fn hook<'a>(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
        views: &mut Views<'a>,
        id: String,
        settings: Value,
    ) -> Result<Option<Hook<'a>>, Status> {
        let policy = object::text(&settings, "matchPolicy");
        let rules = object::list(&settings, "rules");
        let Some(row) = matching::matching_row(self, attributes, rules, policy) else {
            return Ok(None);
        };
        if !matching::selected(self, attributes, object, &settings)? {
            return Ok(None);
        }
        // Not what `failurePolicy` is about: nothing is known of the webhook yet.
        let view = views.of(self, &row).await.map_err(|it| Status::internal(it.message))?;
        let hook = Hook { id, settings, view };
        let conditions = object::list(&hook.settings, "matchConditions");
        if conditions.is_empty() {
            return Ok(Some(hook));
        }
        let request = review::request(attributes, &row, object, "");
        match Conditions::of_webhook(self, attributes, &hook.view, &request).all(conditions) {
            Ok(true) => Ok(Some(hook)),
            Ok(false) => Ok(None),
            Err(why) if hook.fails_closed() => Err(refuse(attributes, object, &why)),
            Err(why) => {
                tracing::warn!(webhook = hook.name(), error = why, "Left a webhook out");
                Ok(None)
            }
        }
    }

    async fn ask(&self, attributes: &Attributes<'_>, hook: &Hook<'_>) -> Result<Response, Refusal> {
        let effects = object::text(&hook.settings, "sideEffects");
        if attributes.dry_run && !matches!(effects, "None" | "NoneOnDryRun") {
            let why = format!("admission webhook \"{}\" does not support dry run", hook.name());
            return Err(Refusal::Final(Status::bad_request(why)));
        }
        let versions = object::list(&hook.settings, "admissionReviewVersions");
        let known = |it: &&Value| *it == "v1" || *it == "v1beta1";
        let version = versions.iter().find(known).and_then(Value::as_str).unwrap_or("v1");
        let uid = uuid::Uuid::new_v4().to_string();
        let view = &hook.view;
        let request = review::request(attributes, &view.row, view.object(), &uid);
        let review = review::review(request, view.object(), view.old(), version);
        let body = Bytes::from(serde_json::to_vec(&review).unwrap_or_default());
        let bytes = self.send(hook, body).await.map_err(Refusal::Failed)?;
        let response = review::read(&bytes, &uid, version)
            .map_err(|why| Refusal::Failed(format!("received invalid webhook response: {why}")))?;
        let requester = attributes.requester;
        for (key, value) in &response.annotations {
            requester.annotate(format!("{}/{key}", hook.name()), value.clone());
        }
        for warning in &response.warnings {
            requester.warn(warning.clone());
        }
        if response.allowed {
            return Ok(response);
        }
        Err(Refusal::Final(review::denied(hook.name(), &response.status)))
    }

    /// The object as a webhook wants it, if there is one.
    async fn patched(
        &self,
        attributes: &Attributes<'_>,
        hook: &Hook<'_>,
        operations: &Value,
    ) -> Result<Option<Value>, Status> {
        let Some(shown) = hook.view.object() else { return Ok(None) };
        let made = patch::json(shown, operations).map_err(|status| {
            let why = format!(
                "webhook \"{}\" returned a patch that does not apply: {}",
                hook.name(),
                status.message
            );
            Status::internal(why)
        })?;
        if !made.is_object() {
            let why = format!("webhook \"{}\" made no object of it", hook.name());
            return Err(Status::internal(why));
        }
        let next = view::taken_back(self, attributes, &hook.view.row, made).await;
        next.map(Some).map_err(|it| Status::internal(it.message))
    }

    async fn send(&self, hook: &Hook<'_>, body: Bytes) -> Result<Bytes, String> {
        let seconds = object::int(&hook.settings, "timeoutSeconds").unwrap_or(10);
        let seconds = u64::try_from(seconds.clamp(1, 30)).unwrap_or(10);
        let called = self.post_to_webhook(&hook.settings["clientConfig"], seconds, body).await;
        called.map_err(|why| format!("failed to call webhook: {why}"))
    }

    /// Sends a body to where `clientConfig` says, and returns the body of the answer. All of it, the
    /// way there too, takes no longer than `seconds`.
    ///
    /// # Errors
    /// Why there is none, in Go's words.
    pub(crate) async fn post_to_webhook(
        &self,
        config: &Value,
        seconds: u64,
        body: Bytes,
    ) -> Result<Bytes, String> {
        let calling = async {
            let target = place::find(self, config).await?;
            self.admission().webhooks.call(&target, seconds, body).await
        };
        let called = tokio::time::timeout(Duration::from_secs(seconds), calling).await;
        called
            .unwrap_or(Err(CallError::Deadline))
            .map_err(|err| format!("Post \"{}?timeout={seconds}s\": {err}", place::url(config)))
    }

    /// From here on, webhooks in pods are called through these nodes.
    pub(crate) fn call_through(&self, nodes: &Arc<dyn NodeStreams>) {
        self.admission().webhooks.set_nodes(nodes);
    }
}

/// Goes on without a webhook that could not be asked, if its policy is to.
fn survive(hook: &Hook<'_>, refusal: Refusal) -> Result<(), Status> {
    match refusal {
        Refusal::Final(status) => Err(status),
        Refusal::Failed(why) => {
            let why = format!("failed calling webhook \"{}\": {why}", hook.name());
            if hook.fails_closed() {
                return Err(Status::internal(why));
            }
            tracing::warn!(webhook = hook.name(), error = why, "Went on without a webhook");
            Ok(())
        }
    }
}
