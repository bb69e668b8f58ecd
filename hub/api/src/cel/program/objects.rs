//! Objects that mutations make, as the maps that they are.

use kube_cel::cel::common::ast::{
    EntryExpr, Expr, IdedExpr, LiteralValue, MapEntryExpr, MapExpr, StructFieldExpr,
};

/// Turns every `Object...{}` and `JSONPatch{}` in an expression into a map. Recursion is bounded by
/// the parser's own bound.
pub(super) fn into_maps(it: &mut IdedExpr) {
    match &mut it.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
        Expr::Select(select) => into_maps(&mut select.operand),
        Expr::Call(call) => {
            if let Some(target) = &mut call.target {
                into_maps(target);
            }
            call.args.iter_mut().for_each(into_maps);
        }
        Expr::List(list) => list.elements.iter_mut().for_each(into_maps),
        Expr::Map(map) => map.entries.iter_mut().for_each(|it| entry(&mut it.expr)),
        Expr::Struct(made) => {
            made.entries.iter_mut().for_each(|it| entry(&mut it.expr));
            if !is_object(&made.type_name) {
                return;
            }
            let mut entries = std::mem::take(&mut made.entries);
            entries.iter_mut().for_each(|it| as_map_entry(&mut it.expr));
            it.expr = Expr::Map(MapExpr { entries });
        }
        Expr::Comprehension(it) => {
            for part in [
                &mut it.iter_range,
                &mut it.accu_init,
                &mut it.loop_cond,
                &mut it.loop_step,
                &mut it.result,
            ] {
                into_maps(part);
            }
        }
    }
}

fn is_object(name: &str) -> bool {
    name == "Object" || name.starts_with("Object.") || name == "JSONPatch"
}

fn entry(it: &mut EntryExpr) {
    match it {
        EntryExpr::MapEntry(it) => {
            into_maps(&mut it.key);
            into_maps(&mut it.value);
        }
        EntryExpr::StructField(it) => into_maps(&mut it.value),
    }
}

fn as_map_entry(it: &mut EntryExpr) {
    if let EntryExpr::StructField(field) = it {
        let StructFieldExpr { field, value, optional } = std::mem::take(field);
        let key = LiteralValue::String(field.as_str().into());
        let key = IdedExpr { id: 0, expr: Expr::Literal(key) };
        *it = EntryExpr::MapEntry(MapEntryExpr { key, value, optional });
    }
}
