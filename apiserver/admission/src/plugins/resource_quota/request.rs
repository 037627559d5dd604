//! A request as quotas see it, free of the connection that it came by.

use component_base::quota::Object;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use serde_json::Value;

use crate::Attributes;

/// What is written, and what it replaces.
pub(super) struct Request {
    pub(super) group: String,
    pub(super) resource: String,
    pub(super) new: Subject,
    pub(super) old: Option<Subject>,
}

/// An object with a typed view of what can be used.
pub(super) enum Subject {
    Pod(Box<Pod>),
    Service(Box<Service>),
    Claim(Box<PersistentVolumeClaim>),
    Other(String),
}

impl Request {
    pub(super) fn of(a: &Attributes<'_>, new: &Value, old: Option<&Value>) -> Result<Self, serde_json::Error> {
        let old = old.map(|old| Subject::of(a, old)).transpose()?;
        let (group, resource) = (a.resource.group.clone(), a.resource.resource.clone());
        Ok(Request { group, resource, new: Subject::of(a, new)?, old })
    }
}

impl Subject {
    fn of(a: &Attributes<'_>, object: &Value) -> Result<Self, serde_json::Error> {
        Ok(match (a.resource.group.as_str(), a.resource.resource.as_str()) {
            ("", "pods") => Subject::Pod(serde_json::from_value(object.clone())?),
            ("", "services") => Subject::Service(serde_json::from_value(object.clone())?),
            ("", "persistentvolumeclaims") => Subject::Claim(serde_json::from_value(object.clone())?),
            ("", resource) => Subject::Other(resource.to_owned()),
            (group, resource) => Subject::Other(format!("{resource}.{group}")),
        })
    }

    pub(super) fn view(&self) -> Object<'_> {
        match self {
            Subject::Pod(pod) => Object::Pod(pod),
            Subject::Service(service) => Object::Service(service),
            Subject::Claim(claim) => Object::Claim(claim),
            Subject::Other(resource) => Object::Other(resource),
        }
    }
}
