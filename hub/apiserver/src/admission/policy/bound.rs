//! Which policies are bound to a request, and with which parameters.

use std::sync::Arc;

use hub_api::selector::LabelSelector;
use hub_api::{Resource, Status, object};
use serde_json::Value;

use super::super::builtin::Lookup;
use super::super::{Attributes, matching};
use crate::registry::Registry;

const GROUP: &str = "admissionregistration.k8s.io";

/// A policy that a binding lets look at a request, with one of its parameters.
pub(super) struct Bound {
    pub(super) policy: Value,
    pub(super) binding: Value,
    /// The version in which it sees the object.
    pub(super) row: Arc<Resource>,
    pub(super) param: Option<Value>,
    /// Why it cannot be evaluated.
    pub(super) wrong: Option<String>,
}

impl Bound {
    pub(super) fn fails_closed(&self) -> bool {
        object::text(&self.policy, "spec.failurePolicy") != "Ignore"
    }
}

impl Registry {
    /// The policies that are bound to a request: plurals of policies and of their bindings.
    pub(super) fn bound_policies(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
        plurals: [&str; 2],
    ) -> Result<Vec<Bound>, Status> {
        let mut out = Vec::new();
        for binding in self.find_all(GROUP, plurals[1], None) {
            let name = object::text(&binding, "spec.policyName");
            let Some(policy) = self.find(GROUP, plurals[0], None, name) else { continue };
            let constraints = &policy["spec"]["matchConstraints"];
            let Some(row) = self.constrained(attributes, object, constraints, false)? else {
                continue;
            };
            if let Some(resources) = object::get(&binding, "spec.matchResources")
                && self.constrained(attributes, object, resources, true)?.is_none()
            {
                continue;
            }
            let bound = |param, wrong| Bound {
                policy: policy.clone(),
                binding: binding.clone(),
                row: row.clone(),
                param,
                wrong,
            };
            match self.params(attributes, &policy, &binding) {
                Ok(params) => out.extend(params.into_iter().map(|it| bound(it, None))),
                Err(why) => out.push(bound(None, Some(why))),
            }
        }
        Ok(out)
    }

    /// The version that the constraints name; `open` ones without rules name everything.
    fn constrained(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
        constraints: &Value,
        open: bool,
    ) -> Result<Option<Arc<Resource>>, Status> {
        let kind = object::text(constraints, "matchPolicy");
        let excluded = object::list(constraints, "excludeResourceRules");
        if matching::matching_row(self, attributes, excluded, kind).is_some() {
            return Ok(None);
        }
        let rules = object::list(constraints, "resourceRules");
        let row = if open && rules.is_empty() {
            Some(Arc::new(attributes.requested.clone()))
        } else {
            matching::matching_row(self, attributes, rules, kind)
        };
        if row.is_some() && !matching::selected(self, attributes, object, constraints)? {
            return Ok(None);
        }
        Ok(row)
    }

    /// The parameters that a binding names; one that is absent for policies without any.
    fn params(
        &self,
        attributes: &Attributes<'_>,
        policy: &Value,
        binding: &Value,
    ) -> Result<Vec<Option<Value>>, String> {
        let kind = object::get(policy, "spec.paramKind");
        let reference = object::get(binding, "spec.paramRef");
        let (Some(kind), Some(reference)) = (kind, reference) else { return Ok(vec![None]) };
        let (api, word) = (object::text(kind, "apiVersion"), object::text(kind, "kind"));
        let (group, version) = api.split_once('/').unwrap_or(("", api));
        let row = self.catalog().find_kind(group, version, word).ok_or_else(|| {
            format!("failed to find resource referenced by paramKind: '{api}, Kind={word}'")
        })?;
        let stored = row.stored();
        let namespace = if row.namespaced {
            let named = object::text(reference, "namespace");
            let own = attributes.namespace.unwrap_or_default();
            let namespace = if named.is_empty() { own } else { named };
            if namespace.is_empty() {
                return Err("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".to_owned());
            }
            Some(namespace)
        } else {
            None
        };
        let found: Vec<Value> = match object::text(reference, "name") {
            "" => {
                let selector = reference.get("selector").unwrap_or(&Value::Null);
                let selector =
                    LabelSelector::from_value(selector).map_err(|status| status.message)?;
                let mut all = self.find_all(&stored.group, &stored.plural, namespace);
                all.retain(|it| selector.matches_object(it));
                all
            }
            name => self.find(&stored.group, &stored.plural, namespace, name).into_iter().collect(),
        };
        if found.is_empty() && object::text(reference, "parameterNotFoundAction") == "Deny" {
            return Err(
                "no params found for policy binding with `Deny` parameterNotFoundAction".to_owned()
            );
        }
        Ok(found.into_iter().map(|it| Some(row.show(it))).collect())
    }
}
