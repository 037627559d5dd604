//! Rules of a pod spec, wherever one stands: pods and the templates of the workloads.

use apimachinery::names;
use apimachinery::quantity::Quantity;

use crate::node::Node;
use crate::rules::container::{self, Scope};
use crate::rules::{affinity, annotations, dns, meta, resources, security, tolerations, volume, windows};

/// A `core.v1 PodSpec`. `pod` is the metadata of the pod, where the spec is not a template's.
pub fn spec(spec: Node<'_>, pod: Option<Node<'_>>) {
    let grace = spec.get("terminationGracePeriodSeconds");
    if !grace.is_set() {
        grace.required("");
    }
    let scope = Scope {
        volumes: volume::volumes(spec.get("volumes"), pod),
        claim_names: spec.get("resourceClaims").items().map(|c| c.get("name").str()).collect(),
        host_users: spec.get("hostUsers").value.as_bool() != Some(false),
        grace: grace.opt_int(),
        restart_policy: spec.get("restartPolicy").str(),
        is_pod: pod.is_some(),
    };
    container::all(spec, &scope);
    if spec.get("hostNetwork").bool() {
        container::host_network_ports(spec.get("containers"), pod.is_some());
    }
    scheduling(spec);
    identity(spec);
    spec.get("restartPolicy").need_one_of(&["Always", "OnFailure", "Never"]);
    dns::of_pod(spec);
    dns::host_aliases(spec.get("hostAliases"));
    security::of_pod(spec, spec.get("securityContext"));
    host_namespaces(spec);
    pod_resources(spec);
    claims(spec.get("resourceClaims"));
    spec.get("activeDeadlineSeconds").within(1, 2_147_483_647);
    for gate in spec.get("readinessGates").items() {
        gate.get("conditionType").check(names::qualified_name);
    }
    windows::host_process(spec);
    windows::os(spec);
}

/// The metadata and the spec of a pod, as they are checked whenever one is written.
pub fn pod(root: Node<'_>) {
    let (metadata, spec) = (root.get("metadata"), root.get("spec"));
    annotations::of_pod(metadata.get("annotations"), spec);
    self::spec(spec, Some(metadata));
    if !spec.get("serviceAccountName").is_empty() {
        return;
    }
    for volume in spec.get("volumes").items() {
        for source in volume.get("projected").get("sources").items() {
            let token = source.get("serviceAccountToken");
            if token.is_set() {
                token.forbidden("must not be specified when serviceAccountName is not set");
            }
        }
    }
}

fn scheduling(spec: Node<'_>) {
    meta::labels(spec.get("nodeSelector"));
    affinity::affinity(spec.get("affinity"));
    affinity::topology_spread(spec.get("topologySpreadConstraints"));
    tolerations::tolerations(spec.get("tolerations"));
    spec.get("nodeName").check_if_set(names::dns1123_subdomain);
    spec.get("priorityClassName").check_if_set(names::dns1123_subdomain);
    if spec.get("preemptionPolicy").is_set() {
        spec.get("preemptionPolicy").need_one_of(&["PreemptLowerPriority", "Never"]);
    }
    if spec.get("schedulerName").is_set() {
        spec.get("schedulerName").check_if_set(names::dns1123_subdomain);
    }
    let gates = spec.get("schedulingGates");
    let mut seen: Vec<&str> = Vec::new();
    for gate in gates.items() {
        for message in names::qualified_name(gate.get("name").str()) {
            gate.invalid(message);
        }
        if seen.contains(&gate.get("name").str()) {
            gate.duplicate();
        }
        seen.push(gate.get("name").str());
    }
    resources::overhead(spec.get("overhead"));
}

fn identity(spec: Node<'_>) {
    spec.get("serviceAccountName").check_if_set(names::dns1123_subdomain);
    if spec.get("runtimeClassName").is_set() {
        spec.get("runtimeClassName").check(names::dns1123_subdomain);
    }
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

/// The pod's resources as a whole hold those of its containers.
fn pod_resources(spec: Node<'_>) {
    let whole = spec.get("resources");
    if !whole.is_set() {
        return;
    }
    if whole.get("claims").is_set() {
        whole.get("claims").forbidden("claims cannot be set for Resources at pod-level");
    }
    resources::requirements_of_pod(whole);
    for (resource, sum) in resources::sum_of_requests(spec.value) {
        let own = whole.get("requests").entry(&resource);
        if sum > resources::parse(own.value).unwrap_or(Quantity::ZERO) {
            own.invalid(format!("must be greater than or equal to aggregate container requests of {sum}"));
        }
    }
    let limits = whole.get("limits");
    for (i, container) in spec.get("containers").items().enumerate() {
        for (resource, limit) in container.get("resources").get("limits").entries() {
            let bound = limits.value.get(resource).and_then(resources::parse);
            if let (Some(bound), Some(amount)) = (bound, resources::parse(limit.value))
                && amount > bound
            {
                // Kubernetes names the place below the pod's resources.
                let at = whole.get("containers").index(i).entry(resource).get("limits");
                at.invalid_value(limit.value.clone(), format!("must be less than or equal to pod limits of {bound}"));
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
            if seen.contains(&name.str()) {
                name.duplicate();
            } else {
                name.check(names::dns1123_label);
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
