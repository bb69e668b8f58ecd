//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy: rules in CEL that the hub evaluates
//! itself.

mod bound;

use std::collections::BTreeMap;

use hub_api::{Status, cel, object, patch};
use serde_json::{Value, json};

use super::builtin::refuse;
use super::expression::Conditions;
use super::view::{self, View, Views};
use super::{Attributes, matching, review};
use crate::registry::Registry;
use bound::Bound;

/// Key of the annotation that tells the audit log of failed validations.
const FAILURES: &str = "validation.policy.admission.k8s.io/validation_failure";
/// Longest message that an expression may make, in bytes.
const MAX_MESSAGE: usize = 5 << 10;

/// A validation that did not hold.
struct Failure {
    message: String,
    reason: &'static str,
    index: usize,
}

impl Registry {
    /// Evaluates the validating policies that are bound to the request.
    pub(super) async fn check_policies(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
    ) -> Result<(), Status> {
        const PLURALS: [&str; 2] =
            ["validatingadmissionpolicies", "validatingadmissionpolicybindings"];
        if self.is_unquestioned() || matching::is_exempt(attributes) {
            return Ok(());
        }
        let mut noted = Vec::new();
        let mut denied = None;
        let mut views = Views::new(attributes, object);
        for mut bound in self.bound_policies(attributes, object, PLURALS)? {
            let view = match views.of(self, &bound.row).await {
                Ok(view) => Some(view),
                Err(status) => {
                    bound.wrong.get_or_insert_with(|| unconverted(&status));
                    None
                }
            };
            let failures = validate(self, attributes, view.as_deref(), &bound);
            for failure in failures {
                act(attributes, &bound, failure, &mut noted, &mut denied);
            }
        }
        if !noted.is_empty() {
            let told = serde_json::to_string(&noted).unwrap_or_default();
            attributes.requester.annotate(FAILURES.to_owned(), told);
        }
        let Some((message, reason)) = denied else { return Ok(()) };
        let mut status = refuse(attributes, object, &message);
        status.reason = reason.into();
        status.code = match reason {
            "Unauthorized" => 401,
            "Forbidden" => 403,
            "RequestEntityTooLarge" => 413,
            _ => 422,
        };
        if let Some(details) = &mut status.details {
            details.causes.push(hub_api::status::Cause {
                reason: "".into(),
                message,
                field: String::new(),
            });
        }
        Err(status)
    }

    /// Applies the mutating policies that are bound to the request. Returns whether they changed
    /// the object; `again` asks only those that want to look again after others.
    pub(super) async fn apply_policies(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
        again: bool,
    ) -> Result<bool, Status> {
        const PLURALS: [&str; 2] = ["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"];
        if self.is_unquestioned() || matching::is_exempt(attributes) {
            return Ok(false);
        }
        let before = object.clone();
        for bound in self.bound_policies(attributes, Some(&before), PLURALS)? {
            if again && object::text(&bound.policy, "spec.reinvocationPolicy") != "IfNeeded" {
                continue;
            }
            match mutate(self, attributes, object, &bound).await {
                Ok(Some(next)) => *object = next,
                Ok(None) => {}
                Err(why) if bound.fails_closed() => {
                    let message = format!(
                        "MutatingAdmissionPolicy '{}' with binding '{}' denied request: {why}",
                        object::name(&bound.policy),
                        object::name(&bound.binding)
                    );
                    return Err(refuse(attributes, Some(object), &message));
                }
                Err(why) => {
                    let policy = object::name(&bound.policy);
                    tracing::warn!(policy, error = why, "Went on without a policy");
                }
            }
        }
        Ok(*object != before)
    }
}

fn unconverted(status: &Status) -> String {
    format!("failed to convert object version: {}", status.message)
}

/// Denies, warns or notes, as the binding says.
fn act(
    attributes: &Attributes<'_>,
    bound: &Bound,
    failure: Failure,
    noted: &mut Vec<Value>,
    denied: &mut Option<(String, &'static str)>,
) {
    let (policy, binding) = (object::name(&bound.policy), object::name(&bound.binding));
    let actions = object::list(&bound.binding, "spec.validationActions");
    let message = failure.message;
    for action in actions.iter().filter_map(Value::as_str) {
        match action {
            "Warn" => attributes.requester.warn(format!(
                "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding}': {message}"
            )),
            "Audit" => noted.push(json!({
                "message": message,
                "policy": policy,
                "binding": binding,
                "expressionIndex": failure.index,
                "validationActions": actions,
            })),
            _ => {
                let told = format!(
                    "ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {message}"
                );
                denied.get_or_insert((told, failure.reason));
            }
        }
    }
}

/// What one expression after the other sees, and which variables have no value.
struct Scope<'a> {
    conditions: Conditions<'a>,
    wrong: BTreeMap<String, String>,
}

impl<'a> Scope<'a> {
    fn new(
        registry: &'a Registry,
        attributes: &Attributes<'_>,
        view: &View<'_>,
        bound: &Bound,
    ) -> Self {
        let request = review::request(attributes, &bound.row, view.object(), "");
        let mut conditions = Conditions::of_webhook(registry, attributes, view, &request);
        let namespace = matching::namespace_object(registry, attributes, view.object());
        conditions.set("namespaceObject", namespace.ok().flatten().as_ref());
        conditions.set("params", bound.param.as_ref());
        conditions.set_value("variables", cel::map(std::iter::empty()));
        Self { conditions, wrong: BTreeMap::new() }
    }

    /// Evaluates the variables in their order: each sees those before it.
    fn define(&mut self, policy: &Value) {
        let mut known: Vec<(String, cel::Value)> = Vec::new();
        for variable in object::list(policy, "spec.variables") {
            let name = object::text(variable, "name").to_owned();
            match self.evaluate(object::text(variable, "expression")) {
                Ok(value) => known.push((name, value)),
                // Only who uses it must know.
                Err(why) => drop(self.wrong.insert(name, why)),
            }
            self.conditions.set_value("variables", cel::map(known.iter().cloned()));
        }
    }

    fn evaluate(&self, source: &str) -> Result<cel::Value, String> {
        self.conditions.evaluate(source).map_err(|why| {
            let missing =
                why.strip_prefix("no such key: ").and_then(|it| self.wrong.get_key_value(it));
            match missing {
                Some((name, cause)) => {
                    format!("composited variable \"{name}\" fails to evaluate: {cause}")
                }
                None => why,
            }
        })
    }
}

/// All validations that do not hold. There is no view where the policy cannot be evaluated.
fn validate(
    registry: &Registry,
    attributes: &Attributes<'_>,
    view: Option<&View<'_>>,
    bound: &Bound,
) -> Vec<Failure> {
    let fail = |message: String| Failure { message, reason: "Invalid", index: 0 };
    let (None, Some(view)) = (&bound.wrong, view) else {
        let why = bound.wrong.clone().unwrap_or_default();
        return if bound.fails_closed() { vec![fail(why)] } else { Vec::new() };
    };
    let mut scope = Scope::new(registry, attributes, view, bound);
    match scope.conditions.all(object::list(&bound.policy, "spec.matchConditions")) {
        Ok(true) => {}
        Ok(false) => return Vec::new(),
        Err(why) if bound.fails_closed() => return vec![fail(why)],
        Err(_) => return Vec::new(),
    }
    scope.define(&bound.policy);
    let mut failures = Vec::new();
    for (index, it) in object::list(&bound.policy, "spec.validations").iter().enumerate() {
        let source = object::text(it, "expression");
        let message = match scope.evaluate(source) {
            Ok(cel::Value::Bool(true)) => continue,
            Ok(cel::Value::Bool(false)) => message(&scope, it),
            Ok(_) if bound.fails_closed() => {
                format!(
                    "expression '{source}' resulted in error: cel expression must evaluate to a bool"
                )
            }
            Err(why) if bound.fails_closed() => {
                format!("expression '{source}' resulted in error: {why}")
            }
            Ok(_) | Err(_) => continue,
        };
        failures.push(Failure { message, reason: reason(it), index });
    }
    annotate(attributes, &scope, bound);
    failures
}

fn reason(validation: &Value) -> &'static str {
    match object::text(validation, "reason") {
        "Unauthorized" => "Unauthorized",
        "Forbidden" => "Forbidden",
        "RequestEntityTooLarge" => "RequestEntityTooLarge",
        _ => "Invalid",
    }
}

/// What a failed validation says: its expression's word, its own, or itself.
fn message(scope: &Scope<'_>, validation: &Value) -> String {
    let source = object::text(validation, "messageExpression").trim();
    if !source.is_empty()
        && let Ok(cel::Value::String(text)) = scope.evaluate(source)
    {
        let text = text.trim();
        if !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n') {
            return text.to_owned();
        }
    }
    match object::text(validation, "message").trim() {
        "" => format!("failed expression: {}", object::text(validation, "expression").trim()),
        message => message.to_owned(),
    }
}

fn annotate(attributes: &Attributes<'_>, scope: &Scope<'_>, bound: &Bound) {
    for it in object::list(&bound.policy, "spec.auditAnnotations") {
        let value = scope.evaluate(object::text(it, "valueExpression"));
        if let Ok(cel::Value::String(text)) = value
            && !text.trim().is_empty()
        {
            let key = format!("{}/{}", object::name(&bound.policy), object::text(it, "key"));
            attributes.requester.annotate(key, text.trim().to_owned());
        }
    }
}

/// The object as a policy wants it, if its conditions hold.
async fn mutate(
    registry: &Registry,
    attributes: &Attributes<'_>,
    object: &Value,
    bound: &Bound,
) -> Result<Option<Value>, String> {
    if let Some(why) = &bound.wrong {
        return Err(why.clone());
    }
    let view = Views::new(attributes, Some(object)).of(registry, &bound.row).await;
    let view = view.map_err(|status| unconverted(&status))?;
    let Some(made) = mutated(registry, attributes, &view, bound)? else { return Ok(None) };
    let next = view::taken_back(registry, attributes, &bound.row, made).await;
    let mut next = next.map_err(|status| unconverted(&status))?;
    super::keep_managed_fields(object, &mut next);
    Ok(Some(next))
}

/// As [`mutate`], in the version that the policy sees.
fn mutated(
    registry: &Registry,
    attributes: &Attributes<'_>,
    view: &View<'_>,
    bound: &Bound,
) -> Result<Option<Value>, String> {
    let mut scope = Scope::new(registry, attributes, view, bound);
    if !scope.conditions.all(object::list(&bound.policy, "spec.matchConditions"))? {
        return Ok(None);
    }
    scope.define(&bound.policy);
    let mut shown = view.object().cloned().unwrap_or_default();
    for mutation in object::list(&bound.policy, "spec.mutations") {
        let applies = object::text(mutation, "patchType") == "ApplyConfiguration";
        let source = if applies {
            object::text(mutation, "applyConfiguration.expression")
        } else {
            object::text(mutation, "jsonPatch.expression")
        };
        let value = scope
            .evaluate(source)
            .map_err(|why| format!("expression '{source}' resulted in error: {why}"))?;
        let made = cel::json(&value);
        let next = if applies {
            applied(&shown, &made, &bound.row.schema)
        } else {
            patch::json(&shown, &made)
        };
        shown = next.map_err(|status| status.message)?;
        // The next mutation sees what this one did.
        scope.conditions.set("object", Some(&shown));
    }
    Ok(Some(shown))
}

/// Merges what an apply configuration says: maps by key, lists by the keys of their items.
fn applied(object: &Value, made: &Value, schema: &str) -> Result<Value, Status> {
    if !made.is_object() {
        return Err(Status::bad_request("an apply configuration must be an object"));
    }
    let is_builtin = schema.starts_with("io.k8s.");
    if is_builtin { patch::strategic(object, made, schema) } else { Ok(patch::merge(object, made)) }
}
