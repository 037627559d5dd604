use serde_json::json;

use super::*;
use crate::runtime::{Error, ExecOutcome};
use crate::testing::{Recording, agent, pod};

fn view() -> PodView {
    let container = Container {
        id: "c-0".into(),
        sandbox_id: "p-0".into(),
        name: "c".into(),
        attempt: 0,
        hash: String::new(),
        state: State::Running,
        created_at: crate::testing::START.parse().unwrap(),
        started_at: Some(crate::testing::START.parse().unwrap()),
        finished_at: None,
        exit_code: 0,
        reason: String::new(),
        message: String::new(),
        image: String::new(),
        image_id: String::new(),
        log_path: String::new(),
        applied: None,
        unhealthy: false,
    };
    PodView { sandboxes: vec![], containers: vec![container] }
}

struct Fixture {
    probes: Probes,
    changed: Arc<Notify>,
    runtime: Arc<Recording>,
    pod: Arc<Pod>,
    _root: tempfile::TempDir,
}

fn fixture(container: serde_json::Value) -> Fixture {
    let root = tempfile::tempdir().unwrap();
    let (agent, runtime) = agent(root.path());
    let changed = Arc::new(Notify::new());
    let probes = Probes::new(agent, Arc::clone(&changed));
    Fixture { probes, changed, runtime, pod: Arc::new(pod(json!({"containers": [container]}))), _root: root }
}

fn exec(command: &str, more: serde_json::Value) -> serde_json::Value {
    let mut probe = json!({"exec": {"command": [command]}});
    probe.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    probe
}

fn answers(code: i32) -> Result<ExecOutcome, Error> {
    Ok(ExecOutcome { exit_code: code, output: Vec::new() })
}

#[tokio::test(start_paused = true)]
async fn a_probe_begins_after_its_delay_and_comes_back_each_period() {
    let probe = exec("r", json!({"initialDelaySeconds": 5, "periodSeconds": 3}));
    let mut f = fixture(json!({"name": "c", "readinessProbe": probe}));
    f.probes.sync(&f.pod, &view(), &PodStatus::default());
    assert!(!f.probes.view().ready["c-0"]);
    f.changed.notified().await;
    assert!(f.probes.view().ready["c-0"]);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(f.runtime.times("exec c-0 r"), [5, 8, 11, 14]);
}

#[tokio::test(start_paused = true)]
async fn the_other_probes_begin_the_moment_the_startup_probe_succeeds() {
    let mut f = fixture(json!({
        "name": "c",
        "startupProbe": exec("s", json!({"periodSeconds": 7, "failureThreshold": 9})),
        "livenessProbe": exec("l", json!({"periodSeconds": 60})),
        "readinessProbe": exec("r", json!({"periodSeconds": 60})),
    }));
    let began = tokio::time::Instant::now();
    let late = move || began.elapsed() >= Duration::from_secs(20);
    *f.runtime.exec.lock() = Arc::new(move |command| answers(i32::from(command[0] == "s" && !late())));
    f.probes.sync(&f.pod, &view(), &PodStatus::default());
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert_eq!(f.runtime.times("exec c-0 s"), [0, 7, 14, 21]);
    assert_eq!(f.runtime.times("exec c-0 l"), [21, 81]);
    assert_eq!(f.runtime.times("exec c-0 r"), [21, 81]);
    assert!(f.probes.view().failed.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_tried_counts_as_nothing() {
    let mut f =
        fixture(json!({"name": "c", "livenessProbe": exec("l", json!({"periodSeconds": 1, "failureThreshold": 1}))}));
    let status = |code: tonic::Code| Error::Call(Box::new(tonic::Status::new(code, "x")));
    *f.runtime.exec.lock() = Arc::new(move |_| Err(status(tonic::Code::Unknown)));
    f.probes.sync(&f.pod, &view(), &PodStatus::default());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(f.probes.view().failed.is_empty());
    *f.runtime.exec.lock() = Arc::new(move |_| Err(status(tonic::Code::DeadlineExceeded)));
    f.changed.notified().await;
    assert_eq!(f.probes.view().failed["c-0"].reason, "failed liveness probe");
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_of_the_kubelet_what_was_ready_stays_ready_until_a_probe_fails() {
    let mut f = fixture(json!({
        "name": "c",
        "startupProbe": exec("s", json!({})),
        "readinessProbe": exec("r", json!({"initialDelaySeconds": 30, "failureThreshold": 1})),
    }));
    let before = serde_json::from_value(json!({"containerStatuses": [
        {"name": "c", "containerID": "recording://c-0", "image": "", "imageID": "", "ready": true, "restartCount": 0, "started": true},
    ]}));
    f.probes.sync(&f.pod, &view(), &before.unwrap());
    assert_eq!((f.probes.view().ready["c-0"], f.probes.view().started["c-0"]), (true, true));
    *f.runtime.exec.lock() = Arc::new(|_| answers(1));
    f.changed.notified().await;
    assert!(!f.probes.view().ready["c-0"]);
    assert_eq!((f.runtime.times("exec c-0 s"), f.runtime.times("exec c-0 r")), (vec![], vec![30]));
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_gone_is_probed_no_more() {
    let mut f = fixture(json!({"name": "c", "readinessProbe": exec("r", json!({"periodSeconds": 1}))}));
    f.probes.sync(&f.pod, &view(), &PodStatus::default());
    f.changed.notified().await;
    f.probes.sync(&f.pod, &PodView::default(), &PodStatus::default());
    assert!(f.probes.view().ready.is_empty());
    f.runtime.take();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(f.runtime.take().is_empty());
}
