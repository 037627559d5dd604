//! Rules of a pod spec, wherever one stands: pods and the templates of the workloads.

use apimachinery::names;

use crate::node::Node;
use crate::rules::container::{self, Scope};
use crate::rules::{affinity, dns, meta, resources, security, tolerations, volume};

/// A `core.v1 PodSpec`.
pub fn spec(spec: Node<'_>) {
    let grace = spec.get("terminationGracePeriodSeconds");
    if !grace.is_set() {
        grace.required("");
    }
    let scope = Scope {
        volumes: volume::volumes(spec.get("volumes")),
        claim_names: spec.get("resourceClaims").items().map(|c| c.get("name").str()).collect(),
        host_network: spec.get("hostNetwork").bool(),
        host_users: spec.get("hostUsers").value.as_bool() != Some(false),
    };
    container::all(spec, &scope);
    scheduling(spec);
    identity(spec);
    spec.get("restartPolicy").need_one_of(&["Always", "OnFailure", "Never"]);
    dns::of_pod(spec);
    dns::host_aliases(spec.get("hostAliases"));
    security::of_pod(spec, spec.get("securityContext"));
    host_namespaces(spec);
    pod_resources(spec.get("resources"));
    claims(spec.get("resourceClaims"));
    spec.get("activeDeadlineSeconds").within(1, 2_147_483_647);
    for gate in spec.get("readinessGates").items() {
        gate.get("conditionType").check(names::qualified_name);
    }
    os(spec);
}

fn scheduling(spec: Node<'_>) {
    meta::labels(spec.get("nodeSelector"));
    affinity::affinity(spec.get("affinity"));
    affinity::topology_spread(spec.get("topologySpreadConstraints"));
    tolerations::tolerations(spec.get("tolerations"));
    spec.get("nodeName").check_if_set(names::dns1123_subdomain);
    spec.get("priorityClassName").check_if_set(names::dns1123_subdomain);
    spec.get("preemptionPolicy").one_of_if_set(&["PreemptLowerPriority", "Never"]);
    if spec.get("schedulerName").is_set() {
        spec.get("schedulerName").check_if_set(names::dns1123_subdomain);
    }
    let gates = spec.get("schedulingGates");
    let mut seen: Vec<&str> = Vec::new();
    for gate in gates.items() {
        gate.get("name").check(names::qualified_name);
        if seen.contains(&gate.get("name").str()) {
            gate.duplicate();
        }
        seen.push(gate.get("name").str());
    }
    for (resource, amount) in spec.get("overhead").entries() {
        resources::container_name(amount, resource);
        resources::quantity(amount, resource);
    }
}

fn identity(spec: Node<'_>) {
    spec.get("serviceAccountName").check_if_set(names::dns1123_subdomain);
    spec.get("runtimeClassName").check_if_set(names::dns1123_subdomain);
    spec.get("hostname").check_if_set(names::dns1123_label);
    spec.get("subdomain").check_if_set(names::dns1123_label);
    let overridden = spec.get("hostnameOverride");
    if overridden.is_set() {
        if overridden.is_empty() || overridden.len() > 64 {
            overridden.invalid("must be a host name of 1 to 64 characters");
        } else {
            overridden.check(names::dns1123_subdomain);
        }
        if spec.get("setHostnameAsFQDN").bool() {
            overridden.forbidden("may not be specified when setHostnameAsFQDN is true");
        }
    }
}

fn host_namespaces(spec: Node<'_>) {
    if spec.get("hostUsers").value.as_bool() != Some(false) {
        return;
    }
    for (field, name) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec.get(field).bool() {
            spec.get(name).forbidden("when `hostUsers` is false, the host's other namespaces may not be used");
        }
    }
}

fn pod_resources(requirements: Node<'_>) {
    if !requirements.is_set() {
        return;
    }
    resources::requirements(requirements);
    for list in [requirements.get("limits"), requirements.get("requests")] {
        for (resource, amount) in list.entries() {
            if !matches!(resource, "cpu" | "memory") && !resources::is_hugepages(resource) {
                amount.not_supported(&["cpu", "memory", "hugepages-"]);
            }
        }
    }
}

fn claims(list: Node<'_>) {
    let mut seen: Vec<&str> = Vec::new();
    for claim in list.items() {
        let name = claim.get("name");
        if name.is_empty() {
            name.required("");
        } else {
            name.check(names::dns1123_label);
            if seen.contains(&name.str()) {
                name.duplicate();
            }
        }
        seen.push(name.str());
        let (existing, template) = (claim.get("resourceClaimName"), claim.get("resourceClaimTemplateName"));
        if existing.is_set() && template.is_set() {
            claim.invalid("at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified");
        }
        if !existing.is_set() && !template.is_set() {
            claim.invalid("must specify one of: `resourceClaimName`, `resourceClaimTemplateName`");
        }
        for reference in [existing, template] {
            if reference.is_set() {
                reference.check(names::dns1123_subdomain);
            }
        }
    }
}

fn os(spec: Node<'_>) {
    let os = spec.get("os");
    if !os.is_set() {
        return;
    }
    os.get("name").need_one_of(&["linux", "windows"]);
    let options = spec.get("securityContext").get("windowsOptions");
    if os.get("name").str() == "linux" && options.is_set() {
        options.forbidden("windows options cannot be set for a linux pod");
    }
}
