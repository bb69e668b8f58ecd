//! Strategies of `coordination.k8s.io`.

use super::Rules;
use crate::validation;

/// Leases.
pub static LEASE: Rules =
    Rules { validate: validation::coordination::lease, creates_on_update: true, ..Rules::PLAIN };
