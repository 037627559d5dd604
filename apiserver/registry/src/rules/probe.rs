//! Probes and lifecycle hooks.

use apimachinery::names;

use crate::node::Node;

/// A port by its number or its name.
pub fn port_or_name(port: Node<'_>) {
    if port.value.is_string() {
        port.check(names::port_name);
    } else {
        port_number(port);
    }
}

/// A port's number; an absent one is zero, which is none.
pub fn port_number(port: Node<'_>) {
    if !(1..=65535).contains(&port.int()) {
        port.invalid("must be between 1 and 65535, inclusive");
    }
}

/// The probes of one container.
pub fn of_container(container: Node<'_>) {
    let (liveness, readiness, startup) =
        (container.get("livenessProbe"), container.get("readinessProbe"), container.get("startupProbe"));
    for p in [liveness, readiness, startup] {
        probe(p);
    }
    for p in [liveness, startup] {
        if p.is_set() && p.get("successThreshold").int() != 1 {
            p.get("successThreshold").invalid("must be 1");
        }
    }
    if readiness.get("terminationGracePeriodSeconds").is_set() {
        readiness.get("terminationGracePeriodSeconds").invalid("must not be set for readinessProbes");
    }
}

fn probe(probe: Node<'_>) {
    if !probe.is_set() {
        return;
    }
    handler(probe, None);
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        probe.get(field).non_negative();
    }
    probe.get("terminationGracePeriodSeconds").positive_if_set();
}

type Rule = fn(Node<'_>);

const ACTIONS: [(&str, Rule); 4] = [("exec", exec), ("httpGet", http_get), ("tcpSocket", tcp_socket), ("grpc", grpc)];

/// What a probe or a hook does: exactly one thing. `grace` is the pod's time to end, which a hook may not sleep longer than.
fn handler(handler: Node<'_>, grace: Option<i64>) {
    let mut count = 0;
    let mut only = |action: Node<'_>| {
        count += 1;
        if count > 1 {
            action.forbidden("may not specify more than 1 handler type");
        }
        count == 1
    };
    for (field, rule) in ACTIONS {
        let action = handler.get(field);
        if action.is_set() && only(action) {
            rule(action);
        }
    }
    let sleep = handler.get("sleep");
    if sleep.is_set() && only(sleep) {
        self::sleep(sleep, grace);
    }
    if count == 0 {
        handler.required("must specify a handler type");
    }
}

fn exec(exec: Node<'_>) {
    exec.get("command").need();
}

fn http_get(http: Node<'_>) {
    http.get("path").need();
    port_or_name(http.get("port"));
    http.get("scheme").one_of(&["HTTP", "HTTPS"]);
    let headers = http.get("httpHeaders");
    for header in headers.items() {
        headers.with(header.get("name").value).check(names::http_header_name);
    }
}

fn tcp_socket(tcp: Node<'_>) {
    port_or_name(tcp.get("port"));
}

fn grpc(grpc: Node<'_>) {
    port_number(grpc.get("port"));
}

fn sleep(sleep: Node<'_>, grace: Option<i64>) {
    let seconds = sleep.get("seconds").int();
    if let Some(grace) = grace.filter(|grace| seconds < 0 || seconds > *grace) {
        let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        sleep.invalid_value(seconds, detail);
    }
}

/// `lifecycle` of a container.
pub fn lifecycle(lifecycle: Node<'_>, grace: Option<i64>) {
    for hook in [lifecycle.get("postStart"), lifecycle.get("preStop")] {
        if hook.is_set() {
            handler(hook, grace);
        }
    }
}
