//! Admission policies at a whole server on a real etcd.

use anyhow::Result;
use e2e::ControlPlane;
use e2e::http_client::{Answer, send_json};
use kube::Client;
use serde_json::{Value, json};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn server() -> Result<(ControlPlane, Client)> {
    let plane = ControlPlane::start().await?;
    let client = plane.client().await?;
    Ok((plane, client))
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

fn rule(group: &str, resource: &str) -> Value {
    json!([{"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": [resource]}])
}

/// Creates a policy and its binding, and waits until they are in force.
async fn policy(client: &Client, kind: &str, name: &str, spec: Value, binding: Value) -> Result<()> {
    let plural = format!("{}policies", kind.to_lowercase().trim_end_matches("policy"));
    let mut binding = binding;
    binding["policyName"] = name.into();
    let api_version = "admissionregistration.k8s.io/v1";
    let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec});
    created(client, &format!("{GROUP}/{plural}"), &object).await?;
    let bindings = format!("{GROUP}/{}bindings", kind.to_lowercase());
    let object = json!({"apiVersion": api_version, "kind": format!("{kind}Binding"),
        "metadata": {"name": format!("{name}-binding")}, "spec": binding});
    created(client, &bindings, &object).await?;
    seen(client, &bindings).await
}

async fn validating(client: &Client, name: &str, spec: Value, binding: Value) -> Result<()> {
    policy(client, "ValidatingAdmissionPolicy", name, spec, binding).await
}

async fn mutating(client: &Client, name: &str, spec: Value) -> Result<()> {
    policy(client, "MutatingAdmissionPolicy", name, spec, json!({})).await
}

fn deployment(name: &str, replicas: i64) -> Value {
    let labels = json!({"app": "nginx"});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": labels},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
            "spec": {"containers": [{"name": "nginx", "image": "nginx:latest"}]}}}})
}

fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

#[tokio::test]
async fn a_policy_validates_deployments_and_nothing_else() -> Result<()> {
    let (_plane, client) = server().await?;
    let spec = json!({"matchConstraints": {"resourceRules": rule("apps", "deployments")},
        "variables": [{"name": "wanted", "expression": "object.spec.replicas"}],
        "validations": [{"expression": "variables.wanted > 1",
            "messageExpression": "'wants replicas > 1, got ' + string(variables.wanted)"}]});
    validating(&client, "replicated.example.com", spec, json!({"validationActions": ["Deny"]})).await?;
    let answer = send_json(&client, "POST", DEPLOYMENTS, &deployment("marker", 1)).await?;
    let refusal = "deployments.apps \"marker\" is forbidden: ValidatingAdmissionPolicy 'replicated.example.com' with binding \
                   'replicated.example.com-binding' denied request: wants replicas > 1, got 1";
    assert_eq!((answer.code, answer.reason(), message(&answer)), (422, "Invalid".to_owned(), refusal.to_owned()));
    let mut stored = created(&client, DEPLOYMENTS, &deployment("replicated", 2)).await?;
    let mut replica_set = deployment("set", 1);
    replica_set["kind"] = "ReplicaSet".into();
    created(&client, "/apis/apps/v1/namespaces/default/replicasets", &replica_set).await?;
    stored["spec"]["replicas"] = 1.into();
    let answer = send_json(&client, "PUT", &format!("{DEPLOYMENTS}/replicated"), &stored).await?;
    assert_eq!(answer.code, 422, "{answer:?}");

    let path = format!("{GROUP}/validatingadmissionpolicybindings/replicated.example.com-binding");
    assert_eq!(send_json(&client, "DELETE", &path, &Value::Null).await?.code, 200);
    seen(&client, &format!("{GROUP}/validatingadmissionpolicybindings")).await?;
    created(&client, DEPLOYMENTS, &deployment("marker", 1)).await.map(drop)
}

#[tokio::test]
async fn warnings_are_sent_and_parameters_come_from_custom_resources() -> Result<()> {
    let (_plane, client) = server().await?;
    let schema = json!({"type": "object", "properties": {"max": {"type": "integer"}}});
    let names = json!({"plural": "limits", "singular": "limit", "kind": "Limit"});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "limits.example.com"},
        "spec": {"group": "example.com", "names": names, "scope": "Cluster", "versions": [version]}});
    created(&client, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await?;
    let limits = "/apis/example.com/v1/limits";
    let limit = json!({"apiVersion": "example.com/v1", "kind": "Limit", "metadata": {"name": "few"}, "max": 2});
    let established = async {
        while send_json(&client, "POST", limits, &limit).await?.code != 201 {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), established).await??;
    seen(&client, limits).await?;
    let spec = json!({"paramKind": {"apiVersion": "example.com/v1", "kind": "Limit"},
        "matchConstraints": {"resourceRules": rule("", "configmaps")},
        "validations": [{"expression": "size(object.data) <= params.max", "message": "too many"}]});
    let reference = json!({"name": "few", "parameterNotFoundAction": "Deny"});
    let binding = |actions: Value| json!({"validationActions": actions, "paramRef": reference});
    validating(&client, "few", spec, binding(json!(["Warn"]))).await?;
    let answer = send_json(&client, "POST", MAPS, &map("a", json!({"a": "1", "b": "2", "c": "3"}))).await?;
    let warning =
        "299 - \"Validation failed for ValidatingAdmissionPolicy 'few' with binding 'few-binding': too many\"";
    assert_eq!((answer.code, answer.warnings), (201, vec![warning.to_owned()]));
    let answer = send_json(&client, "POST", MAPS, &map("b", json!({"a": "1"}))).await?;
    assert_eq!((answer.code, answer.warnings.len()), (201, 0));

    assert_eq!(send_json(&client, "DELETE", &format!("{limits}/few"), &Value::Null).await?.code, 200);
    seen(&client, limits).await?;
    let answer = send_json(&client, "POST", MAPS, &map("c", json!({}))).await?;
    let refusal = "configmaps \"c\" is forbidden: ValidatingAdmissionPolicy 'few' with binding 'few-binding' denied request: \
                   failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction";
    assert_eq!((answer.code, message(&answer)), (422, refusal.to_owned()));
    Ok(())
}

#[tokio::test]
async fn a_policy_mutates_what_is_created() -> Result<()> {
    let (_plane, client) = server().await?;
    let apply = "Object{metadata: Object.metadata{annotations: {'mutated-by': 'admission-policy'}}, \
                 spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: \
                 object.spec.template.spec.containers.map(c, Object.spec.template.spec.containers{name: c.name, \
                 imagePullPolicy: 'Always'})}}}}";
    let patch = "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('example.com/by'), \
                 value: request.userInfo.username.lowerAscii().replace(':', '-')}]";
    let spec = json!({"matchConstraints": {"resourceRules": rule("apps", "deployments")},
    "reinvocationPolicy": "Never", "failurePolicy": "Fail",
    "mutations": [
        {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": apply}},
        {"patchType": "JSONPatch", "jsonPatch": {"expression": patch}},
    ]});
    mutating(&client, "mark.example.com", spec).await?;
    let got = created(&client, DEPLOYMENTS, &deployment("a", 1)).await?;
    assert_eq!(got["metadata"]["annotations"]["mutated-by"], "admission-policy");
    assert!(got["metadata"]["labels"]["example.com/by"].is_string(), "{got}");
    let container = &got["spec"]["template"]["spec"]["containers"][0];
    assert_eq!((&container["imagePullPolicy"], &container["image"]), (&json!("Always"), &json!("nginx:latest")));
    Ok(())
}

#[tokio::test]
async fn policies_have_a_status_of_their_own() -> Result<()> {
    let (_plane, client) = server().await?;
    let spec = json!({"matchConstraints": {"resourceRules": rule("apps", "deployments")},
        "validations": [{"expression": "true"}]});
    validating(&client, "p", spec, json!({"validationActions": ["Deny"]})).await?;
    let path = format!("{GROUP}/validatingadmissionpolicies/p");
    let mut got = send_json(&client, "GET", &path, &Value::Null).await?.json();
    assert_eq!(got["metadata"]["generation"], 1);
    got["status"] = json!({"observedGeneration": 1, "typeChecking": {}});
    let got = send_json(&client, "PUT", &format!("{path}/status"), &got).await?;
    assert_eq!((got.code, got.json()["status"]["observedGeneration"].clone()), (200, json!(1)), "{got:?}");
    Ok(())
}

#[tokio::test]
async fn rules_of_custom_resources_have_the_same_libraries() -> Result<()> {
    let (_plane, client) = server().await?;
    let rules = json!([
        {"rule": "quantity(self.size).isLessThan(quantity('10Gi'))", "message": "too large"},
        {"rule": "cidr('10.0.0.0/8').containsIP(self.address)"},
        {"rule": "self.hosts.all(i, host, isURL(host) && url(host).getScheme() == 'https')"},
    ]);
    let text = json!({"type": "string"});
    let spec = json!({"type": "object", "x-kubernetes-validations": rules, "properties": {"size": text, "address": text,
        "hosts": {"type": "array", "items": text}}});
    let schema = json!({"type": "object", "properties": {"spec": spec}});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
    let mut definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "disks.example.com"}, "spec": {"group": "example.com", "scope": "Cluster",
            "names": {"plural": "disks", "singular": "disk", "kind": "Disk"}, "versions": [version]}});
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    created(&client, definitions, &definition).await?;
    let disk = |name: &str, size: &str, address: &str| {
        json!({"apiVersion": "example.com/v1", "kind": "Disk", "metadata": {"name": name},
            "spec": {"size": size, "address": address, "hosts": ["https://a/"]}})
    };
    let disks = "/apis/example.com/v1/disks";
    let established = async {
        while send_json(&client, "POST", disks, &disk("a", "1Gi", "10.1.2.3")).await?.code != 201 {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), established).await??;
    let answer = send_json(&client, "POST", disks, &disk("b", "20Gi", "11.0.0.1")).await?;
    assert_eq!(answer.code, 422, "{answer:?}");
    let said = message(&answer);
    assert!(said.contains("too large") && said.contains("failed rule: cidr('10.0.0.0/8')"), "{said}");

    definition["metadata"]["name"] = "bads.example.com".into();
    definition["spec"]["names"] = json!({"plural": "bads", "singular": "bad", "kind": "Bad"});
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-validations"] =
        json!([{"rule": "nonsense(self.size)"}]);
    let answer = send_json(&client, "POST", definitions, &definition).await?;
    assert_eq!(answer.code, 422, "{answer:?}");
    assert!(message(&answer).contains("compilation failed: "), "{}", message(&answer));
    Ok(())
}
