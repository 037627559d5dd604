//! Probes: one task per probe of a running container. What they find goes into one view, and wakes the pod's worker when it changes.

pub mod check;
pub mod state;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container as Spec, ContainerStatus, Pod, PodStatus, Probe};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use crate::agent::Agent;
use crate::metrics;
use crate::pod::plan::{ProbeView, Unhealthy};
use crate::pod::{self, Kind};
use crate::runtime::{Container, PodView, State};
use check::Trouble;
use state::{Machine, Verdict};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

impl ProbeKind {
    fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// The probes of one pod.
pub struct Probes {
    agent: Arc<Agent>,
    changed: Arc<Notify>,
    view: watch::Sender<ProbeView>,
    tasks: HashMap<(String, ProbeKind), AbortHandle>,
    /// What was counted of this pod.
    counted: HashSet<metrics::Probe>,
}

/// The address to probe: as the probe says, else the pod's.
pub fn host_of(host: Option<&str>, ips: &[String]) -> String {
    host.filter(|host| !host.is_empty()).map(str::to_owned).or_else(|| ips.first().cloned()).unwrap_or_default()
}

impl Probes {
    /// `changed` is set off when what the probes say is not what they said before.
    pub fn new(agent: Arc<Agent>, changed: Arc<Notify>) -> Self {
        Self { agent, changed, view: watch::Sender::default(), tasks: HashMap::new(), counted: HashSet::new() }
    }

    pub fn view(&self) -> ProbeView {
        self.view.borrow().clone()
    }

    /// Starts the probes of containers that run, and ends those of containers that do not. `before` is the pod's last status: what it
    /// says of a container stands until a probe says otherwise, so that a kubelet which starts again makes nothing unready.
    pub fn sync(&mut self, pod: &Arc<Pod>, view: &PodView, before: &PodStatus) {
        let running: Vec<_> = view.containers.iter().filter(|c| c.state == State::Running).collect();
        let gone: Vec<_> = self.tasks.keys().filter(|(id, _)| !running.iter().any(|c| c.id == *id)).cloned().collect();
        for key in gone {
            self.forget(&key);
        }
        for container in running {
            let Some((kind, spec)) = pod::container(pod, &container.name) else { continue };
            if matches!(kind, Kind::Init | Kind::Ephemeral) {
                continue;
            }
            let before = status_of(before, &container.id);
            for (probe_kind, probe) in of(&spec) {
                if !self.tasks.contains_key(&(container.id.clone(), probe_kind)) {
                    let ips = self.ips(pod, view);
                    self.start(pod, container, &spec, (probe_kind, probe), ips, before);
                }
            }
        }
    }

    fn ips(&self, pod: &Pod, view: &PodView) -> Vec<String> {
        if pod::host_network(pod) {
            return self.agent.host_ips.load_full().to_vec();
        }
        view.sandboxes.first().map(|sandbox| sandbox.ips.clone()).unwrap_or_default()
    }

    fn start(
        &mut self,
        pod: &Arc<Pod>,
        container: &Container,
        spec: &Spec,
        (kind, probe): (ProbeKind, &Probe),
        ips: Vec<String>,
        before: Option<&ContainerStatus>,
    ) {
        let id = container.id.clone();
        self.view.send_modify(|view| match kind {
            ProbeKind::Startup => {
                let started = before.is_some_and(|before| before.started == Some(true));
                view.started.insert(id.clone(), started);
            }
            ProbeKind::Readiness => {
                view.ready.insert(id.clone(), before.is_some_and(|before| before.ready));
            }
            ProbeKind::Liveness => {}
        });
        if kind == ProbeKind::Startup && self.view.borrow().started.get(&id) == Some(&true) {
            return;
        }
        let age = container.started_at.and_then(|at| self.agent.clock.now().duration_since(at).try_into().ok());
        let task = Task {
            agent: Arc::clone(&self.agent),
            pod: Arc::clone(pod),
            spec: spec.clone(),
            probe: probe.clone(),
            kind,
            id: id.clone(),
            ips,
            view: self.view.clone(),
            changed: Arc::clone(&self.changed),
            has_startup: spec.startup_probe.is_some(),
            age: age.unwrap_or(Duration::ZERO),
        };
        self.counted.insert(task.counted(metrics::Probe::SUCCESSFUL));
        self.tasks.insert((id, kind), tokio::spawn(task.run()).abort_handle());
    }

    fn forget(&mut self, key: &(String, ProbeKind)) {
        if let Some(task) = self.tasks.remove(key) {
            task.abort();
        }
        self.view.send_modify(|view| {
            match key.1 {
                ProbeKind::Startup => drop(view.started.remove(&key.0)),
                ProbeKind::Readiness => drop(view.ready.remove(&key.0)),
                ProbeKind::Liveness => {}
            }
            view.failed.remove(&key.0);
        });
    }

    /// While a pod ends only its readiness still matters.
    pub fn stop_startup_and_liveness(&mut self) {
        for (_, task) in self.tasks.iter().filter(|((_, kind), _)| *kind != ProbeKind::Readiness) {
            task.abort();
        }
    }

    pub fn stop_all(&mut self) {
        for task in self.tasks.values() {
            task.abort();
        }
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.stop_all();
        for counted in &self.counted {
            self.agent.metrics.forget(counted);
        }
    }
}

/// What a status says of the container with that id.
fn status_of<'a>(status: &'a PodStatus, id: &str) -> Option<&'a ContainerStatus> {
    let lists = [&status.container_statuses, &status.init_container_statuses];
    let is = |container: &&ContainerStatus| container.container_id.as_deref().is_some_and(|full| full.ends_with(id));
    lists.into_iter().flatten().flatten().find(is)
}

fn of(spec: &Spec) -> Vec<(ProbeKind, &Probe)> {
    let all = [
        (ProbeKind::Startup, &spec.startup_probe),
        (ProbeKind::Liveness, &spec.liveness_probe),
        (ProbeKind::Readiness, &spec.readiness_probe),
    ];
    all.into_iter().filter_map(|(kind, probe)| Some((kind, probe.as_ref()?))).collect()
}

/// One probe of one container.
struct Task {
    agent: Arc<Agent>,
    pod: Arc<Pod>,
    spec: Spec,
    probe: Probe,
    kind: ProbeKind,
    id: String,
    ips: Vec<String>,
    view: watch::Sender<ProbeView>,
    changed: Arc<Notify>,
    has_startup: bool,
    age: Duration,
}

impl Task {
    async fn run(self) {
        let timing = state::Timing::of(&self.probe);
        let mut machine = Machine::new(&timing);
        tokio::time::sleep(timing.initial_delay.saturating_sub(self.age)).await;
        let mut ticks = tokio::time::interval(timing.period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.until_started(&mut ticks).await;
            ticks.tick().await;
            let Some(success) = self.check(timing.timeout).await else { continue };
            if let Some(verdict) = machine.step(success) {
                self.tell(verdict);
            }
            if self.kind == ProbeKind::Startup && machine.verdict() == Some(Verdict::Good) {
                return;
            }
        }
    }

    /// Liveness and readiness wait for the startup probe, and are then tried at once.
    async fn until_started(&self, ticks: &mut tokio::time::Interval) {
        if self.kind == ProbeKind::Startup || !self.has_startup {
            return;
        }
        let started = |view: &ProbeView| view.started.get(&self.id) == Some(&true);
        let mut view = self.view.subscribe();
        let waits = !started(&view.borrow());
        if waits && view.wait_for(started).await.is_ok() {
            ticks.reset_immediately();
        }
    }

    /// Whether the probe succeeds; `None` when that could not be found out.
    async fn check(&self, timeout: Duration) -> Option<bool> {
        let tried = check::run(&self.agent, &self.probe, &self.spec, &self.id, &self.ips, timeout);
        let outcome = match tokio::time::timeout(timeout, tried).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Trouble::Failed(format!("it did not answer within {}s", timeout.as_secs()))),
        };
        let result = match outcome {
            Ok(_) => metrics::Probe::SUCCESSFUL,
            Err(Trouble::Failed(_)) => metrics::Probe::FAILED,
            Err(Trouble::Unknown(_)) => metrics::Probe::UNKNOWN,
        };
        self.agent.metrics.probed(&self.counted(result));
        let name = self.kind.name();
        let (reason, note, outcome) = match outcome {
            Ok(None) => return Some(true),
            Ok(Some(message)) => ("ProbeWarning", format!("{name} probe warning: {message}"), Some(true)),
            Err(Trouble::Failed(message)) => ("Unhealthy", format!("{name} probe failed: {message}"), Some(false)),
            Err(Trouble::Unknown(message)) => ("Unhealthy", format!("{name} probe errored: {message}"), None),
        };
        self.agent.recorder.warning(&pod::reference(&self.pod), reason, note);
        outcome
    }

    fn counted(&self, result: &'static str) -> metrics::Probe {
        metrics::Probe {
            probe_type: self.kind.name(),
            result,
            container: self.spec.name.clone(),
            pod: pod::name(&self.pod).to_owned(),
            namespace: pod::namespace(&self.pod).to_owned(),
            pod_uid: pod::uid(&self.pod).to_owned(),
        }
    }

    fn tell(&self, verdict: Verdict) {
        let good = verdict == Verdict::Good;
        self.view.send_modify(|view| match self.kind {
            ProbeKind::Readiness => drop(view.ready.insert(self.id.clone(), good)),
            ProbeKind::Startup if good => drop(view.started.insert(self.id.clone(), true)),
            _ if !good => {
                let seconds = self.probe.termination_grace_period_seconds;
                let grace = seconds.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
                let reason = format!("failed {} probe", self.kind.name().to_lowercase());
                view.failed.insert(self.id.clone(), Unhealthy { reason, grace });
            }
            _ => {}
        });
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests;
