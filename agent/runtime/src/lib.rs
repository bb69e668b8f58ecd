//! agent-runtime.
