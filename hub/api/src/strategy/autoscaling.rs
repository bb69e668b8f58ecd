//! Strategies of `autoscaling`.
