//! Namespaces and what each has, ownership, and certificates.

use anyhow::{Context, Result};
use component_base::pki::{self, Certificate, KeyType, Names, Subject};
use e2e::ControlPlane;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::fixture::{control_plane, create, template, until};
use crate::fleet::Fleet;

const ROOT_CA: &str = "kube-root-ca.crt";

async fn make<K>(api: &Api<K>, object: Value) -> Result<K>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    Ok(api.create(&PostParams::default(), &serde_json::from_value(object)?).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_has_its_account_and_authority_and_goes_with_all_in_it() -> Result<()> {
    let plane = control_plane(&[]).await?;
    let client = plane.client().await?;
    let _fleet = Fleet::start(client.clone(), &["n1"]).await?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    make(&namespaces, json!({ "metadata": { "name": "team" } })).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "team");
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "team");
    until("the account", accounts.clone(), "default", |found| found.is_some()).await?;
    let authority = std::fs::read_to_string(plane.pki_dir().join("ca.crt"))?;
    let has_authority = |found: Option<&ConfigMap>| {
        found.and_then(|found| found.data.as_ref()?.get("ca.crt")).is_some_and(|text| *text == authority)
    };
    until("the authority", maps.clone(), ROOT_CA, has_authority).await?;

    // Both are kept as they are.
    accounts.delete("default", &DeleteParams::default()).await?;
    until("the account is back", accounts.clone(), "default", |found| found.is_some()).await?;
    maps.patch(ROOT_CA, &PatchParams::default(), &Patch::Merge(json!({ "data": { "ca.crt": "forged" } }))).await?;
    until("the authority is right again", maps.clone(), ROOT_CA, has_authority).await?;

    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "team");
    let spec =
        json!({ "replicas": 3, "selector": { "matchLabels": { "app": "web" } }, "template": template("web", "one") });
    make(&deployments, json!({ "metadata": { "name": "web" }, "spec": spec })).await?;
    until("its pods", deployments, "web", |found| {
        found.and_then(|found| found.status.as_ref()?.ready_replicas) == Some(3)
    })
    .await?;
    make(&Api::<Secret>::namespaced(client.clone(), "team"), json!({ "metadata": { "name": "s" } })).await?;
    let service =
        json!({ "metadata": { "name": "web" }, "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }] } });
    make(&Api::<Service>::namespaced(client.clone(), "team"), service).await?;
    make(&maps, json!({ "metadata": { "name": "held", "finalizers": ["example.com/hold"] } })).await?;

    namespaces.delete("team", &DeleteParams::default()).await?;
    until("it says what holds it", namespaces.clone(), "team", |found| {
        let conditions = found.and_then(|found| found.status.as_ref()?.conditions.clone()).unwrap_or_default();
        let text = |type_: &str| {
            let condition = conditions.iter().find(|one| one.type_ == type_ && one.status == "True");
            condition.and_then(|one| one.message.clone()).unwrap_or_default()
        };
        text("NamespaceContentRemaining") == "Some resources are remaining: configmaps has 1 resource instances"
            && text("NamespaceFinalizersRemaining").contains("example.com/hold in 1 resource instances")
    })
    .await?;
    maps.patch("held", &PatchParams::default(), &Patch::Merge(json!({ "metadata": { "finalizers": null } }))).await?;
    until("it goes", namespaces, "team", |found| found.is_none()).await?;
    assert!(Api::<Pod>::namespaced(client.clone(), "team").list(&ListParams::default()).await?.items.is_empty());
    let keys = plane.etcdctl(&["get", "--prefix", "/registry", "--keys-only"])?;
    let left: Vec<&str> = keys.lines().filter(|key| key.contains("/team/") || key.ends_with("/team")).collect();
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}

/// ConfigMaps that own each other.
struct Family {
    maps: Api<ConfigMap>,
}

impl Family {
    async fn make(&self, name: &str, owners: &[&ConfigMap], finalizers: &[&str]) -> Result<ConfigMap> {
        let owners: Vec<Value> = owners
            .iter()
            .map(|owner| {
                json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": owner.name_any(), "uid": owner.uid(), "blockOwnerDeletion": true })
            })
            .collect();
        make(&self.maps, json!({ "metadata": { "name": name, "ownerReferences": owners, "finalizers": finalizers } }))
            .await
    }

    async fn delete(&self, name: &str, policy: PropagationPolicy) -> Result<()> {
        let params = DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() };
        self.maps.delete(name, &params).await?;
        Ok(())
    }

    async fn gone(&self, name: &str) -> Result<()> {
        until(&format!("{name} goes"), self.maps.clone(), name, |found| found.is_none()).await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_owned_goes_with_its_owners_as_asked() -> Result<()> {
    let plane = control_plane(&[]).await?;
    let client = plane.client().await?;
    let family = Family { maps: Api::namespaced(client, "default") };

    // Background: the owner at once, what it owns soon after, and what that owns.
    let root = family.make("root", &[], &[]).await?;
    let child = family.make("child", &[&root], &[]).await?;
    family.make("grandchild", &[&child], &[]).await?;
    family.delete("root", PropagationPolicy::Background).await?;
    for name in ["root", "child", "grandchild"] {
        family.gone(name).await?;
    }

    // Foreground: the owner waits until all that blocks it is gone.
    let owner = family.make("owner", &[], &[]).await?;
    family.make("slow", &[&owner], &["example.com/hold"]).await?;
    family.delete("owner", PropagationPolicy::Foreground).await?;
    let is_going = |found: Option<&ConfigMap>| found.is_some_and(|found| found.metadata.deletion_timestamp.is_some());
    until("the dependent is told", family.maps.clone(), "slow", is_going).await?;
    let waits = family.maps.get("owner").await?;
    assert_eq!(waits.finalizers(), ["foregroundDeletion"], "the owner waits");
    let release = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    family.maps.patch("slow", &PatchParams::default(), &release).await?;
    family.gone("owner").await?;
    family.gone("slow").await?;

    // Orphan: what it owned stays, and is nobody's.
    let parent = family.make("parent", &[], &[]).await?;
    family.make("orphan", &[&parent], &[]).await?;
    family.delete("parent", PropagationPolicy::Orphan).await?;
    family.gone("parent").await?;
    assert!(family.maps.get("orphan").await?.owner_references().is_empty());

    // Of two owners one is enough; the other is forgotten.
    let (one, two) = (family.make("one", &[], &[]).await?, family.make("two", &[], &[]).await?);
    family.make("shared", &[&one, &two], &[]).await?;
    family.delete("one", PropagationPolicy::Background).await?;
    until("the lost owner is forgotten", family.maps.clone(), "shared", |found| {
        found.is_some_and(|found| found.owner_references().iter().map(|owner| owner.name.as_str()).eq(["two"]))
    })
    .await?;

    // An owner that never was is gone, too.
    let mut never = two.clone();
    never.metadata.uid = Some("00000000-0000-4000-8000-000000000000".into());
    family.make("foundling", &[&never], &[]).await?;
    family.gone("foundling").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_deployment_takes_its_pods_along() -> Result<()> {
    let plane = control_plane(&[]).await?;
    let client = plane.client().await?;
    let fleet = Fleet::start(client.clone(), &["n1"]).await?;
    let spec =
        json!({ "replicas": 3, "selector": { "matchLabels": { "app": "web" } }, "template": template("web", "one") });
    create::<Deployment>(&client, json!({ "metadata": { "name": "web" }, "spec": spec })).await?;
    fleet.until("three pods", "web", |pods| pods.len() == 3).await?;
    let api: Api<Deployment> = Api::namespaced(client.clone(), "default");
    let params = DeleteParams { propagation_policy: Some(PropagationPolicy::Foreground), ..DeleteParams::default() };
    api.delete("web", &params).await?;
    until("the deployment goes", api, "web", |found| found.is_none()).await?;
    let left = Api::<Pod>::namespaced(client, "default").list(&ListParams::default()).await?.items;
    assert!(
        left.is_empty(),
        "in the foreground its pods go first: {:?}",
        left.iter().map(Pod::name_any).collect::<Vec<_>>()
    );
    Ok(())
}

const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";

/// A request for a kubelet's certificate, made by a user.
async fn request(plane: &ControlPlane, name: &str, node: &str, user: &str, groups: &[&str]) -> Result<()> {
    let key = pki::generate_key(KeyType::EcdsaP256)?;
    let subject = Subject::new(format!("system:node:{node}"), &["system:nodes"]);
    let text = pki::create_csr(&key, &subject, &Names::default())?;
    let api: Api<CertificateSigningRequest> = Api::all(plane.client_for(user, groups).await?);
    let spec = json!({
        "request": k8s_openapi::ByteString(text.into_bytes()),
        "signerName": KUBELET_CLIENT,
        "usages": ["digital signature", "client auth"],
        "expirationSeconds": 3600,
    });
    make(&api, json!({ "metadata": { "name": name }, "spec": spec })).await?;
    Ok(())
}

async fn allow(client: &Client, role: &str, group: &str) -> Result<()> {
    let subject = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group });
    let binding = json!({
        "metadata": { "name": format!("{role}:{group}").replace(':', "-") },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
        "subjects": [subject],
    });
    make(&Api::<ClusterRoleBinding>::all(client.clone()), binding).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubelets_get_their_certificates_and_nobody_else() -> Result<()> {
    const JOINERS: &str = "system:bootstrappers:test";
    const PEOPLE: &str = "example:people";
    const REQUESTS: &str = "system:certificates.k8s.io:certificatesigningrequests";
    let plane = control_plane(&[]).await?;
    let client = plane.client().await?;
    for group in [JOINERS, PEOPLE] {
        allow(&client, "system:node-bootstrapper", group).await?;
    }
    allow(&client, &format!("{REQUESTS}:nodeclient"), JOINERS).await?;
    allow(&client, &format!("{REQUESTS}:selfnodeclient"), "system:nodes").await?;
    // Requests are looked at in the order in which they come: when the last is signed, the first was passed over.
    request(&plane, "foreign", "n1", "jane", &[PEOPLE]).await?;
    request(&plane, "renewal", "n2", "system:node:n2", &["system:nodes"]).await?;
    request(&plane, "first", "n3", "system:bootstrap:abcdef", &[JOINERS]).await?;
    let api: Api<CertificateSigningRequest> = Api::all(client);
    let authority = Certificate::parse(&std::fs::read_to_string(plane.pki_dir().join("ca.crt"))?)?;
    for (name, node) in [("renewal", "n2"), ("first", "n3")] {
        let issued = |found: Option<&CertificateSigningRequest>| {
            found.is_some_and(|found| found.status.as_ref().is_some_and(|status| status.certificate.is_some()))
        };
        let signed = until("the certificate", api.clone(), name, issued).await?.context("it was looked at")?;
        let certificate = signed.status.and_then(|status| status.certificate).context("it is there")?;
        let certificate = Certificate::parse(&String::from_utf8(certificate.0)?)?;
        assert_eq!(certificate.subject.common_name, format!("system:node:{node}"));
        assert_eq!(certificate.subject.organizations, ["system:nodes"]);
        assert!(certificate.is_signed_by(&authority));
    }
    let foreign = api.get("foreign").await?.status.unwrap_or_default();
    assert!(foreign.conditions.is_none() && foreign.certificate.is_none(), "{foreign:?}");
    Ok(())
}
