//! Defaults of the kinds of `networking.k8s.io`.

use serde_json::{Value, json};

use crate::object;

/// Fills in a NetworkPolicy: protocols, and which directions it speaks of.
pub fn network_policy(object: &mut Value) {
    let Some(spec) = object.get_mut("spec").filter(|it| it.is_object()) else { return };
    for direction in ["ingress", "egress"] {
        for rule in object::items_mut(spec, direction) {
            for port in object::items_mut(rule, "ports") {
                object::default_text(object::as_map(port), "protocol", "TCP");
            }
        }
    }
    if object::list(spec, "policyTypes").is_empty() {
        let mut types = vec!["Ingress"];
        if !object::list(spec, "egress").is_empty() {
            types.push("Egress");
        }
        spec["policyTypes"] = json!(types);
    }
}

/// Fills in an IngressClass.
pub fn ingress_class(object: &mut Value) {
    if let Some(parameters) = object.pointer_mut("/spec/parameters").and_then(Value::as_object_mut)
    {
        object::default(parameters, "scope", "Cluster");
    }
}
