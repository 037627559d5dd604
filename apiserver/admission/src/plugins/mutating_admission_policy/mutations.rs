//! The mutations of a policy, evaluated and applied.

use apimachinery::codec::{self, FieldValidation};
use apimachinery::schema::{Resource, Schema, Type};
use apimachinery::{managed_fields, meta, patch};
use apiserver_cel::to_json;
use serde_json::Value;

use crate::conditions::Compiled;
use crate::matching::Request;
use crate::means::Means;
use crate::object::{items, text};
use crate::policies::{Body, Invocation};
use crate::view::View;

/// What a policy changes.
pub(crate) struct Mutations {
    mutations: Vec<Mutation>,
    /// Whether it is invoked again where a later one changed something.
    pub reinvoked: bool,
}

enum Mutation {
    Apply(Compiled),
    Patch(Compiled),
}

impl Body for Mutations {
    fn of(spec: &Value) -> Self {
        Mutations {
            mutations: items(spec, "/mutations").iter().map(Mutation::of).collect(),
            reinvoked: spec["reinvocationPolicy"] == "IfNeeded",
        }
    }
}

impl Mutation {
    fn of(mutation: &Value) -> Self {
        match text(mutation, "/patchType") {
            "JSONPatch" => Mutation::Patch(Compiled::mutation(text(mutation, "/jsonPatch/expression"))),
            _ => Mutation::Apply(Compiled::mutation(text(mutation, "/applyConfiguration/expression"))),
        }
    }

    fn expression(&self) -> &Compiled {
        match self {
            Mutation::Apply(expression) | Mutation::Patch(expression) => expression,
        }
    }

    /// The object with what the expression gave.
    fn applied(&self, own: &Resource, object: &Value, made: Value) -> Result<Value, String> {
        let ty = type_of(own, object);
        let changed = match self {
            Mutation::Apply(_) => applied(ty, object, made)?,
            Mutation::Patch(_) => {
                patch::json::apply(object, &made).map_err(|error| format!("error applying patch: {error}"))?
            }
        };
        let conformed = codec::conform(ty, changed, FieldValidation::Ignore);
        conformed.map(|conformed| conformed.value).map_err(|error| error.to_string())
    }
}

/// The type of the object, which through a subresource may be another one than the resource's.
fn type_of<'a>(own: &'a Resource, object: &Value) -> &'a Type {
    let kind = text(object, "/kind");
    let builtin =
        if kind == own.kind { None } else { Schema::builtin().type_for_kind(meta::api_version(object), kind) };
    builtin.unwrap_or(&own.ty)
}

fn applied(ty: &Type, object: &Value, mut made: Value) -> Result<Value, String> {
    if !made.is_object() {
        return Err("unsupported return type from ApplyConfiguration expression".to_owned());
    }
    made["apiVersion"] = meta::api_version(object).into();
    made["kind"] = object["kind"].clone();
    managed_fields::merge(ty, object, &made).map_err(|error| format!("error applying patch: {error}"))
}

/// Applies the mutations of a policy to an object. Tells whether it is another one then; where one fails, those before it stay undone.
pub(crate) fn apply(
    invocation: &Invocation<'_, Mutations>,
    request: Request<'_>,
    object: &mut Value,
    means: &Means,
) -> Result<bool, String> {
    let (a, form) = (request.attributes, &invocation.form);
    let view = View::of(&Request { object: Some(object), ..request }, form);
    let request = view.request(request);
    let Some(before) = request.object else { return Ok(false) };
    if invocation.begin(request, &view.review, means)?.is_none() {
        return Ok(false);
    }
    let resource = a.request.resource(form);
    let own = resource.as_deref().unwrap_or(a.resource);
    let mut current = before.clone();
    for mutation in &invocation.policy.body.mutations {
        let made = {
            let seen = Request { object: Some(&current), ..request };
            let mut evaluation = invocation.evaluation(seen, &view.review, means);
            let made = evaluation.evaluate(mutation.expression())?;
            to_json(made.as_ref()).map_err(|error| error.to_string())?
        };
        current = mutation.applied(own, &current, made)?;
    }
    if current == *before {
        return Ok(false);
    }
    let after = a.request.take(current, form, object).map_err(|error| error.to_string())?;
    let changed = *object != after;
    *object = after;
    Ok(changed)
}
