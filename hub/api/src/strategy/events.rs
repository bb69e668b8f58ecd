//! Strategies of `events.k8s.io`.
