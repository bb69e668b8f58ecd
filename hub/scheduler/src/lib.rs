//! hub-scheduler.
