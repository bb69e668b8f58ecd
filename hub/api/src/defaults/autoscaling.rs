//! Defaults of the kinds of `autoscaling`.
