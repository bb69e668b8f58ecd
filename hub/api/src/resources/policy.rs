//! Resources of `policy`.

use super::Row;

pub(super) static ROWS: &[Row] = &[];
