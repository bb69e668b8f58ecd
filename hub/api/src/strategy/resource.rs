//! Strategies of `resource.k8s.io`.
