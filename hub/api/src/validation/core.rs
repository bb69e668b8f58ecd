//! Checks of the kinds of `core`.
