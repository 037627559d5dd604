use serde_json::json;

use super::*;
use crate::runtime::Sandbox;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn pod(policy: &str, init: &[&str], regular: &[&str]) -> Pod {
    let containers = |names: &[&str]| -> Vec<serde_json::Value> {
        names.iter().map(|name| json!({"name": name, "image": "i"})).collect()
    };
    serde_json::from_value(json!({
        "metadata": {"name": "p", "uid": "u", "generation": 2},
        "spec": {"restartPolicy": policy, "initContainers": containers(init), "containers": containers(regular)},
    }))
    .unwrap()
}

/// One sandbox with containers from words: `a=run`, `a=0` (exited with a code).
fn view(words: &str) -> PodView {
    let mut view = PodView::default();
    view.sandboxes.push(Sandbox {
        id: "s".into(),
        ready: true,
        created_at: at(0),
        attempt: 0,
        ips: vec!["10.1.0.2".into()],
    });
    for (index, word) in words.split_whitespace().enumerate() {
        let (name, state) = word.split_once('=').unwrap();
        let running = state == "run";
        let created_at = at(index as i64);
        view.containers.push(Container {
            id: format!("{name}-{index}"),
            sandbox_id: "s".into(),
            name: name.into(),
            attempt: view.containers.iter().filter(|c| c.name == name).count() as u32,
            hash: String::new(),
            state: if running { State::Running } else { State::Exited },
            created_at,
            started_at: Some(created_at),
            finished_at: (!running).then_some(created_at),
            exit_code: if running { 0 } else { state.parse().unwrap() },
            reason: String::new(),
            message: String::new(),
            image: "i".into(),
            image_id: "sha".into(),
            log_path: String::new(),
            applied: None,
            unhealthy: false,
        });
    }
    view.sort();
    view
}

fn status(pod: &Pod, view: &PodView, probes: &ProbeView, waiting: &[(&str, &str)], previous: &PodStatus) -> PodStatus {
    let waiting = waiting
        .iter()
        .map(|(name, reason)| ((*name).to_owned(), Waiting { reason: (*reason).to_owned(), message: String::new() }))
        .collect();
    compute(Input {
        pod,
        view,
        probes,
        waiting: &waiting,
        runtime: "containerd",
        host_ips: &["192.168.0.1".to_owned()],
        failure: None,
        given: pod,
        differing: &BTreeSet::new(),
        pending: None,
        resize_error: None,
        finished: false,
        previous,
        now: at(50),
    })
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> &'a PodCondition {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind).unwrap()
}

#[test]
fn phases_follow_the_containers() {
    for (policy, init, regular, containers, waiting, expected) in [
        ("Always", &[][..], &["a"][..], "", &[][..], "Pending"),
        ("Always", &[], &["a", "b"], "a=run", &[], "Pending"),
        ("Always", &[], &["a", "b"], "a=run b=run", &[], "Running"),
        ("Always", &[], &["a", "b"], "a=1 b=run", &[], "Running"),
        ("Always", &[], &["a"], "a=1", &[], "Running"),
        ("Always", &[], &["a"], "a=1", &[("a", "CrashLoopBackOff")], "Running"),
        ("OnFailure", &[], &["a"], "a=1", &[], "Running"),
        ("OnFailure", &[], &["a"], "a=0", &[], "Succeeded"),
        ("Never", &[], &["a", "b"], "a=0 b=1", &[], "Failed"),
        ("Never", &[], &["a", "b"], "a=0 b=run", &[], "Running"),
        ("Never", &[], &["a", "b"], "a=0 b=0", &[], "Succeeded"),
        ("Always", &["i"], &["a"], "i=run", &[], "Pending"),
        ("Always", &["i"], &["a"], "i=0", &[], "Pending"),
        ("Always", &["i"], &["a"], "i=1", &[("i", "CrashLoopBackOff")], "Pending"),
        ("Never", &["i"], &["a"], "i=1", &[], "Failed"),
        ("Always", &["i"], &["a"], "i=0 a=run", &[], "Running"),
        ("Always", &[], &["a"], "", &[("a", "ImagePullBackOff")], "Pending"),
    ] {
        let status = status(
            &pod(policy, init, regular),
            &view(containers),
            &ProbeView::default(),
            waiting,
            &PodStatus::default(),
        );
        assert_eq!(status.phase.as_deref(), Some(expected), "{policy} {init:?} {containers:?}");
    }
}

#[test]
fn a_running_pod_is_ready_with_addresses_and_ids() {
    let status =
        status(&pod("Always", &[], &["a"]), &view("a=1 a=run"), &ProbeView::default(), &[], &PodStatus::default());
    for kind in ["PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready"] {
        assert_eq!(condition(&status, kind).status, "True", "{kind}");
        assert_eq!(condition(&status, kind).observed_generation, Some(2));
    }
    let container = &status.container_statuses.as_ref().unwrap()[0];
    assert_eq!((container.ready, container.started, container.restart_count), (true, Some(true), 1));
    assert_eq!(container.container_id.as_deref(), Some("containerd://a-1"));
    assert_eq!(container.last_state.as_ref().unwrap().terminated.as_ref().unwrap().reason.as_deref(), Some("Error"));
    assert_eq!((status.pod_ip.as_deref(), status.host_ip.as_deref()), (Some("10.1.0.2"), Some("192.168.0.1")));
    assert_eq!((status.qos_class.as_deref(), status.observed_generation), (Some("BestEffort"), Some(2)));
}

#[test]
fn probes_decide_about_ready_and_started() {
    let view = view("a=run");
    let probes = ProbeView { ready: [("a-0".to_owned(), false)].into(), ..Default::default() };
    let unready = status(&pod("Always", &[], &["a"]), &view, &probes, &[], &PodStatus::default());
    assert_eq!(condition(&unready, "Ready").message.as_deref(), Some("containers with unready status: [a]"));
    let probes = ProbeView { started: [("a-0".to_owned(), false)].into(), ..Default::default() };
    let starting = status(&pod("Always", &[], &["a"]), &view, &probes, &[], &PodStatus::default());
    assert_eq!(starting.container_statuses.unwrap()[0].started, Some(false));
}

#[test]
fn conditions_keep_their_time_until_they_change_and_those_of_others() {
    let pod = pod("Always", &[], &["a"]);
    let mut first = status(&pod, &view("a=run"), &ProbeView::default(), &[], &PodStatus::default());
    let theirs = PodCondition { type_: "example.com/gate".into(), status: "True".into(), ..Default::default() };
    first.conditions.as_mut().unwrap().push(theirs.clone());
    for condition in first.conditions.as_mut().unwrap() {
        condition.last_transition_time = Some(Time(at(1)));
    }
    let second = status(&pod, &view("a=1"), &ProbeView::default(), &[], &first);
    assert_eq!(condition(&second, "Initialized").last_transition_time, Some(Time(at(1))));
    assert_eq!(condition(&second, "Ready").last_transition_time, Some(Time(at(50))));
    assert_eq!(condition(&second, "example.com/gate").status, "True");
    assert_eq!(second.start_time, first.start_time);
}

#[test]
fn readiness_gates_hold_ready_back() {
    let mut pod = pod("Always", &[], &["a"]);
    pod.spec.as_mut().unwrap().readiness_gates = Some(serde_json::from_value(json!([{"conditionType": "g"}])).unwrap());
    let status = status(&pod, &view("a=run"), &ProbeView::default(), &[], &PodStatus::default());
    assert_eq!(condition(&status, "ContainersReady").status, "True");
    assert_eq!(condition(&status, "Ready").reason.as_deref(), Some("ReadinessGatesNotReady"));
}

#[test]
fn a_crash_loop_shows_as_waiting_with_the_last_state() {
    let status = status(
        &pod("Always", &[], &["a"]),
        &view("a=1 a=2"),
        &ProbeView::default(),
        &[("a", "CrashLoopBackOff")],
        &PodStatus::default(),
    );
    let container = &status.container_statuses.unwrap()[0];
    assert_eq!(container.state.as_ref().unwrap().waiting.as_ref().unwrap().reason.as_deref(), Some("CrashLoopBackOff"));
    assert_eq!(container.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 2);
}
