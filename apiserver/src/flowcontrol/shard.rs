//! Shuffle sharding: which queues a flow may use (KEP-1040, "Assignment to a queue").

use smallvec::SmallVec;

/// The queues dealt to one flow, in the order of the deal.
pub type Hand = SmallVec<[usize; 8]>;

/// Deals `size` different cards of a deck of `deck` cards: equal hashes give equal hands, and every hand is equally likely.
pub fn deal(mut hash: u64, deck: usize, size: usize) -> Hand {
    let mut sorted = Hand::new();
    let mut hand = Hand::new();
    for left in (deck.saturating_sub(size) + 1..=deck).rev() {
        let mut card = (hash % left as u64) as usize;
        hash /= left as u64;
        // The drawn number counts only cards that are still in the deck.
        let mut place = 0;
        while place < sorted.len() && card >= sorted[place] {
            card += 1;
            place += 1;
        }
        sorted.insert(place, card);
        hand.push(card);
    }
    hand
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_hand_has_different_cards_of_the_deck(hash: u64, deck in 1_usize..200, size in 1_usize..9) {
            let size = size.min(deck);
            let hand = deal(hash, deck, size);
            prop_assert_eq!(hand.len(), size);
            prop_assert_eq!(hand.iter().collect::<BTreeSet<_>>().len(), size);
            prop_assert!(hand.iter().all(|card| *card < deck));
        }
    }

    #[test]
    fn every_hand_is_dealt_equally_often() {
        let mut seen: BTreeMap<Hand, u32> = BTreeMap::new();
        for hash in 0..5 * 4 * 3 * 7 {
            *seen.entry(deal(hash, 5, 3)).or_default() += 1;
        }
        assert_eq!(seen.len(), 5 * 4 * 3);
        assert!(seen.values().all(|times| *times == 7));
    }
}
