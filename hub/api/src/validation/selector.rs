//! Label selectors in objects.
