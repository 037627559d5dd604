//! The certificates of a control plane, as a table, and the plan that makes what is missing.

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;

use crate::{
    config::{self, ClusterConfiguration},
    constants,
    files::{self, File, Root},
    pki::{self, KeyedCertificate, Request},
};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{name}")]
    Pki {
        name: &'static str,
        #[source]
        source: pki::Error,
    },
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Files(#[from] files::Error),
    #[error("{0} is there, but {1} is not: restore it, or remove both")]
    Half(String, String),
    #[error("{0:?} is neither a DNS name nor an address")]
    Name(String),
}

/// Who a certificate of this node is for.
pub struct Node<'a> {
    pub name: &'a str,
    pub address: IpAddr,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Authority {
    Cluster,
    FrontProxy,
    Etcd,
}

impl Authority {
    const ALL: [Authority; 3] = [Authority::Cluster, Authority::FrontProxy, Authority::Etcd];

    /// The file below the folder of certificates, without its ending.
    pub fn file(self) -> &'static str {
        match self {
            Authority::Cluster => "ca",
            Authority::FrontProxy => "front-proxy-ca",
            Authority::Etcd => "etcd/ca",
        }
    }

    fn common_name(self) -> &'static str {
        match self {
            Authority::Cluster => "kubernetes",
            Authority::FrontProxy => "front-proxy-ca",
            Authority::Etcd => "etcd-ca",
        }
    }
}

struct Leaf {
    file: &'static str,
    authority: Authority,
    common_name: &'static str,
    organization: Option<&'static str>,
    /// Whether it serves, and under which names; every one but the apiserver's is a client's too.
    names: Names,
}

enum Names {
    None,
    ApiServer,
    Etcd,
}

const LEAVES: [Leaf; 7] = [
    Leaf {
        file: "apiserver",
        authority: Authority::Cluster,
        common_name: "kube-apiserver",
        organization: None,
        names: Names::ApiServer,
    },
    Leaf {
        file: "apiserver-kubelet-client",
        authority: Authority::Cluster,
        common_name: "kube-apiserver-kubelet-client",
        organization: Some(constants::ADMINS_GROUP),
        names: Names::None,
    },
    Leaf {
        file: "front-proxy-client",
        authority: Authority::FrontProxy,
        common_name: "front-proxy-client",
        organization: None,
        names: Names::None,
    },
    Leaf { file: "etcd/server", authority: Authority::Etcd, common_name: "", organization: None, names: Names::Etcd },
    Leaf { file: "etcd/peer", authority: Authority::Etcd, common_name: "", organization: None, names: Names::Etcd },
    Leaf {
        file: "etcd/healthcheck-client",
        authority: Authority::Etcd,
        common_name: "kube-etcd-healthcheck-client",
        organization: None,
        names: Names::None,
    },
    Leaf {
        file: "apiserver-etcd-client",
        authority: Authority::Etcd,
        common_name: "kube-apiserver-etcd-client",
        organization: None,
        names: Names::None,
    },
];

const SERVICE_ACCOUNT: &str = "sa";

/// The authorities, for what else is to be signed by them.
pub struct Authorities(BTreeMap<Authority, KeyedCertificate>);

impl Authorities {
    pub fn get(&self, authority: Authority) -> &KeyedCertificate {
        &self.0[&authority]
    }

    /// Those that a node already has.
    pub fn read(cluster: &ClusterConfiguration, root: &Root) -> Result<Option<Self>, Error> {
        let mut found = BTreeMap::new();
        for authority in Authority::ALL {
            match existing(cluster, root, authority.file(), "crt")? {
                Some(pair) => found.insert(authority, pair),
                None => return Ok(None),
            };
        }
        Ok(Some(Authorities(found)))
    }
}

/// What a node still lacks of its certificates: what is there is kept, so that `init` can be run again.
pub fn plan(
    cluster: &ClusterConfiguration,
    node: &Node<'_>,
    root: &Root,
    now: Timestamp,
) -> Result<(Authorities, Vec<File>), Error> {
    let mut files = Vec::new();
    let mut authorities = BTreeMap::new();
    for authority in Authority::ALL {
        let pair = match existing(cluster, root, authority.file(), "crt")? {
            Some(pair) => pair,
            None => {
                let pair = pki::authority(authority.common_name(), cluster.encryption_algorithm, now)
                    .map_err(|source| Error::Pki { name: authority.file(), source })?;
                push(&mut files, cluster, authority.file(), &pair);
                pair
            }
        };
        authorities.insert(authority, pair);
    }
    for leaf in &LEAVES {
        if existing(cluster, root, leaf.file, "crt")?.is_none() {
            let pair = issue(leaf, &authorities[&leaf.authority], cluster, node, now)?;
            push(&mut files, cluster, leaf.file, &pair);
        }
    }
    if existing(cluster, root, SERVICE_ACCOUNT, "pub")?.is_none() {
        // RSA whatever the configuration says: the one algorithm that every verifier of such tokens knows.
        let (private, public) = pki::signing_keys(pki::KeyAlgorithm::Rsa2048)
            .map_err(|source| Error::Pki { name: SERVICE_ACCOUNT, source })?;
        files.push(File::secret(cluster.pki("sa.key"), private));
        files.push(File { path: cluster.pki("sa.pub").into(), mode: 0o600, contents: public });
    }
    Ok((Authorities(authorities), files))
}

fn issue(
    leaf: &Leaf,
    authority: &KeyedCertificate,
    cluster: &ClusterConfiguration,
    node: &Node<'_>,
    now: Timestamp,
) -> Result<KeyedCertificate, Error> {
    let mut request = Request {
        common_name: if leaf.common_name.is_empty() { node.name } else { leaf.common_name }.to_owned(),
        organizations: leaf.organization.iter().map(|name| (*name).to_owned()).collect(),
        client: !matches!(leaf.names, Names::ApiServer),
        server: !matches!(leaf.names, Names::None),
        ..Request::default()
    };
    for name in names(leaf, cluster, node)? {
        add_name(&mut request, &name)?;
    }
    pki::issue(authority, &request, cluster.encryption_algorithm, now)
        .map_err(|source| Error::Pki { name: leaf.file, source })
}

fn names(leaf: &Leaf, cluster: &ClusterConfiguration, node: &Node<'_>) -> Result<Vec<String>, Error> {
    let mut names = match leaf.names {
        Names::None => return Ok(Vec::new()),
        Names::ApiServer => {
            let domain = &cluster.networking.dns_domain;
            let mut names = vec![
                "kubernetes".to_owned(),
                "kubernetes.default".to_owned(),
                "kubernetes.default.svc".to_owned(),
                format!("kubernetes.default.svc.{domain}"),
                cluster.service_address(1)?.to_string(),
            ];
            if let Some(endpoint) = &cluster.control_plane_endpoint {
                names.push(endpoint.rsplit_once(':').map_or(endpoint.as_str(), |(host, _)| host).to_owned());
            }
            names.extend(cluster.api_server.cert_sans.iter().cloned());
            names
        }
        Names::Etcd => {
            let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
            let more = if leaf.file == "etcd/peer" {
                &cluster.etcd.local.peer_cert_sans
            } else {
                &cluster.etcd.local.server_cert_sans
            };
            names.extend(more.iter().cloned());
            names
        }
    };
    names.extend([node.name.to_owned(), node.address.to_string()]);
    Ok(names)
}

fn add_name(request: &mut Request, name: &str) -> Result<(), Error> {
    if let Ok(address) = name.parse() {
        if !request.addresses.contains(&address) {
            request.addresses.push(address);
        }
    } else if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-*".contains(&byte)) {
        if !request.dns_names.iter().any(|known| known == name) {
            request.dns_names.push(name.to_owned());
        }
    } else {
        return Err(Error::Name(name.to_owned()));
    }
    Ok(())
}

fn push(files: &mut Vec<File>, cluster: &ClusterConfiguration, name: &str, pair: &KeyedCertificate) {
    files.push(File::public(cluster.pki(&format!("{name}.crt")), pair.certificate.clone()));
    files.push(File::secret(cluster.pki(&format!("{name}.key")), pair.key.clone()));
}

fn existing(
    cluster: &ClusterConfiguration,
    root: &Root,
    name: &str,
    public_ending: &str,
) -> Result<Option<KeyedCertificate>, Error> {
    let (public, private) = (cluster.pki(&format!("{name}.{public_ending}")), cluster.pki(&format!("{name}.key")));
    match (root.read(&public)?, root.read(&private)?) {
        (Some(certificate), Some(key)) => Ok(Some(KeyedCertificate { certificate, key })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(Error::Half(public, private)),
        (None, Some(_)) => Err(Error::Half(private, public)),
    }
}

/// The certificates that end, for `kubeadm certs check-expiration`: name and PEM.
pub fn present(cluster: &ClusterConfiguration, root: &Root) -> Result<Vec<(&'static str, String)>, Error> {
    let names = Authority::ALL.iter().map(|authority| authority.file()).chain(LEAVES.iter().map(|leaf| leaf.file));
    let mut found = Vec::new();
    for name in names {
        if let Some(pair) = existing(cluster, root, name, "crt")? {
            found.push((name, pair.certificate));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_in(root: &Root) -> Vec<File> {
        let node = Node { name: "node-1", address: "192.0.2.1".parse().unwrap() };
        plan(&ClusterConfiguration::default(), &node, root, Timestamp::UNIX_EPOCH).unwrap().1
    }

    fn names(files: &[File]) -> Vec<String> {
        let mut names: Vec<_> = files
            .iter()
            .map(|file| file.path.strip_prefix("/etc/kubernetes/pki").unwrap().display().to_string())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_node_gets_every_file_that_kubeadm_makes() {
        let dir = tempfile::tempdir().unwrap();
        let files = plan_in(&Root::new(dir.path()));
        assert_eq!(
            names(&files),
            [
                "apiserver-etcd-client.crt",
                "apiserver-etcd-client.key",
                "apiserver-kubelet-client.crt",
                "apiserver-kubelet-client.key",
                "apiserver.crt",
                "apiserver.key",
                "ca.crt",
                "ca.key",
                "etcd/ca.crt",
                "etcd/ca.key",
                "etcd/healthcheck-client.crt",
                "etcd/healthcheck-client.key",
                "etcd/peer.crt",
                "etcd/peer.key",
                "etcd/server.crt",
                "etcd/server.key",
                "front-proxy-ca.crt",
                "front-proxy-ca.key",
                "front-proxy-client.crt",
                "front-proxy-client.key",
                "sa.key",
                "sa.pub",
            ]
        );
        assert!(files.iter().all(|file| file.path.extension().unwrap() != "key" || file.mode == 0o600));
    }

    #[test]
    fn what_is_there_is_kept_and_what_is_missing_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        root.write_all(&plan_in(&root)).unwrap();
        assert_eq!(plan_in(&root), []);
        root.remove("/etc/kubernetes/pki/apiserver.crt").unwrap();
        root.remove("/etc/kubernetes/pki/apiserver.key").unwrap();
        assert_eq!(names(&plan_in(&root)), ["apiserver.crt", "apiserver.key"]);
    }

    #[test]
    fn half_of_a_pair_is_an_error_and_not_a_new_authority() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        root.write_all(&plan_in(&root)).unwrap();
        root.remove("/etc/kubernetes/pki/ca.key").unwrap();
        let node = Node { name: "node-1", address: "192.0.2.1".parse().unwrap() };
        let result = plan(&ClusterConfiguration::default(), &node, &root, Timestamp::UNIX_EPOCH);
        assert!(
            matches!(result, Err(Error::Half(there, missing)) if there.ends_with("ca.crt") && missing.ends_with("ca.key"))
        );
    }
}
