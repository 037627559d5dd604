//! ServiceAccount: every pod runs as a service account, and gets its token, the cluster's CA and its namespace as files.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::{ApiError, meta, names};
use apiserver_auth::authorization::node::references::{self, Kind};
use apiserver_storage::reader::{Change, GroupResource, Observer, Reader};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::object::{items, push, text};
use crate::{Attributes, Operation, Plugin};

const ACCOUNTS: GroupResource<'static> = GroupResource::new("", "serviceaccounts");
const DEFAULT: &str = "default";
const VOLUME_PREFIX: &str = "kube-api-access-";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// One hour and a bit: tells the issuer that this is a projected volume's token.
const TOKEN_SECONDS: i64 = 60 * 60 + 7;
/// How long a pod waits for the account `default` of a namespace that has just been made.
const WAIT_FOR_DEFAULT: Duration = Duration::from_secs(1);

pub struct ServiceAccount {
    reader: Arc<dyn Reader>,
    /// Woken by each change of a service account.
    changed: Notify,
}

impl ServiceAccount {
    pub fn new(reader: Arc<dyn Reader>) -> Self {
        ServiceAccount { reader, changed: Notify::new() }
    }

    async fn account(&self, a: &Attributes<'_>, pod: &Value, name: &str) -> Result<Arc<Value>, ApiError> {
        if let Some(found) = self.reader.get(ACCOUNTS, a.namespace, name) {
            return Ok(found);
        }
        let wait = if name == DEFAULT { WAIT_FOR_DEFAULT } else { Duration::ZERO };
        let deadline = Instant::now() + wait;
        loop {
            // Listen before looking, so that a change between the two is not missed.
            let changed = self.changed.notified();
            if let Some(found) = self.reader.get_consistent(ACCOUNTS, a.namespace, name).await? {
                return Ok(found);
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                let detail = format!(
                    "error looking up service account {}/{name}: serviceaccount {name:?} not found",
                    a.namespace
                );
                return Err(a.forbidden(Some(pod), &detail));
            }
        }
    }
}

#[async_trait]
impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        a.is("", "pods") && a.operation == Operation::Create
    }

    async fn admit(&self, a: &Attributes<'_>, pod: &mut Value, _: Option<&Value>) -> Result<(), ApiError> {
        if references::is_mirror(pod) {
            return Ok(());
        }
        let spec = crate::object::object_mut(pod, "spec");
        let name = [text(spec, "/serviceAccountName"), text(spec, "/serviceAccount"), DEFAULT]
            .into_iter()
            .find(|name| !name.is_empty())
            .unwrap_or(DEFAULT)
            .to_owned();
        spec["serviceAccountName"] = name.clone().into();
        spec["serviceAccount"] = name.clone().into();
        let account = self.account(a, pod, &name).await?;
        let spec = &mut pod["spec"];
        if wants_token(&account, spec) {
            mount_token(spec);
        }
        if items(spec, "/imagePullSecrets").is_empty() && !items(&account, "/imagePullSecrets").is_empty() {
            spec["imagePullSecrets"] = account["imagePullSecrets"].clone();
        }
        Ok(())
    }

    async fn validate(&self, a: &Attributes<'_>, object: Option<&Value>, _: Option<&Value>) -> Result<(), ApiError> {
        let Some(pod) = object else { return Ok(()) };
        if references::is_mirror(pod) {
            return check_mirror(pod).map_err(|detail| a.forbidden(object, detail));
        }
        if text(pod, "/spec/serviceAccountName").is_empty() {
            let detail = format!("no service account specified for pod {}/{}", a.namespace, meta::name(pod));
            return Err(a.forbidden(object, &detail));
        }
        Ok(())
    }

    fn observer(self: Arc<Self>) -> Option<Arc<dyn Observer>> {
        Some(self)
    }
}

impl Observer for ServiceAccount {
    fn resources(&self) -> &'static [GroupResource<'static>] {
        &[ACCOUNTS]
    }

    fn observe(&self, _: &Change<'_>) {
        self.changed.notify_waiters();
    }
}

/// The pod decides, then the account; yes if neither says.
fn wants_token(account: &Value, spec: &Value) -> bool {
    let says = |value: &Value| value.get("automountServiceAccountToken").and_then(Value::as_bool);
    says(spec).or_else(|| says(account)).unwrap_or(true)
}

/// Mounts the token volume into each container that has nothing at its path, and adds the volume if one does.
fn mount_token(spec: &mut Value) {
    let existing = items(spec, "/volumes").iter().map(|v| text(v, "/name")).find(|n| n.starts_with(VOLUME_PREFIX));
    let existing = existing.map(str::to_owned);
    let name = existing.clone().unwrap_or_else(|| names::generate(VOLUME_PREFIX));
    let mut needed = false;
    for list in ["initContainers", "containers"] {
        let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) else { continue };
        for container in containers {
            if !items(container, "/volumeMounts").iter().any(|mount| text(mount, "/mountPath") == MOUNT_PATH) {
                push(container, "volumeMounts", json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH}));
                needed = true;
            }
        }
    }
    if needed && existing.is_none() {
        push(spec, "volumes", token_volume(&name));
    }
}

fn token_volume(name: &str) -> Value {
    let namespace = json!({"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}});
    json!({
        "name": name,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [namespace]}},
            ],
        },
    })
}

/// A mirror pod shows what runs already; it can have nothing from the API.
fn check_mirror(pod: &Value) -> Result<(), &'static str> {
    if !text(pod, "/spec/serviceAccountName").is_empty() {
        return Err("a mirror pod may not reference service accounts");
    }
    let mut secrets = false;
    references::of_pod(pod, &mut |kind, _| secrets |= kind == Kind::Secret);
    if secrets {
        return Err("a mirror pod may not reference secrets");
    }
    let mut sources = items(pod, "/spec/volumes").iter().flat_map(|volume| items(volume, "/projected/sources"));
    if sources.any(|source| source.get("serviceAccountToken").is_some_and(|token| !token.is_null())) {
        return Err("a mirror pod may not use ServiceAccountToken volume projections");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{State, admit, attributes, observe};

    fn account(name: &str, extra: Value) -> Value {
        let mut account = json!({"metadata": {"namespace": "dev", "name": name}});
        account.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        account
    }

    fn plugin() -> (Arc<State>, ServiceAccount) {
        let state = Arc::new(State::default());
        (state.clone(), ServiceAccount::new(state))
    }

    fn pod(spec: Value) -> Value {
        json!({"metadata": {"name": "web"}, "spec": spec})
    }

    #[tokio::test]
    async fn a_pod_gets_an_account_and_its_files() {
        let (state, plugin) = plugin();
        state.put("serviceaccounts", account("default", json!({"imagePullSecrets": [{"name": "pull"}]})));
        let a = attributes(Operation::Create, "", "pods");
        let own = json!({"name": "b", "volumeMounts": [{"name": "x", "mountPath": MOUNT_PATH}]});
        let spec = json!({"containers": [{"name": "a"}, own], "initContainers": [{"name": "i"}]});
        let mut got = admit(&plugin, &a, pod(spec)).await.expect("admitted");
        for _ in 0..2 {
            let spec = &got["spec"];
            assert_eq!((text(spec, "/serviceAccountName"), text(spec, "/serviceAccount")), ("default", "default"));
            assert_eq!(spec["imagePullSecrets"], json!([{"name": "pull"}]));
            let volumes = items(spec, "/volumes");
            assert_eq!(volumes.len(), 1);
            let name = text(&volumes[0], "/name");
            assert_eq!(name.len(), VOLUME_PREFIX.len() + 5);
            assert_eq!(volumes[0], token_volume(name));
            let mount = json!([{"name": name, "readOnly": true, "mountPath": MOUNT_PATH}]);
            assert_eq!(spec["containers"][0]["volumeMounts"], mount);
            assert_eq!(spec["initContainers"][0]["volumeMounts"], mount);
            assert_eq!(items(&spec["containers"][1], "/volumeMounts").len(), 1);
            got = admit(&plugin, &a, got).await.expect("admitted again");
        }
    }

    #[tokio::test]
    async fn the_token_is_left_out_where_pod_or_account_say_so() {
        let (state, plugin) = plugin();
        state.put("serviceaccounts", account("quiet", json!({"automountServiceAccountToken": false})));
        let a = attributes(Operation::Create, "", "pods");
        for (says, mounted) in [(Value::Null, false), (json!(false), false), (json!(true), true)] {
            let spec = json!({
                "serviceAccountName": "quiet", "automountServiceAccountToken": says, "containers": [{"name": "a"}],
            });
            let got = admit(&plugin, &a, pod(spec)).await.expect("admitted");
            assert_eq!(!items(&got, "/spec/volumes").is_empty(), mounted, "{says}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_account_is_refused_and_the_default_one_waited_for() {
        let (state, plugin) = plugin();
        let plugin = Arc::new(plugin);
        let a = attributes(Operation::Create, "", "pods");
        let start = Instant::now();
        let error = admit(&*plugin, &a, pod(json!({"serviceAccountName": "bot"}))).await.expect_err("refused");
        assert!(
            error.0.message.contains(r#"error looking up service account dev/bot: serviceaccount "bot" not found"#)
        );
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(admit(&*plugin, &a, pod(json!({}))).await.map_err(|e| e.code()), Err(403));
        assert_eq!(start.elapsed(), WAIT_FOR_DEFAULT);

        let waiting = tokio::spawn({
            let plugin = Arc::clone(&plugin);
            async move { admit(&*plugin, &attributes(Operation::Create, "", "pods"), pod(json!({}))).await }
        });
        tokio::task::yield_now().await;
        state.put("serviceaccounts", account("default", json!({})));
        observe(&*plugin, ACCOUNTS, &account("default", json!({})));
        assert!(waiting.await.expect("finished").is_ok());
    }

    #[tokio::test]
    async fn a_mirror_pod_has_nothing_from_the_api() {
        let (_, plugin) = plugin();
        let a = attributes(Operation::Create, "", "pods");
        let token = json!([{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]);
        let cases = [
            (json!({}), true),
            (json!({"serviceAccountName": "default"}), false),
            (json!({"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}), false),
            (json!({"volumes": token}), false),
        ];
        for (spec, wanted) in cases {
            let mut mirror = pod(spec.clone());
            mirror["metadata"]["annotations"] = json!({references::MIRROR: "x"});
            let got = admit(&plugin, &a, mirror.clone()).await;
            assert_eq!(got.is_ok(), wanted, "{spec}");
            if let Ok(got) = got {
                assert_eq!(got, mirror, "nothing is added");
            }
        }
    }
}
