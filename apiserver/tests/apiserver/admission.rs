//! Admission plugins at a whole server on a real etcd.

use anyhow::Result;
use e2e::http_client::{Answer, send, send_json};
use e2e::{ControlPlane, Options};
use kube::Client;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";

async fn server() -> Result<(ControlPlane, Client)> {
    let plane = ControlPlane::start().await?;
    let client = plane.client().await?;
    Ok((plane, client))
}

fn pod(name: &str, container: Value) -> Value {
    let mut container = container;
    container["name"] = "c".into();
    container["image"] = "i".into();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"serviceAccountName": "default", "automountServiceAccountToken": false, "containers": [container]}})
}

async fn created(client: &Client, path: &str, object: &Value) -> Result<Value> {
    let answer = send_json(client, "POST", path, object).await?;
    assert_eq!(answer.code, 201, "{answer:?}");
    Ok(answer.json())
}

/// Waits until plugins know what was written: a consistent read is answered from the cache that tells them.
async fn seen(client: &Client, path: &str) -> Result<()> {
    assert_eq!(send_json(client, "GET", path, &Value::Null).await?.code, 200);
    Ok(())
}

fn message(answer: &Answer) -> String {
    answer.json()["message"].as_str().unwrap_or_default().to_owned()
}

/// Without a controller manager nobody makes the account that pods run as.
async fn with_account(client: &Client, namespace: &str) -> Result<()> {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    created(client, &format!("/api/v1/namespaces/{namespace}/serviceaccounts"), &account).await.map(drop)
}

#[tokio::test]
async fn a_limit_range_gives_defaults_and_bounds_to_what_is_created() -> Result<()> {
    let (_plane, client) = server().await?;
    with_account(&client, "default").await?;
    let limits = json!([{"type": "Container", "default": {"cpu": "500m"}, "max": {"cpu": "1"}}]);
    let range =
        json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "r"}, "spec": {"limits": limits}});
    created(&client, "/api/v1/namespaces/default/limitranges", &range).await?;
    seen(&client, "/api/v1/namespaces/default/limitranges").await?;
    let got = created(&client, PODS, &pod("a", json!({}))).await?;
    let resources = json!({"limits": {"cpu": "500m"}, "requests": {"cpu": "500m"}});
    assert_eq!(got["spec"]["containers"][0]["resources"], resources);
    assert_eq!(
        got["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    );
    let answer = send_json(&client, "POST", PODS, &pod("b", json!({"resources": {"limits": {"cpu": "2"}}}))).await?;
    let refusal = "pods \"b\" is forbidden: maximum cpu usage per Container is 1, but limit is 2";
    assert_eq!((answer.code, message(&answer)), (403, refusal.to_owned()));
    Ok(())
}

const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";

/// A quota that has been counted, as the controller manager would.
async fn quota(client: &Client, name: &str, hard: Value, used: Value) -> Result<()> {
    let object =
        json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": {"hard": hard}});
    let mut quota = created(client, QUOTAS, &object).await?;
    quota["status"] = json!({"hard": hard, "used": used});
    let answer = send_json(client, "PUT", &format!("{QUOTAS}/{name}/status"), &quota).await?;
    assert_eq!(answer.code, 200, "{answer:?}");
    seen(client, QUOTAS).await
}

async fn used(client: &Client, name: &str) -> Result<Value> {
    Ok(send_json(client, "GET", &format!("{QUOTAS}/{name}"), &Value::Null).await?.json()["status"]["used"].clone())
}

#[tokio::test]
async fn fifty_creations_at_once_take_the_ten_that_a_quota_allows() -> Result<()> {
    let (_plane, client) = server().await?;
    quota(&client, "q", json!({"configmaps": "10"}), json!({"configmaps": "0"})).await?;
    let path = "/api/v1/namespaces/default/configmaps";
    let creations = (0..50).map(|n| {
        let client = client.clone();
        async move {
            let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("c{n}")}});
            send_json(&client, "POST", path, &object).await
        }
    });
    let answers = futures::future::try_join_all(creations).await?;
    let refused: Vec<&Answer> = answers.iter().filter(|answer| answer.code != 201).collect();
    assert_eq!(refused.len(), 40);
    for answer in refused {
        assert_eq!(answer.code, 403, "{answer:?}");
        let text = message(answer);
        assert!(
            text.ends_with("exceeded quota: q, requested: configmaps=1, used: configmaps=10, limited: configmaps=10"),
            "{text}"
        );
    }
    assert_eq!(used(&client, "q").await?, json!({"configmaps": "10"}));
    let list = send_json(&client, "GET", path, &Value::Null).await?.json();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(10));
    Ok(())
}

#[tokio::test]
async fn a_quota_is_charged_for_pods_and_for_ports_that_are_added() -> Result<()> {
    let (_plane, client) = server().await?;
    with_account(&client, "default").await?;
    let hard = json!({"requests.cpu": "1", "services.nodeports": "2"});
    quota(&client, "q", hard, json!({"requests.cpu": "0", "services.nodeports": "0"})).await?;
    let cpu = |amount: &str| json!({"resources": {"requests": {"cpu": amount}}});
    created(&client, PODS, &pod("a", cpu("700m"))).await?;
    let answer = send_json(&client, "POST", PODS, &pod("b", cpu("500m"))).await?;
    let refusal = "pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=700m, limited: requests.cpu=1";
    assert_eq!((answer.code, message(&answer)), (403, refusal.to_owned()));
    let answer = send_json(&client, "POST", PODS, &pod("b", json!({}))).await?;
    assert_eq!(message(&answer), "pods \"b\" is forbidden: failed quota: q: must specify requests.cpu for: c");

    let services = "/api/v1/namespaces/default/services";
    let ports = |count: usize| (0..count).map(|n| json!({"name": format!("p{n}"), "port": 80 + n})).collect::<Vec<_>>();
    let service = |count: usize| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
        "spec": {"type": "NodePort", "ports": ports(count)}})
    };
    let mut stored = created(&client, services, &service(1)).await?;
    for (count, code) in [(2, 200), (3, 403), (1, 200)] {
        stored["spec"]["ports"] = ports(count).into();
        stored["metadata"]["resourceVersion"] = Value::Null;
        let answer = send_json(&client, "PUT", &format!("{services}/s"), &stored).await?;
        assert_eq!(answer.code, code, "{answer:?}");
    }
    assert_eq!(used(&client, "q").await?, json!({"requests.cpu": "700m", "services.nodeports": "2"}));
    Ok(())
}

fn namespace(name: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

/// A server whose plugins are configured by a file.
async fn configured(configuration: &str, flags: &[(&str, &str)]) -> Result<(ControlPlane, Client)> {
    let file = tempfile::NamedTempFile::new()?;
    let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n";
    std::fs::write(file.path(), format!("{head}{configuration}"))?;
    let path = file.path().display().to_string();
    let all = flags.iter().copied().chain([("admission-control-config-file", path.as_str())]);
    let apiserver_flags = all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let plane = ControlPlane::start_with(Options { apiserver_flags, ..Options::default() }).await?;
    let client = plane.client().await?;
    Ok((plane, client))
}

#[tokio::test]
async fn a_namespace_says_how_secure_its_pods_must_be() -> Result<()> {
    let configuration = "- name: PodSecurity\n  configuration:\n    \
        apiVersion: pod-security.admission.config.k8s.io/v1\n    kind: PodSecurityConfiguration\n    \
        defaults: {warn: baseline}\n    exemptions: {namespaces: [free]}\n";
    let (_plane, client) = configured(configuration, &[]).await?;
    let strict = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    for (name, labels) in [("strict", strict.clone()), ("free", strict), ("later", json!({}))] {
        created(&client, "/api/v1/namespaces", &namespace(name, labels)).await?;
        with_account(&client, name).await?;
    }
    let pods = |namespace: &str| format!("/api/v1/namespaces/{namespace}/pods");
    let answer = send_json(&client, "POST", &pods("strict"), &pod("web", json!({}))).await?;
    let refusal = "pods \"web\" is forbidden: violates PodSecurity \"restricted:latest\": \
        allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), \
        unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), \
        runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), \
        seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";
    assert_eq!((answer.code, message(&answer)), (403, refusal.to_owned()));
    created(&client, &pods("free"), &pod("web", json!({}))).await?;

    let strong = pod("strong", json!({"securityContext": {"privileged": true}}));
    let answer = send_json(&client, "POST", &pods("later"), &strong).await?;
    let warned = "would violate PodSecurity \"baseline:latest\": privileged (container \"c\" must not set securityContext.privileged=true)";
    let header = |text: &str| vec![format!("299 - \"{}\"", text.replace('"', "\\\""))];
    assert_eq!((answer.code, answer.warnings), (201, header(warned)));
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": strong["spec"]});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let answer = send_json(&client, "POST", "/apis/apps/v1/namespaces/later/deployments", &deployment).await?;
    assert_eq!((answer.code, answer.warnings), (201, header(warned)));

    let label = |level: &str| json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}});
    let patch = [("content-type", "application/merge-patch+json")];
    let later = "/api/v1/namespaces/later";
    let answer = send(&client, "PATCH", later, &patch, label("baseline").to_string()).await?;
    let existing = "existing pods in namespace \"later\" violate the new PodSecurity enforce level \"baseline:latest\"";
    assert_eq!(answer.warnings, [header(existing), header("strong: privileged")].concat(), "{answer:?}");
    let answer = send(&client, "PATCH", later, &patch, label("strict").to_string()).await?;
    let causes =
        vec![("metadata.labels[pod-security.kubernetes.io/enforce]".to_owned(), "FieldValueInvalid".to_owned())];
    assert_eq!((answer.code, answer.causes()), (422, causes));
    Ok(())
}

#[tokio::test]
async fn plugins_that_are_off_by_default_work_where_a_flag_turns_them_on() -> Result<()> {
    let configuration = "- name: PodNodeSelector\n  configuration:\n    podNodeSelectorPluginConfig: {clusterDefaultNodeSelector: zone=a}\n";
    let plugins = "NodeRestriction,AlwaysPullImages,DenyServiceExternalIPs,NamespaceAutoProvision,PodNodeSelector";
    let flags = [("enable-admission-plugins", plugins), ("disable-admission-plugins", "ServiceAccount")];
    let (_plane, client) = configured(configuration, &flags).await?;

    let got = created(&client, "/api/v1/namespaces/new/pods", &pod("a", json!({"imagePullPolicy": "Never"}))).await?;
    assert_eq!(got["spec"]["containers"][0]["imagePullPolicy"], "Always");
    assert_eq!(got["spec"]["nodeSelector"], json!({"zone": "a"}));
    let made = send_json(&client, "GET", "/api/v1/namespaces/new", &Value::Null).await?.json();
    assert_eq!((&made["status"]["phase"], &made["spec"]["finalizers"]), (&json!("Active"), &json!(["kubernetes"])));

    let spec = json!({"externalIPs": ["192.0.2.1"], "ports": [{"port": 80}]});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": spec});
    let answer = send_json(&client, "POST", "/api/v1/namespaces/new/services", &service).await?;
    let refusal = "services \"s\" is forbidden: Use of external IPs is denied by admission control";
    assert_eq!((answer.code, message(&answer)), (403, refusal.to_owned()));
    Ok(())
}

#[tokio::test]
async fn plugins_that_are_on_by_default_complete_what_storage_and_pods_leave_out() -> Result<()> {
    let (_plane, client) = server().await?;
    with_account(&client, "default").await?;
    let classes = "/apis/storage.k8s.io/v1/storageclasses";
    let annotations = json!({"storageclass.kubernetes.io/is-default-class": "true"});
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "p",
        "metadata": {"name": "usual", "annotations": annotations}});
    created(&client, classes, &class).await?;
    seen(&client, classes).await?;
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"}, "spec": spec});
    let got = created(&client, "/api/v1/namespaces/default/persistentvolumeclaims", &claim).await?;
    assert_eq!(got["spec"]["storageClassName"], "usual");
    assert_eq!(got["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));

    let runtime = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "vm"}, "handler": "vm",
        "overhead": {"podFixed": {"cpu": "250m"}}, "scheduling": {"nodeSelector": {"vm": "yes"}}});
    let runtimes = "/apis/node.k8s.io/v1/runtimeclasses";
    created(&client, runtimes, &runtime).await?;
    let mut sandboxed = pod("p", json!({}));
    sandboxed["spec"]["runtimeClassName"] = "vm".into();
    let got = created(&client, PODS, &sandboxed).await?;
    assert_eq!(got["spec"]["overhead"], json!({"cpu": "250m"}));
    assert_eq!(got["spec"]["nodeSelector"], json!({"vm": "yes"}));
    assert_eq!(send_json(&client, "DELETE", &format!("{runtimes}/vm"), &json!({})).await?.code, 200);
    seen(&client, runtimes).await?;
    sandboxed["metadata"]["name"] = "q".into();
    let answer = send_json(&client, "POST", PODS, &sandboxed).await?;
    let refusal = "pods \"q\" is forbidden: pod rejected: RuntimeClass \"vm\" not found";
    assert_eq!((answer.code, message(&answer)), (403, refusal.to_owned()));

    let node = json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "z", "other": "x"}}});
    let got = created(&client, "/api/v1/nodes", &node).await?;
    assert_eq!(got["spec"]["taints"][0]["key"], "node.kubernetes.io/not-ready");
    seen(&client, "/api/v1/nodes").await?;
    created(&client, PODS, &pod("r", json!({}))).await?;
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "r"}, "target": {"kind": "Node", "name": "n"}});
    created(&client, &format!("{PODS}/r/binding"), &binding).await?;
    let bound = send_json(&client, "GET", &format!("{PODS}/r"), &Value::Null).await?.json();
    assert_eq!(bound["metadata"]["labels"], json!({"topology.kubernetes.io/zone": "z"}));
    Ok(())
}
