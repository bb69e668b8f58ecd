//! Resources of `events.k8s.io`.

use super::Row;

pub(super) static ROWS: &[Row] = &[];
