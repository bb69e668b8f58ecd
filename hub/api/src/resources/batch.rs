//! Resources of `batch`.

use super::{ALL, CORE, Row, Version, status};
use crate::resource::{Conversion, FieldLabel};
use crate::strategy;

pub(super) static ROWS: &[Row] = &[
    Row {
        plural: "cronjobs",
        singular: "cronjob",
        kind: "CronJob",
        short_names: &["cj"],
        categories: ALL,
        subresources: &[status("batch", "v1", "CronJob")],
        schema: "io.k8s.api.batch.v1.CronJob",
        strategy: &strategy::batch::CRON_JOB,
        ..GROUP
    },
    // What kubectl up to 1.20 creates and describes; the fields are those of the stable version.
    Row {
        version: "v1beta1",
        plural: "cronjobs",
        singular: "cronjob",
        kind: "CronJob",
        short_names: &["cj"],
        categories: ALL,
        subresources: &[status("batch", "v1beta1", "CronJob")],
        schema: "io.k8s.api.batch.v1beta1.CronJob",
        version_of: Some(Version {
            group: "batch",
            version: "v1",
            plural: "cronjobs",
            conversion: Conversion::SAME,
        }),
        ..GROUP
    },
    Row {
        plural: "jobs",
        singular: "job",
        kind: "Job",
        categories: ALL,
        subresources: &[status("batch", "v1", "Job")],
        field_labels: &[FieldLabel {
            label: "status.successful",
            path: "status.succeeded",
            absent: "0",
        }],
        schema: "io.k8s.api.batch.v1.Job",
        strategy: &strategy::batch::JOB,
        ..GROUP
    },
];

/// What the rows of the group share.
const GROUP: Row = Row { group: "batch", ..CORE };
