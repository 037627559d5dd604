//! Nodes, namespaces, configuration, events, access, admission: the rest.

use apimachinery::time::Moment;
use serde_json::{Value, json};

use super::format::{self, NONE, UNKNOWN, UNSET, list};
use super::{AGE, Column, NAME, Printer, boolean, cells, count, integer, text, wide};

const RBAC: &str = "rbac.authorization.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";
const FLOW: &str = "flowcontrol.apiserver.k8s.io";
const DEVICES: &str = "resource.k8s.io";

const EVENT: &[Column] = &[
    text("Last Seen"),
    text("Type"),
    text("Reason"),
    text("Object"),
    wide("Subobject"),
    wide("Source"),
    text("Message"),
    wide("First Seen"),
    wide("Count"),
    Column { priority: 1, ..NAME },
];
const BINDING: &[Column] = &[NAME, text("Role"), AGE, wide("Users"), wide("Groups"), wide("ServiceAccounts")];
const WEBHOOKS: &[Column] = &[NAME, integer("Webhooks"), AGE];
const NAME_AND_AGE: &[Column] = &[NAME, AGE];

pub(super) const ALL: &[Printer] = &[
    Printer {
        group: "",
        resource: "nodes",
        columns: &[
            NAME,
            text("Status"),
            text("Roles"),
            AGE,
            text("Version"),
            wide("Internal-IP"),
            wide("External-IP"),
            wide("OS-Image"),
            wide("Kernel-Version"),
            wide("Container-Runtime"),
        ],
        row: node,
    },
    Printer {
        group: "",
        resource: "namespaces",
        columns: &[NAME, text("Status"), AGE],
        row: |namespace, now| {
            cells(namespace, [format::text(&namespace["status"]["phase"]), format::age(namespace, now)])
        },
    },
    Printer {
        group: "",
        resource: "configmaps",
        columns: &[NAME, text("Data"), AGE],
        row: |map, now| cells(map, [json!(entries(&map["data"]) + entries(&map["binaryData"])), format::age(map, now)]),
    },
    Printer {
        group: "",
        resource: "secrets",
        columns: &[NAME, text("Type"), text("Data"), AGE],
        row: |secret, now| {
            cells(secret, [format::text(&secret["type"]), json!(entries(&secret["data"])), format::age(secret, now)])
        },
    },
    Printer { group: "", resource: "serviceaccounts", columns: NAME_AND_AGE, row: aged },
    Printer {
        group: "",
        resource: "resourcequotas",
        columns: &[NAME, text("Request"), text("Limit"), AGE],
        row: quota,
    },
    Printer { group: "", resource: "events", columns: EVENT, row: event },
    Printer { group: "events.k8s.io", resource: "events", columns: EVENT, row: event },
    Printer { group: RBAC, resource: "rolebindings", columns: BINDING, row: binding },
    Printer { group: RBAC, resource: "clusterrolebindings", columns: BINDING, row: binding },
    Printer {
        group: "scheduling.k8s.io",
        resource: "priorityclasses",
        columns: &[NAME, integer("Value"), boolean("Global-Default"), AGE, text("PreemptionPolicy")],
        row: |class, now| {
            let default = json!(class["globalDefault"].as_bool().unwrap_or(false));
            let policy = format::text_or(&class["preemptionPolicy"], "PreemptLowerPriority");
            cells(class, [count(&class["value"]), default, format::age(class, now), policy])
        },
    },
    Printer {
        group: "node.k8s.io",
        resource: "runtimeclasses",
        columns: &[NAME, text("Handler"), AGE],
        row: |class, now| cells(class, [format::text(&class["handler"]), format::age(class, now)]),
    },
    Printer {
        group: "coordination.k8s.io",
        resource: "leases",
        columns: &[NAME, text("Holder"), AGE],
        row: |lease, now| cells(lease, [format::text(&lease["spec"]["holderIdentity"]), format::age(lease, now)]),
    },
    Printer {
        group: "certificates.k8s.io",
        resource: "certificatesigningrequests",
        columns: &[NAME, AGE, text("SignerName"), text("Requestor"), text("RequestedDuration"), text("Condition")],
        row: certificate_request,
    },
    Printer { group: ADMISSION, resource: "validatingwebhookconfigurations", columns: WEBHOOKS, row: webhooks },
    Printer { group: ADMISSION, resource: "mutatingwebhookconfigurations", columns: WEBHOOKS, row: webhooks },
    Printer {
        group: ADMISSION,
        resource: "validatingadmissionpolicies",
        columns: &[NAME, integer("Validations"), text("ParamKind"), AGE],
        row: |policy, now| {
            let validations = json!(list(&policy["spec"]["validations"]).len());
            cells(policy, [validations, json!(param_kind(&policy["spec"]["paramKind"])), format::age(policy, now)])
        },
    },
    Printer {
        group: ADMISSION,
        resource: "mutatingadmissionpolicies",
        columns: &[NAME, integer("Mutations"), text("ParamKind"), AGE],
        row: |policy, now| {
            let mutations = json!(list(&policy["spec"]["mutations"]).len());
            cells(policy, [mutations, json!(param_kind(&policy["spec"]["paramKind"])), format::age(policy, now)])
        },
    },
    Printer {
        group: ADMISSION,
        resource: "validatingadmissionpolicybindings",
        columns: POLICY_BINDING,
        row: policy_binding,
    },
    Printer {
        group: ADMISSION,
        resource: "mutatingadmissionpolicybindings",
        columns: POLICY_BINDING,
        row: policy_binding,
    },
    Printer {
        group: FLOW,
        resource: "flowschemas",
        columns: &[
            NAME,
            text("PriorityLevel"),
            text("MatchingPrecedence"),
            text("DistinguisherMethod"),
            AGE,
            text("MissingPL"),
        ],
        row: flow_schema,
    },
    Printer {
        group: FLOW,
        resource: "prioritylevelconfigurations",
        columns: &[
            NAME,
            text("Type"),
            text("NominalConcurrencyShares"),
            text("Queues"),
            text("HandSize"),
            text("QueueLengthLimit"),
            AGE,
        ],
        row: priority_level,
    },
    Printer {
        group: "apiregistration.k8s.io",
        resource: "apiservices",
        columns: &[NAME, text("Service"), text("Available"), AGE],
        row: api_service,
    },
    Printer { group: DEVICES, resource: "deviceclasses", columns: NAME_AND_AGE, row: aged },
    Printer { group: DEVICES, resource: "resourceclaimtemplates", columns: NAME_AND_AGE, row: aged },
    Printer {
        group: DEVICES,
        resource: "resourceclaims",
        columns: &[NAME, text("State"), AGE],
        row: |claim, now| cells(claim, [json!(claim_state(claim)), format::age(claim, now)]),
    },
    Printer {
        group: DEVICES,
        resource: "resourceslices",
        columns: &[NAME, text("Node"), text("Driver"), text("Pool"), AGE],
        row: |slice, now| {
            let spec = &slice["spec"];
            let node = format::text_or(&spec["nodeName"], UNSET);
            cells(
                slice,
                [node, format::text(&spec["driver"]), format::text(&spec["pool"]["name"]), format::age(slice, now)],
            )
        },
    },
];

const POLICY_BINDING: &[Column] = &[NAME, text("PolicyName"), text("ParamRef"), AGE];

fn aged(obj: &Value, now: Moment) -> Vec<Value> {
    cells(obj, [format::age(obj, now)])
}

fn entries(map: &Value) -> usize {
    map.as_object().map_or(0, serde_json::Map::len)
}

fn node(node: &Value, now: Moment) -> Vec<Value> {
    let (spec, info) = (&node["spec"], &node["status"]["nodeInfo"]);
    let mut states = vec![match format::condition(node, "Ready") {
        Some(ready) if ready["status"] == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }];
    if spec["unschedulable"] == true {
        states.push("SchedulingDisabled");
    }
    let address = |kind: &str| {
        let found = list(&node["status"]["addresses"]).iter().find(|a| a["type"] == kind);
        format::text_or(found.map_or(&Value::Null, |a| &a["address"]), NONE)
    };
    cells(
        node,
        [
            json!(states.join(",")),
            json!(roles(&node["metadata"]["labels"])),
            format::age(node, now),
            format::text(&info["kubeletVersion"]),
            address("InternalIP"),
            address("ExternalIP"),
            format::text_or(&info["osImage"], UNKNOWN),
            format::text_or(&info["kernelVersion"], UNKNOWN),
            format::text_or(&info["containerRuntimeVersion"], UNKNOWN),
        ],
    )
}

fn roles(labels: &Value) -> String {
    let mut roles: Vec<&str> = Vec::new();
    for (key, value) in labels.as_object().into_iter().flatten() {
        if let Some(role) = key.strip_prefix("node-role.kubernetes.io/").filter(|r| !r.is_empty()) {
            roles.push(role);
        } else if key == "kubernetes.io/role" {
            roles.extend(value.as_str().filter(|r| !r.is_empty()));
        }
    }
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { NONE.to_owned() } else { roles.join(",") }
}

fn quota(quota: &Value, now: Moment) -> Vec<Value> {
    let status = &quota["status"];
    let hard = status["hard"].as_object().or_else(|| quota["spec"]["hard"].as_object());
    let mut names: Vec<&String> = hard.into_iter().flatten().map(|(name, _)| name).collect();
    names.sort();
    let (mut requests, mut limits): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for name in names {
        let used = status["used"].get(name).map_or_else(|| "0".to_owned(), format::plain);
        let most = hard.and_then(|h| h.get(name)).map_or_else(String::new, format::plain);
        let to = if name.starts_with("limits.") { &mut limits } else { &mut requests };
        to.push(format!("{name}: {used}/{most}"));
    }
    cells(quota, [json!(requests.join(", ")), json!(limits.join(", ")), format::age(quota, now)])
}

/// A time of an event, which either group of events may have written.
fn first_of<'v>(event: &'v Value, fields: &[&str]) -> &'v Value {
    fields.iter().map(|f| &event[*f]).find(|v| !v.is_null()).unwrap_or(&Value::Null)
}

fn event(event: &Value, now: Moment) -> Vec<Value> {
    let first = first_of(event, &["firstTimestamp", "deprecatedFirstTimestamp", "eventTime"]);
    let last = match first_of(event, &["lastTimestamp", "deprecatedLastTimestamp"]) {
        Value::Null => first,
        last => last,
    };
    let series = &event["series"];
    let (last, times) = if series.is_object() {
        (&series["lastObservedTime"], series["count"].as_i64().unwrap_or(0))
    } else {
        let times = first_of(event, &["count", "deprecatedCount"]).as_i64().unwrap_or(0);
        (last, times.max(1))
    };
    let about = first_of(event, &["involvedObject", "regarding"]);
    let kind = about["kind"].as_str().unwrap_or("").to_lowercase();
    let target = match about["name"].as_str().filter(|n| !n.is_empty()) {
        Some(name) => format!("{kind}/{name}"),
        None => kind,
    };
    let message = first_of(event, &["message", "note"]).as_str().unwrap_or("").trim();
    vec![
        json!(format::since(last, now)),
        format::text(&event["type"]),
        format::text(&event["reason"]),
        json!(target),
        format::text(&about["fieldPath"]),
        json!(event_source(event)),
        json!(message),
        json!(format::since(first, now)),
        json!(times),
        format::name(event),
    ]
}

fn event_source(event: &Value) -> String {
    let source = first_of(event, &["source", "deprecatedSource"]);
    let component = source["component"].as_str().filter(|c| !c.is_empty());
    let reporter = first_of(event, &["reportingComponent", "reportingController"]).as_str().unwrap_or("");
    let component = component.unwrap_or(reporter);
    let host = source["host"].as_str().filter(|h| !h.is_empty());
    host.map_or_else(|| component.to_owned(), |host| format!("{component}, {host}"))
}

fn binding(binding: &Value, now: Moment) -> Vec<Value> {
    let role = &binding["roleRef"];
    let of_kind =
        |kind: &str| -> Vec<&Value> { list(&binding["subjects"]).iter().filter(|s| s["kind"] == kind).collect() };
    let names = |kind: &str| {
        let names: Vec<String> = of_kind(kind).into_iter().map(|s| format::plain(&s["name"])).collect();
        json!(names.join(", "))
    };
    let accounts: Vec<String> = of_kind("ServiceAccount")
        .into_iter()
        .map(|s| format!("{}/{}", format::plain(&s["namespace"]), format::plain(&s["name"])))
        .collect();
    let role = json!(format!("{}/{}", format::plain(&role["kind"]), format::plain(&role["name"])));
    cells(binding, [role, format::age(binding, now), names("User"), names("Group"), json!(accounts.join(", "))])
}

fn certificate_request(request: &Value, now: Moment) -> Vec<Value> {
    let spec = &request["spec"];
    let duration = spec["expirationSeconds"].as_i64().map_or_else(|| NONE.to_owned(), format::human_duration);
    let mut states: Vec<&str> =
        ["Approved", "Denied", "Failed"].into_iter().filter(|c| format::is_true(request, c)).collect();
    if states.is_empty() {
        states.push("Pending");
    }
    if request["status"]["certificate"].as_str().is_some_and(|c| !c.is_empty()) {
        states.push("Issued");
    }
    cells(
        request,
        [
            format::age(request, now),
            format::text_or(&spec["signerName"], NONE),
            format::text(&spec["username"]),
            json!(duration),
            json!(states.join(",")),
        ],
    )
}

fn webhooks(configuration: &Value, now: Moment) -> Vec<Value> {
    cells(configuration, [json!(list(&configuration["webhooks"]).len()), format::age(configuration, now)])
}

fn param_kind(kind: &Value) -> String {
    if !kind.is_object() {
        return UNSET.to_owned();
    }
    format!("{}/{}", format::plain(&kind["apiVersion"]), format::plain(&kind["kind"]))
}

fn policy_binding(binding: &Value, now: Moment) -> Vec<Value> {
    let reference = &binding["spec"]["paramRef"];
    let shown = match (reference["namespace"].as_str(), reference["name"].as_str()) {
        _ if !reference.is_object() => UNSET.to_owned(),
        (Some(namespace), name) => format!("{namespace}/{}", name.unwrap_or("*")),
        (None, name) => format!("*/{}", name.unwrap_or("*")),
    };
    cells(binding, [format::text(&binding["spec"]["policyName"]), json!(shown), format::age(binding, now)])
}

fn flow_schema(schema: &Value, now: Moment) -> Vec<Value> {
    let spec = &schema["spec"];
    let missing = format::condition(schema, "Dangling").map_or(json!("?"), |c| c["status"].clone());
    cells(
        schema,
        [
            format::text_or(&spec["priorityLevelConfiguration"]["name"], NONE),
            count(&spec["matchingPrecedence"]),
            format::text_or(&spec["distinguisherMethod"]["type"], NONE),
            format::age(schema, now),
            missing,
        ],
    )
}

fn priority_level(level: &Value, now: Moment) -> Vec<Value> {
    let spec = &level["spec"];
    let shares = if spec["type"] == "Exempt" { &spec["exempt"] } else { &spec["limited"] };
    let number = |v: &Value| if v.is_null() { json!(NONE) } else { v.clone() };
    let queuing = &spec["limited"]["limitResponse"]["queuing"];
    cells(
        level,
        [
            format::text(&spec["type"]),
            number(&shares["nominalConcurrencyShares"]),
            number(&queuing["queues"]),
            number(&queuing["handSize"]),
            number(&queuing["queueLengthLimit"]),
            format::age(level, now),
        ],
    )
}

fn api_service(service: &Value, now: Moment) -> Vec<Value> {
    let backend = &service["spec"]["service"];
    let backend = if backend.is_object() {
        format!("{}/{}", format::plain(&backend["namespace"]), format::plain(&backend["name"]))
    } else {
        "Local".to_owned()
    };
    let available = match format::condition(service, "Available") {
        None => "Unknown".to_owned(),
        Some(c) if c["status"] == "True" => "True".to_owned(),
        Some(c) => format!("{} ({})", format::plain(&c["status"]), format::plain(&c["reason"])),
    };
    cells(service, [json!(backend), json!(available), format::age(service, now)])
}

fn claim_state(claim: &Value) -> String {
    let mut states: Vec<&str> = Vec::new();
    let deleted = !claim["metadata"]["deletionTimestamp"].is_null();
    if deleted {
        states.push("deleted");
    }
    if claim["status"]["allocation"].is_object() {
        states.push("allocated");
        if !list(&claim["status"]["reservedFor"]).is_empty() {
            states.push("reserved");
        }
    } else if !deleted {
        states.push("pending");
    }
    states.join(",")
}
