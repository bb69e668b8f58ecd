//! Defaults of the kinds of `policy`.
