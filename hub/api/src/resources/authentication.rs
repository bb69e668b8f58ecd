//! Resources of `authentication.k8s.io`: questions, which are answered and never stored.

use super::{CORE, Row};

pub(super) static ROWS: &[Row] = &[
    Row {
        plural: "selfsubjectreviews",
        singular: "selfsubjectreview",
        kind: "SelfSubjectReview",
        schema: "io.k8s.api.authentication.v1.SelfSubjectReview",
        ..GROUP
    },
    Row {
        plural: "tokenreviews",
        singular: "tokenreview",
        kind: "TokenReview",
        schema: "io.k8s.api.authentication.v1.TokenReview",
        ..GROUP
    },
];

/// What the rows of the group share.
const GROUP: Row =
    Row { group: "authentication.k8s.io", namespaced: false, verbs: &["create"], ..CORE };
