//! Sets of completion indexes, written as `0-4,7`.

use std::collections::BTreeSet;

use crate::object::Object;
use crate::value::at;

/// Label and annotation of the index that a pod works on.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// A set of indexes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Indexes(pub(super) BTreeSet<i64>);

impl Indexes {
    /// Reads what [`Self::text`] writes, as far as it lies below `completions`.
    pub(super) fn parse(text: &str, completions: i64) -> Self {
        let mut set = BTreeSet::new();
        for part in text.split(',').filter(|it| !it.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.parse::<i64>(), last.parse::<i64>()) {
                set.extend(first.max(0)..=last.min(completions.saturating_sub(1)));
            }
        }
        Self(set)
    }

    pub(super) fn len(&self) -> i64 {
        i64::try_from(self.0.len()).unwrap_or(i64::MAX)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, index: i64) -> bool {
        self.0.contains(&index)
    }

    /// `0,1` for two neighbours, `0-2` for more.
    pub(super) fn text(&self) -> String {
        let mut runs: Vec<(i64, i64)> = Vec::new();
        for index in &self.0 {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == *index => *last = *index,
                _ => runs.push((*index, *index)),
            }
        }
        let run = |(first, last): (i64, i64)| match last - first {
            0 => first.to_string(),
            1 => format!("{first},{last}"),
            _ => format!("{first}-{last}"),
        };
        runs.into_iter().map(run).collect::<Vec<_>>().join(",")
    }
}

/// The index that a pod works on.
pub(super) fn index_of(pod: &Object) -> Option<i64> {
    let label = at(pod.labels(), &[INDEX]).as_str();
    label.or_else(|| pod.annotation(INDEX))?.parse().ok().filter(|it| *it >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_written_as_kubernetes_does() {
        for text in ["", "0", "0,1", "0-2", "0-2,4,6,7", "3,5-9"] {
            assert_eq!(Indexes::parse(text, 100).text(), text);
        }
        assert_eq!(Indexes::parse("0-9", 3).text(), "0-2");
        assert_eq!(Indexes::parse("x,1-y,4", 9).text(), "4");
    }
}
