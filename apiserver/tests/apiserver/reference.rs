//! What a real Kubernetes 1.36 answered, held against the whole server over HTTPS. Needs `CORTEN_REFERENCE`, the folder of
//! the recordings; without it nothing is compared.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    path::PathBuf,
};

use anyhow::{Context, Result};
use e2e::{
    ControlPlane,
    http_client::{Answer, send, send_json},
    node::eventually,
};
use futures::{StreamExt, TryStreamExt, stream};
use kube::Client;
use serde_json::{Value, json};

/// Requests that are on their way at the same time.
const CONCURRENCY: usize = 16;

/// Recordings and the numbers of their cases (and steps) that are answered otherwise, and why. A case that is answered as
/// recorded must not be here.
const DIFFERENT: &[(&str, &[&str])] = &[(
    "the finalizer is the controller manager's",
    &["bootstrap /apis/networking.k8s.io/v1/servicecidrs /kubernetes"],
)];

/// How a case differs from its recording: the case, and what is different.
type Difference = (String, String);

pub(super) fn recording(name: &str) -> Option<String> {
    let Some(folder) = std::env::var_os("CORTEN_REFERENCE") else {
        println!("reference: 0 cases of {name}: CORTEN_REFERENCE is not set");
        return None;
    };
    let path = PathBuf::from(folder).join(name);
    Some(std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

fn lines(text: &str) -> Result<Vec<Value>> {
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

pub(super) fn list(text: &str) -> Result<Vec<Value>> {
    Ok(serde_json::from_str(text)?)
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// etcd and kube-apiserver, with what a controller manager would have added that creating pods needs, and a client with the
/// name and the rights that the recorder had.
pub(super) async fn server() -> Result<(ControlPlane, Client)> {
    let plane = ControlPlane::start().await?;
    let client = plane.client().await?;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let rights = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "rig"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "namespace": "default", "name": "rig"}],
    });
    for (path, object) in [
        ("/api/v1/namespaces/default/serviceaccounts", account),
        ("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", rights),
    ] {
        let answer = send_json(&client, "POST", path, &object).await?;
        assert_eq!(answer.code, 201, "{answer:?}");
    }
    let groups = ["system:serviceaccounts", "system:serviceaccounts:default"];
    let recorder = plane.client_for("system:serviceaccount:default:rig", &groups).await?;
    Ok((plane, recorder))
}

/// Fails unless exactly the cases that are known to differ do.
fn assert_recorded(recording: &str, cases: usize, differences: Vec<Difference>) {
    let listed = DIFFERENT.iter().flat_map(|(_, cases)| cases.iter().copied());
    let known: BTreeSet<&str> = listed.filter(|case| case.starts_with(recording)).collect();
    let differing: BTreeSet<&str> = differences.iter().map(|(case, _)| case.as_str()).collect();
    let new: Vec<String> = differences
        .iter()
        .filter(|(case, _)| !known.contains(case.as_str()))
        .map(|(case, what)| format!("{case}: {what}"))
        .collect();
    let passing: Vec<&&str> = known.difference(&differing).collect();
    println!("{recording}: {cases} cases, {} differ, {} of them unexpectedly", differing.len(), new.len());
    assert!(new.is_empty(), "{} of {cases} cases differ:\n{}", new.len(), new.join("\n"));
    assert!(passing.is_empty(), "answered as recorded: take them off the list: {passing:?}");
}

/// Where two values differ.
fn compare(path: &str, ours: &Value, theirs: &Value, out: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                compare(&format!("{path}.{key}"), &ours[key], &theirs[key], out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{path}[{index}]"), a, b, out);
            }
        }
        _ if ours == theirs => {}
        _ => out.push(format!("{path}: ours {ours}, theirs {theirs}")),
    }
}

fn difference(case: String, ours: &Value, theirs: &Value) -> Option<Difference> {
    let mut out = Vec::new();
    compare("", ours, theirs, &mut out);
    (!out.is_empty()).then(|| (case, out.join("; ")))
}

fn unequal<T: PartialEq + Debug>(case: String, ours: &T, theirs: &T, answer: &Answer) -> Option<Difference> {
    let message = || text(&answer.json()["message"]).to_owned();
    (ours != theirs).then(|| (case, format!("ours {ours:?}, theirs {theirs:?}: {}", message())))
}

/// Code, reason and causes.
type Verdict = (u64, String, Vec<(String, String)>);

fn verdict(answer: &Answer) -> Verdict {
    let mut causes = if answer.code == 400 { Vec::new() } else { answer.causes() };
    causes.sort();
    let reason = if answer.code < 400 { String::new() } else { answer.reason() };
    (answer.code.into(), reason, causes)
}

fn recorded_verdict(case: &Value) -> Verdict {
    let pair = |cause: &Value| (text(&cause[0]).to_owned(), text(&cause[1]).to_owned());
    let mut causes: Vec<_> = items(&case["causes"]).map(pair).collect();
    causes.sort();
    (case["code"].as_u64().unwrap_or_default(), text(&case["reason"]).to_owned(), causes)
}

#[tokio::test]
async fn invalid_objects_are_refused_with_the_recorded_causes() -> Result<()> {
    let Some(recording) = recording("validation-1.36.jsonl") else { return Ok(()) };
    let cases = lines(&recording)?;
    let (_plane, client) = server().await?;
    let client = &client;
    let differences: Vec<_> = stream::iter(cases.iter().enumerate())
        .map(|(number, case)| async move {
            let path = format!("{}?dryRun=All&fieldValidation=Strict", text(&case["path"]));
            let answer = send_json(client, "POST", &path, &case["request"]).await?;
            anyhow::Ok(unequal(format!("validation {number}"), &verdict(&answer), &recorded_verdict(case), &answer))
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await?;
    assert_recorded("validation", cases.len(), differences.into_iter().flatten().collect());
    Ok(())
}

/// Fields whose values are given by the server, by time or by chance.
const GIVEN: [&str; 5] =
    ["clusterIP", "nodePort", "healthCheckNodePort", "lastTransitionTime", "lastPhaseTransitionTime"];

/// The condition that follows a change of the spec in its own time; the recorded server was slower than its client.
const FOLLOWS: &str = "Dangling";

/// Replaces what differs from server to server by its kind.
fn generalize(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let follows = fields.get("type").is_some_and(|kind| kind == FOLLOWS);
            for (name, field) in fields {
                match name.as_str() {
                    "status" | "reason" | "message" if follows => generalize_given(field),
                    "clusterIPs" => items_mut(field).for_each(generalize_given),
                    name if GIVEN.contains(&name) => generalize_given(field),
                    _ => generalize(field),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(generalize),
        Value::String(text) if text.starts_with("kube-api-access-") => *text = "kube-api-access-<random>".into(),
        Value::String(text) if is_uid(text) => *text = "<uid>".into(),
        _ => {}
    }
}

fn items_mut(value: &mut Value) -> impl Iterator<Item = &mut Value> {
    value.as_array_mut().into_iter().flatten()
}

fn generalize_given(value: &mut Value) {
    if !matches!(value.as_str(), Some("None" | "")) {
        *value = json!("<given>");
    }
}

fn is_uid(text: &str) -> bool {
    text.len() == 36 && text.bytes().enumerate().all(|(i, b)| (b == b'-') == matches!(i, 8 | 13 | 18 | 23))
}

/// An object without what differs by nature.
fn comparable(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in ["uid", "creationTimestamp", "resourceVersion"] {
            metadata.remove(field);
        }
    }
    let managers = &mut object["metadata"]["managedFields"];
    items_mut(managers).filter_map(Value::as_object_mut).for_each(|manager| {
        manager.remove("time");
    });
    if let Some(managers) = managers.as_array_mut() {
        managers.sort_by_key(|m| {
            [&m["manager"], &m["operation"], &m["subresource"], &m["apiVersion"]].map(Value::to_string)
        });
    }
    generalize(&mut object);
    object
}

fn without_managers(object: Value) -> Value {
    let mut object = comparable(object);
    object["metadata"].as_object_mut().map(|metadata| metadata.remove("managedFields"));
    object
}

/// Deletes an object at once, also when it has finalizers.
async fn delete(client: &Client, path: &str) -> Result<()> {
    send(client, "DELETE", &format!("{path}?gracePeriodSeconds=0"), &[], "").await?;
    if send(client, "GET", path, &[], "").await?.code == 200 {
        let headers = [("content-type", "application/merge-patch+json")];
        send(client, "PATCH", path, &headers, r#"{"metadata":{"finalizers":null}}"#).await?;
    }
    Ok(())
}

/// Kinds whose objects change how others are admitted.
const ALONE: [&str; 6] =
    ["limitranges", "resourcequotas", "priorityclasses", "storageclasses", "runtimeclasses", "ingressclasses"];

/// Cases by kind. Objects of one kind have the same name or address: they are played one after the other.
fn kinds<'a>(cases: impl Iterator<Item = (usize, &'a Value)>, alone: bool) -> Vec<Vec<(usize, &'a Value)>> {
    let mut kinds: BTreeMap<&str, Vec<(usize, &Value)>> = BTreeMap::new();
    for (number, case) in cases {
        let path = text(&case["path"]);
        let affects_others =
            path.contains("/admissionregistration.k8s.io/") || ALONE.iter().any(|kind| path.ends_with(kind));
        if affects_others == alone {
            kinds.entry(path).or_default().push((number, case));
        }
    }
    kinds.into_values().collect()
}

async fn create_and_delete(client: &Client, number: usize, case: &Value) -> Result<Option<Difference>> {
    let path = text(&case["path"]);
    let answer = send_json(client, "POST", path, &case["request"]).await?;
    let name = format!("defaulting {number}");
    if u64::from(answer.code) != case["response"]["code"] {
        return Ok(Some((name, format!("{} {}", answer.code, answer.json()["message"]))));
    }
    let object = answer.json();
    if let Some(name) = object["metadata"]["name"].as_str() {
        delete(client, &format!("{path}/{name}")).await?;
    }
    let theirs = without_managers(case["response"]["object"].clone());
    Ok(difference(name, &without_managers(object), &theirs))
}

#[tokio::test]
async fn created_objects_come_back_as_recorded() -> Result<()> {
    let Some(recording) = recording("defaulting-1.36.json") else { return Ok(()) };
    let cases = list(&recording)?;
    let (_plane, client) = server().await?;
    let client = &client;
    let mut differences: Vec<Vec<Difference>> = Vec::new();
    for (alone, concurrency) in [(false, CONCURRENCY), (true, 1)] {
        let played = stream::iter(kinds(cases.iter().enumerate(), alone)).map(|cases| async move {
            let mut out = Vec::new();
            for (number, case) in cases {
                out.extend(create_and_delete(client, number, case).await?);
            }
            anyhow::Ok(out)
        });
        differences.extend(played.buffer_unordered(concurrency).try_collect::<Vec<_>>().await?);
    }
    assert_recorded("defaulting", cases.len(), differences.into_iter().flatten().collect());
    Ok(())
}

/// A column without its description, which is ours to word.
fn column(definition: &Value) -> Value {
    let mut column = definition.clone();
    if let Some(fields) = column.as_object_mut() {
        fields.retain(|name, value| name != "description" && *value != "");
    }
    column
}

#[tokio::test]
async fn tables_have_the_recorded_columns() -> Result<()> {
    let Some(recording) = recording("tables-1.36.json") else { return Ok(()) };
    let cases = list(&recording)?;
    let (_plane, client) = server().await?;
    let headers = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let mut differences = Vec::new();
    for case in &cases {
        let answer = send(&client, "GET", text(&case["path"]), &headers, "").await?;
        let columns: Value = items(&answer.json()["columnDefinitions"]).map(column).collect();
        differences.extend(difference(format!("tables {}", text(&case["path"])), &columns, &case["columns"]));
    }
    assert_recorded("tables", cases.len(), differences);
    Ok(())
}

fn by_name<'a>(list: &'a Value, name: &'static str) -> Value {
    let entry = |item: &'a Value| (text(&item[name]).to_owned(), item.clone());
    Value::Object(items(list).map(entry).collect())
}

#[tokio::test]
async fn core_resources_are_discovered_as_recorded() -> Result<()> {
    let Some(recording) = recording("discovery/api__v1.json") else { return Ok(()) };
    let theirs: Value = serde_json::from_str(&recording)?;
    let (_plane, client) = server().await?;
    let ours = send(&client, "GET", "/api/v1", &[], "").await?.json();
    // The hash tells storage versions apart; its value is the server's.
    let resources = |list: &Value| {
        let mut resources = by_name(&list["resources"], "name");
        for resource in resources.as_object_mut().into_iter().flat_map(|r| r.values_mut()) {
            resource.as_object_mut().map(|fields| fields.remove("storageVersionHash"));
        }
        resources
    };
    let difference = difference("discovery /api/v1".into(), &resources(&ours), &resources(&theirs));
    assert_recorded("discovery /api/v1", items(&theirs["resources"]).count(), difference.into_iter().collect());
    Ok(())
}

/// The kind of an answer in the same group and version says so or says nothing: the same to a client.
fn name_own_kind(resource: &mut Value, group: &str, version: &str) {
    if text(&resource["responseKind"]["version"]).is_empty() {
        resource["responseKind"]["group"] = json!(group);
        resource["responseKind"]["version"] = json!(version);
    }
    items_mut(&mut resource["subresources"]).for_each(|subresource| name_own_kind(subresource, group, version));
}

/// Per generally available version: its resources.
fn available(groups: &Value) -> BTreeMap<String, Value> {
    let mut out = BTreeMap::new();
    for group in items(&groups["items"]) {
        let name = text(&group["metadata"]["name"]);
        for served in items(&group["versions"]) {
            let version = text(&served["version"]);
            if version.contains("alpha") || version.contains("beta") {
                continue;
            }
            let mut resources = served["resources"].clone();
            items_mut(&mut resources).for_each(|resource| name_own_kind(resource, name, version));
            out.insert(format!("{name}/{version}"), by_name(&resources, "resource"));
        }
    }
    out
}

#[tokio::test]
async fn groups_are_discovered_as_recorded() -> Result<()> {
    let Some(recording) = recording("discovery/aggregated_v2.json") else { return Ok(()) };
    let (_plane, client) = server().await?;
    let headers = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    let ours = available(&send(&client, "GET", "/apis", &headers, "").await?.json());
    let theirs = available(&serde_json::from_str(&recording)?);
    let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    let of = |versions: &BTreeMap<String, Value>, name: &String| versions.get(name).cloned().unwrap_or_default();
    let differences = names
        .iter()
        .filter_map(|name| difference(format!("discovery /apis/{name}"), &of(&ours, name), &of(&theirs, name)));
    assert_recorded("discovery /apis", theirs.len(), differences.collect());
    Ok(())
}

/// What kube-apiserver itself creates, of what a cluster has.
const BOOTSTRAPPED: [&str; 11] = [
    "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "/apis/rbac.authorization.k8s.io/v1/roles",
    "/apis/rbac.authorization.k8s.io/v1/rolebindings",
    "/apis/scheduling.k8s.io/v1/priorityclasses",
    "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas",
    "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations",
    "/api/v1/namespaces",
    "/apis/networking.k8s.io/v1/servicecidrs",
    "/apis/networking.k8s.io/v1/ipaddresses",
    "/api/v1/services",
];

fn content(object: &Value) -> Value {
    let mut object = without_managers(object.clone());
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|name, _| !["apiVersion", "kind", "status"].contains(&name.as_str()));
        if fields.contains_key("aggregationRule") {
            // The controller manager's part.
            fields.remove("rules");
        }
    }
    object
}

fn full_name(object: &Value) -> String {
    format!("{}/{}", text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]))
}

#[tokio::test]
async fn a_fresh_server_has_the_recorded_objects() -> Result<()> {
    let Some(recording) = recording("bootstrap-1.36.json") else { return Ok(()) };
    let recorded: Value = serde_json::from_str(&recording)?;
    let (plane, client) = server().await?;
    let listens_on = json!(plane.apiserver_port());
    let (mut cases, mut differences) = (0, Vec::new());
    for path in BOOTSTRAPPED {
        let answer = send(&client, "GET", path, &[], "").await?.json();
        let ours: BTreeMap<String, &Value> = items(&answer["items"]).map(|o| (full_name(o), o)).collect();
        for theirs in items(&recorded[path]) {
            cases += 1;
            let name = full_name(theirs);
            let case = format!("bootstrap {path} {name}");
            let mut theirs = content(theirs);
            if let Some(target) = theirs.pointer_mut("/spec/ports/0/targetPort") {
                // The recorded server listened on another port.
                *target = listens_on.clone();
            }
            match ours.get(&name) {
                Some(ours) => differences.extend(difference(case, &content(ours), &theirs)),
                None => differences.push((case, "does not exist".into())),
            }
        }
    }
    assert_recorded("bootstrap", cases, differences);
    Ok(())
}

fn media_type(step: &Value) -> Result<&'static str> {
    Ok(match text(&step["kind"]) {
        "apply" => "application/apply-patch+yaml",
        "json" => "application/json-patch+json",
        "merge" => "application/merge-patch+json",
        "strategic" => "application/strategic-merge-patch+json",
        "put" => "application/json",
        other => anyhow::bail!("no kind of step: {other}"),
    })
}

/// What the recorded server gave (names, addresses, ports), with what was given here in its place.
#[derive(Default)]
struct Given(BTreeMap<String, Value>);

impl Given {
    /// Learns from two answers to the same request.
    fn learn(&mut self, field: &str, ours: &Value, theirs: &Value) {
        match (ours, theirs) {
            (Value::Object(ours), Value::Object(theirs)) => {
                for (name, theirs) in theirs {
                    self.learn(name, ours.get(name).unwrap_or(&Value::Null), theirs);
                }
            }
            (Value::Array(ours), Value::Array(theirs)) => {
                ours.iter().zip(theirs).for_each(|(ours, theirs)| self.learn(field, ours, theirs));
            }
            _ if is_given(field, theirs) && is_given(field, ours) => {
                self.0.insert(theirs.to_string(), ours.clone());
            }
            _ => {}
        }
    }

    fn put_into(&self, field: &str, body: &mut Value) {
        match body {
            Value::Object(fields) => fields.iter_mut().for_each(|(name, value)| self.put_into(name, value)),
            Value::Array(items) => items.iter_mut().for_each(|item| self.put_into(field, item)),
            _ if is_given(field, body) => {
                if let Some(ours) = self.0.get(&body.to_string()) {
                    *body = ours.clone();
                }
            }
            _ => {}
        }
    }
}

fn is_given(field: &str, value: &Value) -> bool {
    match value {
        Value::String(text) => field.starts_with("clusterIP") || is_uid(text) || text.starts_with("kube-api-access-"),
        Value::Number(_) => field == "nodePort" || field == "healthCheckNodePort",
        _ => false,
    }
}

async fn take(client: &Client, path: &str, case: &str, step: &Value, given: &mut Given) -> Result<Option<Difference>> {
    let method = if step["kind"] == "put" { "PUT" } else { "PATCH" };
    let subresource = text(&step["subresource"]);
    let slash = if subresource.is_empty() { "" } else { "/" };
    let path = format!("{path}{slash}{subresource}{}", text(&step["query"]));
    let mut body = step["body"].clone();
    given.put_into("", &mut body);
    let answer = send(client, method, &path, &[("content-type", media_type(step)?)], body.to_string()).await?;
    given.learn("", &answer.json(), &step["object"]);
    let found = unequal(case.to_owned(), &verdict(&answer), &recorded_verdict(step), &answer).or_else(|| {
        let theirs = step.get("object")?;
        difference(case.to_owned(), &comparable(answer.json()), &comparable(theirs.clone()))
    });
    Ok(found.map(|(case, what)| (case, format!("{what}\n  {method} {path} {}", step["body"]))))
}

/// Waits until the server has said of a FlowSchema whether its level exists.
async fn await_condition(client: &Client, path: &str) -> Result<()> {
    eventually(&format!("{path} has its condition"), async || {
        let object = send(client, "GET", path, &[], "").await?.json();
        let level = object["spec"]["priorityLevelConfiguration"]["name"].to_string();
        let message = text(&object["status"]["conditions"][0]["message"]).to_owned();
        Ok((object["code"] == 404 || message.contains(&level)).then_some(()))
    })
    .await
}

/// Takes an object through the steps of its case.
async fn take_all(client: &Client, number: usize, case: &Value) -> Result<Vec<Difference>> {
    let path = format!("{}/{}", text(&case["path"]), text(&case["name"]));
    let mut out = Vec::new();
    let mut given = Given::default();
    for (step_number, step) in items(&case["steps"]).enumerate() {
        let case = format!("patches {number}.{step_number}");
        if step_number > 0 && path.contains("/flowschemas/") {
            await_condition(client, &path).await?;
        }
        out.extend(take(client, &path, &case, step, &mut given).await.with_context(|| case.clone())?);
    }
    delete(client, &path).await?;
    Ok(out)
}

#[tokio::test]
async fn patches_give_the_recorded_objects() -> Result<()> {
    let Some(recording) = recording("patches-1.36.jsonl") else { return Ok(()) };
    let cases = lines(&recording)?;
    let (_plane, client) = server().await?;
    let client = &client;
    // The custom resource is another crate's.
    let built_in = |(_, case): &(usize, &Value)| !text(&case["path"]).contains("t.example.com");
    let mut differences: Vec<Vec<Difference>> = Vec::new();
    for (alone, concurrency) in [(false, CONCURRENCY), (true, 1)] {
        let kinds = kinds(cases.iter().enumerate().filter(built_in), alone);
        let played = stream::iter(kinds).map(|cases| async move {
            let mut out = Vec::new();
            for (number, case) in cases {
                out.extend(take_all(client, number, case).await?);
            }
            anyhow::Ok(out)
        });
        differences.extend(played.buffer_unordered(concurrency).try_collect::<Vec<_>>().await?);
    }
    let steps = cases.iter().enumerate().filter(built_in).map(|(_, case)| items(&case["steps"]).count()).sum();
    assert_recorded("patches", steps, differences.into_iter().flatten().collect());
    Ok(())
}
