//! agent-disk.
