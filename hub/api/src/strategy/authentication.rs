//! Strategies of `authentication.k8s.io`.
