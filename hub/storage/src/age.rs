//! Forgetting history by age: what nobody asked for in minutes will be listed anew if somebody does.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use crate::{Revision, Storage, decoded};

/// Compacts away what is older than `keep`, looking twelve times in that period. Never ends by itself.
pub async fn compact_by_age(storage: Arc<dyn Storage>, keep: Duration) {
    let mut ages = Ages::new(12);
    loop {
        tokio::time::sleep(keep / 12).await;
        decoded::forget_old();
        if let Some(old) = ages.look(storage.revision()) {
            storage.compact(old);
        }
    }
}

/// The revisions of the last looks.
#[derive(Debug)]
struct Ages {
    seen: VecDeque<Revision>,
    n_looks: usize,
}

impl Ages {
    fn new(n_looks: usize) -> Self {
        Self { seen: VecDeque::new(), n_looks }
    }

    /// Remembers the revision of this look; gives that of the look before the period, if it says something new.
    fn look(&mut self, revision: Revision) -> Option<Revision> {
        self.seen.push_back(revision);
        if self.seen.len() <= self.n_looks {
            return None;
        }
        let old = self.seen.pop_front()?;
        (self.seen.front() != Some(&old)).then_some(old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_revisions_come_out_once_when_time_has_passed() {
        let mut ages = Ages::new(3);
        let looks = [5, 7, 7, 9, 9, 9, 9, 9].map(|it| ages.look(Revision::new(it)));
        let expect = [None, None, None, Some(5), None, Some(7), None, None];
        assert_eq!(looks.map(|it| it.map(Revision::get)), expect);
    }
}
