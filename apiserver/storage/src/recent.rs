//! What this server has just written: the watch brings it back, and then it need not be read and made again.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::object::Object;

/// How many objects are kept at most, while the watch is away. What it does not find here it reads.
const KEPT: usize = 64;

/// Written objects that the watch has not brought yet.
#[derive(Default)]
pub struct Recent(Mutex<VecDeque<Arc<Object>>>);

impl Recent {
    /// Remembers what was written.
    pub fn add(&self, object: Arc<Object>) {
        let mut kept = self.0.lock();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(object);
    }

    /// The object that was written at `revision`, if this server wrote it. Forgets everything up to that revision: the watch
    /// goes forward.
    pub fn take(&self, key: &[u8], revision: i64) -> Option<Arc<Object>> {
        let mut kept = self.0.lock();
        let found = kept.iter().find(|object| object.revision == revision && object.key.as_bytes() == key).cloned();
        kept.retain(|object| object.revision > revision);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(key: &str, revision: i64) -> Arc<Object> {
        Arc::new(Object::new(key.into(), br#"{"metadata":{}}"#, revision).expect("an object"))
    }

    #[test]
    fn what_was_written_is_found_once_in_any_order_of_writing() {
        let recent = Recent::default();
        let (first, second) = (written("/registry/a", 5), written("/registry/b", 6));
        recent.add(second.clone());
        recent.add(first.clone());
        assert!(recent.take(b"/registry/other", 4).is_none());
        assert!(recent.take(b"/registry/a", 5).is_some_and(|found| Arc::ptr_eq(&found, &first)));
        assert!(recent.take(b"/registry/other", 6).is_none(), "another key at the revision is somebody else's");
        assert!(recent.0.lock().is_empty(), "the watch has passed it");
    }

    #[test]
    fn without_a_watch_only_the_last_ones_are_kept() {
        let recent = Recent::default();
        (0..1000).for_each(|revision| recent.add(written("/registry/a", revision)));
        assert_eq!(recent.0.lock().len(), KEPT);
        assert!(recent.take(b"/registry/a", 999).is_some());
    }
}
