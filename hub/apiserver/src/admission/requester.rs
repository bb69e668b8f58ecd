//! On whose behalf a registry acts, and what admission has to tell them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::auth::User;

/// On whose behalf a registry acts, and what admission has to tell them and the audit log.
#[derive(Debug, Default)]
pub struct Requester {
    /// Who.
    pub user: Arc<User>,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    warnings: Vec<String>,
    annotations: BTreeMap<String, String>,
}

/// Warnings of one request that are kept: as many as fit into headers.
const MAX_WARNINGS: usize = 64;
/// Length of one warning, in bytes; longer ones are cut.
const MAX_WARNING: usize = 4 << 10;

impl Requester {
    /// Somebody who was told nothing so far.
    pub fn new(user: Arc<User>) -> Self {
        Self { user, notes: Mutex::default() }
    }

    /// Adds a warning for the client, once.
    pub fn warn(&self, mut warning: String) {
        let mut end = warning.len().min(MAX_WARNING);
        while !warning.is_char_boundary(end) {
            end -= 1;
        }
        warning.truncate(end);
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.warnings.len() < MAX_WARNINGS && !notes.warnings.contains(&warning) {
            notes.warnings.push(warning);
        }
    }

    /// Adds an annotation for the audit log; the first of a key stays.
    pub fn annotate(&self, key: String, value: String) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.annotations.entry(key).or_insert(value);
    }

    /// Takes the warnings out.
    pub fn take_warnings(&self) -> Vec<String> {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut notes.warnings)
    }

    /// Takes the annotations for the audit log out.
    pub fn take_annotations(&self) -> BTreeMap<String, String> {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut notes.annotations)
    }
}
