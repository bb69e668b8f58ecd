//! Defaults of the kinds of `authentication.k8s.io`.
