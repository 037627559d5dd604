//! Webhooks that change what is written.

use anyhow::Result;
use serde_json::{Value, json};

use super::server::{Webhooks, patch};
use super::*;

fn decide(path: &str, request: &Value) -> Option<Value> {
    let data = &request["object"]["data"];
    let add = |key: &str| patch(json!([{"op": "add", "path": format!("/data/{key}"), "value": "yes"}]));
    let nothing = json!({"allowed": true});
    Some(match path {
        "first" if data["start"] == "yes" && data["first"].is_null() => add("first"),
        "second" if data["first"] == "yes" && data["second"].is_null() => add("second"),
        "third" if data["second"] == "yes" && data["third"].is_null() => add("third"),
        "pod" => patch(json!([{"op": "add", "path": "/spec/initContainers", "value": [{"name": "i", "image": "i"}]}])),
        "hpa" => patch(json!([{"op": "replace", "path": "/spec/maxReplicas", "value": 7}])),
        "scale" => patch(json!([{"op": "replace", "path": "/spec/replicas", "value": 5}])),
        "thing" => patch(json!([
            {"op": "add", "path": "/data/first", "value": "yes"}, {"op": "add", "path": "/data/unknown", "value": "yes"}
        ])),
        _ => nothing,
    })
}

#[tokio::test]
async fn webhooks_see_what_those_before_them_changed_and_on_demand_those_after() -> Result<()> {
    let (_plane, client) = plane().await?;
    let hooks = Webhooks::start(decide).await?;
    let webhook = |path: &str, policy: &str| {
        hooks.webhook(path, rule(&["CREATE"], &["configmaps"]), json!({"reinvocationPolicy": policy}))
    };
    // By the names of the configurations: the third is asked first, and once more at the end.
    configure(&client, MUTATING, "a", json!([webhook("third", "IfNeeded")])).await?;
    configure(&client, MUTATING, "b", json!([webhook("first", "Never"), webhook("second", "Never")])).await?;
    let made = post(&client, CONFIG_MAPS, &config_map("m", json!({"start": "yes"}))).await?;
    let all = json!({"start": "yes", "first": "yes", "second": "yes", "third": "yes"});
    assert_eq!((made.code, &made.json()["data"]), (201, &all));
    assert_eq!(["third", "first", "second"].map(|path| hooks.asked(path).len()), [2, 1, 1]);
    let untouched = post(&client, CONFIG_MAPS, &config_map("n", json!({"a": "b"}))).await?;
    assert_eq!(untouched.json()["data"], json!({"a": "b"}));
    assert_eq!(["third", "first", "second"].map(|path| hooks.asked(path).len()), [3, 2, 2]);
    let text = get(&client, "/metrics").await?;
    let line = "apiserver_admission_webhook_request_total{name=\"third.example.com\",type=\"admit\",\
        operation=\"CREATE\",code=\"200\",rejected=\"false\"} 3";
    let text = String::from_utf8_lossy(&text.body);
    let said: Vec<&str> = text.lines().filter(|line| line.starts_with("apiserver_admission_webhook_request")).collect();
    assert!(said.contains(&line), "{said:#?}");
    Ok(())
}

#[tokio::test]
async fn what_is_added_to_a_pod_gets_defaults_and_to_a_custom_resource_is_pruned() -> Result<()> {
    let (_plane, client) = plane().await?;
    let hooks = Webhooks::start(decide).await?;
    let things = things(&client).await?;
    let pod_hook = hooks.webhook("pod", rule(&["CREATE"], &["pods"]), json!({}));
    let thing_hook = hooks.webhook("thing", rule(&["CREATE"], &["things"]), json!({}));
    configure(&client, MUTATING, "m", json!([pod_hook, thing_hook])).await?;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    assert_eq!(post(&client, "/api/v1/namespaces/default/serviceaccounts", &account).await?.code, 201);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let made = post(&client, "/api/v1/namespaces/default/pods", &pod).await?;
    let init = &made.json()["spec"]["initContainers"][0];
    assert_eq!((made.code, &init["terminationMessagePolicy"]), (201, &json!("File")), "{made:?}");
    let made = post(&client, things, &thing("a")).await?;
    assert_eq!((made.code, &made.json()["data"]), (201, &json!({"known": "a", "first": "yes"})), "{made:?}");
    Ok(())
}

#[tokio::test]
async fn a_webhook_is_shown_the_version_or_the_scale_that_it_knows() -> Result<()> {
    let (_plane, client) = plane().await?;
    let hooks = Webhooks::start(decide).await?;
    let v1 = json!({"operations": ["CREATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v1"],
        "resources": ["horizontalpodautoscalers"]});
    let hpa_hook = hooks.webhook("hpa", v1.clone(), json!({}));
    let exact = hooks.webhook("exact", v1, json!({"matchPolicy": "Exact"}));
    let scale_hook = hooks.webhook("scale", rule(&["UPDATE"], &["deployments/scale"]), json!({}));
    configure(&client, MUTATING, "m", json!([hpa_hook, exact, scale_hook])).await?;
    let hpa = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}});
    let path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    let made = post(&client, path, &hpa).await?;
    assert_eq!((made.code, &made.json()["spec"]["maxReplicas"]), (201, &json!(7)), "{made:?}");
    let review = &hooks.asked("hpa")[0];
    assert_eq!(review["object"]["apiVersion"], "autoscaling/v1");
    assert_eq!((&review["kind"]["version"], &review["requestKind"]["version"]), (&json!("v1"), &json!("v2")));
    assert_eq!(hooks.asked("exact"), [] as [Value; 0]);

    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    assert_eq!(post(&client, deployments, &deployment).await?.code, 201);
    let scaled = merge(&client, &format!("{deployments}/d/scale"), &json!({"spec": {"replicas": 2}})).await?;
    assert_eq!((scaled.code, &scaled.json()["spec"]["replicas"]), (200, &json!(5)), "{scaled:?}");
    let review = &hooks.asked("scale")[0];
    assert_eq!((&review["object"]["kind"], &review["object"]["spec"]["replicas"]), (&json!("Scale"), &json!(2)));
    Ok(())
}
