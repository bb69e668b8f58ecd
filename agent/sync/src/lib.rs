//! agent-sync.
