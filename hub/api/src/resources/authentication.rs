//! Resources of `authentication.k8s.io`.

use super::Row;

pub(super) static ROWS: &[Row] = &[];
