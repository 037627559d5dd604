//! Kubeconfig files: those of the control plane, each with a client certificate, and those of a joining kubelet.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    certs::{Authorities, Authority},
    config::{self, ClusterConfiguration},
    constants,
    files::{self, File, Root},
    pki::{self, Request},
};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Pki(&'static str, #[source] pki::Error),
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Files(#[from] files::Error),
}

/// What a kubeconfig proves its user with.
pub enum Credential<'a> {
    Certificate {
        certificate: &'a str,
        key: &'a str,
    },
    /// A file that the kubelet rotates.
    Files {
        certificate: &'a str,
        key: &'a str,
    },
    Token(&'a str),
    None,
}

/// A kubeconfig with one cluster, one user and one context, as YAML.
pub fn kubeconfig(
    cluster: &str,
    server: &str,
    ca: &str,
    user: &str,
    credential: &Credential<'_>,
) -> Result<String, config::Error> {
    let context = if user.is_empty() { cluster.to_owned() } else { format!("{user}@{cluster}") };
    let credential = match credential {
        Credential::Certificate { certificate, key } => json!({
            "client-certificate-data": STANDARD.encode(certificate),
            "client-key-data": STANDARD.encode(key),
        }),
        Credential::Files { certificate, key } => json!({ "client-certificate": certificate, "client-key": key }),
        Credential::Token(token) => json!({ "token": token }),
        Credential::None => Value::Null,
    };
    let (users, contexts, current) = if credential.is_null() {
        (json!([]), json!([]), "")
    } else {
        (
            json!([{ "name": user, "user": credential }]),
            json!([{ "name": context, "context": { "cluster": cluster, "user": user } }]),
            context.as_str(),
        )
    };
    config::yaml(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "preferences": {},
        "clusters": [{
            "name": cluster,
            "cluster": { "server": server, "certificate-authority-data": STANDARD.encode(ca) },
        }],
        "users": users,
        "contexts": contexts,
        "current-context": current,
    }))
}

struct Identity {
    path: &'static str,
    user: &'static str,
    common_name: String,
    organization: Option<&'static str>,
}

fn identities(node: &str) -> [Identity; 5] {
    let identity = |path, user, common_name: &str, organization| Identity {
        path,
        user,
        common_name: common_name.to_owned(),
        organization,
    };
    [
        identity(constants::ADMIN_CONF, "kubernetes-admin", "kubernetes-admin", Some(constants::ADMINS_GROUP)),
        identity(
            constants::SUPER_ADMIN_CONF,
            "kubernetes-super-admin",
            "kubernetes-super-admin",
            Some("system:masters"),
        ),
        identity(
            constants::CONTROLLER_MANAGER_CONF,
            "system:kube-controller-manager",
            "system:kube-controller-manager",
            None,
        ),
        identity(constants::SCHEDULER_CONF, "system:kube-scheduler", "system:kube-scheduler", None),
        identity(constants::KUBELET_CONF, "system:node", &format!("system:node:{node}"), Some("system:nodes")),
    ]
}

/// The kubeconfigs of a control plane node that are not there yet.
pub fn plan(
    cluster: &ClusterConfiguration,
    node: &str,
    server: &str,
    authorities: &Authorities,
    root: &Root,
    now: Timestamp,
) -> Result<Vec<File>, Error> {
    let ca = authorities.get(Authority::Cluster);
    let mut files = Vec::new();
    for identity in identities(node) {
        if root.read(identity.path)?.is_some() {
            continue;
        }
        let request = Request {
            common_name: identity.common_name.clone(),
            organizations: identity.organization.iter().map(|name| (*name).to_owned()).collect(),
            client: true,
            ..Request::default()
        };
        let pair = pki::issue(ca, &request, cluster.encryption_algorithm, now)
            .map_err(|source| Error::Pki(identity.path, source))?;
        let user = if identity.path == constants::KUBELET_CONF { identity.common_name.as_str() } else { identity.user };
        let credential = Credential::Certificate { certificate: &pair.certificate, key: &pair.key };
        let text = kubeconfig(&cluster.cluster_name, server, &ca.certificate, user, &credential)?;
        files.push(File::secret(identity.path, text));
    }
    Ok(files)
}

/// A kubeconfig for another user, as `kubeadm kubeconfig user` prints it.
pub fn for_user(
    cluster: &ClusterConfiguration,
    server: &str,
    authorities: &Authorities,
    user: &str,
    organizations: &[String],
    now: Timestamp,
) -> Result<String, Error> {
    let ca = authorities.get(Authority::Cluster);
    let request = Request {
        common_name: user.to_owned(),
        organizations: organizations.to_vec(),
        client: true,
        ..Request::default()
    };
    let pair = pki::issue(ca, &request, cluster.encryption_algorithm, now)
        .map_err(|source| Error::Pki("user's certificate", source))?;
    let credential = Credential::Certificate { certificate: &pair.certificate, key: &pair.key };
    Ok(kubeconfig(&cluster.cluster_name, server, &ca.certificate, user, &credential)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::{self, Node};

    #[test]
    fn each_component_gets_a_kubeconfig_with_its_own_identity() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        let cluster = ClusterConfiguration::default();
        let node = Node { name: "node-1", address: "192.0.2.1".parse().unwrap() };
        let (authorities, _) = certs::plan(&cluster, &node, &root, Timestamp::UNIX_EPOCH).unwrap();
        let files =
            plan(&cluster, "node-1", "https://192.0.2.1:6443", &authorities, &root, Timestamp::UNIX_EPOCH).unwrap();
        let subjects: Vec<_> = files
            .iter()
            .map(|file| {
                let read: Value = serde_saphyr::from_str(&file.contents).unwrap();
                assert_eq!(read["clusters"][0]["cluster"]["server"], "https://192.0.2.1:6443");
                assert_eq!(read["current-context"], read["contexts"][0]["name"]);
                let data = read["users"][0]["user"]["client-certificate-data"].as_str().unwrap();
                let pem = String::from_utf8(STANDARD.decode(data).unwrap()).unwrap();
                let subject = component_base::pki::Certificate::parse(&pem).unwrap().subject;
                (subject.common_name, subject.organizations.concat())
            })
            .collect();
        assert_eq!(
            subjects,
            [
                ("kubernetes-admin", "kubeadm:cluster-admins"),
                ("kubernetes-super-admin", "system:masters"),
                ("system:kube-controller-manager", ""),
                ("system:kube-scheduler", ""),
                ("system:node:node-1", "system:nodes"),
            ]
            .map(|(name, group)| (name.to_owned(), group.to_owned()))
        );
        root.write_all(&files).unwrap();
        assert_eq!(plan(&cluster, "node-1", "x", &authorities, &root, Timestamp::UNIX_EPOCH).unwrap(), []);
    }
}
