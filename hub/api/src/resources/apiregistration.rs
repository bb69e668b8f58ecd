//! Resources of `apiregistration.k8s.io`.

use super::{CORE, Row, status};
use crate::strategy;

pub(super) static ROWS: &[Row] = &[Row {
    plural: "apiservices",
    singular: "apiservice",
    kind: "APIService",
    categories: &["api-extensions"],
    namespaced: false,
    subresources: &[status("apiregistration.k8s.io", "v1", "APIService")],
    schema: "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService",
    strategy: &strategy::apiregistration::API_SERVICE,
    ..GROUP
}];

/// What the rows of the group share.
const GROUP: Row = Row { group: "apiregistration.k8s.io", ..CORE };
