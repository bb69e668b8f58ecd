//! Resources of `flowcontrol.apiserver.k8s.io`.

use super::Row;

pub(super) static ROWS: &[Row] = &[];
