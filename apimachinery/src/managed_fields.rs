//! Server-side apply, and who manages which field.
//!
//! [`apply`] lays an applied configuration over the live object, refuses what others manage unless forced, and takes away
//! what its manager applied before and does no more. [`update`] notes who changed what on every other write. Both return the object
//! with its `managedFields`. "Server-Side Apply" in Kubernetes' documentation; KEP-555.

mod entries;
mod last_applied;
mod set;
mod shape;
mod versions;
mod walk;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

pub use entries::{ManagerKey, Operation};
pub use set::{DecodeError, Set};
pub use versions::Versions;

use crate::meta;
use crate::schema::{Resource, Type};
use crate::status::{ApiError, Reason};
use entries::{Managers, Owner};
use shape::Shape;
use versions::Changes;

/// Who writes, and how.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The field manager's name.
    pub manager: &'a str,
    /// The subresource written through, or "".
    pub subresource: &'a str,
    /// The version the object is written in.
    pub api_version: &'a str,
    /// The present, RFC 3339 in seconds.
    pub now: &'a str,
    /// What a write through this endpoint cannot change: [`reset_fields`].
    pub reset: &'a Set,
}

/// A field that another manager has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub manager: ManagerKey,
    pub time: Option<String>,
    /// `.spec.replicas`.
    pub field: String,
}

impl Conflict {
    fn who(&self) -> String {
        self.manager.describe(self.time.as_deref())
    }
}

/// An apply that is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ApplyError {
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
    /// A configuration that cannot be merged: items without their keys, items that stand twice.
    #[error("failed to create typed patch object: {0}")]
    Invalid(String),
    #[error("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {0}")]
    Atomic(String),
    #[error("metadata.managedFields must be nil")]
    HasManagedFields,
    #[error("Incorrect version specified in apply patch. Specified patch version: {given}, expected: {expected}")]
    Version { given: String, expected: String },
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", one.who(), one.field);
    }
    let mut by_manager: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for conflict in conflicts {
        by_manager.entry(conflict.who()).or_default().push(&conflict.field);
    }
    let lines: Vec<String> = by_manager
        .iter()
        .flat_map(|(who, fields)| {
            std::iter::once(format!("conflicts with {who}:")).chain(fields.iter().map(|field| format!("- {field}")))
        })
        .collect();
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

impl From<ApplyError> for ApiError {
    fn from(error: ApplyError) -> Self {
        let message = error.to_string();
        let ApplyError::Conflicts(conflicts) = error else { return ApiError::bad_request(message) };
        conflicts.iter().fold(ApiError::new(Reason::Conflict, message), |error, conflict| {
            error.with_cause("FieldManagerConflict", &conflict.field, format!("conflict with {}", conflict.who()))
        })
    }
}

/// What a write through an endpoint of a resource cannot change, and so never owns: the status through the resource
/// itself, all but the status through `status`.
pub fn reset_fields(resource: &Resource, subresource: &str) -> Set {
    match subresource {
        "status" if resource.resource == "pods" => {
            Set::of_fields(&["spec", "metadata.deletionTimestamp", "metadata.ownerReferences"])
        }
        "status" => Set::of_fields(&["spec"]),
        "" if resource.has_status() => Set::of_fields(&["status"]),
        _ => Set::default(),
    }
}

/// The manager that stands for all writes before the first apply to an object without managed fields.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Applies a configuration. `live` is null where the object does not exist yet; both are in the version of the writer.
///
/// The result is not in normal form: it goes through [`crate::codec::conform`] and defaulting like any other body.
///
/// # Errors
/// Fields that others manage with another value, unless forced; configurations that cannot be merged.
pub fn apply(
    versions: &dyn Versions,
    live: &Value,
    applied: &Value,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    if !meta::managed_fields(applied).is_empty() {
        return Err(ApplyError::HasManagedFields);
    }
    let given = meta::api_version(applied);
    let (Some(ty), true) = (versions.ty(writer.api_version), given == writer.api_version) else {
        return Err(ApplyError::Version { given: given.to_owned(), expected: writer.api_version.to_owned() });
    };
    let shape = Shape::Object(ty);
    walk::check(shape, applied, "").map_err(ApplyError::Invalid)?;
    let (live, mut managers) = opened(live);
    if managers.is_empty() && !meta::uid(&live).is_empty() {
        let earlier = ManagerKey::new(BEFORE_FIRST_APPLY, Operation::Update, writer.api_version, "");
        track(&mut managers, versions, &nothing(ty), &live, earlier, writer);
    }
    let key = ManagerKey::new(writer.manager, Operation::Apply, writer.api_version, writer.subresource);
    let merged = walk::merge(shape, Some(&live), Some(applied)).unwrap_or(Value::Null);
    let previous = managers.get(&key).cloned();
    let wanted = walk::fields_of(shape, applied).recursive_difference(writer.reset);
    let time = previous.as_ref().and_then(|owner| owner.time.clone());
    managers.insert(key.clone(), Owner::new(wanted, writer.api_version, time));
    let mut merged = match previous {
        Some(last) => prune(versions, merged, &managers, &last, writer),
        None => merged,
    };
    let migrates = writer.manager == last_applied::MANAGER;
    let allowed = match (force, migrates) {
        (true, _) => Allowed::All,
        (false, true) => Allowed::These(last_applied::fields(shape, &live, writer.api_version)),
        (false, false) => Allowed::These(Set::default()),
    };
    let changes = Changes::new(versions, writer.api_version, &live, &merged, writer.reset);
    release(&mut managers, changes, &key, &allowed)?;
    let changed = merged != live;
    if let Some(owner) = managers.get_mut(&key).filter(|owner| changed || owner.time.is_none()) {
        owner.time = Some(writer.now.to_owned());
    }
    if migrates {
        last_applied::renew(&mut merged, applied);
    }
    Ok(closed(merged, managers))
}

/// Lays a configuration over an object as an apply does, without a word on who manages what: what policies that mutate do.
///
/// # Errors
/// Configurations that cannot be merged, and those that would replace what merges only as a whole.
pub fn merge(ty: &Type, live: &Value, applied: &Value) -> Result<Value, ApplyError> {
    let shape = Shape::Object(ty);
    walk::check(shape, applied, "").map_err(ApplyError::Invalid)?;
    let atomics = walk::atomics(shape, applied, "");
    if !atomics.is_empty() {
        return Err(ApplyError::Atomic(atomics.join(", ")));
    }
    Ok(walk::merge(shape, Some(live), Some(applied)).unwrap_or(Value::Null))
}

/// Notes who changed what between two states of an object, both in the version of the writer. `live` is null where the object is
/// being created. Managed fields that the new state brings along replace the live ones; one empty entry stops the tracking.
pub fn update(versions: &dyn Versions, live: &Value, new: Value, writer: &Writer<'_>) -> Value {
    if matches!(meta::managed_fields(&new), [Value::Object(map)] if map.is_empty()) {
        return closed(new, Managers::default());
    }
    let mut managers = managers_after(live, &new);
    // Objects that lost their managed fields are not tracked until someone applies.
    if managers.is_empty() && !meta::uid(live).is_empty() {
        return closed(new, managers);
    }
    let key = ManagerKey::new(writer.manager, Operation::Update, writer.api_version, writer.subresource);
    match (live, versions.ty(writer.api_version)) {
        (Value::Null, Some(ty)) => track(&mut managers, versions, &nothing(ty), &new, key, writer),
        (live, _) => track(&mut managers, versions, live, &new, key, writer),
    }
    entries::cap(&mut managers);
    closed(new, managers)
}

/// The managers that a write starts from: those it brings along, else those of the live object.
fn managers_after(live: &Value, new: &Value) -> Managers {
    let (before, brought) = (meta::managed_fields(live), meta::managed_fields(new));
    let brought = if brought.is_empty() || brought == before { None } else { entries::decode(brought, false).ok() };
    match brought {
        Some(managers) if !managers.is_empty() => managers,
        _ => entries::decode(before, true).unwrap_or_default(),
    }
}

/// An object of the type that nobody wrote: what it has by itself, nobody owns.
fn nothing(ty: &Type) -> Value {
    let mut empty = Value::Object(Map::new());
    crate::schema::fill_zeros(ty, &mut empty);
    empty
}

/// Gives what changed to one manager, and takes it from the others.
fn track(
    managers: &mut Managers,
    versions: &dyn Versions,
    live: &Value,
    new: &Value,
    key: ManagerKey,
    writer: &Writer<'_>,
) {
    let mut changes = Changes::new(versions, writer.api_version, live, new, writer.reset);
    managers.retain(|_, owner| {
        let Some(change) = changes.of(&owner.api_version) else { return false };
        owner.lose(&change.set);
        owner.lose(&change.removed);
        true
    });
    if let Some(change) = changes.take(writer.api_version) {
        let mut taken = change.set;
        taken.subtract(&change.removed);
        taken.subtract(entries::identity());
        if !taken.is_empty() {
            let owner = managers.entry(key).or_insert_with(|| Owner::new(Set::default(), writer.api_version, None));
            owner.gain(taken);
            owner.time = Some(writer.now.to_owned());
        }
    }
    managers.retain(|_, owner| !owner.set.is_empty());
}

/// What an apply may take from others.
enum Allowed {
    All,
    These(Set),
}

/// Takes from the others what an apply changed; what it may not take is a conflict.
fn release(
    managers: &mut Managers,
    mut changes: Changes<'_>,
    applier: &ManagerKey,
    allowed: &Allowed,
) -> Result<(), ApplyError> {
    let mut conflicts = Vec::new();
    managers.retain(|key, owner| {
        if key == applier {
            return true;
        }
        let Some(change) = changes.of(&owner.api_version) else { return false };
        let conflicting = owner.set.intersection(&change.set);
        if let Allowed::These(allowed) = allowed {
            conflicts.extend(conflicting.difference(allowed).paths().into_iter().map(|field| Conflict {
                manager: key.clone(),
                time: owner.time.clone(),
                field,
            }));
        }
        owner.lose(&conflicting);
        owner.lose(&change.removed);
        true
    });
    if !conflicts.is_empty() {
        return Err(ApplyError::Conflicts(conflicts));
    }
    managers.retain(|_, owner| !owner.set.is_empty());
    Ok(())
}

/// Removes what the applier applied last time, not this time, and nobody else owns. What it applied has the names of the version
/// that it used then.
fn prune(versions: &dyn Versions, merged: Value, managers: &Managers, last: &Owner, writer: &Writer<'_>) -> Value {
    let last_set = last.set.recursive_difference(writer.reset);
    let (then, Some(ty)) = (last.api_version.as_str(), versions.ty(&last.api_version)) else { return merged };
    if last_set.is_empty() {
        return merged;
    }
    let convert = |object: &Value, from: &str, to: &str| match from == to {
        true => object.clone(),
        false => versions.convert(object, from, to),
    };
    let shape = Shape::Object(ty);
    let last_set = walk::with_named_fields(shape, &last_set);
    let before = convert(&merged, writer.api_version, then);
    let mut pruned = walk::remove(shape, before.clone(), &last_set);
    if pruned == before {
        return merged;
    }
    // What any manager still owns comes back, in the version of the removal first, so that the rest can be converted.
    let mut owned: BTreeMap<(bool, &str), Set> = BTreeMap::new();
    for owner in managers.values() {
        let set = owned.entry((owner.api_version != then, &owner.api_version)).or_default();
        *set = std::mem::take(set).union(owner.set.clone());
    }
    for ((_, version), set) in &owned {
        let Some(shape) = versions.ty(version).map(Shape::Object) else { continue };
        let named = |set: &Set| walk::with_named_fields(shape, set);
        let whole = convert(&merged, writer.api_version, version);
        let left = convert(&pruned, then, version);
        let kept = named(&walk::fields_of(shape, &left)).union(named(set));
        let gone = named(&walk::fields_of(shape, &whole)).difference(&kept);
        pruned = convert(&walk::remove(shape, whole, &gone), version, then);
    }
    // So does what went only because something above it went.
    let named = |object: &Value| walk::with_named_fields(shape, &walk::fields_of(shape, object));
    let gone = named(&before).difference(&named(&pruned)).intersection(&last_set);
    convert(&walk::remove(shape, before, &gone), then, writer.api_version)
}

/// The object without its managed fields, and they. What cannot be read is dropped, as in Kubernetes.
fn opened(object: &Value) -> (Value, Managers) {
    let managers = entries::decode(meta::managed_fields(object), true).unwrap_or_default();
    let mut object = if object.is_null() { Value::Object(Map::new()) } else { object.clone() };
    meta::remove(&mut object, "managedFields");
    (object, managers)
}

fn closed(mut object: Value, managers: Managers) -> Value {
    let entries = entries::encode(managers);
    if entries.is_empty() {
        meta::remove(&mut object, "managedFields");
    } else {
        meta::set_managed_fields(&mut object, entries);
    }
    object
}

#[cfg(test)]
mod tests;
