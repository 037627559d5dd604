//! The containers of pods and of pod templates.

use apimachinery::Quantity;
use serde_json::Value;

use super::env;
use super::page::{NONE, Page, truth};
use super::probe;
use super::time::rfc1123;
use crate::fields::{self, Fields};

/// What a list of containers is described with.
pub struct Containers<'a> {
    pub label: &'a str,
    pub list: &'a [Value],
    pub statuses: &'a [Value],
    /// The pod, whose fields environment variables name; a template has none.
    pub pod: Option<&'a Value>,
    /// What stands before the label and, shorter, before the names.
    pub indent: &'a str,
}

impl Containers<'_> {
    /// Writes the containers.
    pub fn describe(&self, page: &mut Page) {
        let none = if self.list.is_empty() { " <none>" } else { "" };
        page.line(0, format_args!("{}{}:{none}", self.indent, self.label));
        for container in self.list {
            let status = self.statuses.iter().find(|status| status.text("name") == container.text("name"));
            let before = if self.indent.is_empty() { "" } else { " " };
            page.line(1, format_args!("{before}{}:", container.text("name")));
            basics(page, container, status);
            command(page, container);
            if let Some(status) = status {
                state(page, status);
            }
            resources(page, 2, container.at("resources"));
            for (label, field) in
                [("Liveness", "livenessProbe"), ("Readiness", "readinessProbe"), ("Startup", "startupProbe")]
            {
                if container.has(field) {
                    page.field(2, label, probe::describe(container.at(field)));
                }
            }
            env::sources(page, container);
            env::variables(page, container, self.pod);
            mounts(page, container);
        }
    }
}

fn basics(page: &mut Page, container: &Value, status: Option<&Value>) {
    if let Some(status) = status {
        page.field(2, "Container ID", status.text("containerID"));
    }
    page.field(2, "Image", container.text("image"));
    if let Some(status) = status {
        page.field(2, "Image ID", status.text("imageID"));
    }
    ports(page, "Port", container, "containerPort");
    ports(page, "Host Port", container, "hostPort");
    seccomp(page, 2, container.at("securityContext.seccompProfile"), 3);
}

fn ports(page: &mut Page, label: &str, container: &Value, field: &str) {
    let port = |port: &Value| format!("{}/{}", port.int(field), port.text("protocol"));
    let ports: Vec<String> = container.list("ports").iter().map(port).collect();
    let many = if ports.len() > 1 { "s" } else { "" };
    let ports = if ports.is_empty() { NONE.to_owned() } else { ports.join(", ") };
    page.line(2, format_args!("{label}{many}:\t{ports}"));
}

/// A seccomp profile, where there is one.
pub fn seccomp(page: &mut Page, level: usize, profile: &Value, below: usize) {
    if profile.is_null() {
        return;
    }
    page.field(level, "SeccompProfile", profile.text("type"));
    if profile.text("type") == "Localhost" {
        page.field(below, "LocalhostProfile", profile.text("localhostProfile"));
    }
}

fn command(page: &mut Page, container: &Value) {
    for (label, field) in [("Command", "command"), ("Args", "args")] {
        let words = container.texts(field);
        if !words.is_empty() {
            page.line(2, format_args!("{label}:"));
            words.iter().flat_map(|word| word.split('\n')).for_each(|line| page.line(3, line));
        }
    }
}

fn state(page: &mut Page, status: &Value) {
    one_state(page, "State", status.at("state"));
    if status.has("lastState.terminated") {
        one_state(page, "Last State", status.at("lastState"));
    }
    page.field(2, "Ready", truth(status.flag("ready")));
    page.field(2, "Restart Count", status.int("restartCount"));
}

fn one_state(page: &mut Page, label: &str, state: &Value) {
    let detail = |page: &mut Page, label: &str, text: &str| {
        if !text.is_empty() {
            page.field(3, label, text);
        }
    };
    if state.has("running") {
        page.field(2, label, "Running");
        page.field(3, "Started", rfc1123(state.at("running.startedAt")));
    } else if state.has("terminated") && !state.has("waiting") {
        let end = state.at("terminated");
        page.field(2, label, "Terminated");
        detail(page, "Reason", end.text("reason"));
        detail(page, "Message", end.text("message"));
        page.field(3, "Exit Code", end.int("exitCode"));
        if end.int("signal") > 0 {
            page.field(3, "Signal", end.int("signal"));
        }
        page.field(3, "Started", rfc1123(end.at("startedAt")));
        page.field(3, "Finished", rfc1123(end.at("finishedAt")));
    } else {
        page.field(2, label, "Waiting");
        detail(page, "Reason", state.text("waiting.reason"));
    }
}

/// Limits and requests.
pub fn resources(page: &mut Page, level: usize, resources: &Value) {
    for (label, field) in [("Limits", "limits"), ("Requests", "requests")] {
        if let Some(amounts) = resources.map(field) {
            page.line(level, format_args!("{label}:"));
            for (name, amount) in amounts {
                page.field(level + 1, name, quantity(amount));
            }
        }
    }
}

/// An amount in its canonical form.
pub fn quantity(amount: &Value) -> String {
    let text = fields::plain(amount);
    text.parse::<Quantity>().map_or(text, |quantity| quantity.to_string())
}

fn mounts(page: &mut Page, container: &Value) {
    let mut mounts: Vec<&Value> = container.list("volumeMounts").iter().collect();
    let none = if mounts.is_empty() { "\t<none>" } else { "" };
    page.line(2, format_args!("Mounts:{none}"));
    mounts.sort_by_key(|mount| mount.text("mountPath"));
    for mount in mounts {
        let mut flags = vec![if mount.flag("readOnly") { "ro".to_owned() } else { "rw".to_owned() }];
        if !mount.text("subPath").is_empty() {
            flags.push(format!("path={:?}", mount.text("subPath")));
        }
        let (path, name) = (mount.text("mountPath"), mount.text("name"));
        page.line(3, format_args!("{path} from {name} ({})", flags.join(",")));
    }
    let mut devices: Vec<&Value> = container.list("volumeDevices").iter().collect();
    if !devices.is_empty() {
        page.line(2, format_args!("Devices:{none}"));
        devices.sort_by_key(|device| device.text("devicePath"));
        for device in devices {
            page.line(3, format_args!("{} from {}", device.text("devicePath"), device.text("name")));
        }
    }
}

/// Tolerations, in order of their keys.
pub fn tolerations(page: &mut Page, title: &str, tolerations: &[Value]) {
    let mut sorted: Vec<&Value> = tolerations.iter().collect();
    sorted.sort_by_key(|toleration| toleration.text("key"));
    page.block(title, &sorted.into_iter().map(toleration).collect::<Vec<_>>());
}

fn toleration(toleration: &Value) -> String {
    let (key, value, effect) = (toleration.text("key"), toleration.text("value"), toleration.text("effect"));
    let mut text = key.to_owned();
    if !value.is_empty() {
        text.push_str(&format!("={value}"));
    }
    if !effect.is_empty() {
        text.push_str(&format!(":{effect}"));
    }
    if toleration.text("operator") == "Exists" && value.is_empty() {
        text.push_str(if key.is_empty() && effect.is_empty() { "op=Exists" } else { " op=Exists" });
    }
    if let Some(seconds) = toleration.at("tolerationSeconds").as_i64() {
        text.push_str(&format!(" for {seconds}s"));
    }
    text
}

/// How pods are to be spread, in order of the keys.
pub fn spread(page: &mut Page, indent: &str, constraints: &[Value]) {
    if constraints.is_empty() {
        return;
    }
    let mut sorted: Vec<&Value> = constraints.iter().collect();
    sorted.sort_by_key(|constraint| constraint.text("topologyKey"));
    let line = |constraint: &&Value| {
        let selector = constraint.at("labelSelector");
        let of =
            if selector.is_null() { String::new() } else { format!(" for selector {}", super::selector(selector)) };
        format!(
            "{}:{} when max skew {} is exceeded{of}",
            constraint.text("topologyKey"),
            constraint.text("whenUnsatisfiable"),
            constraint.int("maxSkew")
        )
    };
    page.block_at(indent, "Topology Spread Constraints", &sorted.iter().map(line).collect::<Vec<_>>());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tolerations_are_short() {
        for (value, text) in [
            (json!({"operator": "Exists"}), "op=Exists"),
            (json!({"operator": "Exists", "effect": "NoSchedule"}), ":NoSchedule op=Exists"),
            (
                json!({"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}),
                "k:NoExecute op=Exists for 300s",
            ),
            (json!({"key": "k", "value": "v", "effect": "NoExecute"}), "k=v:NoExecute"),
        ] {
            assert_eq!(toleration(&value), text);
        }
    }
}
