//! What the generic endpoints ask of a kind, and the row of a table that answers it.
//!
//! A [`Kind`] holds only what differs from kind to kind. What is the same for all (metadata, generations, the division of
//! spec and status) is done once, here, from what the schema table says of the resource.

use apimachinery::field::ErrorList;
use apimachinery::names;
use serde_json::Value;

use crate::node::{Context, Node, collect};
use crate::rules::meta::{self, Finalizers, NameRule};

/// Behaviour of one resource. All methods are pure.
pub trait Strategy: Send + Sync {
    /// Defaulting beyond the schema's declarative defaults. Runs on create, update and patch.
    fn default(&self, obj: &mut Value);
    /// Clears what a client may not set on create, and sets the generation.
    fn prepare_for_create(&self, obj: &mut Value);
    /// Keeps the status, and counts the generation up when what is wanted changed.
    fn prepare_for_update(&self, obj: &mut Value, old: &Value);
    /// Keeps everything but the status and some metadata.
    fn prepare_for_status_update(&self, obj: &mut Value, old: &Value);
    fn validate(&self, obj: &Value) -> ErrorList;
    fn validate_update(&self, obj: &Value, old: &Value) -> ErrorList;
    fn validate_status_update(&self, obj: &Value, old: &Value) -> ErrorList;
    /// Texts for the `Warning` headers of the answer to a write. A new object is shown as it was admitted, before its preparation.
    fn warnings(&self, obj: &Value, old: Option<&Value>) -> Vec<String>;
    /// The same for a write of the status.
    fn status_warnings(&self, obj: &Value) -> Vec<String>;
    /// The text of a warning that every request for the kind gets.
    fn deprecation(&self) -> Option<&str>;
    /// Whether an update may create the object.
    fn allow_create_on_update(&self) -> bool;
    /// Whether an update without a resourceVersion is allowed.
    fn allow_unconditional_update(&self) -> bool;
    /// What becomes of an object that is about to be marked as being deleted.
    fn begin_deletion(&self, obj: &mut Value, now: &str);
    /// The grace period of a delete; none for kinds that are deleted at once.
    fn graceful_deletion(&self, obj: &Value, requested: Option<i64>) -> Option<i64>;
    /// Fields that a field selector may name, beside `metadata.name` and `metadata.namespace`, with their values.
    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)>;
}

/// A row of the table: what is particular to a kind.
#[derive(Clone, Copy)]
pub struct Kind {
    pub group: &'static str,
    pub resource: &'static str,
    /// Whether the kind's metadata says anything: reviews have none.
    pub has_metadata: bool,
    /// The form of names.
    pub name: NameRule,
    pub finalizers: Finalizers,
    pub default: fn(&mut Value),
    /// Runs after status and generation are set.
    pub create: fn(&mut Value),
    pub update: fn(&mut Value, &Value),
    pub status_update: fn(&mut Value, &Value),
    /// The object, without its metadata.
    pub validate: fn(Node<'_>),
    /// Beside `validate`, what holds on create only.
    pub creation: fn(Node<'_>),
    /// Beside `validate`, what an update may not change.
    pub transition: fn(Node<'_>, &Value),
    /// A status about to replace another.
    pub status: fn(Node<'_>, &Value),
    /// What is valid and worth a warning, of a new object or one with the old.
    pub warnings: fn(Node<'_>, Option<&Value>),
    /// What is worth a warning of a new status.
    pub status_warnings: fn(Node<'_>),
    pub deprecation: Option<&'static str>,
    /// How often the parts of an object that is updated are looked at.
    pub looks: Looks,
    /// Whether the kind counts its generations.
    pub generation: bool,
    /// Whether a change of annotations is a new generation too.
    pub generation_of_annotations: bool,
    /// Whether a change of labels is a new generation too.
    pub generation_of_labels: bool,
    /// Whether a client may set the status on create.
    pub keeps_status: bool,
    pub create_on_update: bool,
    pub unconditional_update: bool,
    /// Runs when an object is about to be marked as being deleted.
    pub deletion: fn(&mut Value, &str),
    pub grace: fn(&Value, Option<i64>) -> Option<i64>,
    pub fields: fn(&Value) -> Vec<(&'static str, String)>,
}

/// How often Kubernetes looks at the parts of an object that is updated. It reports what is wrong with them as often.
#[derive(Clone, Copy)]
pub struct Looks {
    /// At what the update does to the metadata, beyond the look that every update gets.
    pub metadata_update: bool,
    /// At the metadata as those of a new object, beyond that look too.
    pub metadata: usize,
    /// At the object, with `validate`; none where the update is refused for its `transition` already.
    pub object: Object,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Object {
    Once,
    Twice,
    UnlessRefused,
}

impl Looks {
    /// The update of the metadata and the object, once each.
    pub const ONCE: Looks = Looks { metadata_update: true, metadata: 0, object: Object::Once };
    /// The whole of a new object's checks too.
    pub const AS_NEW: Looks = Looks { metadata: 1, ..Self::ONCE };
}

impl Kind {
    /// A kind without any behaviour of its own.
    pub const PLAIN: Kind = Kind {
        group: "",
        resource: "",
        has_metadata: true,
        name: names::dns1123_subdomain,
        finalizers: Finalizers::Known,
        default: |_| {},
        create: |_| {},
        update: |_, _| {},
        status_update: |_, _| {},
        validate: |_| {},
        creation: |_| {},
        transition: |_, _| {},
        status: |_, _| {},
        warnings: |_, _| {},
        status_warnings: |_| {},
        deprecation: None,
        looks: Looks::ONCE,
        generation: false,
        generation_of_annotations: false,
        generation_of_labels: false,
        keeps_status: false,
        create_on_update: false,
        unconditional_update: true,
        deletion: |_, _| {},
        grace: |_, _| None,
        fields: |_| Vec::new(),
    };
}

/// A kind in its place: what the schema table says of the resource beside it.
#[derive(Clone, Copy)]
pub struct Row {
    pub kind: Kind,
    /// None for kinds not in the table, where the object tells.
    pub namespaced: Option<bool>,
    pub has_status: bool,
}

fn set_metadata(obj: &mut Value, field: &str, value: Value) {
    if let Some(metadata) = obj.get_mut("metadata").and_then(Value::as_object_mut) {
        if value.is_null() {
            metadata.remove(field);
        } else {
            metadata.insert(field.to_owned(), value);
        }
    }
}

fn set_top(obj: &mut Value, field: &str, value: &Value) {
    if let Some(map) = obj.as_object_mut() {
        if value.is_null() {
            map.remove(field);
        } else {
            map.insert(field.to_owned(), value.clone());
        }
    }
}

const NOT_WANTED: [&str; 4] = ["apiVersion", "kind", "metadata", "status"];

/// Whether what is wanted differs: anything but metadata and status.
fn wants_other(obj: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (obj.as_object(), old.as_object()) else { return false };
    let differs = |a: &serde_json::Map<String, Value>, b: &serde_json::Map<String, Value>| {
        a.iter().any(|(k, v)| !NOT_WANTED.contains(&k.as_str()) && !v.is_null() && b.get(k) != Some(v))
    };
    differs(new, old) || differs(old, new)
}

impl Row {
    fn is_namespaced(&self, obj: &Value) -> bool {
        self.namespaced.unwrap_or_else(|| obj["metadata"]["namespace"].as_str().is_some_and(|n| !n.is_empty()))
    }

    fn next_generation(&self, obj: &Value, old: &Value) -> Value {
        let generation = &old["metadata"]["generation"];
        if !self.kind.generation {
            return generation.clone();
        }
        let annotated =
            self.kind.generation_of_annotations && obj["metadata"]["annotations"] != old["metadata"]["annotations"];
        let labelled = self.kind.generation_of_labels && obj["metadata"]["labels"] != old["metadata"]["labels"];
        let changed = annotated || labelled || wants_other(obj, old);
        match generation.as_i64().unwrap_or(0) + i64::from(changed) {
            0 => Value::Null,
            counted => counted.into(),
        }
    }

    /// The metadata of an update is looked at for all kinds, and by most kinds once more.
    fn metadata_of_update(&self, root: Node<'_>, old: &Value, again: bool) {
        if !self.kind.has_metadata {
            return;
        }
        let metadata = root.get("metadata");
        meta::validate(metadata, self.is_namespaced(root.value), names::path_segment, self.kind.finalizers);
        for _ in 0..=usize::from(again) {
            meta::validate_update_of(metadata, &old["metadata"], self.kind.finalizers);
        }
    }

    /// System fields a client left out, or may not set.
    fn keep_system_metadata(obj: &mut Value, old: &Value) {
        for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
            if obj["metadata"][field].is_null() {
                set_metadata(obj, field, old["metadata"][field].clone());
            }
        }
    }
}

impl Strategy for Row {
    fn default(&self, obj: &mut Value) {
        (self.kind.default)(obj);
    }

    fn prepare_for_create(&self, obj: &mut Value) {
        if self.has_status && !self.kind.keeps_status {
            set_top(obj, "status", &Value::Null);
        }
        if self.kind.generation {
            set_metadata(obj, "generation", 1.into());
        }
        (self.kind.create)(obj);
    }

    fn prepare_for_update(&self, obj: &mut Value, old: &Value) {
        Self::keep_system_metadata(obj, old);
        if self.has_status {
            set_top(obj, "status", &old["status"]);
        }
        (self.kind.update)(obj, old);
        let generation = self.next_generation(obj, old);
        set_metadata(obj, "generation", generation);
    }

    fn prepare_for_status_update(&self, obj: &mut Value, old: &Value) {
        Self::keep_system_metadata(obj, old);
        let mut fields: Vec<String> = Vec::new();
        for value in [&*obj, old] {
            fields.extend(value.as_object().into_iter().flat_map(|m| m.keys().cloned()));
        }
        for field in fields.iter().filter(|f| !NOT_WANTED.contains(&f.as_str())) {
            set_top(obj, field, &old[field.as_str()]);
        }
        set_metadata(obj, "generation", old["metadata"]["generation"].clone());
        set_metadata(obj, "ownerReferences", old["metadata"]["ownerReferences"].clone());
        (self.kind.status_update)(obj, old);
    }

    fn validate(&self, obj: &Value) -> ErrorList {
        collect(obj, |root| {
            if self.kind.has_metadata {
                meta::validate(root.get("metadata"), self.is_namespaced(obj), self.kind.name, self.kind.finalizers);
            }
            (self.kind.validate)(root);
            (self.kind.creation)(root);
        })
    }

    fn validate_update(&self, obj: &Value, old: &Value) -> ErrorList {
        let looks = self.kind.looks;
        collect(obj, |root| {
            self.metadata_of_update(root, old, looks.metadata_update);
            for _ in 0..looks.metadata {
                meta::validate(root.get("metadata"), self.is_namespaced(obj), self.kind.name, self.kind.finalizers);
            }
            let before = root.errors_so_far();
            (self.kind.transition)(root, old);
            if looks.object != Object::UnlessRefused || root.errors_so_far() == before {
                (self.kind.validate)(root);
            }
            if looks.object == Object::Twice {
                (self.kind.validate)(root);
            }
        })
    }

    fn validate_status_update(&self, obj: &Value, old: &Value) -> ErrorList {
        collect(obj, |root| {
            self.metadata_of_update(root, old, true);
            (self.kind.status)(root, old);
        })
    }

    fn warnings(&self, obj: &Value, old: Option<&Value>) -> Vec<String> {
        let context = Context::default();
        (self.kind.warnings)(context.root(obj), old);
        context.into_warnings()
    }

    fn status_warnings(&self, obj: &Value) -> Vec<String> {
        let context = Context::default();
        (self.kind.status_warnings)(context.root(obj));
        context.into_warnings()
    }

    fn deprecation(&self) -> Option<&str> {
        self.kind.deprecation
    }

    fn allow_create_on_update(&self) -> bool {
        self.kind.create_on_update
    }

    fn allow_unconditional_update(&self) -> bool {
        self.kind.unconditional_update
    }

    fn begin_deletion(&self, obj: &mut Value, now: &str) {
        (self.kind.deletion)(obj, now);
    }

    fn graceful_deletion(&self, obj: &Value, requested: Option<i64>) -> Option<i64> {
        (self.kind.grace)(obj, requested)
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        (self.kind.fields)(obj)
    }
}
