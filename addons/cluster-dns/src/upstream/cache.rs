//! Answers that were given, for as long as their records allow, but never for long.

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The number of answers that are kept.
const CAPACITY: usize = 2048;
/// The longest time, in seconds, whatever the records say.
const MAX_TTL: u32 = 30;

/// Name in lower case, type, and whether signatures were asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(String, RecordType, bool);

impl Key {
    pub fn new(query: &Query, dnssec: bool) -> Self {
        Self(crate::answer::text(query.name()), query.query_type(), dnssec)
    }
}

#[derive(Debug, Default)]
pub struct Cache {
    entries: HashMap<Key, Entry>,
}

#[derive(Debug)]
struct Entry {
    message: Message,
    stored: Instant,
    expires: Instant,
}

impl Cache {
    /// The answer with what is left of its records' time.
    pub fn get(&mut self, key: &Key, now: Instant) -> Option<Message> {
        let entry = self.entries.get(key)?;
        if entry.expires <= now {
            self.entries.remove(key);
            return None;
        }
        let mut message = entry.message.clone();
        let age = u32::try_from(now.duration_since(entry.stored).as_secs()).unwrap_or(u32::MAX);
        for record in message.answers.iter_mut().chain(&mut message.authorities).chain(&mut message.additionals) {
            record.ttl = record.ttl.saturating_sub(age);
        }
        Some(message)
    }

    pub fn put(&mut self, key: Key, message: &Message, now: Instant) {
        let ttl = lifetime(message);
        if ttl == 0 || message.metadata.truncation {
            return;
        }
        if self.entries.len() >= CAPACITY {
            self.make_room(now);
        }
        let expires = now + Duration::from_secs(ttl.into());
        self.entries.insert(key, Entry { message: message.clone(), stored: now, expires });
    }

    /// Drops what has expired, or else what expires first.
    fn make_room(&mut self, now: Instant) {
        self.entries.retain(|_, e| e.expires > now);
        if self.entries.len() < CAPACITY {
            return;
        }
        let first = self.entries.iter().min_by_key(|(_, e)| e.expires).map(|(key, _)| key.clone());
        if let Some(key) = first {
            self.entries.remove(&key);
        }
    }
}

/// Seconds for which an answer may be kept: the least of its records, or what the start of authority says of nothing.
fn lifetime(message: &Message) -> u32 {
    let ttl = match message.metadata.response_code {
        ResponseCode::NoError if !message.answers.is_empty() => message.answers.iter().map(|r| r.ttl).min(),
        ResponseCode::NoError | ResponseCode::NXDomain => message.authorities.iter().find_map(|r| match &r.data {
            RData::SOA(soa) => Some(soa.minimum.min(r.ttl)),
            _ => None,
        }),
        _ => None,
    };
    ttl.unwrap_or(0).min(MAX_TTL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::OpCode;
    use hickory_proto::rr::{Name, Record, rdata::A};

    fn question(name: &str) -> (Key, Query) {
        let query = Query::query(Name::from_ascii(name).unwrap(), RecordType::A);
        (Key::new(&query, false), query)
    }

    fn answer(query: &Query, ttl: u32) -> Message {
        let mut message = Message::response(1, OpCode::Query);
        message.answers.push(Record::from_rdata(query.name().clone(), ttl, RData::A(A([192, 0, 2, 1].into()))));
        message
    }

    #[test]
    fn answers_age_and_expire() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let (key, query) = question("Example.org.");
        cache.put(key, &answer(&query, 20), now);
        let (same, _) = question("example.ORG.");
        assert_eq!(cache.get(&same, now + Duration::from_secs(5)).unwrap().answers[0].ttl, 15);
        assert!(cache.get(&same, now + Duration::from_secs(20)).is_none());
    }

    #[test]
    fn nothing_is_kept_for_long_and_failures_not_at_all() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let (key, query) = question("example.org.");
        cache.put(key.clone(), &answer(&query, 86_400), now);
        assert!(cache.get(&key, now + Duration::from_secs(29)).is_some());
        assert!(cache.get(&key, now + Duration::from_secs(30)).is_none());
        cache.put(key.clone(), &Message::error_msg(1, OpCode::Query, ResponseCode::ServFail), now);
        assert!(cache.get(&key, now).is_none());
    }

    #[test]
    fn the_cache_does_not_grow_past_its_capacity() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for n in 0..CAPACITY + 10 {
            let (key, query) = question(&format!("n{n}.example.org."));
            cache.put(key, &answer(&query, 10), now);
        }
        assert_eq!(cache.entries.len(), CAPACITY);
    }
}
