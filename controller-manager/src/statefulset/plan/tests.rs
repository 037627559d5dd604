use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::*;
use crate::history::POD_LABEL;

const REVISIONS: Revisions<'static> = Revisions { current: "old", update: "new" };

fn set(replicas: i32, more: Value) -> StatefulSet {
    let mut spec = json!({ "replicas": replicas, "selector": {}, "template": {}, "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "partition": 0 } } });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(json!({ "metadata": { "name": "web", "generation": 3 }, "spec": spec })).unwrap()
}

/// A pod as `ordinal revision state`: `ready`, `waiting`, `failed` or `going`.
fn pod(text: &str) -> Arc<Pod> {
    let [ordinal, revision, state] = text.split(' ').collect::<Vec<_>>()[..] else { panic!("{text}") };
    let mut pod = pods::testing::pod(&format!("web-{ordinal}"), "n", (state == "ready").then_some(1));
    let mut labels = identity::labels(&set(0, json!({})), ordinal.parse().unwrap());
    labels.insert(POD_LABEL.to_owned(), revision.to_owned());
    pod.metadata.labels = Some(labels);
    if state == "failed" {
        pod.status.as_mut().unwrap().phase = Some("Failed".into());
    }
    pod.metadata.deletion_timestamp = (state == "going").then_some(Time(Timestamp::UNIX_EPOCH));
    Arc::new(pod)
}

/// The plan as `+ordinal revision`, `-ordinal` and `=ordinal`.
fn shown(set: &StatefulSet, pods: &[&str]) -> Vec<String> {
    let pods: Vec<_> = pods.iter().map(|text| pod(text)).collect();
    let plan = plan(set, &pods, REVISIONS, Timestamp::from_second(100).unwrap());
    let name = |pod: &Pod| pod.name_any().replace("web-", "");
    let text = |action: Action| match action {
        Action::Create { ordinal, updated } => format!("+{ordinal} {}", if updated { "new" } else { "old" }),
        Action::Delete(pod) => format!("-{}", name(&pod)),
        Action::Label { pod, .. } => format!("={}", name(&pod)),
    };
    plan.actions.into_iter().map(text).collect()
}

#[test]
fn an_ordered_set_does_one_thing_after_the_other() {
    let three = set(3, json!({}));
    for (pods, expected) in [
        (&[][..], &["+0 new"][..]),
        (&["0 new waiting"], &[]),
        (&["0 new ready"], &["+1 new"]),
        (&["0 new ready", "1 new waiting"], &[]),
        (&["0 new ready", "1 new ready"], &["+2 new"]),
        (&["0 new ready", "2 new ready"], &["+1 new"]),
        (&["0 new ready", "1 new failed", "2 new ready"], &["-1"]),
        (&["0 new ready", "1 new going", "2 new ready"], &[]),
        (&["0 new ready", "1 new ready", "2 new ready"], &[]),
    ] {
        assert_eq!(shown(&three, pods), expected, "{pods:?}");
    }
}

#[test]
fn an_ordered_set_shrinks_from_the_top_while_all_are_healthy() {
    let one = set(1, json!({}));
    for (pods, expected) in [
        (&["0 new ready", "1 new ready", "2 new ready"][..], &["-2"][..]),
        (&["0 new ready", "1 new ready", "2 new going"], &[]),
        (&["0 new waiting", "1 new ready", "2 new ready"], &[]),
        (&["0 new ready", "1 new waiting", "2 new ready"], &["-2"]),
        (&["0 new ready", "1 new waiting", "2 new waiting"], &[]),
        (&["0 new ready", "1 new ready", "2 new waiting"], &["-2"]),
    ] {
        assert_eq!(shown(&one, pods), expected, "{pods:?}");
    }
}

#[test]
fn a_parallel_set_does_all_at_once() {
    let two = set(2, json!({ "podManagementPolicy": "Parallel" }));
    for (pods, expected) in [
        (&[][..], &["+0 new", "+1 new"][..]),
        (&["0 new waiting", "2 new waiting", "3 new ready"], &["+1 new", "-3", "-2"]),
        (&["0 new failed", "1 new ready"], &["-0"]),
    ] {
        assert_eq!(shown(&two, pods), expected, "{pods:?}");
    }
}

#[test]
fn updates_go_from_the_top_down_to_the_partition() {
    let three = set(3, json!({}));
    let all_old = ["0 old ready", "1 old ready", "2 old ready"];
    assert_eq!(shown(&three, &all_old), ["-2"]);
    assert_eq!(shown(&three, &["0 old ready", "1 old ready"]), ["+2 new"]);
    assert!(shown(&three, &["0 old ready", "1 old ready", "2 new waiting"]).is_empty());
    assert_eq!(shown(&three, &["0 old ready", "1 old ready", "2 new ready"]), ["-1"]);
    assert!(shown(&three, &["0 new ready", "1 new ready", "2 new ready"]).is_empty());
    let partition = |partition: i32| {
        set(3, json!({ "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "partition": partition } } }))
    };
    assert!(shown(&partition(3), &all_old).is_empty());
    assert!(shown(&partition(2), &["0 old ready", "1 old ready", "2 new ready"]).is_empty());
    assert_eq!(shown(&partition(2), &["0 old ready", "2 new ready"]), ["+1 old"], "it comes back as it was");
    assert_eq!(shown(&partition(2), &["0 old ready", "1 old ready"]), ["+2 new"]);
    let manual = set(3, json!({ "updateStrategy": { "type": "OnDelete" } }));
    assert!(shown(&manual, &all_old).is_empty());
    assert_eq!(shown(&manual, &["0 old ready", "1 old ready"]), ["+2 new"]);
}

#[test]
fn an_update_may_take_as_many_as_are_allowed_and_what_is_broken_anyway() {
    let rolling = json!({ "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": "50%" } });
    let parallel = |strategy: &Value| set(4, json!({ "podManagementPolicy": "Parallel", "updateStrategy": strategy }));
    let half = parallel(&rolling);
    assert_eq!(shown(&half, &["0 old ready", "1 old ready", "2 old ready", "3 old ready"]), ["-3", "-2"]);
    assert_eq!(shown(&half, &["0 old ready", "1 old ready", "2 old ready", "3 new waiting"]), ["-2"]);
    assert_eq!(shown(&half, &["0 old waiting", "1 old ready", "2 new waiting", "3 new ready"]), ["-0"]);
    let one = parallel(&json!({ "type": "RollingUpdate" }));
    assert_eq!(shown(&one, &["0 old ready", "1 old waiting", "2 old ready", "3 old ready"]), ["-1"]);
}

#[test]
fn lost_labels_are_put_back() {
    let mut bare = Arc::unwrap_or_clone(pod("0 new ready"));
    bare.metadata.labels.as_mut().unwrap().remove("apps.kubernetes.io/pod-index");
    let plan = plan(&set(1, json!({})), &[Arc::new(bare)], REVISIONS, Timestamp::from_second(100).unwrap());
    assert!(matches!(&plan.actions[..], [Action::Label { ordinal: 0, .. }]), "{plan:?}");
}

#[test]
fn a_pod_must_be_ready_for_its_time_before_the_next_comes() {
    let slow = set(2, json!({ "minReadySeconds": 60 }));
    let at = |second| plan(&slow, &[pod("0 new ready")], REVISIONS, Timestamp::from_second(second).unwrap());
    assert_eq!(at(41), Plan { actions: vec![], recheck: Some(Duration::from_secs(20)) });
    assert_eq!(at(61), Plan { actions: vec![Action::Create { ordinal: 1, updated: true }], recheck: None });
}

#[test]
fn status_counts_and_an_update_that_is_through_is_the_current_revision() {
    let counted = |pods: &[&str]| {
        let pods: Vec<_> = pods.iter().map(|text| pod(text)).collect();
        let status = status(&set(2, json!({})), &pods, REVISIONS, Timestamp::from_second(100).unwrap());
        (
            status.replicas,
            status.ready_replicas,
            status.current_replicas,
            status.updated_replicas,
            status.current_revision.unwrap(),
        )
    };
    assert_eq!(counted(&["0 old ready", "1 new waiting"]), (2, Some(1), Some(1), Some(1), "old".to_owned()));
    assert_eq!(counted(&["0 new ready", "1 new going"]), (2, Some(1), None, Some(1), "old".to_owned()));
    assert_eq!(counted(&["0 new ready", "1 new ready"]), (2, Some(2), Some(2), Some(2), "new".to_owned()));
}
