//! hub-api.
