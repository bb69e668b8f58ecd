//! Resources of `batch`.

use super::Row;

pub(super) static ROWS: &[Row] = &[];
