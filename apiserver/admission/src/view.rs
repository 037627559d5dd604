//! A request as those see it who are asked about it: its objects in one form, and what an admission review says of it.
//!
//! Kubernetes documentation, "Dynamic Admission Control" ("Webhook request and response", "matchPolicy").

use apimachinery::meta;
use serde_json::{Map, Value, json};

use crate::matching::Request;
use crate::{Attributes, Form, Name, Operation};

/// A request whose objects are shown in a form.
pub struct View {
    pub form: Form,
    object: Option<Value>,
    old: Option<Value>,
    /// The value of `request` in expressions.
    pub review: Value,
}

impl View {
    pub fn of(request: &Request<'_>, form: &Form) -> Self {
        let a = request.attributes;
        let show = |object: Option<&Value>| object.map(|object| a.request.show(object, form));
        View {
            form: form.clone(),
            object: show(request.object),
            old: show(request.old),
            review: describe(a, form, request.object),
        }
    }

    /// The request with the objects as they are shown.
    pub fn request<'v>(&'v self, request: Request<'v>) -> Request<'v> {
        Request { object: self.object.as_ref(), old: self.old.as_ref(), ..request }
    }
}

fn kind(name: &Name) -> Value {
    json!({"group": name.group, "version": name.version, "kind": name.name})
}

fn resource(name: &Name) -> Value {
    json!({"group": name.group, "version": name.version, "resource": name.name})
}

fn user(a: &Attributes<'_>) -> Value {
    let mut user = json!({"username": a.user.name});
    if !a.user.uid.is_empty() {
        user["uid"] = a.user.uid.as_str().into();
    }
    if !a.user.groups.is_empty() {
        user["groups"] = a.user.groups.clone().into();
    }
    if !a.user.extra.is_empty() {
        user["extra"] = json!(a.user.extra);
    }
    user
}

fn options(a: &Attributes<'_>) -> Value {
    let (kind, options) = match a.operation {
        Operation::Connect => return Value::Null,
        Operation::Delete => ("DeleteOptions", a.options.clone()),
        Operation::Create => ("CreateOptions", a.request.options(a.operation)),
        Operation::Update => ("UpdateOptions", a.request.options(a.operation)),
    };
    let mut options = if options.is_object() { options } else { Value::Object(Map::new()) };
    options["kind"] = kind.into();
    options["apiVersion"] = "meta.k8s.io/v1".into();
    options
}

/// A request as an admission review describes it, without its objects.
pub fn describe(a: &Attributes<'_>, form: &Form, object: Option<&Value>) -> Value {
    let own = a.form();
    let mut request = json!({
        "uid": uuid::Uuid::new_v4().to_string(), "kind": kind(&form.kind), "resource": resource(&form.resource),
        "requestKind": kind(&own.kind), "requestResource": resource(&own.resource),
        "operation": a.operation.as_str(), "userInfo": user(a), "dryRun": a.dry_run, "options": options(a),
    });
    let name = if a.name.is_empty() { object.map_or("", meta::name) } else { a.name };
    // A Namespace that is created is in itself.
    let namespace = if a.is("", "namespaces") { name } else { a.namespace };
    for (field, text) in [
        ("name", name),
        ("namespace", namespace),
        ("subResource", a.subresource),
        ("requestSubResource", a.subresource),
    ] {
        if !text.is_empty() {
            request[field] = text.into();
        }
    }
    request
}
