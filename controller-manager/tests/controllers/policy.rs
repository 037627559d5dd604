//! Budgets of disruptions, quotas, mirrored endpoints, tokens in Secrets, and pods that nobody keeps.

use anyhow::{Context, Result};
use e2e::ControlPlane;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Node, Pod, ReplicationController, ResourceQuota, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, EvictParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::{Value, json};

use crate::fixture::{PATIENCE, control_plane, create, template, until};
use crate::fleet::{BROKEN_IMAGE, Fleet, is_ready, node_of};

/// A client for which being told to try again later is an answer.
async fn client_of_one_try(plane: &ControlPlane) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(plane.kubeconfig())?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_lets_as_many_pods_be_evicted_as_it_says() -> Result<()> {
    let plane = control_plane(&[]).await?;
    let client = plane.client().await?;
    let fleet = Fleet::start(client.clone(), &["n1"]).await?;
    let spec = json!({ "replicas": 3, "selector": { "app": "web" }, "template": template("web", BROKEN_IMAGE) });
    create::<ReplicationController>(&client, json!({ "metadata": { "name": "web" }, "spec": spec })).await?;
    let budget = json!({ "maxUnavailable": 1, "selector": { "matchLabels": { "app": "web" } } });
    create::<PodDisruptionBudget>(&client, json!({ "metadata": { "name": "web" }, "spec": budget })).await?;
    fleet.until("all are placed", "web", |pods| pods.iter().filter(|pod| node_of(pod).is_some()).count() == 3).await?;
    let pods = fleet.pods("web");
    for pod in &pods {
        fleet.set_ready(pod, true).await?;
    }
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(client.clone(), "default");
    let allows = |healthy: i32, allowed: i32| {
        move |found: Option<&PodDisruptionBudget>| {
            let status = found.and_then(|found| found.status.clone()).unwrap_or_default();
            (status.expected_pods, status.desired_healthy) == (Some(3), Some(2))
                && (status.current_healthy, status.disruptions_allowed) == (Some(healthy), Some(allowed))
        }
    };
    until("one may go", budgets.clone(), "web", allows(3, 1)).await?;
    fleet.set_ready(&pods[0], false).await?;
    until("none may go", budgets.clone(), "web", allows(2, 0)).await?;
    let api: Api<Pod> = Api::namespaced(client_of_one_try(&plane).await?, "default");
    let refused = api.evict(&pods[1].name_any(), &EvictParams::default()).await;
    assert!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 429), "{refused:?}");
    fleet.set_ready(&pods[0], true).await?;
    until("one may go again", budgets, "web", allows(3, 1)).await?;
    api.evict(&pods[1].name_any(), &EvictParams::default()).await?;
    until("it is evicted", api, &pods[1].name_any(), |found| found.is_none()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_says_which_of_its_expressions_do_not_fit() -> Result<()> {
    let plane = control_plane(&[]).await?;
    let client = plane.client().await?;
    let rule =
        json!({ "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"] });
    let validation = json!({ "expression": "object.spec.replicas > '1'" });
    let spec = json!({ "matchConstraints": { "resourceRules": [rule] }, "validations": [validation] });
    let api: Api<ValidatingAdmissionPolicy> = Api::all(client);
    let policy = serde_json::from_value(json!({ "metadata": { "name": "p" }, "spec": spec }))?;
    api.create(&PostParams::default(), &policy).await?;
    let is_checked = |found: Option<&ValidatingAdmissionPolicy>| {
        let status = found.and_then(|found| found.status.clone()).unwrap_or_default();
        status.observed_generation == Some(1) && status.type_checking.is_some()
    };
    let policy = until("its types are checked", api, "p", is_checked).await?.context("the policy")?;
    let checking = policy.status.and_then(|status| status.type_checking).context("the check")?;
    let warnings = checking.expression_warnings.unwrap_or_default();
    let said: Vec<&str> = warnings.iter().map(|warning| warning.field_ref.as_str()).collect();
    assert_eq!(said, ["spec.validations[0].expression"]);
    assert!(warnings[0].warning.contains("found no matching overload for '_>_' applied to '(int, string)'"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_of_addresses_stays_while_services_need_it() -> Result<()> {
    let plane = control_plane(&[]).await?;
    let ranges: Api<ServiceCIDR> = Api::all(plane.client().await?);
    let is_ready = |wanted: &'static str| {
        move |found: Option<&ServiceCIDR>| {
            let conditions = found.and_then(|found| found.status.as_ref()?.conditions.as_ref());
            conditions.into_iter().flatten().any(|one| one.type_ == "Ready" && one.status == wanted)
        }
    };
    let more = json!({ "metadata": { "name": "more" }, "spec": { "cidrs": ["10.200.0.0/24"] } });
    ranges.create(&PostParams::default(), &serde_json::from_value(more)?).await?;
    for name in ["kubernetes", "more"] {
        until("it is ready", ranges.clone(), name, is_ready("True")).await?;
        ranges.delete(name, &DeleteParams::default()).await?;
    }
    until("it stays for the Service of the API", ranges.clone(), "kubernetes", is_ready("False")).await?;
    until("nobody needs it", ranges.clone(), "more", |found| found.is_none()).await?;
    assert!(ranges.get_opt("kubernetes").await?.is_some());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_shows_what_is_used() -> Result<()> {
    let plane = control_plane(&[]).await?;
    let client = plane.client().await?;
    let _fleet = Fleet::start(client.clone(), &["n1"]).await?;
    let hard =
        json!({ "pods": "5", "requests.cpu": "2", "services.nodeports": "4", "count/configmaps": "9", "secrets": "3" });
    create::<ResourceQuota>(&client, json!({ "metadata": { "name": "all" }, "spec": { "hard": hard } })).await?;
    create::<ResourceQuota>(
        &client,
        json!({ "metadata": { "name": "short" }, "spec": { "hard": { "pods": "5" }, "scopes": ["Terminating"] } }),
    )
    .await?;
    let quotas: Api<ResourceQuota> = Api::namespaced(client.clone(), "default");
    let uses = |wanted: &[(&str, &str)]| {
        let wanted: Vec<(String, String)> =
            wanted.iter().map(|(name, amount)| ((*name).into(), (*amount).into())).collect();
        move |found: Option<&ResourceQuota>| {
            let status = found.and_then(|found| found.status.clone()).unwrap_or_default();
            let hard = found.and_then(|found| found.spec.as_ref()?.hard.clone());
            let used = status.used.unwrap_or_default();
            status.hard == hard
                && wanted.iter().all(|(name, amount)| used.get(name).is_some_and(|used| used.0 == *amount))
        }
    };
    // The authority that every namespace has is a ConfigMap.
    let none = [
        ("pods", "0"),
        ("requests.cpu", "0"),
        ("services.nodeports", "0"),
        ("count/configmaps", "1"),
        ("secrets", "0"),
    ];
    until("at first nothing is used", quotas.clone(), "all", uses(&none)).await?;
    let container = json!({ "name": "c", "image": "one", "resources": { "requests": { "cpu": "500m" } } });
    let pod = |name: &str, more: Value| {
        let mut spec = json!({ "containers": [container] });
        spec.as_object_mut().expect("it is an object").extend(more.as_object().cloned().unwrap_or_default());
        json!({ "metadata": { "name": name }, "spec": spec })
    };
    create::<Pod>(&client, pod("one", json!({}))).await?;
    create::<Pod>(&client, pod("two", json!({ "activeDeadlineSeconds": 3600 }))).await?;
    create::<ConfigMap>(&client, json!({ "metadata": { "name": "c" } })).await?;
    create::<Secret>(&client, json!({ "metadata": { "name": "s" } })).await?;
    let service = json!({ "type": "NodePort", "ports": [{ "name": "a", "port": 1 }, { "name": "b", "port": 2 }] });
    create::<Service>(&client, json!({ "metadata": { "name": "s" }, "spec": service })).await?;
    let some = [
        ("pods", "2"),
        ("requests.cpu", "1"),
        ("services.nodeports", "2"),
        ("count/configmaps", "2"),
        ("secrets", "1"),
    ];
    until("what is made is used", quotas.clone(), "all", uses(&some)).await?;
    until("a scope is for some", quotas.clone(), "short", uses(&[("pods", "1")])).await?;
    Api::<Pod>::namespaced(client.clone(), "default").delete("two", &DeleteParams::default().grace_period(0)).await?;
    Api::<Secret>::namespaced(client.clone(), "default").delete("s", &DeleteParams::default()).await?;
    until(
        "what goes is not",
        quotas.clone(),
        "all",
        uses(&[("pods", "1"), ("requests.cpu", "500m"), ("secrets", "0")]),
    )
    .await?;
    until("nor by scope", quotas, "short", uses(&[("pods", "0")])).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_are_kept_by_hand_are_mirrored() -> Result<()> {
    let plane = control_plane(&[]).await?;
    let client = plane.client().await?;
    create::<Service>(
        &client,
        json!({ "metadata": { "name": "db" }, "spec": { "ports": [{ "name": "sql", "port": 5432 }] } }),
    )
    .await?;
    let subset = |ip: &str| json!([{ "addresses": [{ "ip": ip }], "ports": [{ "name": "sql", "port": 5432 }] }]);
    create::<Endpoints>(&client, json!({ "metadata": { "name": "db" }, "subsets": subset("192.0.2.10") })).await?;
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    let of_service = watcher::Config::default().labels("kubernetes.io/service-name=db");
    let mut shown = watcher(slices.clone(), of_service).default_backoff().applied_objects().boxed();
    let mut has = async |ip: &str| {
        let seen = async {
            while let Some(slice) = shown.try_next().await? {
                if slice.endpoints.iter().flatten().any(|endpoint| endpoint.addresses == [ip]) {
                    return Ok(slice);
                }
            }
            anyhow::bail!("the watch ended")
        };
        tokio::time::timeout(PATIENCE, seen).await.with_context(|| ip.to_owned())?
    };
    let slice = has("192.0.2.10").await?;
    assert_eq!(slice.labels()["endpointslice.kubernetes.io/managed-by"], "endpointslicemirroring-controller.k8s.io");
    assert_eq!(slice.ports.iter().flatten().map(|port| port.port).collect::<Vec<_>>(), [Some(5432)]);
    let endpoints: Api<Endpoints> = Api::namespaced(client.clone(), "default");
    let change = Patch::Merge(json!({ "subsets": subset("192.0.2.11") }));
    endpoints.patch("db", &PatchParams::default(), &change).await?;
    has("192.0.2.11").await?;
    endpoints.delete("db", &DeleteParams::default()).await?;
    until("the mirror goes with it", slices, &slice.name_any(), |found| found.is_none()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_for_an_account_gets_a_token_that_works() -> Result<()> {
    let plane = control_plane(&[]).await?;
    let client = plane.client().await?;
    create::<ServiceAccount>(&client, json!({ "metadata": { "name": "robot" } })).await?;
    let annotations = json!({ "kubernetes.io/service-account.name": "robot" });
    let secret = json!({ "metadata": { "name": "robot-token", "annotations": annotations }, "type": "kubernetes.io/service-account-token" });
    create::<Secret>(&client, secret).await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "default");
    let has_token = |found: Option<&Secret>| {
        found.and_then(|found| found.data.as_ref()?.get("token")).is_some_and(|token| !token.0.is_empty())
    };
    let filled = until("it is filled", secrets.clone(), "robot-token", has_token).await?.context("it was looked at")?;
    let data = filled.data.context("it has data")?;
    assert_eq!(data["ca.crt"].0, std::fs::read(plane.pki_dir().join("ca.crt"))?);
    assert_eq!(data["namespace"].0, b"default");
    let spec = TokenReviewSpec { token: String::from_utf8(data["token"].0.clone())?, ..TokenReviewSpec::default() };
    let reviews: Api<TokenReview> = Api::all(client.clone());
    let review = TokenReview { spec, ..TokenReview::default() };
    let status = reviews.create(&PostParams::default(), &review).await?.status.context("it is answered")?;
    assert_eq!(status.user.and_then(|user| user.username).as_deref(), Some("system:serviceaccount:default:robot"));
    Api::<ServiceAccount>::namespaced(client, "default").delete("robot", &DeleteParams::default()).await?;
    until("it goes with the account", secrets, "robot-token", |found| found.is_none()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_nobody_keeps_are_taken_away() -> Result<()> {
    let plane = control_plane(&[("terminated-pod-gc-threshold", "1")]).await?;
    let client = plane.client().await?;
    let fleet = Fleet::start(client.clone(), &["n1", "n2"]).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    for name in ["a", "b", "c"] {
        let spec =
            json!({ "containers": [{ "name": "c", "image": "one" }], "nodeName": "n1", "restartPolicy": "Never" });
        create::<Pod>(&client, json!({ "metadata": { "name": name, "labels": { "app": "old" } }, "spec": spec }))
            .await?;
    }
    fleet.until("all run", "old", |pods| pods.len() == 3 && pods.iter().all(|pod| is_ready(pod))).await?;
    for pod in fleet.pods("old") {
        fleet
            .finish(&pod, json!({ "phase": "Succeeded", "conditions": [{ "type": "Ready", "status": "False" }] }))
            .await?;
    }
    fleet.until("one ended pod stays", "old", |pods| pods.len() == 1).await?;

    let spec = json!({ "containers": [{ "name": "c", "image": "one" }], "nodeName": "n2" });
    create::<Pod>(&client, json!({ "metadata": { "name": "stuck", "labels": { "app": "stuck" } }, "spec": spec }))
        .await?;
    fleet.until("it runs", "stuck", |pods| pods.iter().any(|pod| is_ready(pod))).await?;
    fleet.lose("n2");
    let nodes: Api<Node> = Api::all(client.clone());
    let down = json!({ "status": { "conditions": [{ "type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown" }] } });
    nodes.patch_status("n2", &PatchParams::default(), &Patch::Strategic(down)).await?;
    let out = json!({ "spec": { "taints": [{ "key": "node.kubernetes.io/out-of-service", "value": "shutdown", "effect": "NoExecute" }] } });
    nodes.patch("n2", &PatchParams::default(), &Patch::Strategic(out)).await?;
    until("a pod of a node that is out of service goes", pods, "stuck", |found| found.is_none()).await?;
    Ok(())
}
