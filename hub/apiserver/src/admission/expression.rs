//! Expressions of webhooks and policies: compiled once, evaluated under one budget a request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use hub_api::cel::{self, EvaluateError, Program, Session};
use hub_api::object;
use serde_json::Value;

use super::Attributes;
use super::view::View;
use crate::auth::{Attributes as Asking, Authorizer, Decision, Guard, User, groups_of};
use crate::registry::Registry;

/// Compiled expressions that are kept.
const MAX_PROGRAMS: usize = 4096;
/// Everything an expression may be about; which of it one may name was checked at its writing.
const VARIABLES: &[&str] =
    &["authorizer", "namespaceObject", "object", "oldObject", "params", "request", "variables"];

/// Compiled expressions, by their text.
#[derive(Debug, Default)]
pub(crate) struct Programs(Mutex<BTreeMap<String, Arc<Program>>>);

impl Programs {
    /// Compiles an expression, or finds it compiled.
    ///
    /// # Errors
    /// It does not compile; impossible for what was checked when it was written.
    pub(super) fn get(&self, source: &str) -> Result<Arc<Program>, String> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = known.get(source) {
            return Ok(program.clone());
        }
        // A patch may say all that other expressions may.
        let program = Program::compile_patch(source, VARIABLES).map_err(|err| err.to_string())?;
        let program = Arc::new(program);
        if known.len() >= MAX_PROGRAMS {
            known.clear();
        }
        known.insert(source.to_owned(), program.clone());
        Ok(program)
    }
}

/// Answers expressions for the requester.
struct Rights {
    authorizer: Option<Arc<dyn Authorizer>>,
    user: Arc<User>,
}

impl cel::Asked for Rights {
    fn ask(&self, it: &cel::Question) -> cel::Answer {
        let account = it.service_account.as_ref().map(|(namespace, name)| {
            let user = User {
                groups: groups_of(namespace),
                ..User::named(format!("system:serviceaccount:{namespace}:{name}"))
            };
            user.authenticated()
        });
        let user = account.as_ref().unwrap_or(&self.user);
        // The hub's own parts have no name and may do everything.
        let Some(authorizer) = self.authorizer.as_ref().filter(|_| !user.name.is_empty()) else {
            return cel::Answer { allowed: true, reason: String::new() };
        };
        let decision = authorizer.authorize(&Asking {
            user,
            verb: &it.verb,
            group: &it.group,
            version: "*",
            resource: &it.resource,
            subresource: &it.subresource,
            namespace: &it.namespace,
            name: &it.name,
            path: &it.path,
            field_selector: &it.field_selector,
            label_selector: &it.label_selector,
        });
        let allowed = decision.is_allowed();
        let (Decision::Allow { reason }
        | Decision::Deny { reason }
        | Decision::NoOpinion { reason }) = decision;
        cel::Answer { allowed, reason }
    }
}

fn authorizer(registry: &Registry, attributes: &Attributes<'_>) -> [(&'static str, cel::Value); 2] {
    let rights = Rights {
        authorizer: registry.guard().map(Guard::authorizer),
        user: attributes.requester.user.clone(),
    };
    let asked: Arc<dyn cel::Asked> = Arc::new(rights);
    let request = cel::Question {
        group: attributes.requested.group.to_string(),
        resource: attributes.requested.plural.to_string(),
        subresource: attributes.subresource.unwrap_or_default().to_owned(),
        namespace: attributes.namespace.unwrap_or_default().to_owned(),
        name: attributes.name.to_owned(),
        ..cel::Question::default()
    };
    cel::authorizer(&asked, request)
}

/// What the expressions of one webhook or policy see, and their budget.
pub(super) struct Conditions<'a> {
    registry: &'a Registry,
    session: Session,
    variables: BTreeMap<&'static str, cel::Value>,
}

impl<'a> Conditions<'a> {
    /// For the conditions of a webhook.
    pub(super) fn of_webhook(
        registry: &'a Registry,
        attributes: &Attributes<'_>,
        view: &View<'_>,
        request: &Value,
    ) -> Self {
        let (object, old) = (view.object(), view.old());
        let shown: Vec<&Value> = [object, old, Some(request)].into_iter().flatten().collect();
        let mut out = Self { registry, session: Session::new(&shown), variables: BTreeMap::new() };
        out.set("object", object);
        out.set("oldObject", old);
        out.set("request", Some(request));
        for (name, value) in authorizer(registry, attributes) {
            out.set_value(name, value);
        }
        out
    }

    /// Sets a variable; absent ones are `null`.
    pub(super) fn set(&mut self, name: &'static str, value: Option<&Value>) {
        self.variables.insert(name, cel::value(value.unwrap_or(&Value::Null)));
    }

    pub(super) fn set_value(&mut self, name: &'static str, value: cel::Value) {
        self.variables.insert(name, value);
    }

    /// The value of an expression.
    pub(super) fn evaluate(&self, source: &str) -> Result<cel::Value, String> {
        let program = self.registry.admission().programs.get(source)?;
        let variables: Vec<(&str, cel::Value)> =
            self.variables.iter().map(|(name, it)| (*name, it.clone())).collect();
        self.session.evaluate(&program, &variables).map_err(|err: EvaluateError| err.to_string())
    }

    /// Whether all conditions hold.
    ///
    /// # Errors
    /// One has no value, and none says no.
    pub(super) fn all(&self, conditions: &[Value]) -> Result<bool, String> {
        let mut failed = Vec::new();
        for condition in conditions {
            match self.evaluate(object::text(condition, "expression")) {
                Ok(cel::Value::Bool(true)) => {}
                Ok(cel::Value::Bool(false)) => return Ok(false),
                Ok(_) => failed.push("cel expression must evaluate to a bool".to_owned()),
                Err(why) => failed.push(format!(
                    "expression '{}' resulted in error: {why}",
                    object::text(condition, "expression")
                )),
            }
        }
        if failed.is_empty() { Ok(true) } else { Err(failed.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Rules;

    /// Says no, and what it was asked.
    struct Told;

    impl Authorizer for Told {
        fn authorize(&self, it: &Asking<'_>) -> Decision {
            let Asking { user, verb, group, resource, field_selector, label_selector, .. } = it;
            let reason = format!(
                "{} {verb} {group}/{resource} [{field_selector}] [{label_selector}]",
                user.name
            );
            Decision::NoOpinion { reason }
        }

        fn rules(&self, _user: &User, _namespace: &str) -> Rules {
            Rules::default()
        }
    }

    #[test]
    fn the_authorizer_hears_what_an_expression_selects() {
        let authorizer: Arc<dyn Authorizer> = Arc::new(Told);
        let rights = Rights { authorizer: Some(authorizer), user: Arc::new(User::named("anna")) };
        let asked: Arc<dyn cel::Asked> = Arc::new(rights);
        let variables = cel::authorizer(&asked, cel::Question::default());
        let programs = Programs::default();
        for (selectors, expected) in [
            ("", "anna list apps/deployments [] []"),
            (
                ".fieldSelector('metadata.name=d').labelSelector('app')",
                "anna list apps/deployments [metadata.name=d] [app]",
            ),
            (".labelSelector('!=')", "anna list apps/deployments [] []"),
        ] {
            let source = format!(
                "authorizer.group('apps').resource('deployments'){selectors}.check('list').reason()"
            );
            let program = programs.get(&source).unwrap();
            let reason = Session::new(&[]).evaluate(&program, &variables).unwrap();
            assert_eq!(reason, cel::Value::String(Arc::new(expected.to_owned())), "{source}");
        }
    }
}
