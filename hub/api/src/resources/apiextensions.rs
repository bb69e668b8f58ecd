//! Resources of `apiextensions.k8s.io`.

use super::Row;

pub(super) static ROWS: &[Row] = &[];
