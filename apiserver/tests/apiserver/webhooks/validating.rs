//! Webhooks that refuse.

use anyhow::Result;
use e2e::http_client::send_json;
use serde_json::{Value, json};

use super::server::Webhooks;
use super::*;

fn decide(path: &str, request: &Value) -> Option<Value> {
    let object = if request["operation"] == "DELETE" { &request["oldObject"] } else { &request["object"] };
    let bad = object["data"]["bad"] == "yes" || object["stdin"] == true;
    Some(match path {
        "warn" => json!({"allowed": true, "warnings": ["mind this"]}),
        "code" => json!({"allowed": false, "status": {"code": 418, "reason": "Teapot", "details": {"name": "pot"}}}),
        "silent" => json!({"allowed": false}),
        _ if bad => json!({"allowed": false, "status": {"message": "this is bad"}}),
        _ => json!({"allowed": true}),
    })
}

const REFUSAL: &str = "admission webhook \"deny.example.com\" denied the request: this is bad";

#[tokio::test]
async fn what_a_webhook_denies_is_neither_created_nor_changed_nor_deleted() -> Result<()> {
    let (_plane, client) = plane().await?;
    let hooks = Webhooks::start(decide).await?;
    let things = things(&client).await?;
    let made = post(&client, CONFIG_MAPS, &config_map("old", json!({"bad": "yes"}))).await?;
    assert_eq!(made.code, 201, "{made:?}");
    let all = rule(&["CREATE", "UPDATE", "DELETE"], &["configmaps", "things"]);
    let selector = json!({"matchExpressions": [{"key": "skip", "operator": "DoesNotExist"}]});
    let deny = hooks.webhook("deny", all, json!({"namespaceSelector": selector}));
    let warn = hooks.webhook("warn", rule(&["CREATE"], &["configmaps"]), json!({}));
    configure(&client, VALIDATING, "deny", json!([deny, warn])).await?;

    let denied = (400, REFUSAL.to_owned());
    let answer = post(&client, CONFIG_MAPS, &config_map("new", json!({"bad": "yes"}))).await?;
    assert_eq!((said(&answer), answer.warnings), (denied.clone(), vec!["299 - \"mind this\"".to_owned()]));
    let mut bad = thing("a");
    bad["data"]["bad"] = "yes".into();
    assert_eq!(post(&client, things, &bad).await?.code, 201, "the field is pruned before anybody is asked");
    let good = post(&client, CONFIG_MAPS, &config_map("good", json!({}))).await?;
    assert_eq!(good.code, 201, "{good:?}");
    let path = format!("{CONFIG_MAPS}/good");
    assert_eq!(said(&merge(&client, &path, &json!({"data": {"bad": "yes"}})).await?), denied);
    let put = send_json(&client, "PUT", &path, &config_map("good", json!({"bad": "yes"}))).await?;
    assert_eq!(said(&put), denied);
    let old = format!("{CONFIG_MAPS}/old");
    let by_query = format!("{old}?gracePeriodSeconds=5&propagationPolicy=Background");
    assert_eq!(said(&send(&client, "DELETE", &by_query, &[], "").await?), denied);
    let options = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", "gracePeriodSeconds": 5,
        "propagationPolicy": "Background"});
    let asked = hooks.asked("deny");
    assert_eq!((&asked[asked.len() - 1]["options"], &asked[asked.len() - 1]["object"]), (&options, &Value::Null));
    assert_eq!(said(&send_json(&client, "DELETE", &old, &json!({})).await?), denied);
    assert_eq!(said(&send_json(&client, "DELETE", CONFIG_MAPS, &json!({})).await?), denied);
    assert_eq!(get(&client, &old).await?.code, 200);

    // A namespace that the selector leaves out.
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "free", "labels": {"skip": "1"}}});
    assert_eq!(post(&client, "/api/v1/namespaces", &namespace).await?.code, 201);
    let free = "/api/v1/namespaces/free/configmaps";
    assert_eq!(post(&client, free, &config_map("new", json!({"bad": "yes"}))).await?.code, 201);

    let review = &hooks.asked("deny").into_iter().find(|asked| asked["operation"] == "UPDATE").expect("an update");
    assert_eq!(review["kind"], json!({"group": "", "version": "v1", "kind": "ConfigMap"}));
    assert_eq!(review["requestResource"], json!({"group": "", "version": "v1", "resource": "configmaps"}));
    assert_eq!((&review["name"], &review["namespace"]), (&json!("good"), &json!("default")));
    assert_eq!((&review["object"]["data"], &review["oldObject"]["data"]), (&json!({"bad": "yes"}), &Value::Null));
    assert_eq!((&review["dryRun"], &review["options"]["kind"]), (&json!(false), &json!("UpdateOptions")));
    assert!(review["userInfo"]["username"].is_string(), "{review}");
    Ok(())
}

#[tokio::test]
async fn a_refusal_has_the_code_and_reason_that_the_webhook_gives() -> Result<()> {
    let (_plane, client) = plane().await?;
    let hooks = Webhooks::start(decide).await?;
    let labelled = |name: &str| json!({"objectSelector": {"matchLabels": {"case": name}}});
    let rule = rule(&["CREATE"], &["configmaps"]);
    let webhooks = ["code", "silent"].map(|path| hooks.webhook(path, rule.clone(), labelled(path)));
    configure(&client, VALIDATING, "refuse", json!(webhooks)).await?;
    for (case, code, reason, text) in [
        ("code", 418, "Teapot", "admission webhook \"code.example.com\" denied the request: Teapot"),
        ("silent", 400, "", "admission webhook \"silent.example.com\" denied the request without explanation"),
    ] {
        let mut object = config_map(case, json!({}));
        object["metadata"]["labels"] = json!({"case": case});
        let answer = post(&client, CONFIG_MAPS, &object).await?;
        assert_eq!((said(&answer), answer.reason()), ((code, text.to_owned()), reason.to_owned()), "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_attachment_to_a_pod_and_an_eviction_can_be_denied() -> Result<()> {
    let (_plane, client) = plane().await?;
    let hooks = Webhooks::start(decide).await?;
    let deny = hooks.webhook("deny", rule(&["CONNECT"], &["pods/attach"]), json!({}));
    let code = hooks.webhook("code", rule(&["CREATE"], &["pods/eviction"]), json!({}));
    configure(&client, VALIDATING, "deny", json!([deny, code])).await?;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    assert_eq!(post(&client, "/api/v1/namespaces/default/serviceaccounts", &account).await?.code, 201);
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let made = post(&client, pods, &pod).await?;
    assert_eq!(made.code, 201, "{made:?}");
    let attach = format!("{pods}/p/attach?container=c&stdin=true&stdout=true&tty=false");
    let answer = post(&client, &attach, &json!({})).await?;
    assert_eq!(said(&answer), (400, REFUSAL.to_owned()));
    let review = &hooks.asked("deny")[0];
    let options =
        json!({"kind": "PodAttachOptions", "apiVersion": "v1", "container": "c", "stdin": true, "stdout": true});
    assert_eq!((&review["object"], &review["subResource"], &review["name"]), (&options, &json!("attach"), &json!("p")));
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": "default"}});
    assert_eq!(post(&client, &format!("{pods}/p/eviction"), &eviction).await?.code, 418);
    assert_eq!(hooks.asked("code")[0]["kind"]["kind"], "Eviction");
    Ok(())
}

#[tokio::test]
async fn configurations_and_policies_are_nobodys_affair() -> Result<()> {
    let (_plane, client) = plane().await?;
    let hooks = Webhooks::start(decide).await?;
    let all =
        hooks.webhook("silent", rule(&["*"], &["*/*"]), json!({"objectSelector": {"matchLabels": {"of": "test"}}}));
    configure(&client, VALIDATING, "all", json!([all.clone()])).await?;
    configure(&client, MUTATING, "all", json!([all])).await?;
    let harmless = hooks.webhook("warn", rule(&["CREATE"], &["pods"]), json!({}));
    configure(&client, VALIDATING, "other", json!([harmless])).await?;
    let mut object = config_map("a", json!({}));
    object["metadata"]["labels"] = json!({"of": "test"});
    assert_eq!(post(&client, CONFIG_MAPS, &object).await?.code, 400, "others are refused");
    let patched = merge(&client, &format!("{VALIDATING}/other"), &json!({"metadata": {"labels": {"a": "b"}}})).await?;
    assert_eq!(patched.code, 200, "{patched:?}");
    for path in [VALIDATING, MUTATING] {
        let deleted = send_json(&client, "DELETE", &format!("{path}?labelSelector=of%3Dtest"), &json!({})).await?;
        assert_eq!(deleted.code, 200, "{deleted:?}");
        assert_eq!(get(&client, path).await?.json()["items"], json!([]));
    }
    assert_eq!(post(&client, CONFIG_MAPS, &object).await?.code, 201, "without configurations nobody is asked");
    assert_eq!(hooks.asked("silent").len(), 1);
    Ok(())
}

#[tokio::test]
async fn conditions_decide_whether_a_webhook_is_asked() -> Result<()> {
    let (_plane, client) = plane().await?;
    let hooks = Webhooks::start(decide).await?;
    let condition = |expression: &str| json!({"matchConditions": [{"name": "c", "expression": expression}]});
    let webhook = |expression| hooks.webhook("silent", rule(&["CREATE"], &["configmaps"]), condition(expression));
    let bad = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "bad"}, "webhooks": [webhook("... [] bad expression")]});
    let answer = post(&client, VALIDATING, &bad).await?;
    assert!(answer.code == 422 && message(&answer).contains("compilation failed"), "{answer:?}");
    let expression = "object.metadata.name != 'skip-me' && request.userInfo.username != 'x'";
    let stored = configure(&client, VALIDATING, "skip", json!([webhook(expression)])).await?;
    assert_eq!(stored["webhooks"][0]["matchConditions"][0]["expression"], expression);
    assert_eq!(post(&client, CONFIG_MAPS, &config_map("skip-me", json!({}))).await?.code, 201);
    assert_eq!(post(&client, CONFIG_MAPS, &config_map("other", json!({}))).await?.code, 400);

    configure(
        &client,
        VALIDATING,
        "skip2",
        json!([webhook("object.metadata.name == 'other' && object.absent.x == 1")]),
    )
    .await?;
    let gone = send_json(&client, "DELETE", &format!("{VALIDATING}/skip"), &json!({})).await?;
    assert_eq!(gone.code, 200, "{gone:?}");
    assert_eq!(get(&client, VALIDATING).await?.code, 200);
    let answer = post(&client, CONFIG_MAPS, &config_map("other", json!({}))).await?;
    assert!(
        answer.code == 403 && message(&answer).starts_with("configmaps \"other\" is forbidden: expression"),
        "{answer:?}"
    );
    Ok(())
}
