//! Checks of the kinds of `apiregistration.k8s.io`.
