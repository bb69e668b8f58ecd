//! Resources of `certificates.k8s.io`.

use super::Row;

pub(super) static ROWS: &[Row] = &[];
