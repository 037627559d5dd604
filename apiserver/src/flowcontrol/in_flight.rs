//! The limits without priority and fairness: so many requests at a time that read, so many that write (`--max-requests-inflight`,
//! `--max-mutating-requests-inflight`).

use std::sync::Arc;

use apiserver_auth::UserInfo;
use apiserver_auth::user::MASTERS;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::request::RequestInfo;

/// The limits; none where there is no limit.
pub struct InFlight {
    reading: Option<Arc<Semaphore>>,
    writing: Option<Arc<Semaphore>>,
}

/// A request that is counted as long as this lives. Nothing is counted without a limit.
pub struct Counted {
    _permit: Option<OwnedSemaphorePermit>,
}

impl InFlight {
    /// A limit of 0 is none.
    pub fn new(reading: u32, writing: u32) -> Self {
        let limit = |limit: u32| (limit > 0).then(|| Arc::new(Semaphore::new(limit as usize)));
        InFlight { reading: limit(reading), writing: limit(writing) }
    }

    /// Counts a request; none where it is one too many. Administrators are served all the same.
    pub fn count(&self, user: &UserInfo, info: &RequestInfo) -> Option<Counted> {
        let reads = matches!(info.verb, "get" | "list" | "head" | "options");
        let Some(limit) = (if reads { &self.reading } else { &self.writing }) else {
            return Some(Counted { _permit: None });
        };
        match limit.clone().try_acquire_owned() {
            Ok(permit) => Some(Counted { _permit: Some(permit) }),
            Err(_) if user.in_group(MASTERS) => Some(Counted { _permit: None }),
            Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_are_counted_apart_and_administrators_pass() {
        let limits = InFlight::new(1, 1);
        let request = |verb| RequestInfo { verb, ..RequestInfo::default() };
        let user = UserInfo::default();
        let first = limits.count(&user, &request("get")).expect("the first");
        assert!(limits.count(&user, &request("list")).is_none());
        let _write = limits.count(&user, &request("create")).expect("the first that writes");
        assert!(limits.count(&user, &request("patch")).is_none());
        let admin = UserInfo { groups: vec![MASTERS.into()], ..UserInfo::default() };
        assert!(limits.count(&admin, &request("get")).is_some());
        drop(first);
        assert!(limits.count(&user, &request("get")).is_some());
        assert!((0..100).all(|_| InFlight::new(0, 0).count(&user, &request("get")).is_some()));
    }
}
