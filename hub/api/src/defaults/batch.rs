//! Defaults of the kinds of `batch`.
