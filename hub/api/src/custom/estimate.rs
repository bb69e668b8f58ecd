//! What CEL rules may cost at worst, judged by the limits that the schema sets.

use kube_cel::cel::common::ast::{EntryExpr, Expr, IdedExpr};

use super::structural::{Additional, Node};
use crate::path::Path;
use crate::schema::Type;
use crate::status::FieldError;

/// What one rule may cost at worst, by estimate.
const PER_RULE_LIMIT: f64 = 10_000_000.0;
/// What all rules of a schema may cost at worst, by estimate.
const TOTAL_LIMIT: f64 = 100_000_000.0;
/// Items of a list, and entries of a map, that has no limit: as many as fit into a request.
const UNLIMITED: f64 = 3_000_000.0;

/// Refuses rules that may cost too much.
pub(super) fn check(node: &Node, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut total = 0.0;
    at(node, path, 1.0, &mut total, errors);
    if total > TOTAL_LIMIT {
        let what = format!(
            "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of {} (try simplifying the rule(s), or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)",
            factor(total / TOTAL_LIMIT)
        );
        errors.push(FieldError::forbidden(path, what));
    }
}

fn at(node: &Node, path: &Path<'_>, times: f64, total: &mut f64, errors: &mut Vec<FieldError>) {
    if !node.has_rules() {
        return;
    }
    let rules = path.field("x-kubernetes-validations");
    for (index, rule) in node.rules.iter().enumerate() {
        let Ok(program) = &rule.program else { continue };
        let mut scope = vec![("self", Some(node)), ("oldSelf", Some(node))];
        let cost = cost(program.plain(), &mut scope).0 * times;
        *total += cost;
        if cost > PER_RULE_LIMIT {
            let what = format!(
                "estimated rule cost exceeds budget by factor of {} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)",
                factor(cost / PER_RULE_LIMIT)
            );
            errors.push(FieldError::forbidden(rules.index(index).field("rule"), what));
        }
    }
    let properties = path.field("properties");
    for (key, below) in &node.properties {
        at(below, &properties.key(key), times, total, errors);
    }
    if let Some(below) = &node.items {
        at(below, &path.field("items"), (times * size(node)).min(UNLIMITED), total, errors);
    }
    if let Some(Additional::Schema(below)) = &node.additional {
        let path = path.field("additionalProperties");
        at(below, &path, (times * size(node)).min(UNLIMITED), total, errors);
    }
}

fn factor(by: f64) -> String {
    if by > 100.0 { "more than 100x".to_owned() } else { format!("{by:.1}x") }
}

/// How many items, entries or characters there are at most.
fn size(node: &Node) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let limit = |it: Option<u64>| it.map(|it| it as f64);
    let checks = &node.checks;
    let limit = match node.ty {
        Some(Type::Array) => limit(checks.max_items),
        Some(Type::Object) => limit(checks.max_properties),
        Some(Type::String) => match &checks.allowed {
            Some(_) => Some(64.0),
            None => limit(checks.max_length),
        },
        Some(Type::Boolean | Type::Integer | Type::Number) | None => Some(1.0),
    };
    let smallest = node.items.as_deref().map_or(2.0, least_bytes);
    limit.unwrap_or(UNLIMITED / smallest)
}

/// How many bytes a value takes at least.
fn least_bytes(node: &Node) -> f64 {
    match node.ty {
        Some(Type::Object) => {
            let required = node.checks.required.iter().filter_map(|it| {
                let below = node.properties.get(it)?;
                #[expect(clippy::cast_precision_loss, reason = "an estimate")]
                let name = it.len() as f64;
                Some(name + 4.0 + least_bytes(below))
            });
            3.0 + required.sum::<f64>()
        }
        Some(Type::Array | Type::String) => 3.0,
        Some(Type::Boolean) => 5.0,
        Some(Type::Integer | Type::Number) | None => 2.0,
    }
}

type Scope<'a> = Vec<(&'a str, Option<&'a Node>)>;

/// The cost of an expression, and the schema of what it comes to, if that is known.
fn cost<'a>(it: &'a IdedExpr, scope: &mut Scope<'a>) -> (f64, Option<&'a Node>) {
    match &it.expr {
        Expr::Unspecified | Expr::Literal(_) => (0.0, None),
        Expr::Ident(name) => {
            let found = scope.iter().rev().find(|(known, _)| known == name);
            (1.0, found.and_then(|(_, node)| *node))
        }
        Expr::Select(select) => {
            let (cost, node) = cost(&select.operand, scope);
            let below = |node: &'a Node| {
                let mut fields = node.properties.iter();
                let named = fields.find(|(key, _)| super::typing::escape(key) == select.field);
                named.map(|(_, it)| it).or_else(|| node.field(&select.field))
            };
            (cost + 1.0, node.and_then(below))
        }
        Expr::Call(call) => {
            let target = call.target.as_ref().map(|it| cost(it, scope));
            let args: Vec<_> = call.args.iter().map(|it| cost(it, scope)).collect();
            let all = || target.iter().chain(&args);
            let below: f64 = all().map(|(cost, _)| cost).sum();
            let largest = all().filter_map(|(_, node)| node.map(size)).fold(1.0, f64::max);
            let work = match call.func_name.as_str() {
                "_==_" | "_!=_" | "_<_" | "_>_" | "_<=_" | "_>=_" | "_+_" | "contains"
                | "startsWith" | "endsWith" | "split" | "replace" | "lowerAscii" | "upperAscii"
                | "trim" | "find" | "findAll" => 1.0 + largest * 0.1,
                "@in" | "isSorted" | "sum" | "indexOf" | "lastIndexOf" => 1.0 + largest,
                "matches" => 1.0 + largest * 0.1 * 5.0,
                _ => 1.0,
            };
            let node = match (call.func_name.as_str(), args.first()) {
                ("_[_]", Some((_, Some(node)))) => values(node),
                _ => None,
            };
            (below + work, node)
        }
        Expr::List(list) => {
            (10.0 + list.elements.iter().map(|it| cost(it, scope).0).sum::<f64>(), None)
        }
        Expr::Map(map) => {
            let entries = map.entries.iter().map(|it| match &it.expr {
                EntryExpr::MapEntry(it) => cost(&it.key, scope).0 + cost(&it.value, scope).0,
                EntryExpr::StructField(it) => cost(&it.value, scope).0,
            });
            (30.0 + entries.sum::<f64>(), None)
        }
        Expr::Struct(_) => (40.0, None),
        Expr::Comprehension(it) => {
            let (range_cost, range) = cost(&it.iter_range, scope);
            let turns = match (range, &it.iter_range.expr) {
                (Some(node), _) => size(node),
                (None, Expr::List(list)) => {
                    f64::from(u32::try_from(list.elements.len()).unwrap_or(u32::MAX))
                }
                // Made by an expression: no larger than what it was made of, which was counted.
                (None, _) => made_of(&it.iter_range, scope),
            };
            let before = scope.len();
            scope.push((&it.iter_var, range.and_then(|it| it.items.as_deref())));
            scope.push((&it.accu_var, None));
            let init = cost(&it.accu_init, scope).0;
            let turn = cost(&it.loop_cond, scope).0 + cost(&it.loop_step, scope).0;
            let result = cost(&it.result, scope).0;
            scope.truncate(before);
            (range_cost + init + turns * turn + result, None)
        }
    }
}

fn values(node: &Node) -> Option<&Node> {
    match (&node.items, &node.additional) {
        (Some(items), _) => Some(items),
        (None, Some(Additional::Schema(values))) => Some(values),
        (None, Some(Additional::Any(_)) | None) => None,
    }
}

/// How many turns a loop has over what an expression makes.
fn made_of<'a>(it: &'a IdedExpr, scope: &mut Scope<'a>) -> f64 {
    match &it.expr {
        Expr::Comprehension(inner) => {
            let node = cost(&inner.iter_range, scope).1;
            node.map_or_else(|| made_of(&inner.iter_range, scope), size)
        }
        Expr::Call(call) => {
            let parts = call.target.as_deref().into_iter().chain(&call.args);
            let sizes: Vec<f64> = parts.map(|it| cost(it, scope).1.map_or(1.0, size)).collect();
            sizes.into_iter().sum::<f64>().max(1.0)
        }
        Expr::List(list) => f64::from(u32::try_from(list.elements.len()).unwrap_or(u32::MAX)),
        Expr::Ident(_) | Expr::Select(_) => UNLIMITED / 2.0,
        Expr::Unspecified | Expr::Literal(_) | Expr::Map(_) | Expr::Struct(_) => 1.0,
    }
}
