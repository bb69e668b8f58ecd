//! hub-storage.
