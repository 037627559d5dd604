//! Builders of pods and nodes for tests and benchmarks: they go through the API types, as real ones do.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::node::Node;
use crate::pod::Pod;

/// A pod in namespace `default` whose uid is its name.
#[derive(Clone)]
pub struct PodBuilder(Value);

impl PodBuilder {
    pub fn new(name: &str) -> Self {
        Self(json!({
            "metadata": {"name": name, "namespace": "default", "uid": name},
            "spec": {"containers": [{"name": "c", "image": "pause:1"}]},
        }))
    }

    /// Merges `value` into the object at a JSON pointer such as `/spec`.
    pub fn with(mut self, pointer: &str, value: Value) -> Self {
        let target = self.0.pointer_mut(pointer).expect("a test names a field that exists");
        match (target, value) {
            (Value::Object(target), Value::Object(fields)) => target.extend(fields),
            (target, value) => *target = value,
        }
        self
    }

    pub fn spec(self, value: Value) -> Self {
        self.with("/spec", value)
    }

    pub fn requests(self, value: Value) -> Self {
        self.with("/spec/containers/0", json!({"resources": {"requests": value}}))
    }

    pub fn cpu(self, cpu: &str) -> Self {
        self.requests(json!({"cpu": cpu}))
    }

    pub fn labels(self, value: Value) -> Self {
        self.with("/metadata", json!({"labels": value}))
    }

    pub fn priority(self, priority: i32) -> Self {
        self.spec(json!({"priority": priority}))
    }

    pub fn node(self, name: &str) -> Self {
        self.spec(json!({"nodeName": name}))
    }

    pub fn build(self) -> Arc<Pod> {
        let object = serde_json::from_value(self.0).expect("a test builds valid pods");
        Arc::new(Pod::new(&object).expect("a test builds complete pods"))
    }
}

/// A node with 4 cores, 16 GiB and room for 110 pods.
pub struct NodeBuilder(Value);

impl NodeBuilder {
    pub fn new(name: &str) -> Self {
        Self(json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "spec": {"taints": []},
            "status": {"allocatable": {"cpu": "4", "memory": "16Gi", "pods": "110"}, "images": []},
        }))
    }

    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["labels"][key] = value.into();
        self
    }

    pub fn allocatable(mut self, resource: &str, amount: &str) -> Self {
        self.0["status"]["allocatable"][resource] = amount.into();
        self
    }

    pub fn taint(mut self, key: &str, value: &str, effect: &str) -> Self {
        let taints = self.0["spec"]["taints"].as_array_mut().expect("the builder starts with a list");
        taints.push(json!({"key": key, "value": value, "effect": effect}));
        self
    }

    pub fn unschedulable(mut self) -> Self {
        self.0["spec"]["unschedulable"] = true.into();
        self
    }

    pub fn image(mut self, name: &str, size: i64) -> Self {
        let images = self.0["status"]["images"].as_array_mut().expect("the builder starts with a list");
        images.push(json!({"names": [name], "sizeBytes": size}));
        self
    }

    pub fn build(self) -> Arc<Node> {
        let object = serde_json::from_value(self.0).expect("a test builds valid nodes");
        Arc::new(Node::new(&object).expect("a test builds complete nodes"))
    }
}

/// The default profile without the binder, under its usual name.
pub fn profiles() -> crate::queue::Profiles {
    let config = crate::config::Configuration::default();
    config.profiles(None).expect("the default configuration is valid")
}
