//! Resources of `scheduling.k8s.io`.

use super::Row;

pub(super) static ROWS: &[Row] = &[];
