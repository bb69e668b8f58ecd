//! agent-volume.
