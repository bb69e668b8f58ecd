//! netproxy.
