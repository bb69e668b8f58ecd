//! The resources that are served at one moment: the built-in ones, and those of custom definitions.
//!
//! A catalog never changes; another one takes its place. Whoever begins a request takes the
//! catalog of that moment and resolves everything through it.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use crate::resource::Resource;
use crate::resources;

/// All resources that are served.
#[derive(Clone, Debug)]
pub struct Catalog {
    rows: Vec<Resource>,
    shared: Vec<Arc<Resource>>,
    by_path: BTreeMap<String, usize>,
    by_name: BTreeMap<String, usize>,
    number: u64,
}

static BUILTIN: LazyLock<Arc<Catalog>> =
    LazyLock::new(|| Arc::new(Catalog::new(resources::builtin().to_vec(), 0)));

impl Catalog {
    /// What is served where nothing was defined.
    pub fn builtin() -> Arc<Self> {
        BUILTIN.clone()
    }

    /// The built-in resources and others. `number` tells this catalog from those before it.
    pub fn with(others: Vec<Resource>, number: u64) -> Self {
        let mut rows = resources::builtin().to_vec();
        rows.extend(others);
        Self::new(rows, number)
    }

    /// These resources alone.
    pub fn new(rows: Vec<Resource>, number: u64) -> Self {
        let shared: Vec<Arc<Resource>> = rows.iter().cloned().map(Arc::new).collect();
        let (mut by_path, mut by_name) = (BTreeMap::new(), BTreeMap::new());
        for (index, row) in rows.iter().enumerate() {
            by_path.entry(path(&row.group, &row.version, &row.plural)).or_insert(index);
            let is_stored = row.version_of.is_none()
                && row.custom.as_ref().is_none_or(|it| it.is_stored(&row.version));
            if is_stored {
                by_name.entry(format!("{}/{}", row.group, row.plural)).or_insert(index);
            }
        }
        Self { rows, shared, by_path, by_name, number }
    }

    /// All rows; the built-in ones come first.
    pub fn rows(&self) -> &[Resource] {
        &self.rows
    }

    /// All rows, to keep.
    pub fn shared(&self) -> &[Arc<Resource>] {
        &self.shared
    }

    /// Which catalog this is: equal numbers of one server are equal catalogs.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Looks up a resource by what stands in paths.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        let index = self.by_path.get(&path(group, version, plural))?;
        self.shared.get(*index).cloned()
    }

    /// Looks up a resource in the version that its objects are stored in.
    pub fn find_stored(&self, group: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.shared.get(*self.by_name.get(&format!("{group}/{plural}"))?)
    }

    /// Every resource once, in the version that its objects are stored in.
    pub fn stored(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.by_name.values().filter_map(|it| self.shared.get(*it))
    }

    /// Looks up a resource by what stands in objects.
    pub fn find_kind(&self, group: &str, version: &str, kind: &str) -> Option<Arc<Resource>> {
        let is_wanted =
            |it: &&Arc<Resource>| it.kind == kind && it.group == group && it.version == version;
        self.shared.iter().find(is_wanted).cloned()
    }

    /// Whether anything of the group version is served.
    pub fn serves(&self, group: &str, version: &str) -> bool {
        self.rows.iter().any(|it| it.group == group && it.version == version)
    }
}

fn path(group: &str, version: &str, plural: &str) -> String {
    format!("{group}/{version}/{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_found_by_path_and_kind() {
        let catalog = Catalog::builtin();
        let pods = catalog.find("", "v1", "pods").unwrap();
        assert_eq!(pods.kind, "Pod");
        assert!(Arc::ptr_eq(&pods, &catalog.find_kind("", "v1", "Pod").unwrap()));
        assert!(catalog.find("", "v1", "deployments").is_none());
        assert!(catalog.serves("apps", "v1") && !catalog.serves("apps", "v9"));
    }
}
