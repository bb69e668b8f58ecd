//! What the rules of ownership must know about types: where maps and lists are owned as a whole, and
//! what makes an item of a list itself.
//!
//! The built-in schema table implements [`Model`] here; the schema of a custom resource implements it
//! where it lives. Objects of unknown type are [`Deduced`].

use std::fmt;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::resource::Resource;
use crate::schema::{self, Schema, Type};

/// The type of one place.
pub trait Model: fmt::Debug + Send + Sync {
    /// What values look like here.
    fn shape(&self) -> Shape<'_>;
}

/// The declared fields of a map.
pub trait Fields: fmt::Debug + Send + Sync {
    /// A declared field.
    fn field(&self, name: &str) -> Option<Field<'_>>;

    /// Names of the fields that have an implied value.
    fn implied(&self) -> &[String] {
        &[]
    }
}

/// What values look like at one place.
#[derive(Clone, Copy, Debug)]
pub enum Shape<'a> {
    /// A single value.
    Scalar(Scalar),
    /// A list.
    List(List<'a>),
    /// A map, or an object with declared fields.
    Map(MapOf<'a>),
    /// Anything: maps are owned key by key, lists as a whole.
    Deduced,
    /// Anything, owned as a whole.
    Whole,
}

/// Kinds of single values.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scalar {
    /// Any of them.
    Any,
    /// `true` or `false`.
    Boolean,
    /// A number.
    Numeric,
    /// A text.
    String,
}

/// A list.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    /// How it is owned.
    pub relation: Relation<'a>,
    /// Its items.
    pub items: &'a dyn Model,
}

/// How a list is owned.
#[derive(Clone, Copy, Debug)]
pub enum Relation<'a> {
    /// As a whole.
    Atomic,
    /// Value by value.
    Set,
    /// Item by item; an item is known by these fields.
    Keys(&'a [String]),
}

/// A map or object.
#[derive(Clone, Copy, Debug)]
pub struct MapOf<'a> {
    /// Whether it is owned as a whole.
    pub is_atomic: bool,
    /// Its declared fields.
    pub fields: Option<&'a dyn Fields>,
    /// The values of undeclared keys, if there may be any.
    pub values: Option<&'a dyn Model>,
}

/// A declared field.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// Its type.
    pub model: &'a dyn Model,
    /// The value it has in the key of a list's item if it is absent.
    pub default: Option<&'a Value>,
    /// The value that an object shows even where nobody set it, as Go's structs do.
    pub implied: Option<&'a Value>,
}

impl<'a> MapOf<'a> {
    /// The type of one key.
    pub(super) fn model(&self, name: &str) -> Option<&'a dyn Model> {
        match self.fields.and_then(|it| it.field(name)) {
            Some(field) => Some(field.model),
            None => self.values,
        }
    }
}

/// The type of a resource's objects.
pub fn of(resource: &Resource) -> &dyn Model {
    match (&resource.custom, schema::lookup(&resource.schema)) {
        (Some(custom), _) => &custom.model,
        (None, Some(schema)) => schema,
        (None, None) => &Deduced,
    }
}

/// The type of what has no schema.
#[derive(Debug)]
pub struct Deduced;

impl Model for Deduced {
    fn shape(&self) -> Shape<'_> {
        Shape::Deduced
    }
}

/// The type of items of lists without schema.
#[derive(Debug)]
pub struct Whole;

impl Model for Whole {
    fn shape(&self) -> Shape<'_> {
        Shape::Whole
    }
}

/// The empty map that absent structs of Go show.
static EMPTY: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));
/// What absent lists of Go show where they are not left out.
static NULL: Value = Value::Null;

impl Model for Schema {
    fn shape(&self) -> Shape<'_> {
        let schema = self.target();
        if schema.open && schema.ty != Some(Type::Object) {
            return Shape::Deduced;
        }
        let scalar = match schema.ty {
            Some(Type::Object) => return map(self, schema),
            Some(Type::Array) => return list(self, schema),
            None => return Shape::Deduced,
            Some(Type::Boolean) => Scalar::Boolean,
            Some(Type::Integer | Type::Number) => Scalar::Numeric,
            Some(Type::String) if schema.format.as_deref().is_none_or(|it| it == "byte") => {
                Scalar::String
            }
            // Times, quantities and the like: both numbers and texts.
            Some(Type::String) => Scalar::Any,
        };
        Shape::Scalar(scalar)
    }
}

fn map<'a>(place: &'a Schema, schema: &'a Schema) -> Shape<'a> {
    let map_type = place.map_type.as_deref().or(schema.map_type.as_deref());
    let values = match schema.additional_properties.as_deref() {
        Some(values) => Some(values as &dyn Model),
        None if schema.open || schema.properties.is_empty() => Some(&Deduced as &dyn Model),
        None => None,
    };
    let fields = (!schema.properties.is_empty()).then_some(schema as &dyn Fields);
    Shape::Map(MapOf { is_atomic: map_type == Some("atomic"), fields, values })
}

fn list<'a>(place: &'a Schema, schema: &'a Schema) -> Shape<'a> {
    let list_type = place.list_type.as_deref().or(schema.list_type.as_deref());
    let merges = || {
        let strategies = place.patch_strategy.as_deref().unwrap_or_default();
        strategies.split(',').any(|it| it == "merge")
    };
    let relation = match list_type {
        Some("map") if !place.list_map_keys.is_empty() => Relation::Keys(&place.list_map_keys),
        Some("map") => Relation::Keys(&schema.list_map_keys),
        Some("set") => Relation::Set,
        Some(_) => Relation::Atomic,
        None if merges() => match &place.patch_merge_key {
            Some(key) => Relation::Keys(std::slice::from_ref(key)),
            None => Relation::Set,
        },
        None => Relation::Atomic,
    };
    let items = schema.items.as_deref().map_or(&Whole as &dyn Model, |it| it as &dyn Model);
    Shape::List(List { relation, items })
}

impl Fields for Schema {
    fn field(&self, name: &str) -> Option<Field<'_>> {
        let place = self.properties.get(name)?;
        let implied = self
            .implied
            .iter()
            .any(|it| it == name)
            .then(|| if place.target().ty == Some(Type::Object) { &*EMPTY } else { &NULL });
        Some(Field { model: place, default: place.default.as_deref(), implied })
    }

    fn implied(&self) -> &[String] {
        &self.implied
    }
}
