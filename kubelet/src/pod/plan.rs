//! What to do next for a pod: from what is wanted and what is observed, and the time. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as Spec, ContainerRestartRule, Pod};
use proto::cri::LinuxContainerResources;

use super::backoff::{Backoff, blocked_until};
use super::resize::Difference;
use super::{Kind, container_hash, kind_of_init};
use crate::runtime::{Container, PodView, State};

/// What the probes say, by container id. A container without a probe of a kind is not listed in its map.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProbeView {
    /// Whether the startup probe has succeeded.
    pub started: BTreeMap<String, bool>,
    /// Whether the readiness probe succeeds.
    pub ready: BTreeMap<String, bool>,
    /// Liveness and startup probes that failed for good.
    pub failed: BTreeMap<String, Unhealthy>,
}

/// Why a probe wants a container killed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unhealthy {
    /// For people.
    pub reason: String,
    /// The probe's own grace period.
    pub grace: Option<Duration>,
}

/// What is known when planning.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    pub view: &'a PodView,
    pub probes: &'a ProbeView,
    /// Restart delays by container name.
    pub backoffs: &'a BTreeMap<String, Backoff>,
    /// The limits that containers should have, by name.
    pub limits: &'a BTreeMap<String, LinuxContainerResources>,
}

/// A container to kill.
#[derive(Clone, Debug, PartialEq)]
pub struct Kill {
    pub id: String,
    pub name: String,
    pub message: String,
    /// Instead of the pod's grace period.
    pub grace: Option<Duration>,
    /// Because of a probe.
    pub unhealthy: bool,
}

/// A running container whose limits are not those that it should have.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    pub id: String,
    pub name: String,
}

/// A container to start.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    pub kind: Kind,
    pub name: String,
    pub attempt: u32,
    /// When the run before it ended, if there was one of the same container: this start is then a restart that lengthens the delay.
    pub failed: Option<Timestamp>,
}

/// A restart that has to wait.
#[derive(Clone, Debug, PartialEq)]
pub struct Wait {
    pub name: String,
    pub until: Timestamp,
}

/// The next actions, carried out in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodPlan {
    /// The pod has run to its end: stop what is left, sandbox included, and start nothing again.
    pub finished: bool,
    pub kill: Vec<Kill>,
    /// Sandboxes that no longer serve, to be stopped before a new one is made.
    pub stop_sandboxes: Vec<String>,
    /// Make a sandbox of this attempt.
    pub create_sandbox: Option<u32>,
    pub update: Vec<Update>,
    pub start: Vec<Start>,
    pub wait: Vec<Wait>,
}

impl PodPlan {
    /// When to plan again though nothing changed.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.wait.iter().map(|wait| wait.until).min()
    }
}

/// Whether a container that has ended is started again: by its own rules for exit codes, else by its policy or the pod's.
fn restarts(pod: &Pod, spec: &Spec, last: &Container) -> bool {
    // What still runs in a sandbox that is gone has been lost.
    let exit_code = if last.state == State::Exited { last.exit_code } else { 255 };
    let matches = |rule: &&ContainerRestartRule| {
        rule.action == "Restart"
            && rule.exit_codes.as_ref().is_some_and(|codes| {
                let listed = codes.values.iter().flatten().any(|code| *code == exit_code);
                listed == (codes.operator == "In")
            })
    };
    if spec.restart_policy_rules.iter().flatten().any(|rule| matches(&rule)) {
        return true;
    }
    match spec.restart_policy.as_deref().unwrap_or_else(|| super::restart_policy(pod)) {
        "Never" => false,
        "OnFailure" => exit_code != 0 || last.unhealthy,
        _ => true,
    }
}

struct Planner<'a> {
    pod: &'a Pod,
    observed: Observed<'a>,
    now: Timestamp,
    plan: PodPlan,
}

/// Plans the next actions for a pod that should run.
pub fn plan_pod(pod: &Pod, observed: Observed<'_>, now: Timestamp) -> PodPlan {
    let mut planner = Planner { pod, observed, now, plan: PodPlan::default() };
    match observed.view.ready_sandbox() {
        Some(sandbox) => {
            let id = sandbox.id.clone();
            planner.in_sandbox(&id);
        }
        None => planner.without_sandbox(),
    }
    planner.plan
}

impl Planner<'_> {
    fn without_sandbox(&mut self) {
        let view = self.observed.view;
        let spec = super::spec(self.pod);
        // With Never, what was once created is not run a second time in another sandbox.
        let ran = spec.containers.iter().any(|c| view.latest(&c.name).is_some());
        let init_ran = spec.init_containers.iter().flatten().any(|c| view.latest(&c.name).is_some());
        let remaining: Vec<&Spec> = spec
            .containers
            .iter()
            .filter(|c| view.latest(&c.name).is_none_or(|last| restarts(self.pod, c, last)))
            .collect();
        let never = super::restart_policy(self.pod) == "Never" && !view.sandboxes.is_empty() && (ran || init_ran);
        if never || remaining.is_empty() {
            self.plan.finished = true;
            return;
        }
        for container in view.running() {
            self.kill(container, Cause::of("the pod's sandbox is gone, and it is made anew".into()));
        }
        self.plan.stop_sandboxes = view.sandboxes.first().map(|sandbox| sandbox.id.clone()).into_iter().collect();
        self.plan.create_sandbox = Some(view.sandboxes.first().map_or(0, |sandbox| sandbox.attempt + 1));
        match spec.init_containers.iter().flatten().next() {
            Some(first) => self.start(kind_of_init(first), first),
            None => {
                for container in remaining {
                    self.start(Kind::Regular, container);
                }
            }
        }
    }

    fn in_sandbox(&mut self, sandbox: &str) {
        let spec = super::spec(self.pod);
        let view = self.observed.view;
        let initialized = spec.containers.iter().any(|c| view.latest_in(sandbox, &c.name).is_some());
        for container in spec.ephemeral_containers.iter().flatten() {
            if view.latest(&container.name).is_none() {
                self.start(Kind::Ephemeral, &super::as_container(container));
            }
        }
        if initialized {
            if !self.regular(sandbox) {
                self.plan = PodPlan { finished: true, ..Default::default() };
                return;
            }
            for container in spec.init_containers.iter().flatten() {
                if kind_of_init(container) == Kind::Sidecar {
                    self.sidecar(sandbox, container);
                }
            }
        } else {
            match self.init(sandbox) {
                Initialization::Done => {
                    self.regular(sandbox);
                }
                Initialization::Going => {}
                Initialization::Failed => self.plan = PodPlan { finished: true, ..Default::default() },
            }
        }
    }

    /// Goes through the init containers in order, up to the first that is not done.
    fn init(&mut self, sandbox: &str) -> Initialization {
        let spec = super::spec(self.pod);
        for container in spec.init_containers.iter().flatten() {
            if kind_of_init(container) == Kind::Sidecar {
                if !self.sidecar(sandbox, container) {
                    return Initialization::Going;
                }
                continue;
            }
            match self.observed.view.latest_in(sandbox, &container.name) {
                Some(last) if last.state == State::Exited && last.exit_code == 0 => {}
                Some(last) if last.state == State::Exited => {
                    if !restarts(self.pod, container, last) {
                        return Initialization::Failed;
                    }
                    self.start(Kind::Init, container);
                    return Initialization::Going;
                }
                Some(last) if last.state == State::Running => return Initialization::Going,
                Some(last) => {
                    self.kill(last, Cause::of(UNKNOWN.into()));
                    self.start(Kind::Init, container);
                    return Initialization::Going;
                }
                None => {
                    self.start(Kind::Init, container);
                    return Initialization::Going;
                }
            }
        }
        Initialization::Done
    }

    /// Keeps a sidecar running; whether it has started, so that what comes after it may.
    fn sidecar(&mut self, sandbox: &str, spec: &Spec) -> bool {
        match self.observed.view.latest_in(sandbox, &spec.name) {
            Some(last) if last.state == State::Running => {
                self.update(last, spec);
                if let Some(cause) = self.must_die(last, spec) {
                    if !cause.unhealthy {
                        self.start(Kind::Sidecar, spec);
                    }
                    self.kill(last, cause);
                    return false;
                }
                self.observed.probes.started.get(&last.id).copied().unwrap_or(spec.startup_probe.is_none())
            }
            Some(last) if last.state == State::Exited => {
                self.start(Kind::Sidecar, spec);
                false
            }
            Some(last) => {
                self.kill(last, Cause::of(UNKNOWN.into()));
                self.start(Kind::Sidecar, spec);
                false
            }
            None => {
                self.start(Kind::Sidecar, spec);
                false
            }
        }
    }

    /// Plans the regular containers; whether any of them runs or will run.
    fn regular(&mut self, sandbox: &str) -> bool {
        let mut alive = false;
        for spec in &super::spec(self.pod).containers {
            match self.observed.view.latest_in(sandbox, &spec.name) {
                None => {
                    // It may have ended for good in a sandbox before this one.
                    let ended = self.observed.view.latest(&spec.name);
                    let again = ended.is_none_or(|last| restarts(self.pod, spec, last));
                    if again {
                        self.start(Kind::Regular, spec);
                    }
                    alive |= again;
                }
                Some(last) if last.state == State::Running => {
                    alive = true;
                    self.update(last, spec);
                    if let Some(cause) = self.must_die(last, spec) {
                        // A changed container is replaced whatever the policy; what happens after a probe's kill is decided
                        // once it has ended, like after every other end.
                        if !cause.unhealthy {
                            self.start(Kind::Regular, spec);
                        }
                        self.kill(last, cause);
                    }
                }
                Some(last) if last.state == State::Exited => {
                    if restarts(self.pod, spec, last) {
                        self.start(Kind::Regular, spec);
                        alive = true;
                    }
                }
                Some(last) => {
                    self.kill(last, Cause::of(UNKNOWN.into()));
                    self.start(Kind::Regular, spec);
                    alive = true;
                }
            }
        }
        alive
    }

    fn must_die(&self, running: &Container, spec: &Spec) -> Option<Cause> {
        if running.hash != container_hash(spec) {
            return Some(Cause::of(format!("Container {} definition changed, will be restarted", spec.name)));
        }
        if self.difference(running).restarts(spec) {
            return Some(Cause::of(format!("Container {} resize requires restart", spec.name)));
        }
        let unhealthy = self.observed.probes.failed.get(&running.id)?;
        let message = format!("Container {} {}, will be restarted", spec.name, unhealthy.reason);
        Some(Cause { message, grace: unhealthy.grace, unhealthy: true })
    }

    fn difference(&self, running: &Container) -> Difference {
        let limits = running.applied.as_ref().zip(self.observed.limits.get(&running.name));
        limits.map(|(applied, wanted)| Difference::between(applied, wanted)).unwrap_or_default()
    }

    fn update(&mut self, running: &Container, spec: &Spec) {
        let difference = self.difference(running);
        if difference.any() && !difference.restarts(spec) {
            self.plan.update.push(Update { id: running.id.clone(), name: running.name.clone() });
        }
    }

    fn kill(&mut self, container: &Container, cause: Cause) {
        let Cause { message, grace, unhealthy } = cause;
        let (id, name) = (container.id.clone(), container.name.clone());
        self.plan.kill.push(Kill { id, name, message, grace, unhealthy });
    }

    fn start(&mut self, kind: Kind, spec: &Spec) {
        let last = self.observed.view.latest(&spec.name);
        // What has changed is not to blame for what was before it.
        let same = |last: &&Container| last.state == State::Exited && last.hash == container_hash(spec);
        let failed = last.filter(same).map(|last| last.finished_at.unwrap_or(last.created_at));
        if let Some(failed) = failed
            && let Some(until) = blocked_until(self.observed.backoffs.get(&spec.name), failed, self.now)
        {
            self.plan.wait.push(Wait { name: spec.name.clone(), until });
            return;
        }
        let attempt = last.map_or(0, |last| last.attempt + 1);
        self.plan.start.push(Start { kind, name: spec.name.clone(), attempt, failed });
    }
}

const UNKNOWN: &str = "the container was never started, or its state is unknown";

/// Why a container is killed.
struct Cause {
    message: String,
    grace: Option<Duration>,
    unhealthy: bool,
}

impl Cause {
    fn of(message: String) -> Self {
        Self { message, grace: None, unhealthy: false }
    }
}

enum Initialization {
    Done,
    Going,
    Failed,
}

/// Containers in the order in which a pod's end kills them: first all regular and ephemeral ones at once, then the sidecars, last first.
pub fn termination_order(pod: &Pod, view: &PodView) -> Vec<Vec<Container>> {
    let spec = super::spec(pod);
    let sidecars: Vec<&str> = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| kind_of_init(c) == Kind::Sidecar)
        .map(|c| c.name.as_str())
        .collect();
    let first = view.running().filter(|c| !sidecars.contains(&c.name.as_str())).cloned().collect();
    let rest = sidecars.iter().rev().map(|name| view.running().filter(|c| c.name == *name).cloned().collect());
    std::iter::once(first).chain(rest).filter(|group: &Vec<Container>| !group.is_empty()).collect()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
