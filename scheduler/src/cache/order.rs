//! The order in which nodes are tried: one of each zone in turn, so that the first nodes found are spread.

use std::collections::BTreeMap;

use crate::labels::Str;

type Zone<'a> = (Option<&'a Str>, Option<&'a Str>);

pub fn by_zones_in_turn<'a>(nodes: impl Iterator<Item = (usize, Zone<'a>)>) -> Vec<usize> {
    let mut zones: BTreeMap<Zone<'a>, Vec<usize>> = BTreeMap::new();
    for (slot, zone) in nodes {
        zones.entry(zone).or_default().push(slot);
    }
    let longest = zones.values().map(Vec::len).max().unwrap_or(0);
    (0..longest).flat_map(|turn| zones.values().filter_map(move |zone| zone.get(turn).copied())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::intern;

    #[test]
    fn zones_take_turns() {
        let (a, b) = (intern("a"), intern("b"));
        let nodes = [(0, (None, Some(&a))), (1, (None, Some(&a))), (2, (None, Some(&a))), (3, (None, Some(&b)))];
        assert_eq!(by_zones_in_turn(nodes.into_iter()), [0, 3, 1, 2]);
    }
}
