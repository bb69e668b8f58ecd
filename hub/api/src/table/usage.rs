//! Cells of what nodes and pods use.

use serde_json::Value;

use super::cells::list;
use crate::quantity::Quantity;

pub(super) fn cpu(object: &Value) -> Value {
    total(object, "cpu")
}

pub(super) fn memory(object: &Value) -> Value {
    total(object, "memory")
}

/// Of a node, or of all containers of a pod.
fn total(object: &Value, name: &str) -> Value {
    let own = object.get("usage").into_iter();
    let usages = own.chain(list(object, "/containers").iter().map(|it| &it["usage"]));
    let amounts = usages.filter_map(|it| it[name].as_str()?.parse::<Quantity>().ok());
    let sum = amounts.reduce(|a, b| a + b).unwrap_or(Quantity::ZERO);
    sum.to_string().into()
}
