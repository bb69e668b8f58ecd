//! Strategies of `batch`.
