//! NetworkPolicies.

use serde_json::Value;

use super::{fields, selector};
use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

const SUBSET: &str = "must be a strict subset of `cidr`";

/// Checks a NetworkPolicy.
pub fn network_policy(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let mut errors = selector::label_selector(&spec["podSelector"], &path.field("podSelector"));
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        let list = path.field(direction);
        for (i, rule) in object::list(spec, direction).iter().enumerate() {
            let at = list.index(i);
            let ports = at.field("ports");
            for (j, it) in object::list(rule, "ports").iter().enumerate() {
                errors.extend(port(it, &ports.index(j)));
            }
            let at_peers = at.field(peers);
            for (j, it) in object::list(rule, peers).iter().enumerate() {
                errors.extend(peer(it, &at_peers.index(j)));
            }
        }
    }
    let types = object::list(spec, "policyTypes");
    let list = path.field("policyTypes");
    if types.len() > 2 {
        let detail = "may not specify more than two policyTypes";
        errors.push(FieldError::invalid(list, types.to_vec(), detail));
        return errors;
    }
    for (i, ty) in types.iter().enumerate() {
        if ty != "Ingress" && ty != "Egress" {
            let known = ["Ingress", "Egress"];
            errors.push(FieldError::not_supported(list.index(i), ty.clone(), &known));
        }
    }
    errors
}

fn port(port: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(protocol) = object::get(port, "protocol").and_then(Value::as_str)
        && !matches!(protocol, "TCP" | "UDP" | "SCTP")
    {
        let known = ["TCP", "UDP", "SCTP"];
        errors.push(FieldError::not_supported(at.field("protocol"), protocol, &known));
    }
    let (number, end) = (object::get(port, "port"), object::int(port, "endPort"));
    let at_end = at.field("endPort");
    match (number, end) {
        (None, None) => {}
        (None, Some(end)) => errors.push(FieldError::invalid(
            at_end,
            end,
            "may not be specified when `port` is not specified",
        )),
        (Some(Value::String(name)), end) => {
            if let Some(end) = end {
                errors.push(FieldError::invalid(
                    at_end,
                    end,
                    "may not be specified when `port` is non-numeric",
                ));
            }
            errors.extend(fields::all_wrong(&at.field("port"), name, names::port_name(name)));
        }
        (Some(number), end) => {
            let number = number.as_i64().unwrap_or_default();
            for wrong in names::port_number(number) {
                errors.push(FieldError::invalid(at.field("port"), number, wrong));
            }
            if let Some(end) = end {
                if end < number {
                    let detail = "must be greater than or equal to `port`";
                    errors.push(FieldError::invalid(at_end, number, detail));
                }
                for wrong in names::port_number(end) {
                    errors.push(FieldError::invalid(at_end, end, wrong));
                }
            }
        }
    }
    errors
}

fn peer(peer: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut n_peers = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if let Some(it) = object::get(peer, field) {
            n_peers += 1;
            errors.extend(selector::label_selector(it, &at.field(field)));
        }
    }
    if let Some(block) = object::get(peer, "ipBlock") {
        errors.extend(ip_block(block, &at.field("ipBlock")));
        if n_peers > 0 {
            let detail = "may not specify both ipBlock and another peer";
            errors.push(FieldError::forbidden(at, detail));
        }
        n_peers += 1;
    }
    if n_peers == 0 {
        errors.push(FieldError::required(at, "must specify a peer"));
    }
    errors
}

fn ip_block(block: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let text = object::text(block, "cidr");
    let path = at.field("cidr");
    if text.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let Some(outer) = fields::parse_cidr(text) else {
        return fields::cidr(text, &path).into_iter().collect();
    };
    let list = at.field("except");
    let mut errors = Vec::new();
    let excepted = object::list(block, "except").iter().filter_map(Value::as_str);
    for (i, text) in excepted.enumerate() {
        let item = list.index(i);
        match fields::parse_cidr(text) {
            None => errors.extend(fields::cidr(text, &item)),
            Some(inner) if fields::contains(outer, inner.0) && outer.1 < inner.1 => {}
            Some(_) => errors.push(FieldError::invalid(item, text, SUBSET)),
        }
    }
    errors
}
