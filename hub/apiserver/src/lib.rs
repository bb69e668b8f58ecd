//! hub-apiserver.
