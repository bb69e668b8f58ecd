//! Resources of `apiextensions.k8s.io`.

use super::{CORE, Row, status};
use crate::custom::definition::CustomResourceDefinition;

pub(super) static ROWS: &[Row] = &[Row {
    group: "apiextensions.k8s.io",
    plural: "customresourcedefinitions",
    singular: "customresourcedefinition",
    kind: "CustomResourceDefinition",
    short_names: &["crd", "crds"],
    categories: &["api-extensions"],
    namespaced: false,
    subresources: &[status("apiextensions.k8s.io", "v1", "CustomResourceDefinition")],
    schema: "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
    strategy: &CustomResourceDefinition,
    ..CORE
}];
