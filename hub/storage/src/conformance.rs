//! What every storage must do, as checks that run against any implementation.
