//! Brings a set of fields in line with a type that has changed since: what was owned piece by piece
//! and is owned as a whole now. The other way round nothing is to do: who owned the whole owns the
//! place, and none of its pieces.

use super::Trail;
use crate::managed::model::{List, MapOf, Model, Relation, Shape, Whole};
use crate::managed::set::Set;

/// The set as it would have been written with this type; absent if it is the same.
pub(in crate::managed) fn reconcile(set: &Set, model: &dyn Model) -> Option<Set> {
    let mut wholes = Set::default();
    walk(Trail::Root, set, model, &mut wholes);
    if wholes.is_empty() {
        return None;
    }
    Some(set.recursive_difference(&wholes).union(&wholes))
}

/// Finds the places that are owned as a whole and have fields of the set below them.
fn walk(at: Trail<'_>, set: &Set, model: &dyn Model, wholes: &mut Set) {
    let shape = model.shape();
    let is_atomic = matches!(
        shape,
        Shape::List(List { relation: Relation::Atomic, .. })
            | Shape::Map(MapOf { is_atomic: true, .. })
    );
    if is_atomic {
        return wholes.insert(at.elements());
    }
    for (element, _, below) in set.steps().filter(|(_, _, below)| !below.is_empty()) {
        let model = match (shape, element.field_name()) {
            (Shape::Map(map), Some(name)) => map.model(name),
            (Shape::Map(map), None) => map.values,
            (Shape::List(list), _) => Some(list.items),
            // Without a type nothing can have changed.
            (Shape::Scalar(_) | Shape::Deduced | Shape::Whole, _) => None,
        };
        // Fields that the type does not know any more stay as they are.
        walk(Trail::Item(&at, element), below, model.unwrap_or(&Whole), wholes);
    }
}
