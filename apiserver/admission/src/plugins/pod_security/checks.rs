//! The checks of the standards, each with the level and the versions that it belongs to.

use serde_json::Value;

use super::level::{Level, Policy, Version};
use super::{baseline, restricted};

/// What a pod is checked by.
#[derive(Clone, Copy)]
pub(super) struct Pod<'a> {
    pub(super) metadata: &'a Value,
    pub(super) spec: &'a Value,
    pub(super) version: Version,
}

/// What is wrong, in a word and in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) reason: String,
    pub(super) detail: String,
}

impl Violation {
    pub(super) fn new(reason: impl Into<String>, detail: impl Into<String>) -> Self {
        Violation { reason: reason.into(), detail: detail.into() }
    }
}

struct Check {
    level: Level,
    /// The minor version that it came with.
    since: u32,
    /// For a check of `baseline`: the version since which `restricted` has a stricter one instead.
    stricter_since: Option<u32>,
    find: fn(Pod<'_>) -> Option<Violation>,
}

const fn baseline(find: fn(Pod<'_>) -> Option<Violation>) -> Check {
    Check { level: Level::Baseline, since: 0, stricter_since: None, find }
}

const fn restricted(since: u32, find: fn(Pod<'_>) -> Option<Violation>) -> Check {
    Check { level: Level::Restricted, since, stricter_since: None, find }
}

/// In the order in which they are reported.
const CHECKS: [Check; 18] = [
    baseline(baseline::apparmor),
    Check { stricter_since: Some(22), ..baseline(baseline::capabilities) },
    baseline(baseline::host_namespaces),
    Check { stricter_since: Some(0), ..baseline(baseline::host_paths) },
    baseline(baseline::host_ports),
    Check { since: 34, ..baseline(baseline::host_probes) },
    baseline(baseline::privileged),
    baseline(baseline::proc_mount),
    baseline(baseline::selinux),
    Check { stricter_since: Some(19), ..baseline(baseline::seccomp) },
    baseline(baseline::sysctls),
    baseline(baseline::windows_host_process),
    restricted(8, restricted::privilege_escalation),
    restricted(22, restricted::capabilities),
    restricted(0, restricted::volumes),
    restricted(0, restricted::run_as_non_root),
    restricted(23, restricted::run_as_user),
    restricted(19, restricted::seccomp),
];

/// Everything that the policy forbids of the pod.
pub(super) fn violations(policy: Policy, pod: &Value) -> Vec<Violation> {
    let null = Value::Null;
    let pod = Pod {
        metadata: pod.get("metadata").unwrap_or(&null),
        spec: pod.get("spec").unwrap_or(&null),
        version: policy.version,
    };
    let has = |since: u32| policy.version >= Version::Minor(since);
    let applies = |check: &&Check| {
        let replaced = policy.level == Level::Restricted && check.stricter_since.is_some_and(has);
        policy.level >= check.level && has(check.since) && !replaced
    };
    CHECKS.iter().filter(applies).filter_map(|check| (check.find)(pod)).collect()
}

/// As one line; none if nothing is wrong.
pub(super) fn described(violations: &[Violation]) -> Option<String> {
    let one = |violation: &Violation| format!("{} ({})", violation.reason, violation.detail);
    (!violations.is_empty()).then(|| violations.iter().map(one).collect::<Vec<_>>().join(", "))
}
