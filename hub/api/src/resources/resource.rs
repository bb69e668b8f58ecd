//! Resources of `resource.k8s.io`.

use super::Row;

pub(super) static ROWS: &[Row] = &[];
