//! Which pods take something of the node's resources: those that were let in and are not over. A pod is let in, and a pod gets more,
//! against what the others take.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::pod;

/// The pods that take a place, with the resources that they were given.
#[derive(Default)]
pub struct Places {
    taken: Mutex<BTreeMap<String, Arc<Pod>>>,
    freed: watch::Sender<u64>,
}

impl Places {
    /// Gives a pod its place, unless `refuse` finds a reason among the pods that have one.
    pub fn take<R>(&self, pod: &Arc<Pod>, refuse: impl FnOnce(&[Arc<Pod>]) -> Option<R>) -> Result<(), R> {
        let mut taken = self.taken.lock();
        let uid = pod::uid(pod);
        let others: Vec<Arc<Pod>> =
            taken.iter().filter(|(other, _)| *other != uid).map(|(_, other)| Arc::clone(other)).collect();
        match refuse(&others) {
            Some(reason) => Err(reason),
            None => {
                taken.insert(uid.to_owned(), Arc::clone(pod));
                Ok(())
            }
        }
    }

    /// Notes what a pod that has its place already takes.
    pub fn hold(&self, pod: &Arc<Pod>) {
        if let Some(known) = self.taken.lock().get_mut(pod::uid(pod)) {
            *known = Arc::clone(pod);
        }
    }

    /// The pod is over, or gone.
    pub fn leave(&self, uid: &str) {
        if self.taken.lock().remove(uid).is_some() {
            self.freed.send_modify(|count| *count += 1);
        }
    }

    /// Changes whenever a pod leaves.
    pub fn freed(&self) -> watch::Receiver<u64> {
        self.freed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.uid = Some(uid.into());
        Arc::new(pod)
    }

    #[test]
    fn a_place_is_taken_against_the_others_and_told_when_it_is_free() {
        let places = Places::default();
        let freed = places.freed();
        let full = |others: &[Arc<Pod>]| (others.len() >= 2).then_some("full");
        for uid in ["a", "b"] {
            assert_eq!(places.take(&pod(uid), full), Ok(()));
        }
        assert_eq!(places.take(&pod("c"), full), Err("full"));
        assert_eq!(places.take(&pod("a"), full), Ok(()), "who has a place may take it again");
        assert!(!freed.has_changed().unwrap());
        places.leave("b");
        places.leave("c");
        assert_eq!(*freed.borrow(), 1);
        assert_eq!(places.take(&pod("c"), full), Ok(()));
    }
}
