//! Resources of `authorization.k8s.io`: questions, which are answered and never stored.

use super::{CORE, Row};

pub(super) static ROWS: &[Row] = &[
    Row {
        plural: "localsubjectaccessreviews",
        singular: "localsubjectaccessreview",
        kind: "LocalSubjectAccessReview",
        namespaced: true,
        schema: "io.k8s.api.authorization.v1.LocalSubjectAccessReview",
        ..GROUP
    },
    Row {
        plural: "selfsubjectaccessreviews",
        singular: "selfsubjectaccessreview",
        kind: "SelfSubjectAccessReview",
        schema: "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
        ..GROUP
    },
    Row {
        plural: "selfsubjectrulesreviews",
        singular: "selfsubjectrulesreview",
        kind: "SelfSubjectRulesReview",
        schema: "io.k8s.api.authorization.v1.SelfSubjectRulesReview",
        ..GROUP
    },
    Row {
        plural: "subjectaccessreviews",
        singular: "subjectaccessreview",
        kind: "SubjectAccessReview",
        schema: "io.k8s.api.authorization.v1.SubjectAccessReview",
        ..GROUP
    },
];

/// What the rows of the group share.
const GROUP: Row =
    Row { group: "authorization.k8s.io", namespaced: false, verbs: &["create"], ..CORE };
