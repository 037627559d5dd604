use serde_json::json;

use super::*;
use crate::pod::status::Failure;
use crate::testing::{Behaviour, Running, pod};

fn phase(status: &PodStatus) -> &str {
    status.phase.as_deref().unwrap_or_default()
}

fn waits(status: &PodStatus, container: usize) -> &str {
    let statuses = status.container_statuses.as_deref().unwrap_or_default();
    let state = statuses.get(container).and_then(|container| container.state.as_ref());
    state.and_then(|state| state.waiting.as_ref()?.reason.as_deref()).unwrap_or_default()
}

fn one(policy: &str) -> Pod {
    pod(
        json!({"restartPolicy": policy, "terminationGracePeriodSeconds": 30, "containers": [{"name": "c", "image": "i:1"}]}),
    )
}

#[tokio::test(start_paused = true)]
async fn a_new_pod_is_made_in_order_and_asks_no_more_than_it_needs() {
    let running = Running::start(
        pod(json!({
            "initContainers": [{"name": "i", "image": "i:1"}],
            "containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "i:1"}],
        })),
        |runtime| {
            runtime.behaviours.lock().insert("i".into(), Behaviour { exits: Some(0), ..Default::default() });
        },
    );
    let status = running.until(|status, _| phase(status) == "Running").await;
    assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.9"));
    let calls = ["sandbox p-0", "create i-0", "start i-0", "create a-0", "start a-0", "create b-0", "start b-0"];
    assert_eq!(running.runtime.take(), calls);
    assert_eq!(running.handle.shared.view.lock().containers.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pod_is_stopped_told_of_and_removed() {
    let running = Running::start(one("Always"), |_| {});
    running.until(|status, _| phase(status) == "Running").await;
    running.runtime.take();
    running.delete(7);
    let status = running.until(|_, done| done).await;
    assert_eq!(phase(&status), "Succeeded");
    running.task.await.unwrap();
    assert_eq!(running.runtime.take(), ["stop c-0 7", "stopped c-0", "stop-sandbox p-0", "remove-sandbox p-0"]);
}

#[tokio::test(start_paused = true)]
async fn a_second_delete_with_less_grace_is_heard() {
    let running = Running::start(one("Always"), |runtime| {
        runtime.behaviours.lock().insert("c".into(), Behaviour { is_deaf: true, ..Default::default() });
    });
    running.until(|status, _| phase(status) == "Running").await;
    running.delete(3600);
    tokio::time::sleep(Duration::from_secs(10)).await;
    running.delete(5);
    running.until(|_, done| done).await;
    assert_eq!(running.runtime.times("stop c-0 3600"), [0]);
    assert_eq!(running.runtime.times("stop c-0 5"), [10]);
    assert_eq!(running.runtime.times("stopped"), [15]);
    // One with more grace changes nothing.
    running.delete(100);
    running.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_kubelets_end_leaves_containers_alone() {
    let running = Running::start(one("Always"), |_| {});
    running.until(|status, _| phase(status) == "Running").await;
    running.runtime.take();
    running.shutdown.cancel();
    running.task.await.unwrap();
    assert!(running.runtime.take().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_crashing_container_is_started_after_10_20_40_up_to_300_seconds() {
    let running = Running::start(one("Always"), |runtime| {
        runtime.behaviours.lock().insert("c".into(), Behaviour { exits: Some(3), ..Default::default() });
    });
    let status = running.until(|status, _| waits(status, 0) == "CrashLoopBackOff").await;
    let container = &status.container_statuses.unwrap()[0];
    assert_eq!(container.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 3);
    tokio::time::sleep(Duration::from_secs(1000)).await;
    assert_eq!(running.runtime.times("start"), [0, 0, 10, 30, 70, 150, 310, 610, 910]);
}

#[tokio::test(start_paused = true)]
async fn ten_minutes_without_a_crash_forget_the_delay() {
    let running = Running::start(one("Always"), |runtime| {
        runtime.behaviours.lock().insert("c".into(), Behaviour { exits: Some(1), ..Default::default() });
    });
    tokio::time::sleep(Duration::from_secs(100)).await;
    running.runtime.behaviours.lock().clear();
    let status = running.until(|status, _| status.container_statuses.as_ref().is_some_and(|c| c[0].ready)).await;
    assert_eq!(status.container_statuses.unwrap()[0].restart_count, 5);
    assert_eq!(running.runtime.times("start"), [0, 0, 10, 30, 70, 150]);
    tokio::time::sleep(Duration::from_secs(601)).await;
    running.runtime.exit("c-5", 1);
    running.handle.ended("c-5");
    running.until(|status, _| status.container_statuses.as_ref().is_some_and(|c| c[0].restart_count == 6)).await;
    let last = *running.runtime.times("start").last().unwrap();
    assert!((751..=752).contains(&last), "{last}");
}

#[tokio::test(start_paused = true)]
async fn an_end_that_the_runtime_tells_is_seen_at_once() {
    let running = Running::start(one("Never"), |_| {});
    running.until(|status, _| phase(status) == "Running").await;
    running.runtime.exit("c-0", 4);
    running.handle.ended("c-0");
    let began = Instant::now();
    let status = running.until(|status, _| phase(status) == "Failed").await;
    assert!(began.elapsed() < Duration::from_millis(1));
    let state = status.container_statuses.unwrap()[0].state.clone().unwrap();
    assert_eq!(state.terminated.unwrap().exit_code, 4);
    assert_eq!(running.runtime.take().last().unwrap(), "stop-sandbox p-0");
}

#[tokio::test(start_paused = true)]
async fn a_listing_from_before_the_last_action_is_passed_over() {
    let before = Instant::now();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let running = Running::start(one("Always"), |_| {});
    running.until(|status, _| phase(status) == "Running").await;
    running.handle.look_at(Listed { listing: Default::default(), at: before });
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(running.runtime.times("sandbox"), [0]);
    // What is listed after it counts: everything is gone.
    running.handle.look_at(Listed { listing: Default::default(), at: Instant::now() });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(running.runtime.times("sandbox"), [0, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_liveness_probe_kills_with_its_own_grace_and_restarts_with_backoff() {
    let probe = json!({
        "exec": {"command": ["check"]}, "periodSeconds": 1, "failureThreshold": 2, "terminationGracePeriodSeconds": 3,
    });
    let running = Running::start(
        pod(json!({"containers": [{"name": "c", "image": "i:1", "livenessProbe": probe}]})),
        |runtime| {
            runtime.behaviours.lock().insert("c".into(), Behaviour { is_deaf: true, ..Default::default() });
            *runtime.exec.lock() =
                Arc::new(|_| Ok(crate::runtime::ExecOutcome { exit_code: 1, output: b"no".to_vec() }));
        },
    );
    running.until(|status, _| waits(status, 0) == "CrashLoopBackOff").await;
    assert_eq!(running.runtime.times("stop c-0 3"), [1]);
    assert_eq!(running.runtime.times("start c-1"), [4]);
    // It fails again a second after its start, and is dead three seconds later.
    running
        .until(|status, _| {
            waits(status, 0).is_empty() && status.container_statuses.as_ref().unwrap()[0].restart_count == 2
        })
        .await;
    assert_eq!(running.runtime.times("start c-2"), [18]);
}

#[tokio::test(start_paused = true)]
async fn an_image_that_cannot_be_pulled_is_tried_with_growing_delays() {
    let running = Running::start(one("Always"), |runtime| {
        runtime.pulls.lock().insert("i:1".into(), Err("no such image".into()));
    });
    running.until(|status, _| waits(status, 0) == "ErrImagePull").await;
    running.until(|status, _| waits(status, 0) == "ImagePullBackOff").await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(running.runtime.times("pull"), [0, 10, 30, 70]);
    running.runtime.pulls.lock().insert("i:1".into(), Ok(()));
    running.until(|status, _| phase(status) == "Running").await;
    assert_eq!(running.runtime.times("pull"), [0, 10, 30, 70, 150]);
}

#[tokio::test(start_paused = true)]
async fn one_containers_failure_does_not_hold_back_anothers_restart() {
    let spec = json!({"containers": [{"name": "c", "image": "i:1"}, {"name": "absent", "image": "j:1"}]});
    let running = Running::start(pod(spec), |runtime| {
        runtime.pulls.lock().insert("j:1".into(), Err("no such image".into()));
        runtime.behaviours.lock().insert("c".into(), Behaviour { exits: Some(1), ..Default::default() });
    });
    running.until(|status, _| waits(status, 0) == "CrashLoopBackOff").await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(running.runtime.times("start"), [0, 0, 10, 30, 70]);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_pod_ends_it_and_stays_told_when_it_is_deleted() {
    let mut spec = one("Always");
    spec.spec.as_mut().unwrap().active_deadline_seconds = Some(60);
    let running = Running::start(spec, |_| {});
    let status = running.until(|status, done| done && phase(status) == "Failed").await;
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"));
    assert_eq!(running.runtime.times("stop c-0 30"), [60]);
    running.delete(0);
    running.task.await.unwrap();
    assert_eq!(running.handle.statuses.borrow().status.reason.as_deref(), Some("DeadlineExceeded"));
    assert_eq!(running.runtime.take().last().unwrap(), "remove-sandbox p-0");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_refused_fails_without_a_word_to_the_runtime() {
    let failure = Failure::new("OutOfcpu", "Pod was rejected: full");
    let input = Input { pod: Arc::new(one("Always")), removed: false, failure: Some(failure), grace: None };
    let running = Running::start_with(input, |_| {});
    let status = running.until(|_, done| done).await;
    assert_eq!((phase(&status), status.reason.as_deref()), ("Failed", Some("OutOfcpu")));
    assert_eq!(status.container_statuses, None);
    running.delete(0);
    running.task.await.unwrap();
    assert!(running.runtime.take().is_empty());
}

#[tokio::test(start_paused = true)]
async fn hooks_run_within_the_grace_period_and_once() {
    let lifecycle = json!({"postStart": {"exec": {"command": ["after"]}}, "preStop": {"sleep": {"seconds": 4}}});
    let spec = json!({"terminationGracePeriodSeconds": 10, "containers": [{"name": "c", "image": "i:1", "lifecycle": lifecycle}]});
    let running = Running::start(pod(spec), |_| {});
    running.until(|status, _| phase(status) == "Running").await;
    assert_eq!(running.runtime.times("exec c-0 after"), [0]);
    running.delete(10);
    running.task.await.unwrap();
    assert_eq!(running.runtime.times("stop c-0 6"), [4]);
}

#[tokio::test(start_paused = true)]
async fn a_post_start_hook_that_fails_kills_its_container() {
    let lifecycle = json!({"postStart": {"tcpSocket": {"port": 1}}});
    let spec = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "i:1", "lifecycle": lifecycle}]});
    let running = Running::start(pod(spec), |_| {});
    running.until(|status, _| matches!(phase(status), "Failed" | "Succeeded")).await;
    assert_eq!(running.runtime.times("stop c-0 30"), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_resize_is_given_when_there_is_room_and_applied_in_place() {
    let spec = |cpu: &str, memory: &str| {
        let list = json!({"cpu": cpu, "memory": memory});
        json!({"containers": [{"name": "c", "image": "i:1", "resources": {"requests": list, "limits": list}}]})
    };
    let running = Running::start(pod(spec("1", "64Mi")), |_| {});
    running.until(|status, _| phase(status) == "Running").await;
    let ask = |running: &Running, spec: serde_json::Value| {
        running.handle.input.send_modify(|input| input.pod = Arc::new(pod(spec)));
    };
    let pending = |status: &PodStatus| {
        let conditions = status.conditions.iter().flatten();
        let found = conditions.into_iter().find(|condition| condition.type_ == "PodResizePending");
        found.and_then(|condition| condition.reason.clone()).unwrap_or_default()
    };
    let cpu = |status: &PodStatus| {
        let resources = status.container_statuses.as_ref().unwrap()[0].resources.clone().unwrap();
        resources.limits.unwrap()["cpu"].0.clone()
    };
    running.runtime.take();
    ask(&running, spec("2", "128Mi"));
    let status = running.until(|status, _| cpu(status) == "2").await;
    assert_eq!((pending(&status).as_str(), status.container_statuses.as_ref().unwrap()[0].restart_count), ("", 0));
    assert_eq!(running.runtime.take(), ["update c-0 2048 134217728"]);

    // More than the node has; then as much as it has, but not now.
    ask(&running, spec("5", "128Mi"));
    let status = running.until(|status, _| pending(status) == "Infeasible").await;
    assert_eq!(cpu(&status), "2");
    let mut other = pod(spec("2", "64Mi"));
    other.metadata.uid = Some("other".into());
    running.agent.places.take(&Arc::new(other), |_| None::<()>).unwrap();
    ask(&running, spec("3", "128Mi"));
    running.until(|status, _| pending(status) == "Deferred").await;
    assert!(running.runtime.take().is_empty());
    running.agent.places.leave("other");
    let status = running.until(|status, _| cpu(status) == "3").await;
    assert_eq!(pending(&status), "");
    assert_eq!(running.runtime.take(), ["update c-0 3072 134217728"]);
}
