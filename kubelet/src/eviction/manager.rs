//! Carries out what the pure half of this module decides: measures, tells pressures, makes room, and evicts one pod at a time.

use std::sync::Arc;
use std::time::Duration;

use component_base::shutdown::Shutdown;
use tokio::sync::Mutex;

use super::rank::{self, Candidate};
use super::{Pressure, Signal, State, Threshold, limits, usage};
use crate::images::collect::Collector;
use crate::pod;
use crate::pod::status::Failure;
use crate::pods::Pods;
use crate::worker::Handle;

/// Between two looks at the node.
const PERIOD: Duration = Duration::from_secs(10);
/// How long one evicted pod may take to end before the next look.
const END: Duration = Duration::from_secs(30);
/// What a pod gets to end in when the node cannot wait.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Runs until shutdown.
pub async fn run(pods: Pods, thresholds: Vec<Threshold>, images: Arc<Mutex<Collector>>, shutdown: Shutdown) {
    let mut manager = Manager { pods, thresholds, images, state: State::default() };
    loop {
        tokio::select! {
            () = manager.look() => {}
            () = shutdown.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

struct Manager {
    pods: Pods,
    thresholds: Vec<Threshold>,
    images: Arc<Mutex<Collector>>,
    state: State,
}

impl Manager {
    async fn look(&mut self) {
        let agent = Arc::clone(self.pods.agent());
        let measured = usage::of_node(&agent).await;
        let transition = agent.config.eviction_pressure_transition_period.0;
        let verdict = self.state.step(&self.thresholds, &measured, transition, agent.clock.now());
        agent.pressures.send_if_modified(|told| {
            let changed = *told != verdict.pressures;
            told.clone_from(&verdict.pressures);
            changed
        });
        if agent.config.local_storage_capacity_isolation && self.enforce_limits().await {
            return;
        }
        let Some(threshold) = verdict.act else { return };
        tracing::warn!(signal = threshold.signal.name(), "the node is short of a resource");
        if threshold.signal.pressure() == Pressure::Disk && self.make_room(&threshold).await {
            return;
        }
        self.evict_one(&threshold).await;
    }

    /// Pods that may be evicted, with what they use.
    async fn candidates(&self) -> Vec<(Handle, Candidate)> {
        let agent = self.pods.agent();
        let stats = match agent.runtime.stats().await {
            Ok(stats) => stats,
            Err(error) => {
                tracing::warn!(%error, "what containers use is not known");
                Vec::new()
            }
        };
        let candidate = |handle: Handle| {
            let pod = handle.takes_place()?;
            let usage = usage::of_pod(agent, &pod, &stats);
            Some((handle, Candidate { pod, usage }))
        };
        self.pods.handles().into_iter().filter_map(candidate).collect()
    }

    /// Ends the pods that have written more than they may; whether there were any.
    async fn enforce_limits(&self) -> bool {
        if !self.pods.handles().iter().filter_map(Handle::takes_place).any(|pod| limits::any(&pod)) {
            return false;
        }
        let mut any = false;
        for (handle, candidate) in self.candidates().await {
            if let Some(message) = limits::exceeded(&candidate.pod, &candidate.usage) {
                self.evict(&handle, message, AT_ONCE).await;
                any = true;
            }
        }
        any
    }

    /// Removes what no pod needs; whether that was enough.
    async fn make_room(&self, threshold: &Threshold) -> bool {
        if matches!(
            threshold.signal,
            Signal::ImagefsAvailable | Signal::ImagefsInodesFree | Signal::NodefsAvailable | Signal::NodefsInodesFree
        ) {
            self.images.lock().await.remove_unused(&self.pods).await;
        }
        let measured = usage::of_node(self.pods.agent()).await;
        measured.get(&threshold.signal).is_some_and(|seen| !threshold.is_met(*seen, true))
    }

    async fn evict_one(&self, threshold: &Threshold) {
        let (mut handles, mut candidates) = (Vec::new(), Vec::new());
        for (handle, candidate) in self.candidates().await {
            handles.push((pod::uid(&candidate.pod).to_owned(), handle));
            candidates.push(candidate);
        }
        let measured = usage::of_node(self.pods.agent()).await;
        let Some(seen) = measured.get(&threshold.signal) else { return };
        let Some(first) = rank::order(candidates, threshold.signal).into_iter().next() else {
            return tracing::error!(
                signal = threshold.signal.name(),
                "the node is short of a resource, and no pod may be evicted"
            );
        };
        let Some((_, handle)) = handles.iter().find(|(uid, _)| uid == pod::uid(&first.pod)) else { return };
        let most = Duration::from_secs(self.pods.agent().config.eviction_max_pod_grace_period);
        let grace = if threshold.is_hard() { AT_ONCE } else { most };
        self.evict(handle, rank::message(&first, threshold, *seen), grace).await;
    }

    /// Evicts a pod and waits for its end, so that the next look sees what that gained.
    async fn evict(&self, handle: &Handle, message: String, grace: Duration) {
        let pod = Arc::clone(&handle.input.borrow().pod);
        tracing::warn!(pod = %format!("{}/{}", pod::namespace(&pod), pod::name(&pod)), message, "a pod is evicted");
        self.pods.agent().recorder.warning(&pod::reference(&pod), "Evicted", message.clone());
        handle.input.send_modify(|input| {
            input.failure.get_or_insert(Failure { reason: "Evicted".into(), message, disrupts: true });
            input.grace = Some(grace);
        });
        let mut told = handle.statuses.clone();
        if tokio::time::timeout(END + grace, told.wait_for(|told| told.done)).await.is_err() {
            tracing::warn!(pod = pod::name(&pod), "an evicted pod does not end in time");
        }
    }
}
