//! Strategies of `authorization.k8s.io`.
