//! The status of a CustomResourceDefinition: which of its names are taken by others, and its conditions.
//!
//! [`plan`] is pure and can be repeated: what it says of a definition that has that status already is nothing.

use serde_json::{Value, json};

use super::{CLEANUP_FINALIZER, is_true};

/// A condition that a definition should have.
struct Condition {
    kind: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

impl Condition {
    fn new(kind: &'static str, status: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Condition { kind, status, reason, message: message.into() }
    }
}

/// The annotation that the definitions of protected groups need.
const APPROVAL: &str = "api-approved.kubernetes.io";

/// Whether a group is one of the project's own, whose definitions need to be approved.
pub fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"].iter().any(|root| group == *root || group.ends_with(&format!(".{root}")))
}

/// What is wrong with the approval of a definition in a protected group: whether it is missing, and in words.
pub fn approval_fault(definition: &Value) -> Option<(bool, String)> {
    let group = definition["spec"]["group"].as_str().unwrap_or_default();
    let given = definition["metadata"]["annotations"][APPROVAL].as_str().unwrap_or_default();
    let is_link = given.split_once("://").is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
    if !is_protected(group) || is_link || given.starts_with("unapproved") {
        return None;
    }
    let missing = given.is_empty();
    let message = if missing {
        format!("groups of Kubernetes itself are protected: their definitions need the annotation {APPROVAL:?}")
    } else {
        format!("the annotation {APPROVAL:?} must be a link to where the API was approved, or say \"unapproved\"")
    };
    Some((missing, message))
}

/// The status that a definition should have, beside all definitions there are; none where it has it.
pub fn plan<'v>(definition: &Value, all: impl Iterator<Item = &'v Value>, now: &str) -> Option<Value> {
    let mut status = definition["status"].clone();
    let taken = Taken::by_others(definition, all);
    let (accepted, conflict) = taken.accept(definition);
    let established = match &conflict {
        _ if is_true(definition, "Established") => None,
        None => {
            Some(Condition::new("Established", "True", "InitialNamesAccepted", "the initial names have been accepted"))
        }
        Some(_) => Some(Condition::new("Established", "False", "NotAccepted", "not all names are accepted")),
    };
    let names =
        conflict.unwrap_or_else(|| Condition::new("NamesAccepted", "True", "NoConflicts", "no conflicts found"));
    status["acceptedNames"] = accepted;
    for condition in [Some(names), established, approval(definition), terminating(definition)].into_iter().flatten() {
        set(&mut status, &condition, now);
    }
    (status != definition["status"]).then_some(status)
}

/// A definition whose objects are gone.
pub fn finalize(definition: &mut Value, now: &str) {
    let done = Condition::new("Terminating", "False", "InstanceDeletionCompleted", "removed all instances");
    set(&mut definition["status"], &done, now);
    let finalizers = definition["metadata"]["finalizers"].as_array().into_iter().flatten();
    let left: Vec<Value> = finalizers.filter(|finalizer| *finalizer != CLEANUP_FINALIZER).cloned().collect();
    if let Some(metadata) = definition["metadata"].as_object_mut() {
        metadata.remove("finalizers");
        if !left.is_empty() {
            metadata.insert("finalizers".into(), left.into());
        }
    }
}

/// A definition as it is about to be deleted: its objects go first.
pub fn begin_deletion(definition: &mut Value, now: &str) {
    let finalizers = &mut definition["metadata"]["finalizers"];
    match finalizers.as_array_mut() {
        Some(all) if all.iter().any(|finalizer| finalizer == CLEANUP_FINALIZER) => {}
        Some(all) => all.push(CLEANUP_FINALIZER.into()),
        None => *finalizers = json!([CLEANUP_FINALIZER]),
    }
    let message = "the definition is marked for deletion; its objects are deleted next";
    set(&mut definition["status"], &Condition::new("Terminating", "True", "InstanceDeletionPending", message), now);
}

/// Whether the objects of a definition are to be deleted now.
pub fn is_to_be_finalized(definition: &Value) -> bool {
    let finalizers = definition["metadata"]["finalizers"].as_array();
    !definition["metadata"]["deletionTimestamp"].is_null()
        && finalizers.is_some_and(|all| all.iter().any(|finalizer| finalizer == CLEANUP_FINALIZER))
}

fn terminating(definition: &Value) -> Option<Condition> {
    let message = "its objects are being deleted";
    is_to_be_finalized(definition).then(|| Condition::new("Terminating", "True", "InstanceDeletionInProgress", message))
}

fn approval(definition: &Value) -> Option<Condition> {
    const KIND: &str = "KubernetesAPIApprovalPolicyConformant";
    if !is_protected(definition["spec"]["group"].as_str().unwrap_or_default()) {
        return None;
    }
    let given = definition["metadata"]["annotations"][APPROVAL].as_str().unwrap_or_default();
    Some(match approval_fault(definition) {
        Some((true, message)) => Condition::new(KIND, "False", "MissingAnnotation", message),
        Some((false, message)) => Condition::new(KIND, "False", "InvalidAnnotation", message),
        None if given.starts_with("unapproved") => Condition::new(KIND, "False", "UnapprovedAnnotation", given),
        None => Condition::new(KIND, "True", "ApprovedAnnotation", format!("approved in {given}")),
    })
}

/// Sets a condition; its time stays while its status does.
fn set(status: &mut Value, condition: &Condition, now: &str) {
    let mut wanted = json!({"type": condition.kind, "status": condition.status, "reason": condition.reason,
        "message": condition.message, "lastTransitionTime": now});
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let Some(all) = status["conditions"].as_array_mut() else { return };
    match all.iter_mut().find(|existing| existing["type"] == condition.kind) {
        Some(existing) => {
            if existing["status"] == condition.status {
                wanted["lastTransitionTime"] = existing["lastTransitionTime"].clone();
            }
            let generation = existing.get("observedGeneration").cloned();
            *existing = wanted;
            if let Some(generation) = generation {
                existing["observedGeneration"] = generation;
            }
        }
        None => all.push(wanted),
    }
}

/// The names of a group that other definitions have.
#[derive(Default)]
struct Taken {
    resources: Vec<String>,
    kinds: Vec<String>,
}

impl Taken {
    fn by_others<'v>(definition: &Value, all: impl Iterator<Item = &'v Value>) -> Self {
        let mut taken = Taken::default();
        for other in all {
            let same = other["metadata"]["name"] == definition["metadata"]["name"];
            if same || other["spec"]["group"] != definition["spec"]["group"] {
                continue;
            }
            let names = &other["status"]["acceptedNames"];
            let short = names["shortNames"].as_array().into_iter().flatten();
            let resources = [&names["plural"], &names["singular"]].into_iter().chain(short);
            taken.resources.extend(resources.filter_map(Value::as_str).map(str::to_owned));
            let kinds = [&names["kind"], &names["listKind"]].into_iter();
            taken.kinds.extend(kinds.filter_map(Value::as_str).map(str::to_owned));
        }
        taken
    }

    /// The names that a definition gets, and what stands against the last that it does not.
    fn accept(&self, definition: &Value) -> (Value, Option<Condition>) {
        let wanted = &definition["spec"]["names"];
        let mut accepted = match &definition["status"]["acceptedNames"] {
            names @ Value::Object(_) => names.clone(),
            _ => json!({}),
        };
        let mut conflict = None;
        let mut refuse = |reason: &'static str, name: &str| {
            let message = format!("{name:?} is already in use");
            conflict = Some(Condition::new("NamesAccepted", "False", reason, message));
        };
        let short: Vec<&str> =
            wanted["shortNames"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        match short.iter().find(|name| self.resources.iter().any(|other| other == *name)) {
            Some(name) => refuse("ShortNamesConflict", name),
            None => replace(&mut accepted, "shortNames", &wanted["shortNames"]),
        }
        let fields = [
            ("plural", "PluralConflict", &self.resources),
            ("singular", "SingularConflict", &self.resources),
            ("kind", "KindConflict", &self.kinds),
            ("listKind", "ListKindConflict", &self.kinds),
        ];
        for (field, reason, taken) in fields {
            let name = wanted[field].as_str().unwrap_or_default();
            if taken.iter().any(|other| other == name) && accepted[field] != name {
                refuse(reason, name);
            } else if !name.is_empty() {
                accepted[field] = name.into();
            }
        }
        replace(&mut accepted, "categories", &wanted["categories"]);
        (accepted, conflict)
    }
}

fn replace(names: &mut Value, field: &str, value: &Value) {
    let Some(names) = names.as_object_mut() else { return };
    if value.as_array().is_some_and(|list| !list.is_empty()) {
        names.insert(field.to_owned(), value.clone());
    } else {
        names.remove(field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-01T00:00:00Z";

    fn definition(plural: &str, kind: &str) -> Value {
        json!({"metadata": {"name": format!("{plural}.t.example.com")}, "spec": {"group": "t.example.com",
            "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List"),
                "shortNames": ["th"]}}})
    }

    fn planned(definition: &Value, all: &[Value]) -> Value {
        let mut planned = definition.clone();
        planned["status"] = plan(definition, all.iter(), NOW).expect("a new status");
        assert_eq!(plan(&planned, all.iter(), "2027-01-01T00:00:00Z"), None, "it can be repeated");
        planned
    }

    fn reason(definition: &Value, kind: &str) -> String {
        let all = definition["status"]["conditions"].as_array().expect("conditions");
        let found = all.iter().find(|condition| condition["type"] == kind).expect("the condition");
        format!("{} {}", found["status"], found["reason"]).replace('"', "")
    }

    #[test]
    fn a_definition_whose_names_are_free_is_established() {
        let first = planned(&definition("things", "Thing"), &[]);
        assert!(is_true(&first, "Established") && is_true(&first, "NamesAccepted"));
        assert_eq!(first["status"]["acceptedNames"], first["spec"]["names"]);
    }

    #[test]
    fn names_that_others_have_are_not_accepted_until_they_are_free() {
        let first = planned(&definition("things", "Thing"), &[]);
        let second = planned(&definition("others", "Thing"), std::slice::from_ref(&first));
        assert_eq!(reason(&second, "NamesAccepted"), "False ListKindConflict");
        assert_eq!(reason(&second, "Established"), "False NotAccepted");
        assert_eq!(second["status"]["acceptedNames"]["plural"], "others");
        assert_eq!(second["status"]["acceptedNames"].get("kind"), None);
        let later = planned(&second, &[]);
        assert!(is_true(&later, "Established"));
        // What is established stays, also when it asks for a name that it cannot have.
        let mut renamed = first.clone();
        renamed["spec"]["names"]["shortNames"] = json!(["other"]);
        let renamed = planned(&renamed, &[planned(&definition("x", "Other"), &[])]);
        assert_eq!(reason(&renamed, "NamesAccepted"), "False ShortNamesConflict");
        assert!(is_true(&renamed, "Established"));
        assert_eq!(renamed["status"]["acceptedNames"]["shortNames"], json!(["th"]));
    }

    #[test]
    fn definitions_of_kubernetes_own_groups_say_whether_they_are_approved() {
        let mut own = definition("things", "Thing");
        own["spec"]["group"] = "x.k8s.io".into();
        assert_eq!(reason(&planned(&own, &[]), "KubernetesAPIApprovalPolicyConformant"), "False MissingAnnotation");
        for (given, expected) in [
            ("https://example.com/1", "True ApprovedAnnotation"),
            ("unapproved, a trial", "False UnapprovedAnnotation"),
            ("yes", "False InvalidAnnotation"),
        ] {
            own["metadata"]["annotations"] = json!({APPROVAL: given});
            assert_eq!(reason(&planned(&own, &[]), "KubernetesAPIApprovalPolicyConformant"), expected);
        }
    }

    #[test]
    fn a_deletion_waits_for_the_objects() {
        let mut first = planned(&definition("things", "Thing"), &[]);
        begin_deletion(&mut first, NOW);
        assert!(!is_to_be_finalized(&first), "it is not marked yet");
        first["metadata"]["deletionTimestamp"] = NOW.into();
        let mut going = planned(&first, &[]);
        assert_eq!(reason(&going, "Terminating"), "True InstanceDeletionInProgress");
        finalize(&mut going, NOW);
        assert_eq!(reason(&going, "Terminating"), "False InstanceDeletionCompleted");
        assert!(!is_to_be_finalized(&going) && going["metadata"].get("finalizers").is_none());
    }
}
