//! Amounts of resources, and how much of each a pod asks for.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use smallvec::SmallVec;

use crate::labels::{Str, intern, same};
use crate::quantity::{milli, value};

/// What a container without a cpu request is taken to use when nodes are scored.
const DEFAULT_MILLI_CPU: i64 = 100;
/// What a container without a memory request is taken to use when nodes are scored.
const DEFAULT_MEMORY: i64 = 200 << 20;

type ResourceList = BTreeMap<String, Quantity>;

/// Amounts by resource. cpu is in thousandths of a core, everything else in its unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    /// Extended resources and huge pages, by name.
    pub scalars: SmallVec<[(Str, i64); 1]>,
}

impl Resources {
    pub fn from_list(list: Option<&ResourceList>) -> Self {
        let mut total = Self::default();
        for (name, quantity) in list.into_iter().flatten() {
            total.set(name, quantity);
        }
        total
    }

    fn set(&mut self, name: &str, quantity: &Quantity) {
        match name {
            "cpu" => self.milli_cpu = milli(quantity),
            "memory" => self.memory = value(quantity),
            "ephemeral-storage" => self.ephemeral_storage = value(quantity),
            "pods" => {}
            _ => *self.scalar_mut(&intern(name)) = value(quantity),
        }
    }

    fn scalar_mut(&mut self, name: &Str) -> &mut i64 {
        let index = self.scalars.iter().position(|(n, _)| same(n, name)).unwrap_or_else(|| {
            self.scalars.push((name.clone(), 0));
            self.scalars.len() - 1
        });
        &mut self.scalars[index].1
    }

    pub fn scalar(&self, name: &Str) -> i64 {
        self.scalars.iter().find(|(n, _)| same(n, name)).map_or(0, |(_, v)| *v)
    }

    /// The amount of the resource with this Kubernetes name.
    pub fn get(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.milli_cpu,
            "memory" => self.memory,
            "ephemeral-storage" => self.ephemeral_storage,
            _ => self.scalars.iter().find(|(n, _)| &**n == name).map_or(0, |(_, v)| *v),
        }
    }

    pub fn is_zero(&self) -> bool {
        self.milli_cpu == 0
            && self.memory == 0
            && self.ephemeral_storage == 0
            && self.scalars.iter().all(|(_, v)| *v == 0)
    }

    pub fn add(&mut self, other: &Self) {
        self.combine(other, |a, b| a.saturating_add(b));
    }

    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, |a, b| a.saturating_sub(b));
    }

    /// The larger of the two, resource by resource.
    pub fn raise_to(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Self, f: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = f(self.milli_cpu, other.milli_cpu);
        self.memory = f(self.memory, other.memory);
        self.ephemeral_storage = f(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.scalars {
            let mine = self.scalar_mut(name);
            *mine = f(*mine, *amount);
        }
    }
}

/// What a pod asks for: exactly, and with the defaults that scoring assumes for containers which ask for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    pub exact: Resources,
    pub non_zero_milli_cpu: i64,
    pub non_zero_memory: i64,
}

/// The requests of a pod: its containers together with its sidecars, or the largest moment of its initialization, whichever
/// is more; pod-level requests where given; and the overhead of its runtime class. While a container is being
/// resized the larger of what it has and what it will have counts.
pub fn pod_requests(spec: &PodSpec, status: Option<&PodStatus>) -> Requests {
    let exact = total(spec, |container| exact_request(container, status));
    let assumed = total(spec, |container| with_defaults(exact_request(container, status)));
    let with_level = |mut requests: Resources| {
        apply_pod_level(&mut requests, spec);
        requests.add(&Resources::from_list(spec.overhead.as_ref()));
        requests
    };
    let (exact, assumed) = (with_level(exact), with_level(assumed));
    Requests { exact, non_zero_milli_cpu: assumed.milli_cpu, non_zero_memory: assumed.memory }
}

fn total(spec: &PodSpec, request: impl Fn(&Container) -> Resources) -> Resources {
    let mut running = Resources::default();
    for container in &spec.containers {
        running.add(&request(container));
    }
    let mut sidecars = Resources::default();
    let mut peak = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let own = request(container);
        let mut moment = sidecars.clone();
        moment.add(&own);
        if container.restart_policy.as_deref() == Some("Always") {
            running.add(&own);
            sidecars = moment.clone();
        }
        peak.raise_to(&moment);
    }
    running.raise_to(&peak);
    running
}

fn exact_request(container: &Container, status: Option<&PodStatus>) -> Resources {
    let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
    let mut wanted = Resources::from_list(requests);
    let lists = status.into_iter().flat_map(|s| [&s.container_statuses, &s.init_container_statuses]);
    if let Some(status) = lists.flatten().flatten().find(|s| s.name == container.name) {
        wanted.raise_to(&Resources::from_list(status.allocated_resources.as_ref()));
        let actual = status.resources.as_ref().and_then(|r| r.requests.as_ref());
        wanted.raise_to(&Resources::from_list(actual));
    }
    wanted
}

fn with_defaults(mut request: Resources) -> Resources {
    if request.milli_cpu == 0 {
        request.milli_cpu = DEFAULT_MILLI_CPU;
    }
    if request.memory == 0 {
        request.memory = DEFAULT_MEMORY;
    }
    request
}

fn apply_pod_level(requests: &mut Resources, spec: &PodSpec) {
    let level = spec.resources.as_ref().and_then(|r| r.requests.as_ref());
    for (name, quantity) in level.into_iter().flatten() {
        if name == "cpu" || name == "memory" || name.starts_with("hugepages-") {
            requests.set(name, quantity);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn requests(spec: serde_json::Value) -> Requests {
        pod_requests(&serde_json::from_value(spec).unwrap(), None)
    }

    fn container(cpu: &str) -> serde_json::Value {
        json!({"name": format!("c{cpu}"), "resources": {"requests": {"cpu": cpu}}})
    }

    #[test]
    fn containers_add_up() {
        let got = requests(json!({"containers": [container("100m"), container("200m")]}));
        assert_eq!(got.exact.milli_cpu, 300);
        assert_eq!(got.non_zero_memory, 2 * DEFAULT_MEMORY);
    }

    #[test]
    fn the_largest_init_container_counts_when_it_is_more() {
        let got = requests(
            json!({"containers": [container("100m")], "initContainers": [container("500m"), container("300m")]}),
        );
        assert_eq!(got.exact.milli_cpu, 500);
    }

    #[test]
    fn sidecars_run_beside_containers_and_later_init_containers() {
        let sidecar = json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "200m"}}});
        let got = requests(json!({"containers": [container("100m")], "initContainers": [sidecar, container("500m")]}));
        assert_eq!(got.exact.milli_cpu, 700, "200m of the sidecar with 500m of the init container after it");
        let got = requests(json!({"containers": [container("600m")], "initContainers": [container("700m"), sidecar]}));
        assert_eq!(got.exact.milli_cpu, 800, "the init container ran before the sidecar was there");
    }

    #[test]
    fn overhead_is_added_and_pod_level_requests_replace_the_sum() {
        let got = requests(json!({"containers": [container("100m")], "overhead": {"cpu": "50m", "memory": "1Mi"}}));
        assert_eq!((got.exact.milli_cpu, got.exact.memory), (150, 1 << 20));
        let got = requests(json!({"containers": [container("100m")], "resources": {"requests": {"cpu": "2"}}}));
        assert_eq!(got.exact.milli_cpu, 2000);
    }

    #[test]
    fn extended_resources_are_counted_by_name() {
        let gpu = json!({"name": "g", "resources": {"requests": {"example.com/gpu": "2"}}});
        let got = requests(json!({"containers": [gpu, gpu]}));
        assert_eq!(got.exact.get("example.com/gpu"), 4);
        assert!(!got.exact.is_zero());
    }

    #[test]
    fn a_shrinking_container_counts_what_it_still_has() {
        let spec = serde_json::from_value(json!({"containers": [container("100m")]})).unwrap();
        let status = json!({"containerStatuses": [{"name": "c100m", "image": "", "imageID": "", "ready": true,
            "restartCount": 0, "allocatedResources": {"cpu": "400m"}}]});
        let got = pod_requests(&spec, Some(&serde_json::from_value(status).unwrap()));
        assert_eq!(got.exact.milli_cpu, 400);
    }
}
