use std::time::Duration;

use serde_json::json;

use super::*;
use crate::runtime::Sandbox;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn pod(policy: &str, init: &[&str], regular: &[&str]) -> Pod {
    let containers = |names: &[&str]| -> Vec<serde_json::Value> {
        names
            .iter()
            .map(|name| match name.strip_prefix('+') {
                Some(name) => json!({"name": name, "image": "i", "restartPolicy": "Always"}),
                None => json!({"name": name, "image": "i"}),
            })
            .collect()
    };
    serde_json::from_value(json!({
        "metadata": {"name": "p", "uid": "u"},
        "spec": {"restartPolicy": policy, "initContainers": containers(init), "containers": containers(regular)},
    }))
    .unwrap()
}

/// A view from words: `S` a ready sandbox, `s` one that is not; `a=run`, `a=made`, `a=0` (exited with a code) are containers in the
/// newest sandbox so far, in order of creation.
fn view(words: &str) -> PodView {
    let mut view = PodView::default();
    for (index, word) in words.split_whitespace().enumerate() {
        let created_at = at(index as i64);
        if matches!(word, "S" | "s") {
            let attempt = view.sandboxes.len() as u32;
            let id = format!("s{attempt}");
            view.sandboxes.push(Sandbox { id, ready: word == "S", created_at, attempt, ips: vec![] });
            continue;
        }
        let (name, state) = word.split_once('=').unwrap();
        let (state, exit_code) = match state {
            "run" => (State::Running, 0),
            "made" => (State::Created, 0),
            code => (State::Exited, code.parse().unwrap()),
        };
        let attempt = view.containers.iter().filter(|c| c.name == name).count() as u32;
        view.containers.push(Container {
            id: format!("{name}{attempt}"),
            sandbox_id: view.sandboxes.last().unwrap().id.clone(),
            name: name.into(),
            attempt,
            hash: container_hash(&Spec { name: name.into(), image: Some("i".into()), ..Default::default() }),
            state,
            created_at,
            started_at: Some(created_at),
            finished_at: (state == State::Exited).then_some(created_at),
            exit_code,
            reason: String::new(),
            message: String::new(),
            image: "i".into(),
            image_id: "i".into(),
            log_path: String::new(),
            applied: None,
            unhealthy: false,
        });
    }
    view.sort();
    view
}

/// The plan in words, in the order of its actions.
fn words(plan: &PodPlan) -> String {
    let mut words = Vec::new();
    if plan.finished {
        words.push("finished".to_owned());
    }
    words.extend(plan.kill.iter().map(|kill| format!("kill:{}", kill.id)));
    words.extend(plan.stop_sandboxes.iter().map(|id| format!("stop:{id}")));
    words.extend(plan.create_sandbox.map(|attempt| format!("sandbox:{attempt}")));
    words.extend(plan.update.iter().map(|update| format!("update:{}", update.id)));
    words.extend(plan.start.iter().map(|start| format!("start:{}{}", start.name, start.attempt)));
    words.extend(plan.wait.iter().map(|wait| format!("wait:{}", wait.name)));
    words.join(" ")
}

fn plan(pod: &Pod, view: &PodView) -> String {
    let (probes, backoffs) = (ProbeView::default(), BTreeMap::new());
    words(&plan_pod(pod, Observed { view, probes: &probes, backoffs: &backoffs, limits: &BTreeMap::new() }, at(100)))
}

#[test]
fn next_actions_by_policy_and_state() {
    for (policy, init, regular, observed, expected) in [
        // A new pod.
        ("Always", &[][..], &["a", "b"][..], "", "sandbox:0 start:a0 start:b0"),
        ("Always", &["i", "j"], &["a"], "", "sandbox:0 start:i0"),
        ("Always", &[], &["a"], "S", "start:a0"),
        ("Always", &[], &["a"], "S a=run", ""),
        // Containers that ended.
        ("Always", &[], &["a", "b"], "S a=0 b=run", "start:a1"),
        ("Always", &[], &["a"], "S a=1", "start:a1"),
        ("OnFailure", &[], &["a"], "S a=1", "start:a1"),
        ("OnFailure", &[], &["a"], "S a=0", "finished"),
        ("OnFailure", &[], &["a", "b"], "S a=0 b=2", "start:b1"),
        ("Never", &[], &["a", "b"], "S a=1 b=run", ""),
        ("Never", &[], &["a", "b"], "S a=1 b=0", "finished"),
        ("Always", &[], &["a"], "S a=made", "kill:a0 start:a1"),
        // Init containers, one after the other.
        ("Always", &["i", "j"], &["a"], "S i=run", ""),
        ("Always", &["i", "j"], &["a"], "S i=0", "start:j0"),
        ("Always", &["i", "j"], &["a"], "S i=0 j=0", "start:a0"),
        ("Always", &["i", "j"], &["a"], "S i=0 j=3", "start:j1"),
        ("OnFailure", &["i"], &["a"], "S i=3", "start:i1"),
        ("Never", &["i"], &["a"], "S i=3", "finished"),
        ("Always", &["i"], &["a"], "S i=0 a=1", "start:a1"),
        // Sidecars.
        ("Always", &["+s", "i"], &["a"], "S", "start:s0"),
        ("Always", &["+s", "i"], &["a"], "S s=run", "start:i0"),
        ("Always", &["+s", "i"], &["a"], "S s=run i=0", "start:a0"),
        ("Never", &["+s"], &["a"], "S s=1 a=run", "start:s1"),
        ("Never", &["+s"], &["a"], "S s=run a=0", "finished"),
        // Sandboxes that died.
        ("Always", &[], &["a"], "s a=255", "stop:s0 sandbox:1 start:a1"),
        ("Always", &["i"], &["a"], "s i=0 a=255", "stop:s0 sandbox:1 start:i1"),
        ("Always", &[], &["a"], "s a=run", "kill:a0 stop:s0 sandbox:1 start:a1"),
        ("Never", &[], &["a"], "s a=255", "finished"),
        ("Never", &[], &["a"], "s", "stop:s0 sandbox:1 start:a0"),
        ("OnFailure", &[], &["a", "b"], "s a=0 b=255", "stop:s0 sandbox:1 start:b1"),
        ("OnFailure", &[], &["a"], "s a=0", "finished"),
        ("OnFailure", &[], &["a", "b"], "s a=0 b=255 S b=run", ""),
    ] {
        let pod = pod(policy, init, regular);
        assert_eq!(plan(&pod, &view(observed)), expected, "{policy} {init:?} {regular:?} {observed:?}");
    }
}

#[test]
fn a_changed_image_replaces_the_container_and_nothing_else() {
    let mut pod = pod("Never", &[], &["a", "b"]);
    pod.spec.as_mut().unwrap().containers[0].image = Some("new".into());
    assert_eq!(plan(&pod, &view("S a=run b=run")), "kill:a0 start:a1");
}

#[test]
fn a_failed_probe_kills_with_its_grace_and_the_restart_waits_like_any_other() {
    let grace = Some(Duration::from_secs(3));
    let mut probes = ProbeView::default();
    probes.failed.insert("a0".into(), Unhealthy { reason: "failed liveness probe".into(), grace });
    let backoffs = BTreeMap::from([("a".to_owned(), Backoff { delay: Duration::from_secs(20), updated: at(0) })]);
    let running = view("S a=run");
    let mut ended = view("S a=0");
    ended.containers[0].unhealthy = true;
    ended.containers[0].finished_at = Some(at(90));
    for (policy, after) in [("Always", "wait:a"), ("OnFailure", "wait:a"), ("Never", "finished")] {
        let pod = pod(policy, &[], &["a"]);
        let plan = plan_pod(
            &pod,
            Observed { view: &running, probes: &probes, backoffs: &backoffs, limits: &BTreeMap::new() },
            at(90),
        );
        assert_eq!(words(&plan), "kill:a0", "{policy}");
        let kill = &plan.kill[0];
        assert_eq!(kill.message, "Container a failed liveness probe, will be restarted");
        assert_eq!((kill.grace, kill.unhealthy), (grace, true));
        let next = plan_pod(
            &pod,
            Observed { view: &ended, probes: &ProbeView::default(), backoffs: &backoffs, limits: &BTreeMap::new() },
            at(91),
        );
        assert_eq!(words(&next), after, "{policy}");
    }
}

#[test]
fn a_containers_own_rules_come_before_the_policy() {
    let mut pod = pod("Never", &[], &["a"]);
    let container = &mut pod.spec.as_mut().unwrap().containers[0];
    container.restart_policy = Some("Never".into());
    let rule = |operator: &str, values: &[i32]| json!([{"action": "Restart", "exitCodes": {"operator": operator, "values": values}}]);
    for (rules, observed, expected) in [
        (rule("In", &[42]), "S a=42", "start:a1"),
        (rule("In", &[42]), "S a=1", "finished"),
        (rule("NotIn", &[42]), "S a=1", "start:a1"),
        (rule("NotIn", &[42]), "S a=42", "finished"),
    ] {
        pod.spec.as_mut().unwrap().containers[0].restart_policy_rules = Some(serde_json::from_value(rules).unwrap());
        assert_eq!(plan(&pod, &view(observed)), expected);
    }
}

#[test]
fn what_follows_a_sidecar_waits_for_its_startup_probe() {
    let mut pod = pod("Always", &["+s"], &["a"]);
    let sidecar = &mut pod.spec.as_mut().unwrap().init_containers.as_mut().unwrap()[0];
    sidecar.startup_probe = Some(Default::default());
    let view = view("S s=run");
    let backoffs = BTreeMap::new();
    for (started, expected) in [(false, ""), (true, "start:a0")] {
        let probes = ProbeView { started: [("s0".to_owned(), started)].into(), ..Default::default() };
        let plan = plan_pod(
            &pod,
            Observed { view: &view, probes: &probes, backoffs: &backoffs, limits: &BTreeMap::new() },
            at(100),
        );
        assert_eq!(words(&plan), expected);
    }
}

#[test]
fn a_crash_within_the_delay_waits_and_says_until_when() {
    let (pod, view) = (pod("Always", &[], &["a", "b"]), view("S a=1 b=run"));
    let backoff = Backoff { delay: Duration::from_secs(20), updated: at(0) };
    let backoffs = BTreeMap::from([("a".to_owned(), backoff)]);
    let probes = ProbeView::default();
    let limits = BTreeMap::new();
    let observed = Observed { view: &view, probes: &probes, backoffs: &backoffs, limits: &limits };
    let early = plan_pod(&pod, observed, at(5));
    assert_eq!((words(&early), early.wake_at()), ("wait:a".to_owned(), Some(at(21))));
    let late = plan_pod(&pod, observed, at(21));
    assert_eq!((words(&late), late.start[0].failed), ("start:a1".to_owned(), Some(at(1))));
}

#[test]
fn a_pods_end_kills_sidecars_last_in_reverse() {
    let pod = pod("Always", &["+s", "+t"], &["a", "b"]);
    let groups = termination_order(&pod, &view("S s=run t=run a=run b=run"));
    let names: Vec<Vec<&str>> = groups.iter().map(|g| g.iter().map(|c| c.name.as_str()).collect()).collect();
    assert_eq!(names, [vec!["b", "a"], vec!["t"], vec!["s"]]);
}

#[test]
fn a_changed_container_does_not_wait_for_what_was_before_it() {
    let mut view = view("S a=1");
    let backoffs = BTreeMap::from([("a".to_owned(), Backoff { delay: Duration::from_secs(300), updated: at(0) })]);
    let (probes, limits) = (ProbeView::default(), BTreeMap::new());
    let planned = |view: &PodView| {
        let observed = Observed { view, probes: &probes, backoffs: &backoffs, limits: &limits };
        plan_pod(&pod("Always", &[], &["a"]), observed, at(5))
    };
    assert_eq!(words(&planned(&view)), "wait:a");
    view.containers[0].hash = "of another image".into();
    let plan = planned(&view);
    assert_eq!((words(&plan), plan.start[0].failed), ("start:a1".to_owned(), None));
}

#[test]
fn an_ephemeral_container_is_started_once() {
    let mut pod = pod("Always", &[], &["a"]);
    pod.spec.as_mut().unwrap().ephemeral_containers =
        Some(serde_json::from_value(json!([{"name": "debug", "image": "i"}])).unwrap());
    assert_eq!(plan(&pod, &view("S a=run")), "start:debug0");
    assert_eq!(plan(&pod, &view("S a=run debug=1")), "");
}

#[test]
fn limits_that_changed_are_updated_or_the_container_is_started_again() {
    let linux = |cpu_shares, memory_limit_in_bytes| LinuxContainerResources {
        cpu_shares,
        memory_limit_in_bytes,
        ..Default::default()
    };
    let mut pod = pod("Never", &[], &["a", "b"]);
    pod.spec.as_mut().unwrap().containers[1].resize_policy =
        Some(serde_json::from_value(json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}])).unwrap());
    let mut view = view("S a=run b=run");
    for container in &mut view.containers {
        container.applied = Some(linux(10, 64));
    }
    let (probes, backoffs) = (ProbeView::default(), BTreeMap::new());
    for (a, b, expected) in [
        (linux(10, 64), linux(10, 64), ""),
        (linux(20, 64), linux(20, 64), "update:a0 update:b0"),
        (linux(10, 128), linux(10, 128), "kill:b0 update:a0 start:b1"),
    ] {
        let limits = [("a".to_owned(), a), ("b".to_owned(), b)].into();
        let observed = Observed { view: &view, probes: &probes, backoffs: &backoffs, limits: &limits };
        assert_eq!(words(&plan_pod(&pod, observed, at(100))), expected);
    }
}
