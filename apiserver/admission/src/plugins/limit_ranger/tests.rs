use serde_json::json;

use super::*;
use crate::testing::{admit, attributes, observe};

fn plugin(limits: Value) -> LimitRanger {
    let plugin = LimitRanger::default();
    let range = json!({"metadata": {"namespace": "dev", "name": "r"}, "spec": {"limits": limits}});
    observe(&plugin, plugin.resources()[0], &range);
    plugin
}

fn pod(containers: Value) -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": containers}})
}

fn container(requests: Value, limits: Value) -> Value {
    json!({"name": "c", "resources": {"requests": requests, "limits": limits}})
}

#[tokio::test]
async fn containers_get_what_they_do_not_say() {
    let plugin = plugin(json!([{
        "type": "Container", "default": {"cpu": "1", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m"},
    }]));
    let a = attributes(Operation::Create, "", "pods");
    let mut got = pod(json!([container(json!({}), json!({"cpu": "2"}))]));
    for _ in 0..2 {
        got = admit(&plugin, &a, got).await.expect("admitted");
        let resources = json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "2", "memory": "1Gi"}});
        assert_eq!(got["spec"]["containers"][0]["resources"], resources);
        assert_eq!(
            got["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
            "LimitRanger plugin set: cpu request for container c; memory limit for container c"
        );
    }
    let mut elsewhere = a;
    elsewhere.namespace = "prod";
    let plain = pod(json!([{"name": "c"}]));
    assert_eq!(admit(&plugin, &elsewhere, plain.clone()).await, Ok(plain));
}

#[tokio::test]
async fn what_is_asked_for_is_bounded() {
    let cpu = |amount: &str| json!({"cpu": amount});
    let cases = [
        (json!({"type": "Container", "min": cpu("100m")}), json!([container(cpu("100m"), json!({}))]), None),
        (
            json!({"type": "Container", "min": cpu("100m")}),
            json!([container(cpu("50m"), json!({}))]),
            Some("minimum cpu usage per Container is 100m, but request is 50m"),
        ),
        (
            json!({"type": "Container", "max": cpu("1")}),
            json!([container(json!({}), json!({}))]),
            Some("maximum cpu usage per Container is 1.  No limit is specified"),
        ),
        (
            json!({"type": "Pod", "max": cpu("1")}),
            json!([container(cpu("1"), cpu("600m")), container(cpu("1"), cpu("600m"))]),
            Some("maximum cpu usage per Pod is 1, but limit is 1200m"),
        ),
        (
            json!({"type": "Pod", "max": cpu("1")}),
            json!([container(cpu("1"), cpu("600m")), container(cpu("1"), json!({}))]),
            Some("maximum cpu usage per Pod is 1, but request is 2"),
        ),
        (
            json!({"type": "Container", "min": cpu("1"), "max": cpu("2")}),
            json!([container(json!({}), json!({})), container(json!({}), json!({}))]),
            Some(
                "[minimum cpu usage per Container is 1.  No request is specified, \
                 maximum cpu usage per Container is 2.  No limit is specified]",
            ),
        ),
        (
            json!({"type": "Container", "maxLimitRequestRatio": cpu("2")}),
            json!([container(cpu("100m"), cpu("300m"))]),
            Some("cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000"),
        ),
    ];
    for (limit, containers, wanted) in cases {
        let a = attributes(Operation::Create, "", "pods");
        let got = admit(&plugin(json!([limit])), &a, pod(containers)).await;
        let wanted = wanted.map(|detail| format!("pods \"p\" is forbidden: {detail}"));
        assert_eq!(got.err().map(|e| e.0.message), wanted, "{limit}");
    }
}

#[tokio::test]
async fn claims_are_bounded_by_size() {
    let plugin =
        plugin(json!([{"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}]));
    let a = attributes(Operation::Create, "", "persistentvolumeclaims");
    for (size, wanted) in [("1Gi", true), ("2048Mi", true), ("512Mi", false), ("3Gi", false)] {
        let claim = json!({"metadata": {"name": "c"}, "spec": {"resources": {"requests": {"storage": size}}}});
        assert_eq!(admit(&plugin, &a, claim).await.is_ok(), wanted, "{size}");
    }
}

#[tokio::test]
async fn a_pod_is_bounded_by_what_it_asks_for_as_a_whole_and_while_it_starts() {
    let plugin = plugin(json!([{"type": "Pod", "max": {"cpu": "1"}}]));
    let a = attributes(Operation::Create, "", "pods");
    let small = json!({"cpu": "500m"});
    let sidecar = json!({"name": "s", "restartPolicy": "Always", "resources": {"limits": small}});
    let big = json!({"name": "i", "resources": {"limits": {"cpu": "600m"}}});
    for (inits, whole, wanted) in [
        (json!([sidecar]), json!({}), None),
        (json!([big]), json!({}), None),
        (json!([sidecar, big]), json!({}), Some("but limit is 1100m")),
        (json!([sidecar, big]), json!({"limits": {"cpu": "1"}}), None),
    ] {
        let mut object = pod(json!([container(json!({}), small.clone())]));
        object["spec"]["initContainers"] = inits.clone();
        object["spec"]["resources"] = whole;
        let got = admit(&plugin, &a, object).await.err().map(|error| error.0.message);
        assert_eq!(got.is_some(), wanted.is_some(), "{inits} {got:?}");
        assert!(got.unwrap_or_default().ends_with(wanted.unwrap_or_default()), "{inits}");
    }
}

#[tokio::test]
async fn an_object_that_goes_may_be_updated() {
    let plugin = plugin(json!([{"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}]));
    let a = attributes(Operation::Update, "", "persistentvolumeclaims");
    let claim = json!({"metadata": {"name": "c"}, "spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    let mut going = claim.clone();
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    assert!(plugin.validate(&a, Some(&claim), Some(&claim)).await.is_err());
    assert_eq!(plugin.validate(&a, Some(&claim), Some(&going)).await, Ok(()));
}
