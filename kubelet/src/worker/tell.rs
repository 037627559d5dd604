//! What the worker says about its pod: the status, and events about restarts that wait.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodStatus};

use super::{Input, Told, Worker};
use crate::pod;
use crate::pod::condition;
use crate::pod::plan::PodPlan;
use crate::pod::status::{self, Waiting};

impl Worker {
    /// Computes the status and hands it on when it changed.
    pub(super) fn tell(&mut self, input: &Input, done: bool) {
        let given = self.given(&input.pod);
        let differing = self.differing(&self.limits(&given));
        let host_ips = self.agent.host_ips.load_full();
        let probes = self.probes.view();
        let mut status = status::compute(status::Input {
            pod: &input.pod,
            view: &self.view,
            probes: &probes,
            waiting: &self.waiting,
            runtime: &self.agent.runtime_name,
            host_ips: &host_ips,
            failure: self.failure.as_ref(),
            given: &given,
            differing: &differing,
            pending: self.resize.pending.as_ref(),
            resize_error: self.resize.error.as_deref(),
            finished: self.finished,
            previous: &self.status_with_foreign(input),
            now: self.now(),
        });
        if done && !matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            // What was ended before its own end did not fail for its owner's sake.
            let failed = status.container_statuses.iter().flatten().any(|container| {
                let terminated = container.state.as_ref().and_then(|state| state.terminated.as_ref());
                terminated.is_none_or(|end| end.exit_code != 0)
            });
            status.phase = Some(if failed { "Failed" } else { "Succeeded" }.into());
        }
        if self.over {
            status.clone_from(&self.status);
        }
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            self.agent.places.leave(pod::uid(&input.pod));
        }
        self.status = status.clone();
        *self.shared.status.lock() = status.clone();
        self.publish();
        let told = Told { status, done };
        self.told.send_if_modified(|current| {
            let changed = *current != told;
            *current = told;
            changed
        });
    }

    /// Lets others see what the worker knows of the runtime.
    pub(super) fn publish(&self) {
        *self.shared.view.lock() = self.view.clone();
    }

    /// The last status, with the conditions that others have set since.
    fn status_with_foreign(&self, input: &Input) -> PodStatus {
        let mut previous = self.status.clone();
        let theirs = input.pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        let conditions = previous.conditions.get_or_insert_default();
        conditions.retain(condition::is_own);
        for condition in theirs.into_iter().filter(|condition| !condition::is_own(condition)) {
            if !conditions.iter().any(|own| own.type_ == condition.type_) {
                conditions.push(condition);
            }
        }
        previous
    }

    /// Containers whose restart waits are shown as such, and told of once.
    pub(super) fn note_waits(&mut self, pod: &Arc<Pod>, plan: &PodPlan) {
        let of_pod = format!("{}_{}({})", pod::name(pod), pod::namespace(pod), pod::uid(pod));
        for wait in &plan.wait {
            let delay = self.backoffs.get(&wait.name).map_or(0, |backoff| backoff.delay.as_secs());
            let message =
                format!("back-off {} restarting failed container={} pod={of_pod}", go_seconds(delay), wait.name);
            let waiting = Waiting { reason: "CrashLoopBackOff".into(), message };
            if self.waiting.insert(wait.name.clone(), waiting.clone()).as_ref() != Some(&waiting) {
                let note = format!("Back-off restarting failed container {} in pod {of_pod}", wait.name);
                self.agent.recorder.warning(&pod::reference(pod), "BackOff", note);
            }
        }
    }
}

/// As Go prints a duration of whole seconds.
fn go_seconds(seconds: u64) -> String {
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_written_as_go_writes_them() {
        for (seconds, text) in [(0, "0s"), (10, "10s"), (60, "1m0s"), (160, "2m40s"), (300, "5m0s")] {
            assert_eq!(go_seconds(seconds), text);
        }
    }
}
