//! Checks of the kinds of `batch`.
