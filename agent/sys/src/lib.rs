//! agent-sys.
