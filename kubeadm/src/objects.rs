//! The API objects that kubeadm leaves in a cluster: its configuration for nodes that join, the cluster-info, and the
//! rights of bootstrap tokens, nodes and administrators.

use serde_json::{Value, json};

use crate::{
    config::{self, ClusterConfiguration},
    constants, kubeconfigs,
    kubeconfigs::Credential,
    tokens::{self, Token},
};

const RBAC: &str = "rbac.authorization.k8s.io";
const NODES_GROUP: &str = "system:nodes";

/// The first thing written, by the super-admin: administrators get their rights through RBAC.
pub fn admin_rights() -> Value {
    cluster_role_binding("kubeadm:cluster-admins", "cluster-admin", "Group", constants::ADMINS_GROUP)
}

/// The ConfigMaps kubeadm-config and kubelet-config, and who may read them.
pub fn configuration(cluster: &ClusterConfiguration, kubelet: &Value) -> Result<Vec<Value>, config::Error> {
    let cluster = config::to_yaml(config::API_VERSION, "ClusterConfiguration", cluster)?;
    let mut objects = vec![
        config_map("kube-system", "kubeadm-config", &json!({ "ClusterConfiguration": cluster })),
        config_map("kube-system", "kubelet-config", &json!({ "kubelet": config::yaml(kubelet)? })),
    ];
    for (role, map) in
        [("kubeadm:nodes-kubeadm-config", "kubeadm-config"), ("kubeadm:kubelet-config", "kubelet-config")]
    {
        let subjects = json!([subject("Group", constants::BOOTSTRAPPERS_GROUP), subject("Group", NODES_GROUP)]);
        objects.extend(readers("kube-system", role, map, &subjects));
    }
    Ok(objects)
}

/// What lets a node with a bootstrap token join and then renew its certificate.
pub fn bootstrap_rights() -> Vec<Value> {
    let signer = "system:certificates.k8s.io:certificatesigningrequests";
    vec![
        cluster_role_binding(
            "kubeadm:kubelet-bootstrap",
            "system:node-bootstrapper",
            "Group",
            constants::BOOTSTRAPPERS_GROUP,
        ),
        cluster_role_binding(
            "kubeadm:node-autoapprove-bootstrap",
            &format!("{signer}:nodeclient"),
            "Group",
            constants::BOOTSTRAPPERS_GROUP,
        ),
        cluster_role_binding(
            "kubeadm:node-autoapprove-certificate-rotation",
            &format!("{signer}:selfnodeclient"),
            "Group",
            NODES_GROUP,
        ),
        json!({
            "apiVersion": format!("{RBAC}/v1"),
            "kind": "ClusterRole",
            "metadata": { "name": "kubeadm:get-nodes" },
            "rules": [{ "apiGroups": [""], "resources": ["nodes"], "verbs": ["get"] }],
        }),
        cluster_role_binding("kubeadm:get-nodes", "kubeadm:get-nodes", "Group", constants::BOOTSTRAPPERS_GROUP),
    ]
}

/// The cluster-info in kube-public, signed by each token, and the right of everyone to read it.
pub fn cluster_info(server: &str, ca: &str, tokens: &[Token]) -> Result<Vec<Value>, config::Error> {
    let kubeconfig = kubeconfigs::kubeconfig("", server, ca, "", &Credential::None)?;
    let mut data = json!({ "kubeconfig": kubeconfig });
    for token in tokens {
        data[tokens::signature_key(token)] = tokens::sign(token, &kubeconfig).into();
    }
    let mut objects = vec![config_map("kube-public", "cluster-info", &data)];
    let subjects = json!([subject("User", "system:anonymous")]);
    objects.extend(readers("kube-public", "kubeadm:bootstrap-signer-clusterinfo", "cluster-info", &subjects));
    Ok(objects)
}

/// What makes a node one of the control plane.
pub fn control_plane_mark(taints: Option<&[Value]>) -> Value {
    let default = [json!({ "key": constants::CONTROL_PLANE_LABEL, "effect": "NoSchedule" })];
    json!({
        "metadata": { "labels": {
            constants::CONTROL_PLANE_LABEL: "",
            "node.kubernetes.io/exclude-from-external-load-balancers": "",
        } },
        "spec": { "taints": taints.unwrap_or(&default) },
    })
}

pub fn config_map(namespace: &str, name: &str, data: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": name, "namespace": namespace },
        "data": data,
    })
}

/// A role that may read one ConfigMap, and its binding.
fn readers(namespace: &str, name: &str, map: &str, subjects: &Value) -> [Value; 2] {
    [
        json!({
            "apiVersion": format!("{RBAC}/v1"),
            "kind": "Role",
            "metadata": { "name": name, "namespace": namespace },
            "rules": [{ "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [map], "verbs": ["get"] }],
        }),
        json!({
            "apiVersion": format!("{RBAC}/v1"),
            "kind": "RoleBinding",
            "metadata": { "name": name, "namespace": namespace },
            "roleRef": { "apiGroup": RBAC, "kind": "Role", "name": name },
            "subjects": subjects,
        }),
    ]
}

fn cluster_role_binding(name: &str, role: &str, kind: &str, who: &str) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"),
        "kind": "ClusterRoleBinding",
        "metadata": { "name": name },
        "roleRef": { "apiGroup": RBAC, "kind": "ClusterRole", "name": role },
        "subjects": [subject(kind, who)],
    })
}

fn subject(kind: &str, name: &str) -> Value {
    json!({ "apiGroup": RBAC, "kind": kind, "name": name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_info_holds_a_signature_by_each_token() {
        let token = Token::generate();
        let objects = cluster_info("https://192.0.2.1:6443", "CA", std::slice::from_ref(&token)).unwrap();
        let data = &objects[0]["data"];
        let signature = data[tokens::signature_key(&token)].as_str().unwrap();
        tokens::verify(&token, data["kubeconfig"].as_str().unwrap(), signature).unwrap();
    }

    #[test]
    fn no_taints_means_none_and_nothing_said_means_the_default() {
        assert_eq!(control_plane_mark(Some(&[]))["spec"]["taints"], json!([]));
        assert_eq!(control_plane_mark(None)["spec"]["taints"][0]["effect"], "NoSchedule");
    }
}
