//! The `/etc/hosts` of pods.

use k8s_openapi::api::core::v1::Pod;

use crate::{pod, runtime::sandbox_config};

const HEADER: &str = "# Kubernetes-managed hosts file.\n";
const HOST_HEADER: &str = "# Kubernetes-managed hosts file (host network).\n";
const BASE: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
                    fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";

/// The text of the file; `of_host` is the node's own, for pods in its network.
pub fn file(pod: &Pod, ips: &[String], domain: &str, of_host: &str) -> String {
    let spec = pod::spec(pod);
    let mut text = String::new();
    if pod::host_network(pod) {
        text.push_str(HOST_HEADER);
        text.push_str(of_host);
    } else {
        text.push_str(HEADER);
        text.push_str(BASE);
        let host = sandbox_config::hostname(pod);
        for ip in ips {
            match spec.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty()) {
                Some(subdomain) => {
                    let full = format!("{host}.{subdomain}.{}.svc.{domain}", pod::namespace(pod));
                    text.push_str(&format!("{ip}\t{full}\t{host}\n"));
                }
                None => text.push_str(&format!("{ip}\t{host}\n")),
            }
        }
    }
    if let Some(aliases) = spec.host_aliases.as_ref().filter(|aliases| !aliases.is_empty()) {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
            text.push_str(&format!("{}\t{names}\n", alias.ip));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_pod_and_aliases_are_listed() {
        let mut pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p-0", "namespace": "n"},
            "spec": {"subdomain": "s", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]},
        }))
        .unwrap();
        let text = file(&pod, &["10.0.0.9".into()], "cluster.local", "host");
        assert!(text.starts_with(HEADER) && text.contains("\n10.0.0.9\tp-0.s.n.svc.cluster.local\tp-0\n"), "{text}");
        assert!(text.ends_with("\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"), "{text}");
        pod.spec.as_mut().unwrap().host_network = Some(true);
        assert!(file(&pod, &[], "x", "own\n").starts_with(&format!("{HOST_HEADER}own\n")));
    }
}
