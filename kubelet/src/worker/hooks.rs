//! Lifecycle hooks: postStart and preStop, by exec, HTTP or a pause. A hook of another kind (`tcpSocket` is kept in the API for old
//! objects) fails when it is run, as documented.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container as Spec, LifecycleHandler, Pod};

use super::Worker;
use super::apply::Error;
use crate::pod;
use crate::probes::{check, host_of};

/// A hook without a limit of its own.
const NO_LIMIT: Duration = Duration::from_secs(u32::MAX as u64);

impl Worker {
    /// Runs postStart; when it fails the container is killed, and its policy decides about the rest.
    pub(super) async fn post_start(&mut self, pod: &Arc<Pod>, spec: &Spec, id: &str) -> Result<(), Error> {
        let Some(handler) = spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref()) else {
            return Ok(());
        };
        let mut input = self.input.clone();
        let outcome = tokio::select! {
            outcome = self.hook(pod, spec, handler, id, NO_LIMIT) => outcome,
            // The end of the pod does not wait for its hooks.
            _ = input.wait_for(super::Input::ends) => Ok(()),
        };
        let Err(message) = outcome else { return Ok(()) };
        self.agent.recorder.warning(
            &pod::reference(pod),
            "FailedPostStartHook",
            format!("PostStartHook failed: {message}"),
        );
        self.stop_container(pod, id, &spec.name, pod::grace_period(pod)).await?;
        self.refetch(id).await?;
        Err(Error::Start { name: spec.name.clone(), reason: "PostStartHookError".into(), message })
    }

    /// Runs preStop, once, for at most the grace period. Its failure is told, and does not keep the container alive.
    pub(super) async fn pre_stop(&self, pod: &Arc<Pod>, spec: &Spec, id: &str, grace: Duration) {
        let Some(handler) = spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref()) else { return };
        if !self.hooked.lock().insert(id.to_owned()) {
            return;
        }
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
            return Ok(());
        }
        Err("invalid handler: neither exec nor httpGet nor sleep".to_owned())
    }

    pub(super) fn own_ips(&self, pod: &Pod) -> Vec<String> {
        if pod::host_network(pod) {
            return self.agent.host_ips.load_full().to_vec();
        }
        self.view.sandboxes.first().map(|sandbox| sandbox.ips.clone()).unwrap_or_default()
    }
}
