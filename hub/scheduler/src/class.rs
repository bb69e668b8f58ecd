//! Pods with equal needs: what is found out about one holds for all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::audience::Audience;
use crate::fit::explain;
use crate::needs::{Choice, Needs};
use crate::table::Table;

/// So many classes are remembered although nobody of theirs may be waiting.
const MIN_REMEMBERED: usize = 256;

#[derive(Debug, Default)]
struct Class {
    /// Nothing fitted when there had been so many improvements.
    hopeless_at: Option<usize>,
    /// Why, when there had been so many changes.
    explanation: Option<(u64, String)>,
}

/// All classes.
#[derive(Debug, Default)]
pub(crate) struct Classes {
    by_needs: BTreeMap<Arc<Needs>, Class>,
    audiences: BTreeMap<Arc<Choice>, Audience>,
    /// More than this, and it is time to forget some.
    max_remembered: usize,
}

impl Classes {
    /// The one copy of these needs.
    pub(crate) fn shared(&mut self, needs: Needs) -> Arc<Needs> {
        if let Some((shared, _)) = self.by_needs.get_key_value(&needs) {
            return shared.clone();
        }
        let mut needs = needs;
        if let Some((choice, _)) = self.audiences.get_key_value(&needs.choice) {
            needs.choice = choice.clone();
        }
        let needs = Arc::new(needs);
        self.by_needs.insert(needs.clone(), Class::default());
        needs
    }

    /// The best node as things are.
    pub(crate) fn best(&mut self, needs: &Arc<Needs>, table: &Table) -> Option<usize> {
        let class = self.by_needs.entry(needs.clone()).or_default();
        if class.hopeless_at == Some(table.n_improved()) {
            return None;
        }
        let audience = self.audiences.entry(needs.choice.clone()).or_default();
        let best = audience.best(&needs.choice, needs, table);
        class.hopeless_at = best.is_none().then(|| table.n_improved());
        best
    }

    /// Why there is no node, in words.
    pub(crate) fn explanation(&mut self, needs: &Arc<Needs>, table: &Table) -> &str {
        let class = self.by_needs.entry(needs.clone()).or_default();
        let version = table.n_changes();
        if class.explanation.as_ref().is_none_or(|(known, _)| *known != version) {
            class.explanation = Some((version, explain(needs, table.all())));
        }
        class.explanation.as_ref().map_or("", |(_, text)| text)
    }

    pub(crate) fn are_many(&self) -> bool {
        self.by_needs.len() > self.max_remembered.max(MIN_REMEMBERED)
    }

    /// Forgets all but these.
    pub(crate) fn retain(&mut self, wanted: &BTreeSet<&Arc<Needs>>) {
        self.by_needs.retain(|needs, _| wanted.contains(needs));
        let choices: BTreeSet<&Arc<Choice>> = wanted.iter().map(|needs| &needs.choice).collect();
        self.audiences.retain(|choice, _| choices.contains(choice));
        self.max_remembered = 2 * self.by_needs.len();
    }
}
