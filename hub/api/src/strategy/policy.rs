//! Strategies of `policy`.
