//! Checks of the kinds of `policy`.
