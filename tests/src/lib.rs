//! Integration tests of the whole system live in `tests/it`; what they share lies beside them.
