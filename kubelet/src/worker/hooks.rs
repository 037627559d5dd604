//! Lifecycle hooks: postStart and preStop, by exec, HTTP, a TCP connection (kept for old objects: it does nothing), or a pause.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container as Spec, LifecycleHandler, Pod};

use super::Worker;
use super::apply::Error;
use crate::pod;
use crate::probes::{check, host_of};

impl Worker {
    /// Runs postStart; when it fails the container is killed, and its policy decides about the rest.
    pub(super) async fn post_start(&mut self, pod: &Arc<Pod>, spec: &Spec, id: &str) -> Result<(), Error> {
        let Some(handler) = spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref()) else {
            return Ok(());
        };
        let Err(message) = self.hook(pod, spec, handler, id, Duration::from_secs(u64::from(u32::MAX))).await else {
            return Ok(());
        };
        self.agent.recorder.warning(
            &pod::reference(pod),
            "FailedPostStartHook",
            format!("PostStartHook failed: {message}"),
        );
        let grace = Duration::from_secs(u64::try_from(pod::grace_period(pod)).unwrap_or(0));
        self.stop_container(pod, id, &spec.name, grace).await?;
        self.refetch(id).await?;
        Err(Error::Start { name: spec.name.clone(), reason: "PostStartHookError".into(), message })
    }

    /// Runs preStop for at most the grace period. Its failure is told, and does not keep the container alive.
    pub(super) async fn pre_stop(&self, pod: &Arc<Pod>, spec: &Spec, id: &str, grace: Duration) {
        let Some(handler) = spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref()) else { return };
        let message = match tokio::time::timeout(grace, self.hook(pod, spec, handler, id, grace)).await {
            Ok(Ok(())) => return,
            Ok(Err(message)) => message,
            Err(_) => format!("it did not end within {grace:?}"),
        };
        self.agent.recorder.warning(
            &pod::reference(pod),
            "FailedPreStopHook",
            format!("PreStopHook failed: {message}"),
        );
    }

    async fn hook(
        &self,
        pod: &Pod,
        spec: &Spec,
        handler: &LifecycleHandler,
        id: &str,
        limit: Duration,
    ) -> Result<(), String> {
        if let Some(exec) = &handler.exec {
            let command = exec.command.clone().unwrap_or_default();
            let outcome = self.agent.runtime.exec_sync(id, &command, limit).await.map_err(|error| error.to_string())?;
            let output = String::from_utf8_lossy(&outcome.output);
            return if outcome.exit_code == 0 {
                Ok(())
            } else {
                Err(format!("exit code {}: {output}", outcome.exit_code))
            };
        }
        if let Some(get) = &handler.http_get {
            let host = host_of(get.host.as_deref(), &self.own_ips(pod));
            return check::http(get, spec, &host, limit.min(Duration::from_secs(60))).await.map(drop);
        }
        if let Some(sleep) = &handler.sleep {
            tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
        }
        Ok(())
    }

    pub(super) fn own_ips(&self, pod: &Pod) -> Vec<String> {
        if pod::host_network(pod) {
            return self.agent.host_ips.load_full().to_vec();
        }
        self.view.sandboxes.first().map(|sandbox| sandbox.ips.clone()).unwrap_or_default()
    }
}
