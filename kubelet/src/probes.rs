//! Probes: one task per probe of a running container. What they find goes into one view, and wakes the pod's worker when it changes.

pub mod check;
pub mod state;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container as Spec, Pod, Probe};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::agent::Agent;
use crate::pod::plan::ProbeView;
use crate::pod::{self, Kind};
use crate::runtime::{PodView, State};
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
    view: Arc<Mutex<ProbeView>>,
    tasks: HashMap<(String, ProbeKind), AbortHandle>,
}

/// The address to probe: as the probe says, else the pod's.
pub fn host_of(host: Option<&str>, ips: &[String]) -> String {
    host.filter(|host| !host.is_empty()).map(str::to_owned).or_else(|| ips.first().cloned()).unwrap_or_default()
}

impl Probes {
    pub fn new(agent: Arc<Agent>, changed: Arc<Notify>) -> Self {
        Self { agent, changed, view: Arc::default(), tasks: HashMap::new() }
    }

    pub fn view(&self) -> ProbeView {
        self.view.lock().clone()
    }

    /// Starts the probes of containers that run, and ends those of containers that do not.
    pub fn sync(&mut self, pod: &Arc<Pod>, view: &PodView) {
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
            for (probe_kind, probe) in of(&spec) {
                self.start(pod, view, &container.id, &spec, probe_kind, probe);
            }
        }
    }

    fn start(&mut self, pod: &Arc<Pod>, view: &PodView, id: &str, spec: &Spec, kind: ProbeKind, probe: &Probe) {
        let key = (id.to_owned(), kind);
        if self.tasks.contains_key(&key) {
            return;
        }
        let has_startup = spec.startup_probe.is_some();
        match kind {
            ProbeKind::Startup => drop(self.view.lock().started.entry(id.to_owned()).or_insert(false)),
            ProbeKind::Readiness => drop(self.view.lock().ready.entry(id.to_owned()).or_insert(false)),
            ProbeKind::Liveness => {}
        }
        let started_at = view.containers.iter().find(|c| c.id == id).and_then(|c| c.started_at);
        let age = started_at.and_then(|at| Duration::try_from(jiff::Timestamp::now().duration_since(at)).ok());
        let ips = if pod::host_network(pod) {
            self.agent.host_ips.load_full().to_vec()
        } else {
            view.sandboxes.first().map(|sandbox| sandbox.ips.clone()).unwrap_or_default()
        };
        let task = Task {
            agent: Arc::clone(&self.agent),
            pod: Arc::clone(pod),
            spec: spec.clone(),
            probe: probe.clone(),
            kind,
            id: id.to_owned(),
            ips,
            view: Arc::clone(&self.view),
            changed: Arc::clone(&self.changed),
            has_startup,
            age: age.unwrap_or(Duration::ZERO),
        };
        self.tasks.insert(key, tokio::spawn(task.run()).abort_handle());
    }

    fn forget(&mut self, key: &(String, ProbeKind)) {
        if let Some(task) = self.tasks.remove(key) {
            task.abort();
        }
        let mut view = self.view.lock();
        match key.1 {
            ProbeKind::Startup => drop(view.started.remove(&key.0)),
            ProbeKind::Readiness => drop(view.ready.remove(&key.0)),
            ProbeKind::Liveness => {}
        }
        view.failed.remove(&key.0);
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
    }
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
    view: Arc<Mutex<ProbeView>>,
    changed: Arc<Notify>,
    has_startup: bool,
    age: Duration,
}

impl Task {
    async fn run(self) {
        let timing = state::Timing::of(&self.probe);
        let mut machine = Machine::new(&timing);
        tokio::time::sleep(timing.initial_delay.saturating_sub(self.age)).await;
        loop {
            self.until_started().await;
            let outcome = self.check(timing.timeout).await;
            if let Err(message) = &outcome {
                let note = format!("{} probe failed: {message}", self.kind.name());
                self.agent.recorder.warning(&pod::reference(&self.pod), "Unhealthy", note);
            }
            if let Some(verdict) = machine.step(outcome.is_ok()) {
                self.tell(verdict);
            }
            if self.kind == ProbeKind::Startup && machine.verdict() == Some(Verdict::Good) {
                return;
            }
            tokio::time::sleep(timing.period).await;
        }
    }

    /// Liveness and readiness wait for the startup probe.
    async fn until_started(&self) {
        if self.kind == ProbeKind::Startup || !self.has_startup {
            return;
        }
        while self.view.lock().started.get(&self.id) != Some(&true) {
            tokio::time::sleep(STARTED_POLL).await;
        }
    }

    async fn check(&self, timeout: Duration) -> Result<(), String> {
        match tokio::time::timeout(
            timeout,
            check::run(&self.agent, &self.probe, &self.spec, &self.id, &self.ips, timeout),
        )
        .await
        {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("it did not answer within {}s", timeout.as_secs())),
        }
    }

    fn tell(&self, verdict: Verdict) {
        let good = verdict == Verdict::Good;
        {
            let mut view = self.view.lock();
            match self.kind {
                ProbeKind::Readiness => drop(view.ready.insert(self.id.clone(), good)),
                ProbeKind::Startup if good => drop(view.started.insert(self.id.clone(), true)),
                _ if !good => {
                    let reason = format!("failed {} probe", self.kind.name().to_lowercase());
                    view.failed.insert(self.id.clone(), reason);
                }
                _ => {}
            }
        }
        self.changed.notify_one();
    }
}

/// How often a probe looks whether the startup probe has succeeded.
const STARTED_POLL: Duration = Duration::from_millis(100);
