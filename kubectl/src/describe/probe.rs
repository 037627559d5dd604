//! Probes on one line.

use serde_json::Value;

use super::page::go_list;
use crate::fields::{self, Fields};

/// What a probe does, and how often.
pub fn describe(probe: &Value) -> String {
    let attributes = format!(
        "delay={}s timeout={}s period={}s #success={} #failure={}",
        probe.int("initialDelaySeconds"),
        probe.int("timeoutSeconds"),
        probe.int("periodSeconds"),
        probe.int("successThreshold"),
        probe.int("failureThreshold")
    );
    let action = if probe.has("exec") {
        format!("exec {}", go_list(&probe.texts("exec.command")))
    } else if probe.has("httpGet") {
        format!("http-get {}", url(probe.at("httpGet")))
    } else if probe.has("tcpSocket") {
        let socket = probe.at("tcpSocket");
        format!("tcp-socket {}:{}", socket.text("host"), fields::plain(socket.at("port")))
    } else if probe.has("grpc") {
        format!("grpc <pod>:{} {}", probe.int("grpc.port"), probe.text("grpc.service"))
    } else {
        "unknown".to_owned()
    };
    format!("{action} {attributes}")
}

fn url(get: &Value) -> String {
    let (host, port) = (get.text("host"), fields::plain(get.at("port")));
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let port = if port.is_empty() { port } else { format!(":{port}") };
    let path = get.text("path");
    let slash = if path.is_empty() || path.starts_with('/') { "" } else { "/" };
    format!("{}://{host}{port}{slash}{path}", get.text("scheme").to_lowercase())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_of_probe_has_its_form() {
        let rest = "delay=0s timeout=1s period=0s #success=0 #failure=0";
        for (probe, text) in [
            (json!({"exec": {"command": ["a", "b"]}}), "exec [a b]"),
            (json!({"httpGet": {"scheme": "HTTP", "port": 80, "path": "/x"}}), "http-get http://:80/x"),
            (json!({"tcpSocket": {"port": "web"}}), "tcp-socket :web"),
            (json!({"grpc": {"port": 5, "service": "s"}}), "grpc <pod>:5 s"),
        ] {
            let mut probe = probe;
            probe["timeoutSeconds"] = 1.into();
            assert_eq!(describe(&probe), format!("{text} {rest}"));
        }
    }
}
