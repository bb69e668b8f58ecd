//! Resources of `autoscaling`.

use super::Row;

pub(super) static ROWS: &[Row] = &[];
