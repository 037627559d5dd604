//! A node that belongs to a real control plane: etcd and kube-apiserver beside the kubelet, in the same namespaces.

use std::time::{Duration, Instant};

use e2e::{ControlPlane, Options};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Pod, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::node::{ADDRESS, Node, PATIENCE, isolated};

pub const NAMESPACE: &str = "t";
pub const BUSYBOX: &str = "corten.test/busybox:1";

pub struct Cluster {
    pub node: Node,
    pub client: Client,
    pub plane: ControlPlane,
}

/// Runs a test on a control plane with a kubelet that has its credentials already. A service account and the cluster's certificate are
/// there, as controllers would make them.
pub fn with_cluster<F: Future<Output = ()>>(configuration: &str, test: impl FnOnce(Cluster) -> F + Send + 'static) {
    let configuration = configuration.to_owned();
    on_runtime(async move || {
        let mut cluster = Cluster::prepare(Options::default(), &configuration).await;
        cluster.start().await;
        test(cluster).await;
    });
}

/// Runs a future in namespaces of its own: the runtime's threads are children of the isolated one.
pub fn on_runtime<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    isolated(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(test());
    });
}

impl Cluster {
    /// A control plane, and a node whose kubelet is not started yet.
    pub async fn prepare(options: Options, configuration: &str) -> Self {
        let plane = ControlPlane::start_with(options).await.unwrap();
        let ca = plane.pki_dir().join("ca.crt");
        let lines = format!(
            "authentication:\n  x509:\n    clientCAFile: {}\nclusterDNS: [10.96.0.10]\nclusterDomain: cluster.local\n{configuration}",
            ca.display()
        );
        let mut node = Node::prepare(&lines);
        node.flags.extend(["--node-ip".into(), ADDRESS.into()]);
        let client = plane.client().await.unwrap();
        Self { node, client, plane }
    }

    /// Starts the kubelet with credentials of its own.
    pub async fn start(&mut self) {
        let kubeconfig = self.plane.kubeconfig_for("system:node:n1", &["system:nodes"]).unwrap();
        self.node.flags.extend(["--kubeconfig".into(), kubeconfig.display().to_string()]);
        self.node.start_kubelet();
        self.prepare_namespace().await;
    }

    async fn prepare_namespace(&self) {
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}})).unwrap();
        Api::all(self.client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        // A controller manager may have made it already.
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        let params = PatchParams::apply("test").force();
        self.api::<ServiceAccount>().patch("default", &params, &Patch::Apply(account)).await.unwrap();
        let ca = std::fs::read_to_string(self.plane.pki_dir().join("ca.crt")).unwrap();
        self.config_map("kube-root-ca.crt", &[("ca.crt", &ca)]).await;
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Makes or changes a ConfigMap.
    pub async fn config_map(&self, name: &str, data: &[(&str, &str)]) {
        let data: std::collections::BTreeMap<&str, &str> = data.iter().copied().collect();
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
        let params = PatchParams::apply("test").force();
        self.api::<ConfigMap>().patch(name, &params, &Patch::Apply(map)).await.unwrap();
    }

    /// Creates a pod on the node.
    pub async fn create(&self, name: &str, mut spec: Value) {
        spec["nodeName"] = "n1".into();
        if spec["terminationGracePeriodSeconds"].is_null() {
            spec["terminationGracePeriodSeconds"] = 1.into();
        }
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": name, "labels": {"of": name}}, "spec": spec})).unwrap();
        self.api().create(&PostParams::default(), &pod).await.unwrap();
    }

    pub async fn get(&self, name: &str) -> Option<Value> {
        let pod = self.api::<Pod>().get_opt(name).await.unwrap()?;
        Some(serde_json::to_value(pod).unwrap())
    }

    /// Waits until a pod is so; the pod.
    pub async fn until(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("{name}: {what}"), async || self.get(name).await.filter(&is)).await
    }

    pub async fn until_phase(&self, name: &str, phase: &str) -> Value {
        self.until(name, phase, |pod| pod["status"]["phase"] == phase).await
    }

    pub async fn until_ready(&self, name: &str) -> Value {
        self.until(name, "ready", is_ready).await
    }

    /// Waits until an event about a pod has that reason, and a message with that text.
    pub async fn until_event(&self, pod: &str, reason: &str, text: &str) {
        let events: Api<Event> = self.api();
        let is = |event: &Event| {
            event.involved_object.name.as_deref() == Some(pod)
                && event.reason.as_deref() == Some(reason)
                && event.message.as_deref().is_some_and(|message| message.contains(text))
        };
        eventually(&format!("an event {reason} of {pod} with {text:?}"), async || {
            events.list(&Default::default()).await.unwrap().iter().any(is).then_some(())
        })
        .await;
    }

    pub async fn delete(&self, name: &str, grace: Option<u32>) {
        let params = DeleteParams { grace_period_seconds: grace, ..Default::default() };
        self.api::<Pod>().delete(name, &params).await.unwrap();
    }

    pub async fn until_gone(&self, name: &str) {
        eventually(&format!("{name} is gone"), async || self.get(name).await.is_none().then_some(())).await;
    }

    /// What a container wrote, without times and streams.
    pub fn output(&self, pod: &str, container: &str) -> String {
        let lines = self.node.log_of(pod, container);
        let text: Vec<&str> = lines.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect();
        text.join("\n")
    }

    /// Runs a shell script in a pod to its end; what it wrote.
    pub async fn script(&self, name: &str, script: &str, mut spec: Value) -> String {
        let container = &mut spec["containers"][0];
        for (key, value) in [("name", json!("c")), ("image", json!(BUSYBOX)), ("command", json!(["sh", "-c", script]))]
        {
            container[key] = value;
        }
        spec["restartPolicy"] = "Never".into();
        self.create(name, spec).await;
        let ended = |pod: &Value| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let pod = self.until(name, "ends", ended).await;
        let output = self.output(name, "c");
        assert_eq!(pod["status"]["phase"], "Succeeded", "{output}\n{:#}", pod["status"]);
        output
    }
}

pub fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready")["status"] == "True"
}

pub fn condition<'a>(pod: &'a Value, kind: &str) -> &'a Value {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.and_then(|all| all.iter().find(|condition| condition["type"] == kind)).unwrap_or(&Value::Null)
}

/// Asks until there is an answer.
pub async fn eventually<T>(what: &str, mut question: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = question().await {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
