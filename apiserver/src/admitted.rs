//! What admission plugins that ask others are told of a request: its object in every form that it is served in, and its
//! options.

use std::sync::Arc;

use apimachinery::codec::{self, FieldValidation};
use apimachinery::schema::{self, FieldType, Resource, Schema};
use apimachinery::{ApiError, meta};
use apiserver_admission::{Form, Name, Operation, Request};
use serde_json::{Map, Value, json};

use crate::endpoints::write::Call;
use crate::request::{Query, RequestInfo};
use crate::served::Served;

/// Options that admission sees as clients give them.
const OPTIONS: [&str; 2] = ["fieldManager", "fieldValidation"];

fn form(served: &Served) -> Form {
    let row = &served.resource;
    let name = |name: &str| Name { group: row.group.clone(), version: row.version.clone(), name: name.to_owned() };
    Form { kind: name(&row.kind), resource: name(&row.resource) }
}

impl Call<'_> {
    /// Asks admission about an action on an object, and gives what is to be done.
    ///
    /// # Errors
    /// What admission says.
    pub async fn admit_action(
        &self,
        operation: Operation,
        mut action: Value,
        dry_run: bool,
    ) -> Result<Value, ApiError> {
        let options = Value::Null;
        let attributes = self.attributes(operation, &self.info.name, &options, dry_run);
        self.server.admission.admit(&attributes, &mut action, None).await?;
        self.warnings.add(self.server.admission.validate(&attributes, Some(&action), None).await?);
        Ok(action)
    }

    /// Whether admission sees a `Scale` in the place of the object.
    fn is_of_scale(&self) -> bool {
        self.info.subresource == "scale"
    }

    /// Whether an object is of the resource itself, not an action on one.
    fn is_own(&self, object: &Value) -> bool {
        object["kind"] == self.served.resource.kind.as_str()
    }

    fn served_as(&self, name: &Name) -> Option<Arc<Served>> {
        self.server.resources.find(&name.group, &name.version, &name.name)
    }
}

impl Request for Call<'_> {
    fn other_forms(&self) -> Vec<Form> {
        if self.served.versions.is_none() {
            return Vec::new();
        }
        let published = self.server.resources.published();
        let is_other =
            |other: &&Arc<Served>| other.prefix == self.served.prefix && other.api_version != self.served.api_version;
        published.iter().filter(is_other).map(|other| form(other)).collect()
    }

    fn resource(&self, form: &Form) -> Option<Arc<Resource>> {
        self.served_as(&form.resource).map(|served| served.resource.clone())
    }

    fn show(&self, stored: &Value, form: &Form) -> Value {
        if !self.is_own(stored) {
            return stored.clone();
        }
        let served = if self.is_of_scale() { None } else { self.served_as(&form.resource) };
        let served = served.as_ref().unwrap_or(self.served);
        let shown = match &served.conversion {
            Some(conversion) => conversion.to_served(stored.clone()),
            None => stored.clone(),
        };
        if self.is_of_scale() { self.scale_of_served(&shown) } else { shown }
    }

    fn take(&self, shown: Value, form: &Form, stored: &Value) -> Result<Value, ApiError> {
        if !self.is_own(stored) {
            return Ok(shown);
        }
        if self.is_of_scale() {
            let served = match &self.served.conversion {
                Some(conversion) => conversion.to_served(stored.clone()),
                None => stored.clone(),
            };
            return Ok(self.internalize(self.with_scale(served, &shown)));
        }
        let served = self.served_as(&form.resource);
        let served = served.as_ref().unwrap_or(self.served);
        let ill_typed = |error: ApiError| ApiError::internal(error.0.message);
        let conformed = codec::conform(&served.resource.ty, shown, FieldValidation::Ignore).map_err(ill_typed)?;
        let mut value = match &served.conversion {
            Some(conversion) => conversion.to_stored(conformed.value),
            None => conformed.value,
        };
        schema::apply_defaults(self.stored_type(), &mut value);
        self.served.strategy.default(&mut value);
        if !meta::resource_version(stored).is_empty() {
            meta::set_resource_version(&mut value, meta::resource_version(stored));
        }
        Ok(value)
    }

    fn options(&self, _: Operation) -> Value {
        let mut options = Map::new();
        for name in OPTIONS.into_iter().filter(|name| self.query.has(name)) {
            options.insert(name.to_owned(), self.query.get(name).into());
        }
        let dry_run: Vec<&str> = self.query.all("dryRun").filter(|value| !value.is_empty()).collect();
        if !dry_run.is_empty() {
            options.insert("dryRun".to_owned(), dry_run.into());
        }
        Value::Object(options)
    }

    fn warn(&self, warning: String) {
        self.warnings.add([warning]);
    }
}

/// The object of a connection: the options in its query, as its kind has them.
pub fn connect_options(info: &RequestInfo, served: &Served, query: &Query) -> Value {
    let Some(sub) = served.resource.subresource(&info.subresource) else { return Value::Null };
    let api_version = if sub.group.is_empty() { sub.version.clone() } else { format!("{}/{}", sub.group, sub.version) };
    let mut options = json!({"kind": sub.kind, "apiVersion": api_version});
    let ty = Schema::builtin().type_for_kind(&api_version, &sub.kind);
    for field in ty.iter().flat_map(|ty| &ty.fields).filter(|field| query.has(&field.name)) {
        if let Some(value) = option(&field.ty, query, &field.name) {
            options[field.name.as_str()] = value;
        }
    }
    if info.subresource == "proxy" && !info.tail.is_empty() {
        options["path"] = info.tail.as_str().into();
    }
    options
}

/// One option as its type has it; none where it is off or cannot be read.
fn option(ty: &FieldType, query: &Query, name: &str) -> Option<Value> {
    match ty {
        FieldType::Bool => query.flag(name).then_some(Value::Bool(true)),
        FieldType::String => Some(query.get(name).into()),
        FieldType::List(item) => {
            let texts =
                query.all(name).flat_map(|text| if name == "ports" { text.split(',') } else { text.split('\0') });
            let values = texts.map(|text| match item.ty {
                FieldType::String => Some(Value::from(text)),
                _ => text.parse::<i64>().ok().map(Value::from),
            });
            values.collect()
        }
        _ => None,
    }
}
