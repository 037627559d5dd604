//! What to do about an object, given the states of its owners.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::PropagationPolicy;

use super::graph::{FOREGROUND, ORPHAN};

/// How an owner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerState {
    /// It is there.
    Solid,
    /// It is gone.
    Absent,
    /// It goes when its dependents have gone.
    Waiting,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    Nothing,
    /// Some owners are left: the others are to be forgotten. These references stay.
    Keep(Vec<OwnerReference>),
    Delete {
        policy: PropagationPolicy,
        /// The owners wait for this object, and something that it owns waits for its own dependents: unless this object stops
        /// blocking, a circle would wait for itself.
        unblock: bool,
    },
}

/// `owners` are the object's references with their states; `dependents_wait` says for each of the object's dependents whether it waits for its own.
pub fn plan(meta: &ObjectMeta, owners: &[(OwnerReference, OwnerState)], dependents_wait: &[bool]) -> Plan {
    if owners.is_empty() {
        return Plan::Nothing;
    }
    let solid: Vec<_> = owners.iter().filter(|(_, s)| *s == OwnerState::Solid).map(|(r, _)| r.clone()).collect();
    if solid.len() == owners.len() {
        return Plan::Nothing;
    }
    if !solid.is_empty() {
        return Plan::Keep(solid);
    }
    let waited_for = owners.iter().any(|(_, state)| *state == OwnerState::Waiting);
    if waited_for && !dependents_wait.is_empty() {
        return Plan::Delete { policy: PropagationPolicy::Foreground, unblock: dependents_wait.contains(&true) };
    }
    let has = |finalizer: &str| meta.finalizers.iter().flatten().any(|f| f == finalizer);
    let policy = if has(ORPHAN) {
        PropagationPolicy::Orphan
    } else if has(FOREGROUND) {
        PropagationPolicy::Foreground
    } else {
        PropagationPolicy::Background
    };
    Plan::Delete { policy, unblock: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use OwnerState::{Absent, Solid, Waiting};

    fn owners(states: &[OwnerState]) -> Vec<(OwnerReference, OwnerState)> {
        let reference = |i: usize| OwnerReference { uid: i.to_string(), ..OwnerReference::default() };
        states.iter().enumerate().map(|(i, state)| (reference(i), *state)).collect()
    }

    fn delete(policy: PropagationPolicy) -> Plan {
        Plan::Delete { policy, unblock: false }
    }

    #[test]
    fn an_object_lives_while_one_of_its_owners_does() {
        let meta = ObjectMeta::default();
        assert_eq!(plan(&meta, &[], &[]), Plan::Nothing, "nobody owns it");
        assert_eq!(plan(&meta, &owners(&[Solid, Solid]), &[]), Plan::Nothing);
        let Plan::Keep(left) = plan(&meta, &owners(&[Absent, Solid, Waiting]), &[]) else { panic!("it must live") };
        assert_eq!(left.iter().map(|r| r.uid.as_str()).collect::<Vec<_>>(), ["1"]);
        assert_eq!(plan(&meta, &owners(&[Absent]), &[]), delete(PropagationPolicy::Background));
        assert_eq!(plan(&meta, &owners(&[Absent, Waiting]), &[]), delete(PropagationPolicy::Background));
    }

    #[test]
    fn foreground_deletion_goes_down_the_tree() {
        let meta = ObjectMeta::default();
        assert_eq!(plan(&meta, &owners(&[Waiting]), &[false]), delete(PropagationPolicy::Foreground));
        assert_eq!(plan(&meta, &owners(&[Absent]), &[false]), delete(PropagationPolicy::Background));
    }

    #[test]
    fn a_circle_does_not_wait_for_itself() {
        let circle = plan(&ObjectMeta::default(), &owners(&[Waiting]), &[false, true]);
        assert_eq!(circle, Plan::Delete { policy: PropagationPolicy::Foreground, unblock: true });
    }

    #[test]
    fn what_was_asked_for_the_object_itself_is_kept() {
        for (finalizer, policy) in [(ORPHAN, PropagationPolicy::Orphan), (FOREGROUND, PropagationPolicy::Foreground)] {
            let meta = ObjectMeta { finalizers: Some(vec![finalizer.into()]), ..ObjectMeta::default() };
            assert_eq!(plan(&meta, &owners(&[Absent]), &[]), delete(policy));
        }
    }
}
