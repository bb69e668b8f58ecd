//! agent-core.
