//! What a job says of pods that failed (`podFailurePolicy`) and of when it has succeeded (`successPolicy`). Pure.

use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;

use super::indexes::Indexes;

/// What a failed pod means for its job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It counts towards the limits.
    Count,
    /// It does not count.
    Ignore,
    /// Its index has failed for good.
    FailIndex,
    /// The job has failed, for the reason that the text gives.
    FailJob(String),
}

/// What the first rule that matches says; pods that match none count.
pub fn judge(spec: &JobSpec, pod: &Pod) -> Verdict {
    let rules = spec.pod_failure_policy.iter().flat_map(|policy| &policy.rules).enumerate();
    for (number, rule) in rules {
        let Some(what) = matched(rule, pod) else { continue };
        return match rule.action.as_str() {
            "FailJob" => Verdict::FailJob(format!("{what} matching FailJob rule at index {number}")),
            "FailIndex" if spec.backoff_limit_per_index.is_some() => Verdict::FailIndex,
            "Ignore" => Verdict::Ignore,
            _ => Verdict::Count,
        };
    }
    Verdict::Count
}

/// What of the pod a rule matches, in words.
fn matched(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
    if let Some(requirement) = &rule.on_exit_codes {
        let (container, code) = exit_code(requirement, pod)?;
        return Some(format!("Container {container} for pod {namespace}/{name} failed with exit code {code}"));
    }
    let patterns = rule.on_pod_conditions.iter().flatten();
    let type_ = patterns.into_iter().find(|pattern| has_condition(pattern, pod)).map(|pattern| &pattern.type_)?;
    Some(format!("Pod {namespace}/{name} has condition {type_}"))
}

fn exit_code<'a>(requirement: &PodFailurePolicyOnExitCodesRequirement, pod: &'a Pod) -> Option<(&'a str, i32)> {
    let status = pod.status.as_ref()?;
    let statuses = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    let mut failed = statuses.filter_map(|status: &ContainerStatus| {
        let code = status.state.as_ref()?.terminated.as_ref()?.exit_code;
        (code != 0).then_some((status.name.as_str(), code))
    });
    failed.find(|(name, code)| {
        requirement.container_name.as_deref().is_none_or(|wanted| wanted == *name)
            && match requirement.operator.as_str() {
                "In" => requirement.values.contains(code),
                "NotIn" => !requirement.values.contains(code),
                _ => false,
            }
    })
}

fn has_condition(pattern: &PodFailurePolicyOnPodConditionsPattern, pod: &Pod) -> bool {
    let wanted = pattern.status.as_deref().unwrap_or("True");
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == pattern.type_ && condition.status == wanted)
}

/// The number of the first rule of the success policy that these indexes meet.
pub fn success(spec: &JobSpec, succeeded: &Indexes) -> Option<usize> {
    let completions = spec.completions.unwrap_or(0);
    spec.success_policy.as_ref()?.rules.iter().position(|rule| {
        let listed = rule.succeeded_indexes.as_deref().map(|text| Indexes::parse(text, completions));
        let counted = match &listed {
            Some(listed) => {
                i32::try_from(listed.iter().filter(|index| succeeded.contains(*index)).count()).unwrap_or(0)
            }
            None => succeeded.len(),
        };
        let needed = rule.succeeded_count.or(listed.map(|listed| listed.len()));
        needed.is_some_and(|needed| counted >= needed)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(value: Value) -> JobSpec {
        let mut spec = json!({ "template": {} });
        spec.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    fn pod(exit_code: i32, conditions: Value) -> Pod {
        let state = json!({ "terminated": { "exitCode": exit_code } });
        let status =
            json!({ "name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state });
        serde_json::from_value(json!({
            "metadata": { "name": "p", "namespace": "ns" },
            "status": { "phase": "Failed", "containerStatuses": [status], "conditions": conditions },
        }))
        .unwrap()
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let codes = |action: &str, operator: &str, values: &[i32], container: Option<&str>| json!({ "action": action, "onExitCodes": { "operator": operator, "values": values, "containerName": container } });
        let disrupted =
            json!({ "action": "Ignore", "onPodConditions": [{ "type": "DisruptionTarget", "status": "True" }] });
        let judged = |rules: Value, pod: &Pod| {
            judge(&spec(json!({ "backoffLimitPerIndex": 1, "podFailurePolicy": { "rules": rules } })), pod)
        };
        let target = json!([{ "type": "DisruptionTarget", "status": "True" }]);
        let failed = Verdict::FailJob(
            "Container main for pod ns/p failed with exit code 42 matching FailJob rule at index 1".into(),
        );
        for (rules, pod, expected) in [
            (json!([disrupted, codes("FailJob", "In", &[42], None)]), pod(42, json!([])), failed),
            (json!([disrupted, codes("FailJob", "In", &[42], None)]), pod(42, target.clone()), Verdict::Ignore),
            (json!([codes("FailJob", "In", &[42], Some("other"))]), pod(42, json!([])), Verdict::Count),
            (json!([codes("FailIndex", "NotIn", &[1], None)]), pod(3, json!([])), Verdict::FailIndex),
            (json!([codes("Ignore", "NotIn", &[3], None)]), pod(3, json!([])), Verdict::Count),
            (json!([codes("Ignore", "NotIn", &[3], None)]), pod(0, json!([])), Verdict::Count),
            (json!([]), pod(1, target), Verdict::Count),
        ] {
            assert_eq!(judged(rules.clone(), &pod), expected, "{rules}");
        }
    }

    #[test]
    fn success_can_be_a_part_of_the_indexes() {
        let met = |rules: Value, succeeded: &[i32]| {
            let spec = spec(json!({ "completions": 6, "successPolicy": { "rules": rules } }));
            success(&spec, &succeeded.iter().copied().collect())
        };
        let rules = json!([{ "succeededIndexes": "0,2-3" }, { "succeededCount": 2, "succeededIndexes": "1,4-5" }, { "succeededCount": 5 }]);
        for (succeeded, expected) in [
            (&[0, 2][..], None),
            (&[0, 2, 3], Some(0)),
            (&[1, 5], Some(1)),
            (&[0, 1, 2], None),
            (&[0, 1, 2, 3, 4], Some(0)),
        ] {
            assert_eq!(met(rules.clone(), succeeded), expected, "{succeeded:?}");
        }
        assert_eq!(met(json!([{ "succeededCount": 2 }]), &[3, 4]), Some(0));
    }
}
