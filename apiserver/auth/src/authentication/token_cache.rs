//! Remembers for a while what was costly to verify, by hash, in bounded memory.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

type Key = [u8; 32];

/// Two generations: entries are written to the young one; when it is full it becomes the old one, and what was old is forgotten.
pub struct TokenCache<V> {
    half: usize,
    ttl: SignedDuration,
    generations: Mutex<Generations<V>>,
}

struct Generations<V> {
    young: HashMap<Key, (Timestamp, V)>,
    old: HashMap<Key, (Timestamp, V)>,
}

impl<V: Clone> TokenCache<V> {
    /// Holds at most `entries`, each no longer than `ttl`.
    pub fn new(entries: usize, ttl: Duration) -> Self {
        let ttl = SignedDuration::try_from(ttl).unwrap_or(SignedDuration::MAX);
        let generations = Mutex::new(Generations { young: HashMap::new(), old: HashMap::new() });
        TokenCache { half: (entries / 2).max(1), ttl, generations }
    }

    /// The value kept for the parts, or the new one; failures are not kept.
    pub fn get_or_try_insert<'a, E>(
        &self,
        parts: impl IntoIterator<Item = &'a [u8]>,
        now: Timestamp,
        make: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, E> {
        let key = hash(parts);
        if let Some(value) = self.get(&key, now) {
            return Ok(value);
        }
        let value = make()?;
        self.insert(key, now, value.clone());
        Ok(value)
    }

    fn get(&self, key: &Key, now: Timestamp) -> Option<V> {
        let generations = self.generations.lock();
        let (since, value) = generations.young.get(key).or_else(|| generations.old.get(key))?;
        let age = now.duration_since(*since);
        (age >= SignedDuration::ZERO && age < self.ttl).then(|| value.clone())
    }

    fn insert(&self, key: Key, now: Timestamp, value: V) {
        let mut generations = self.generations.lock();
        if generations.young.len() >= self.half {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(key, (now, value));
    }
}

/// Each part is hashed with its length before it, so that parts cannot run into one another.
fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Key {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.len().to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("time")
    }

    fn put(cache: &TokenCache<i32>, key: &str, second: i64, value: i32) -> i32 {
        cache.get_or_try_insert::<()>([key.as_bytes()], at(second), || Ok(value)).expect("value")
    }

    #[test]
    fn a_value_is_kept_for_its_time_and_no_longer() {
        let cache = TokenCache::new(10, Duration::from_secs(5));
        assert_eq!(put(&cache, "a", 0, 1), 1);
        assert_eq!(put(&cache, "a", 4, 2), 1);
        assert_eq!(put(&cache, "a", 5, 3), 3);
        assert_eq!(put(&cache, "b", 5, 4), 4);
    }

    #[test]
    fn failures_are_not_kept_and_memory_is_bounded() {
        let cache = TokenCache::new(10, Duration::from_secs(5));
        assert_eq!(cache.get_or_try_insert([b"x".as_slice()], at(0), || Err::<i32, _>("no")), Err("no"));
        assert_eq!(put(&cache, "x", 0, 1), 1);
        for i in 0..100 {
            put(&cache, &format!("k{i}"), 0, i);
        }
        let generations = cache.generations.lock();
        assert!(generations.young.len() + generations.old.len() <= 10);
    }
}
