//! Checks of the kinds of `autoscaling`.
