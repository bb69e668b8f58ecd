//! agent-ledger.
