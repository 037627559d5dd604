//! Pods that permit plugins make wait before they are bound.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::framework::Status;
use crate::labels::Str;

#[derive(Default)]
pub struct WaitingPods(Mutex<HashMap<Str, Waiting>>);

struct Waiting {
    /// The plugins that have not said yes yet.
    pending: Vec<&'static str>,
    verdict: oneshot::Sender<Status>,
}

impl WaitingPods {
    /// Waits until every plugin has allowed the pod, one has rejected it, or the shortest of their times has passed.
    pub async fn wait(&self, uid: &Str, plugins: &[(&'static str, Duration)]) -> Status {
        let Some((first, longest)) = plugins.iter().min_by_key(|(_, longest)| *longest) else {
            return Status::success();
        };
        let (verdict, answer) = oneshot::channel();
        let pending = plugins.iter().map(|(name, _)| *name).collect();
        self.0.lock().insert(uid.clone(), Waiting { pending, verdict });
        let status = match tokio::time::timeout(*longest, answer).await {
            Ok(Ok(status)) => status,
            Ok(Err(_)) | Err(_) => {
                Status::unschedulable(format!("rejected due to timeout after waiting {longest:?} at plugin {first}"))
                    .by(first)
            }
        };
        self.0.lock().remove(uid);
        status
    }

    /// A plugin allows the pod.
    pub fn allow(&self, uid: &str, plugin: &str) {
        let mut pods = self.0.lock();
        let Some(waiting) = pods.get_mut(uid) else { return };
        waiting.pending.retain(|p| *p != plugin);
        if waiting.pending.is_empty() {
            pods.remove(uid).into_iter().for_each(|w| answer(w, Status::success()));
        }
    }

    /// A plugin rejects the pod.
    pub fn reject(&self, uid: &str, plugin: &'static str, reason: String) {
        let waiting = self.0.lock().remove(uid);
        waiting.into_iter().for_each(|w| answer(w, Status::unschedulable(reason.clone()).by(plugin)));
    }
}

fn answer(waiting: Waiting, status: Status) {
    if waiting.verdict.send(status).is_err() {
        tracing::debug!("a pod's wait ended before the answer came");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framework::Code;

    const LONG: Duration = Duration::from_secs(3600);

    async fn wait_while(act: impl FnOnce(&WaitingPods), plugins: &[(&'static str, Duration)]) -> Status {
        let (pods, uid) = (WaitingPods::default(), Str::from("uid"));
        let wait = pods.wait(&uid, plugins);
        let mut wait = std::pin::pin!(wait);
        assert!(futures::poll!(&mut wait).is_pending());
        act(&pods);
        wait.await
    }

    #[tokio::test]
    async fn a_pod_goes_on_when_all_have_allowed_it() {
        let status = wait_while(
            |pods| {
                pods.allow("uid", "a");
                assert!(pods.0.lock().contains_key("uid"), "b has not allowed it yet");
                pods.allow("uid", "b");
            },
            &[("a", LONG), ("b", LONG)],
        )
        .await;
        assert!(status.is_success());
    }

    #[tokio::test]
    async fn one_rejection_is_enough() {
        let status = wait_while(|pods| pods.reject("uid", "a", "no".into()), &[("a", LONG), ("b", LONG)]).await;
        assert_eq!((status.code, status.plugin), (Code::Unschedulable, "a"));
    }

    #[tokio::test]
    async fn the_wait_ends_with_the_shortest_time() {
        let status = wait_while(|_| {}, &[("a", LONG), ("b", Duration::ZERO + Duration::from_millis(1))]).await;
        assert_eq!((status.code, status.plugin), (Code::Unschedulable, "b"));
    }

    #[tokio::test]
    async fn without_plugins_nothing_waits() {
        assert!(WaitingPods::default().wait(&Str::from("uid"), &[]).await.is_success());
    }
}
