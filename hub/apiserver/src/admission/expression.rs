//! Expressions of webhooks and policies: compiled once, evaluated under one budget a request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use hub_api::cel::{self, EvaluateError, Program, Session};
use hub_api::object;
use serde_json::Value;

use super::Attributes;
use crate::registry::Registry;

/// Compiled expressions that are kept.
const MAX_PROGRAMS: usize = 4096;
/// Everything an expression may be about; which of it one may name was checked at its writing.
const VARIABLES: &[&str] =
    &["namespaceObject", "object", "oldObject", "params", "request", "variables"];

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
        object: Option<&Value>,
        request: &Value,
    ) -> Self {
        let shown: Vec<&Value> =
            [object, attributes.old, Some(request)].into_iter().flatten().collect();
        let mut out = Self { registry, session: Session::new(&shown), variables: BTreeMap::new() };
        out.set("object", object);
        out.set("oldObject", attributes.old);
        out.set("request", Some(request));
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
