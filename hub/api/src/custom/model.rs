//! What the rules of ownership know of custom resources.

use std::sync::Arc;

use super::structural::{Additional, Node};
use crate::managed::model::{
    Deduced, Field, Fields, List, MapOf, Model, Relation, Scalar, Shape, Whole,
};
use crate::schema::{self, Type};

/// The type of whole objects: what the schema says, and what every object has.
#[derive(Clone, Debug)]
pub struct ObjectModel(pub(super) Arc<Node>);

const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

#[derive(Debug)]
struct Text;

impl Model for Text {
    fn shape(&self) -> Shape<'_> {
        Shape::Scalar(Scalar::String)
    }
}

impl Model for ObjectModel {
    fn shape(&self) -> Shape<'_> {
        let values: Option<&dyn Model> = match self.0.preserves {
            true => Some(&Deduced),
            false => None,
        };
        Shape::Map(MapOf { is_atomic: false, fields: Some(self), values })
    }
}

impl Fields for ObjectModel {
    fn field(&self, name: &str) -> Option<Field<'_>> {
        type_meta(name).or_else(|| Fields::field(&*self.0, name))
    }
}

fn type_meta(name: &str) -> Option<Field<'static>> {
    let model: &dyn Model = match name {
        "apiVersion" | "kind" => &Text,
        "metadata" => schema::lookup(METADATA)?,
        _ => return None,
    };
    Some(Field { model, default: None, implied: None })
}

impl Model for Node {
    fn shape(&self) -> Shape<'_> {
        if self.int_or_string {
            return Shape::Scalar(Scalar::Any);
        }
        match self.ty {
            Some(Type::Boolean) => Shape::Scalar(Scalar::Boolean),
            Some(Type::Integer | Type::Number) => Shape::Scalar(Scalar::Numeric),
            Some(Type::String) => Shape::Scalar(Scalar::String),
            Some(Type::Array) => Shape::List(List {
                relation: match self.list_type.as_str() {
                    "map" => Relation::Keys(&self.list_map_keys),
                    "set" => Relation::Set,
                    _ => Relation::Atomic,
                },
                items: match &self.items {
                    Some(items) => &**items,
                    None => &Whole,
                },
            }),
            Some(Type::Object) => self.map(),
            None => Shape::Deduced,
        }
    }
}

impl Node {
    fn map(&self) -> Shape<'_> {
        if self.properties.is_empty()
            && self.additional.is_none()
            && self.preserves
            && !self.embedded
        {
            return Shape::Deduced;
        }
        let values: Option<&dyn Model> = match &self.additional {
            Some(Additional::Schema(values)) => Some(&**values),
            Some(Additional::Any(true)) => Some(&Deduced),
            Some(Additional::Any(false)) | None => match self.preserves {
                true => Some(&Deduced),
                false => None,
            },
        };
        Shape::Map(MapOf { is_atomic: self.map_type == "atomic", fields: Some(self), values })
    }
}

impl Fields for Node {
    fn field(&self, name: &str) -> Option<Field<'_>> {
        if let Some(node) = self.properties.get(name) {
            return Some(Field { model: node, default: node.default.as_ref(), implied: None });
        }
        type_meta(name).filter(|_| self.embedded)
    }
}
