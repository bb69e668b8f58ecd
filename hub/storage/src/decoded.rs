//! Decoded objects that were looked at lately.
//!
//! A decoded object takes some fifteen times the memory of its text, so an entry does not keep it: it remembers where
//! it is, and this process keeps the latest ones alive, up to a bound. What fell out is decoded again when it is wanted.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use serde_json::Value;

/// Text of objects that are kept decoded, at most, in bytes.
const KEPT_BYTES: usize = 512 << 10;

static LATEST: Mutex<Latest> = Mutex::new(Latest { kept: VecDeque::new(), bytes: 0, old: 0 });

/// In the order in which they were decoded, each with the size of its text.
struct Latest {
    kept: VecDeque<(Arc<Value>, usize)>,
    bytes: usize,
    /// So many of the first were there at the last look.
    old: usize,
}

impl Latest {
    /// Keeps one more; returns what fell out for it, to be dropped without the lock.
    fn keep(&mut self, value: Arc<Value>, size: usize) -> Vec<Arc<Value>> {
        self.kept.push_back((value, size));
        self.bytes += size;
        let mut fallen = Vec::new();
        while self.bytes > KEPT_BYTES
            && let Some((value, size)) = self.kept.pop_front()
        {
            self.bytes -= size;
            self.old = self.old.saturating_sub(1);
            fallen.push(value);
        }
        fallen
    }

    /// Takes out what was there at the last look already.
    fn look(&mut self) -> Vec<Arc<Value>> {
        let fallen: Vec<_> = self.kept.drain(..self.old.min(self.kept.len())).collect();
        self.bytes -= fallen.iter().map(|(_, size)| size).sum::<usize>();
        self.old = self.kept.len();
        fallen.into_iter().map(|(value, _)| value).collect()
    }
}

/// Lets go of what was decoded before the last call.
pub(crate) fn forget_old() {
    let fallen = LATEST.lock().unwrap_or_else(PoisonError::into_inner).look();
    drop(fallen);
}

/// Where one object's value is, while anybody has it.
#[derive(Debug, Default)]
pub(crate) struct Place(Mutex<Weak<Value>>);

impl Place {
    /// The value; decoded if nobody has it. `size` is that of the text.
    pub(crate) fn get(&self, size: usize, decode: impl FnOnce() -> Value) -> Arc<Value> {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = place.upgrade() {
            return value;
        }
        let value = Arc::new(decode());
        *place = Arc::downgrade(&value);
        drop(place);
        let mut latest = LATEST.lock().unwrap_or_else(PoisonError::into_inner);
        let fallen = latest.keep(value.clone(), size);
        drop(latest);
        drop(fallen);
        value
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_shared_while_somebody_has_it_and_made_again_later() {
        let place = Place::default();
        let first = place.get(1, || json!(1));
        assert!(Arc::ptr_eq(&first, &place.get(1, || json!(2))));
        drop(first);
        // Larger than all that is kept: it and everything before it falls out.
        let other = Place::default();
        other.get(KEPT_BYTES + 1, || json!("large"));
        assert_eq!(*place.get(1, || json!(3)), json!(3));
        assert_eq!(*other.get(1, || json!("again")), json!("again"));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut latest = Latest { kept: VecDeque::new(), bytes: 0, old: 0 };
        for _ in 0..10_000 {
            latest.keep(Arc::new(Value::Null), 1000);
        }
        assert!(latest.bytes <= KEPT_BYTES && latest.kept.len() == latest.bytes / 1000);
        assert_eq!(latest.keep(Arc::new(Value::Null), 10 * KEPT_BYTES).len(), 525);
        assert_eq!((latest.bytes, latest.kept.len()), (0, 0));
        for n in 0..3 {
            latest.keep(Arc::new(n.into()), 1000);
            assert_eq!(latest.look().len(), usize::from(n > 0));
        }
        assert_eq!((latest.look().len(), latest.bytes, latest.look().len()), (1, 0, 0));
    }
}
