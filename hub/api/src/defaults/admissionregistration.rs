//! Defaults of the kinds of `admissionregistration.k8s.io`.
