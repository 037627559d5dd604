//! Sets of completion indexes, written as Kubernetes writes them: `1,3-5,7`.

use std::collections::BTreeSet;
use std::fmt;

/// A set of indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes(BTreeSet<i32>);

impl Indexes {
    /// Reads a text; what is not an index below `completions` is left out.
    pub fn parse(text: &str, completions: i32) -> Self {
        let interval = |part: &str| -> Option<std::ops::RangeInclusive<i32>> {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
        };
        let parts = text.split(',').filter_map(interval);
        let clamp =
            |range: std::ops::RangeInclusive<i32>| *range.start().max(&0)..=*range.end().min(&(completions - 1));
        Self(parts.flat_map(clamp).collect())
    }

    pub fn contains(&self, index: i32) -> bool {
        self.0.contains(&index)
    }

    /// Whether it was not there before.
    pub fn insert(&mut self, index: i32) -> bool {
        self.0.insert(index)
    }

    pub fn len(&self) -> i32 {
        i32::try_from(self.0.len()).unwrap_or(i32::MAX)
    }

    pub fn iter(&self) -> impl Iterator<Item = i32> {
        self.0.iter().copied()
    }
}

impl FromIterator<i32> for Indexes {
    fn from_iter<I: IntoIterator<Item = i32>>(indexes: I) -> Self {
        Self(indexes.into_iter().collect())
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.iter().copied().peekable();
        let mut separator = "";
        while let Some(first) = rest.next() {
            let mut last = first;
            while let Some(next) = rest.next_if_eq(&(last + 1)) {
                last = next;
            }
            match last - first {
                0 => write!(f, "{separator}{first}")?,
                // Two neighbours are written as such.
                1 => write!(f, "{separator}{first},{last}")?,
                _ => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_written_in_intervals_and_read_back() {
        for (indexes, text) in
            [(&[][..], ""), (&[4], "4"), (&[1, 2], "1,2"), (&[0, 1, 2, 4, 6, 7, 9, 10, 11], "0-2,4,6,7,9-11")]
        {
            let set: Indexes = indexes.iter().copied().collect();
            assert_eq!(set.to_string(), text);
            assert_eq!(Indexes::parse(text, 100), set);
        }
        assert_eq!(Indexes::parse("0,3-8,x", 5).to_string(), "0,3,4");
    }
}
