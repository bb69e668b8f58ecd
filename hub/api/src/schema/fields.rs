//! The fields of a definition, in order of their names. There are thousands of definitions with a few fields each: a
//! sorted list takes a third of what trees take.

use std::{collections::BTreeMap, slice};

use serde::{Deserialize, Deserializer};

use super::Schema;

/// Fields by name.
#[derive(Clone, Debug, Default)]
pub struct Fields(Box<[(String, Schema)]>);

impl FromIterator<(String, Schema)> for Fields {
    fn from_iter<I: IntoIterator<Item = (String, Schema)>>(fields: I) -> Self {
        let ordered: BTreeMap<String, Schema> = fields.into_iter().collect();
        Self(ordered.into_iter().collect())
    }
}

impl Fields {
    /// The place of a field.
    pub fn get(&self, name: &str) -> Option<&Schema> {
        let at = self.0.binary_search_by(|(it, _)| it.as_str().cmp(name)).ok()?;
        self.0.get(at).map(|(_, it)| it)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and places, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&String, &Schema)> {
        self.0.iter().map(|(name, it)| (name, it))
    }

    /// The names, in order.
    pub fn keys(&self) -> impl Iterator<Item = &String> {
        self.0.iter().map(|(name, _)| name)
    }

    /// The places, in order of the names.
    pub fn values(&self) -> impl Iterator<Item = &Schema> {
        self.0.iter().map(|(_, it)| it)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Schema> {
        let at = self.0.binary_search_by(|(it, _)| it.as_str().cmp(name)).ok()?;
        self.0.get_mut(at).map(|(_, it)| it)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Schema> {
        self.0.iter_mut().map(|(_, it)| it)
    }

    pub(super) fn insert(&mut self, name: &str, place: Schema) {
        let mut all: BTreeMap<String, Schema> = std::mem::take(&mut self.0).into_iter().collect();
        all.insert(name.to_owned(), place);
        self.0 = all.into_iter().collect();
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0 = std::mem::take(&mut self.0).into_iter().filter(|(it, _)| it != name).collect();
    }
}

impl<'a> IntoIterator for &'a Fields {
    type Item = (&'a String, &'a Schema);
    type IntoIter = std::iter::Map<
        slice::Iter<'a, (String, Schema)>,
        fn(&'a (String, Schema)) -> (&'a String, &'a Schema),
    >;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().map(|(name, it)| (name, it))
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all: BTreeMap<String, Schema> = Deserialize::deserialize(deserializer)?;
        Ok(Self(all.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name() {
        let mut fields: Fields =
            serde_json::from_str(r#"{"b":{},"a":{"format":"x"},"c":{}}"#).unwrap();
        assert_eq!(fields.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(fields.get("a").unwrap().format.as_deref(), Some("x"));
        fields.insert("aa", Schema::default());
        fields.remove("b");
        assert_eq!(fields.keys().collect::<Vec<_>>(), ["a", "aa", "c"]);
        assert!(fields.get("b").is_none() && fields.get_mut("aa").is_some());
        assert_eq!((fields.len(), fields.iter().len()), (3, 3));
    }
}
