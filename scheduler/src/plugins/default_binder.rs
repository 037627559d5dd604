//! DefaultBinder: binds a pod by posting to its `binding` subresource.

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1 as api;
use kube::Client;

use crate::framework::{Plugin, Point, Points, Status};
use crate::labels::Str;
use crate::pod::Pod;

pub const NAME: &str = "DefaultBinder";

/// The body that binds `pod` to `node`. The uid keeps it from a later pod of the same name.
pub fn binding(pod: &Pod, node: &Str) -> api::Binding {
    api::Binding {
        metadata: kube::core::ObjectMeta {
            name: Some(pod.name.to_string()),
            namespace: Some(pod.namespace.to_string()),
            uid: Some(pod.uid.to_string()),
            ..Default::default()
        },
        target: api::ObjectReference { kind: Some("Node".into()), name: Some(node.to_string()), ..Default::default() },
    }
}

pub struct DefaultBinder {
    client: Client,
}

impl DefaultBinder {
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    async fn post(&self, pod: &Pod, node: &Str) -> Result<(), kube::Error> {
        let body = serde_json::to_vec(&binding(pod, node)).map_err(kube::Error::SerdeError)?;
        let path = format!("/api/v1/namespaces/{}/pods/{}/binding", pod.namespace, pod.name);
        let request = http::Request::post(path).header(http::header::CONTENT_TYPE, "application/json");
        let request = request.body(body).map_err(kube::Error::HttpError)?;
        self.client.request_text(request).await.map(drop)
    }
}

impl Plugin for DefaultBinder {
    fn name(&self) -> &'static str {
        NAME
    }

    fn points(&self) -> Points {
        Points::of(&[Point::Bind])
    }

    fn bind<'a>(&'a self, pod: &'a Pod, node: &'a Str) -> BoxFuture<'a, Status> {
        Box::pin(async move {
            match self.post(pod, node).await {
                Ok(()) => Status::success(),
                Err(error) => Status::error(error.to_string()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::intern;
    use crate::testing::PodBuilder;

    #[test]
    fn a_binding_names_the_pod_by_uid_and_the_node() {
        let binding = binding(&PodBuilder::new("p").build(), &intern("n1"));
        assert_eq!(binding.metadata.uid.as_deref(), Some("p"));
        assert_eq!((binding.target.kind.as_deref(), binding.target.name.as_deref()), (Some("Node"), Some("n1")));
    }
}
