//! Deployments and replica sets for the tests of this module.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, ReplicaSet, ReplicaSetStatus, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{annotations, sets};

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("app".to_owned(), "web".to_owned())])
}

pub fn template(image: &str) -> PodTemplateSpec {
    let container = Container { name: "web".into(), image: Some(image.into()), ..Container::default() };
    PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(labels()), ..ObjectMeta::default() }),
        spec: Some(PodSpec { containers: vec![container], ..PodSpec::default() }),
    }
}

fn count(text: &str) -> IntOrString {
    text.parse().map_or_else(|_| IntOrString::String(text.to_owned()), IntOrString::Int)
}

pub fn deployment(image: &str, replicas: i32, surge: &str, unavailable: &str) -> Deployment {
    let rolling = RollingUpdateDeployment { max_surge: Some(count(surge)), max_unavailable: Some(count(unavailable)) };
    Deployment {
        metadata: ObjectMeta {
            name: Some("web".into()),
            namespace: Some("default".into()),
            uid: Some("d".into()),
            generation: Some(1),
            ..ObjectMeta::default()
        },
        spec: Some(DeploymentSpec {
            replicas: Some(replicas),
            selector: LabelSelector { match_labels: Some(labels()), ..LabelSelector::default() },
            template: template(image),
            progress_deadline_seconds: Some(600),
            revision_history_limit: Some(10),
            strategy: Some(DeploymentStrategy { type_: Some("RollingUpdate".into()), rolling_update: Some(rolling) }),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

/// A set of the deployment's template with this name, size and number of available pods; sized for the deployment as it is.
pub fn set(deployment: &Deployment, name: &str, replicas: i32, available: i32) -> Arc<ReplicaSet> {
    let mut set = sets::new_set(deployment, 1);
    set.metadata.name = Some(name.into());
    set.metadata.uid = Some(format!("uid-{name}"));
    set.metadata.creation_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
    set.spec.as_mut().unwrap().replicas = Some(replicas);
    annotations::set_sizes(set.metadata.annotations.as_mut().unwrap(), deployment);
    set.status = Some(ReplicaSetStatus {
        replicas,
        available_replicas: Some(available),
        ready_replicas: Some(available),
        ..ReplicaSetStatus::default()
    });
    Arc::new(set)
}

/// The same set, sized for other numbers.
pub fn scaled_for(set: &ReplicaSet, desired: i32, max: i32) -> Arc<ReplicaSet> {
    let mut set = set.clone();
    let all = set.metadata.annotations.as_mut().unwrap();
    all.insert(annotations::DESIRED.into(), desired.to_string());
    all.insert(annotations::MAX.into(), max.to_string());
    Arc::new(set)
}
