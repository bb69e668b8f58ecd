//! Defaults of the kinds of `authorization.k8s.io`.
