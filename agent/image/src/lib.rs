//! agent-image.
