//! Whether and when a pod must leave its node: pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};

/// What becomes of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// It stays.
    Never,
    /// It goes after this time, unless the taints do.
    In(Duration),
    /// It goes.
    Now,
}

/// A node's NoExecute taints.
pub fn no_execute(node: &Node) -> Vec<Taint> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.filter(|taint| taint.effect == "NoExecute").cloned().collect()
}

/// Whether a toleration covers a taint (its effect, key and value).
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let same = |own: &Option<String>, other: &str| own.as_deref().unwrap_or_default() == other;
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "Exists" => true,
        "" | "Equal" => !key.is_empty() && same(&toleration.value, taint.value.as_deref().unwrap_or_default()),
        _ => false,
    }
}

/// Decides about a pod on a node with these NoExecute taints. A taint counts from when it was added, or from when the pod was made if that is later.
pub fn plan(pod: &Pod, taints: &[Taint], now: Timestamp) -> Eviction {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let mut deadline: Option<Timestamp> = None;
    for taint in taints {
        let fitting: Vec<&Toleration> = tolerations.iter().filter(|toleration| tolerates(toleration, taint)).collect();
        if fitting.is_empty() {
            return Eviction::Now;
        }
        let Some(seconds) = fitting.iter().filter_map(|toleration| toleration.toleration_seconds).min() else {
            continue;
        };
        let since = taint.time_added.as_ref().map(|time| time.0).max(created).unwrap_or(now);
        let end = since.saturating_add(jiff::SignedDuration::from_secs(seconds.max(0))).unwrap_or(Timestamp::MAX);
        deadline = Some(deadline.map_or(end, |known| known.min(end)));
    }
    match deadline {
        None => Eviction::Never,
        Some(end) if end <= now => Eviction::Now,
        Some(end) => Eviction::In(Duration::from_secs_f64(end.duration_since(now).as_secs_f64())),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn taint(key: &str, added: i64) -> Taint {
        Taint { key: key.into(), effect: "NoExecute".into(), time_added: Some(Time(at(added))), value: None }
    }

    fn pod(tolerations: &[(&str, Option<i64>)]) -> Pod {
        let mut pod = crate::pods::testing::pod("p", "n", None);
        let toleration = |(key, seconds): &(&str, Option<i64>)| Toleration {
            key: Some((*key).into()),
            operator: Some("Exists".into()),
            effect: Some("NoExecute".into()),
            toleration_seconds: *seconds,
            value: None,
        };
        pod.spec.as_mut().unwrap().tolerations = Some(tolerations.iter().map(toleration).collect());
        pod
    }

    #[test]
    fn the_shortest_toleration_counts_from_when_the_taint_came() {
        let taints = [taint("a", 100), taint("b", 110)];
        for (tolerations, expected) in [
            (vec![], Eviction::Now),
            (vec![("a", None)], Eviction::Now),
            (vec![("a", None), ("b", None)], Eviction::Never),
            (vec![("", None)], Eviction::Never),
            (vec![("a", Some(60)), ("b", Some(30))], Eviction::In(Duration::from_secs(20))),
            (vec![("a", Some(10)), ("b", None)], Eviction::Now),
            (vec![("a", Some(0)), ("b", None)], Eviction::Now),
        ] {
            assert_eq!(plan(&pod(&tolerations), &taints, at(120)), expected, "{tolerations:?}");
        }
    }

    #[test]
    fn a_pod_made_after_the_taint_has_its_full_time() {
        let mut late = pod(&[("a", Some(60))]);
        late.metadata.creation_timestamp = Some(Time(at(500)));
        assert_eq!(plan(&late, &[taint("a", 100)], at(510)), Eviction::In(Duration::from_secs(50)));
    }

    #[test]
    fn tolerations_match_by_key_operator_value_and_effect() {
        let taint = Taint { key: "k".into(), value: Some("v".into()), effect: "NoExecute".into(), time_added: None };
        let toleration = |key: &str, operator: &str, value: &str, effect: &str| Toleration {
            key: Some(key.into()),
            operator: Some(operator.into()),
            value: Some(value.into()),
            effect: Some(effect.into()),
            toleration_seconds: None,
        };
        for (key, operator, value, effect, expected) in [
            ("k", "Equal", "v", "NoExecute", true),
            ("k", "", "v", "", true),
            ("k", "Equal", "x", "", false),
            ("k", "Exists", "", "NoSchedule", false),
            ("", "Exists", "", "", true),
            ("", "Equal", "v", "", false),
            ("x", "Exists", "", "", false),
        ] {
            assert_eq!(
                tolerates(&toleration(key, operator, value, effect), &taint),
                expected,
                "{key} {operator} {value}"
            );
        }
    }
}
