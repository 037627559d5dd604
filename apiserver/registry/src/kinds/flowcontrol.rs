//! Flow schemas and priority levels.

use apimachinery::names;
use serde_json::Value;

use crate::defaults::{at, object, set, set_empty};
use crate::node::Node;
use crate::strategy::Kind;

const TEMPLATE: Kind = Kind { group: "flowcontrol.apiserver.k8s.io", generation: true, ..Kind::PLAIN };

pub const FLOW_SCHEMA: Kind = Kind {
    resource: "flowschemas",
    default: |schema| set_empty(object(schema, "spec"), "matchingPrecedence", 1000),
    validate: flow_schema,
    ..TEMPLATE
};

pub const PRIORITY_LEVEL: Kind =
    Kind { resource: "prioritylevelconfigurations", default: default_level, validate: priority_level, ..TEMPLATE };

const PRECEDENCE_MAX: i64 = 10_000;
const QUEUES_MAX: i64 = 10_000_000;

fn flow_schema(root: Node<'_>) {
    let spec = root.get("spec");
    spec.get("priorityLevelConfiguration").get("name").need_check(names::dns1123_subdomain);
    let precedence = spec.get("matchingPrecedence");
    if !(1..=PRECEDENCE_MAX).contains(&precedence.int()) {
        precedence.invalid(format!("must be a value between 1 and {PRECEDENCE_MAX}, inclusive"));
    }
    if precedence.int() == 1 && root.get("metadata").get("name").str() != "exempt" {
        precedence.invalid("only the schema named 'exempt' may have matchingPrecedence 1");
    }
    let method = spec.get("distinguisherMethod");
    if method.is_set() {
        method.get("type").one_of(&["ByNamespace", "ByUser"]);
    }
    for rule in spec.get("rules").items() {
        self::rule(rule);
    }
}

fn rule(rule: Node<'_>) {
    let (subjects, resources, paths) = (rule.get("subjects"), rule.get("resourceRules"), rule.get("nonResourceRules"));
    if subjects.is_empty() {
        subjects.required("subjects must contain at least one value");
    }
    subjects.items().for_each(subject);
    if resources.is_empty() && paths.is_empty() {
        rule.required("at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    resources.items().for_each(resource_rule);
    paths.items().for_each(path_rule);
}

fn subject(subject: Node<'_>) {
    const KINDS: [(&str, &str); 3] = [("Group", "group"), ("ServiceAccount", "serviceAccount"), ("User", "user")];
    let kind = subject.get("kind");
    if !KINDS.iter().any(|(k, _)| *k == kind.str()) {
        kind.not_supported(&["Group", "ServiceAccount", "User"]);
        return;
    }
    for (name, field) in KINDS {
        let detail = subject.get(field);
        if name == kind.str() {
            subject_detail(name, detail);
        } else if detail.is_set() {
            detail.forbidden(&format!("{field} is forbidden when subject kind is not '{name}'"));
        }
    }
}

fn subject_detail(kind: &str, detail: Node<'_>) {
    if !detail.is_set() {
        detail.required(&format!("is required when subject kind is '{kind}'"));
        return;
    }
    let name = detail.get("name");
    if !name.need() || kind != "ServiceAccount" {
        return;
    }
    if name.str() != "*" {
        name.check(names::dns1123_subdomain);
    }
    detail.get("namespace").need_check(names::dns1123_label);
}

fn words(list: Node<'_>) {
    if list.is_empty() {
        list.required("must contain at least one value");
    } else if list.len() > 1 && list.items().any(|w| w.str() == "*") {
        list.invalid("if '*' is present, must not specify others");
    }
}

fn verbs(list: Node<'_>) {
    const VERBS: [&str; 10] =
        ["get", "list", "create", "update", "delete", "deletecollection", "patch", "watch", "proxy", "*"];
    words(list);
    if list.items().any(|v| !VERBS.contains(&v.str())) {
        list.not_supported(&VERBS);
    }
}

fn resource_rule(rule: Node<'_>) {
    verbs(rule.get("verbs"));
    words(rule.get("apiGroups"));
    words(rule.get("resources"));
    let namespaces = rule.get("namespaces");
    if namespaces.is_empty() && !rule.get("clusterScope").bool() {
        namespaces.required("resource rules that are not cluster scoped must supply at least one namespace");
    } else if namespaces.len() > 1 && namespaces.items().any(|n| n.str() == "*") {
        namespaces.invalid("if '*' is present, must not specify other namespaces");
    }
    for namespace in namespaces.items() {
        if namespace.str() != "*" {
            namespace.check(names::dns1123_label);
        }
    }
}

fn path_rule(rule: Node<'_>) {
    verbs(rule.get("verbs"));
    let urls = rule.get("nonResourceURLs");
    words(urls);
    for url in urls.items() {
        let text = url.str();
        if text == "*" {
            continue;
        }
        if !text.starts_with('/') || text.contains(' ') || text.contains("//") {
            url.invalid("must start with slash, without spaces and empty segments");
        } else if text.find('*').is_some_and(|at| at + 1 != text.len() || !text.ends_with("/*")) {
            url.invalid("wildcard can only do suffix matching, as the last segment");
        }
    }
}

fn default_level(level: &mut Value) {
    let spec = object(level, "spec");
    match spec["type"].as_str() {
        Some("Exempt") => {
            let exempt = object(spec, "exempt");
            set(exempt, "nominalConcurrencyShares", 0);
            set(exempt, "lendablePercent", 0);
        }
        _ => {
            if let Some(limited) = at(spec, &["limited"]) {
                set(limited, "nominalConcurrencyShares", 30);
                set(limited, "lendablePercent", 0);
                queuing_defaults(limited);
            }
        }
    }
}

fn queuing_defaults(limited: &mut Value) {
    if let Some(queuing) = at(limited, &["limitResponse", "queuing"]) {
        set_empty(queuing, "handSize", 8);
        set_empty(queuing, "queues", 64);
        set_empty(queuing, "queueLengthLimit", 50);
    }
}

fn priority_level(root: Node<'_>) {
    let spec = root.get("spec");
    let (limited, exempt) = (spec.get("limited"), spec.get("exempt"));
    let named_exempt = root.get("metadata").get("name").str() == "exempt";
    if (spec.get("type").str() == "Exempt") != named_exempt && matches!(spec.get("type").str(), "Exempt" | "Limited") {
        spec.get("type").invalid("type must be 'Exempt' if and only if the name is 'exempt'");
    }
    match spec.get("type").str() {
        "Exempt" => {
            if limited.is_set() {
                limited.forbidden("must be nil if the type is not Limited");
            }
            if exempt.is_set() {
                shares(exempt, 0);
            }
        }
        "Limited" => {
            if exempt.is_set() {
                exempt.forbidden("must be nil if the type is Limited");
            }
            if limited.is_set() {
                self::limited(limited);
            } else {
                limited.required("must not be empty when type is Limited");
            }
        }
        _ => spec.get("type").not_supported(&["Exempt", "Limited"]),
    }
}

fn shares(level: Node<'_>, low: i64) {
    let (nominal, lendable) = (level.get("nominalConcurrencyShares"), level.get("lendablePercent"));
    if nominal.int() < low {
        nominal.invalid("must be a non-negative integer");
    }
    lendable.within(0, 100);
}

fn limited(limited: Node<'_>) {
    shares(limited, 0);
    if limited.get("borrowingLimitPercent").int() < 0 {
        limited.get("borrowingLimitPercent").invalid("if specified, must be a non-negative integer");
    }
    let response = limited.get("limitResponse");
    let queuing = response.get("queuing");
    match response.get("type").str() {
        "Reject" => {
            if queuing.is_set() {
                queuing.forbidden("must be nil if limited.limitResponse.type is not Limited");
            }
        }
        "Queue" => {
            if queuing.is_set() {
                self::queuing(queuing);
            } else {
                queuing.required("must not be empty if limited.limitResponse.type is Limited");
            }
        }
        _ => response.get("type").not_supported(&["Queue", "Reject"]),
    }
}

fn queuing(queuing: Node<'_>) {
    let (length, queues, hand) = (queuing.get("queueLengthLimit"), queuing.get("queues"), queuing.get("handSize"));
    if length.int() <= 0 {
        length.invalid("must be positive");
    }
    if queues.int() <= 0 {
        queues.invalid("must be positive");
    } else if queues.int() > QUEUES_MAX {
        queues.invalid(format!("must not be greater than {QUEUES_MAX}"));
    }
    if hand.int() <= 0 {
        hand.invalid("must be positive");
    } else if hand.int() > queues.int() {
        hand.invalid(format!("should not be greater than queues ({})", queues.int()));
    } else if entropy_bits(queues.int(), hand.int()) > 60.0 {
        hand.invalid("required entropy bits of deckSize and handSize should not be greater than 60");
    }
}

/// How many bits dealing a hand of cards from a deck takes.
#[allow(clippy::cast_precision_loss, reason = "decks are far smaller than 2^52")]
fn entropy_bits(deck: i64, hand: i64) -> f64 {
    (0..hand).map(|i| ((deck - i) as f64).log2()).sum()
}
