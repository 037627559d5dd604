//! Tokens: a kubelet gets those of the accounts that its pods run as, bound to the pod, for the audiences that the pod names.

use apimachinery::{ApiError, meta};
use apiserver_auth::user::Attributes as Asked;
use apiserver_storage::reader::GroupResource;
use serde_json::Value;

use super::{NodeRestriction, Request};
use crate::Operation;
use crate::object::{items, text};

const DRIVERS: GroupResource<'static> = GroupResource::new("storage.k8s.io", "csidrivers");

impl NodeRestriction {
    pub(super) async fn token(&self, request: &Request<'_>) -> Result<(), ApiError> {
        let (Operation::Create, Some(object)) = (request.a.operation, request.object) else { return Ok(()) };
        let bound = object.pointer("/spec/boundObjectRef").unwrap_or(&Value::Null);
        let (kind, name, uid) = (text(bound, "/kind"), text(bound, "/name"), text(bound, "/uid"));
        let to_pod = kind == "Pod" && text(bound, "/apiVersion") == "v1" && !name.is_empty();
        request.require(to_pod, || "node requested token not bound to a pod".to_owned())?;
        request.require(!uid.is_empty(), || "node requested token with a pod binding without a uid".to_owned())?;
        let pod = self.find("pods", request.a.namespace, name).await?;
        let pod = pod.ok_or_else(|| ApiError::not_found("", "pods", name))?;
        request.require(uid == meta::uid(&pod), || {
            format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. \
                 The object might have been deleted and then recreated"
            )
        })?;
        request.require(text(&pod, "/spec/nodeName") == request.node, || {
            "node requested token bound to a pod scheduled on a different node".to_owned()
        })?;
        for audience in items(object, "/spec/audiences").iter().filter_map(Value::as_str) {
            let allowed = audience.is_empty() || self.names_audience(&pod, audience) || self.may_ask(request, audience);
            request.require(allowed, || format!("audience {audience:?} not found in pod spec volume"))?;
        }
        Ok(())
    }

    /// Whether a volume of the pod asks for tokens of the audience: a projection, or a CSI driver on the pod's behalf.
    fn names_audience(&self, pod: &Value, audience: &str) -> bool {
        let volumes = items(pod, "/spec/volumes");
        let mut projections = volumes.iter().flat_map(|volume| items(volume, "/projected/sources"));
        projections.any(|source| text(source, "/serviceAccountToken/audience") == audience)
            || volumes.iter().filter_map(|volume| self.driver(pod, volume)).any(|driver| {
                let driver = self.reader.get(DRIVERS, "", &driver);
                let asks = |driver: &Value| {
                    items(driver, "/spec/tokenRequests").iter().any(|request| text(request, "/audience") == audience)
                };
                driver.as_deref().is_some_and(asks)
            })
    }

    /// The CSI driver behind a volume, if there is one: inline, or through the claim's persistent volume.
    fn driver(&self, pod: &Value, volume: &Value) -> Option<String> {
        let inline = text(volume, "/csi/driver");
        if !inline.is_empty() {
            return Some(inline.to_owned());
        }
        let claim = match text(volume, "/persistentVolumeClaim/claimName") {
            "" if volume.get("ephemeral").is_some() => format!("{}-{}", meta::name(pod), text(volume, "/name")),
            name => name.to_owned(),
        };
        let claims = GroupResource::new("", "persistentvolumeclaims");
        let claim = self.reader.get(claims, meta::namespace(pod), &claim)?;
        let volumes = GroupResource::new("", "persistentvolumes");
        let bound = self.reader.get(volumes, "", text(&claim, "/spec/volumeName"))?;
        Some(text(&bound, "/spec/csi/driver").to_owned()).filter(|driver| !driver.is_empty())
    }

    /// Whether a role gives the node the audience.
    fn may_ask(&self, request: &Request<'_>, audience: &str) -> bool {
        let asked = Asked {
            verb: "request-serviceaccounts-token-audience",
            is_resource_request: true,
            resource: audience,
            namespace: request.a.namespace,
            name: request.a.name,
            ..Asked::default()
        };
        self.authorizer.authorize(request.a.user, &asked).allowed()
    }
}
