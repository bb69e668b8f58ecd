//! hub-controllers.
